//! AlexNet, VGG-16 and SqueezeNet 1.0 in torchvision's forms: sequences of convolutions, activations and poolings.
//!
//! - AlexNet: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014 (no groups);
//! - VGG-16: Simonyan and Zisserman, 2014, configuration D without batch norm;
//! - SqueezeNet 1.0: Iandola et al., 2016.

use super::{Built, Fault, Inputs};
use crate::build::{Builder, Conv, Function, PoolKind};
use crate::tensor::TensorId;

/// A layer of a sequence. A convolution takes two places of it, its activation the second.
enum Layer {
    /// Output channels, filter, stride, padding; a bias; ReLU behind it.
    Conv(u64, u64, u64, u64),
    /// Window, stride, and whether the output size is rounded up.
    MaxPool(u64, u64, bool),
    /// Squeeze channels and expand channels (of each of 1x1 and 3x3).
    Fire(u64, u64),
}

use Layer::{Conv as C, Fire as F, MaxPool as P};

const ALEXNET: &[Layer] = &[
    C(64, 11, 4, 2),
    P(3, 2, false),
    C(192, 5, 1, 2),
    P(3, 2, false),
    C(384, 3, 1, 1),
    C(256, 3, 1, 1),
    C(256, 3, 1, 1),
    P(3, 2, false),
];

const VGG16: &[Layer] = &[
    C(64, 3, 1, 1),
    C(64, 3, 1, 1),
    P(2, 2, false),
    C(128, 3, 1, 1),
    C(128, 3, 1, 1),
    P(2, 2, false),
    C(256, 3, 1, 1),
    C(256, 3, 1, 1),
    C(256, 3, 1, 1),
    P(2, 2, false),
    C(512, 3, 1, 1),
    C(512, 3, 1, 1),
    C(512, 3, 1, 1),
    P(2, 2, false),
    C(512, 3, 1, 1),
    C(512, 3, 1, 1),
    C(512, 3, 1, 1),
    P(2, 2, false),
];

const SQUEEZENET: &[Layer] = &[
    C(96, 7, 2, 0),
    P(3, 2, true),
    F(16, 64),
    F(16, 64),
    F(32, 128),
    P(3, 2, true),
    F(32, 128),
    F(48, 192),
    F(48, 192),
    F(64, 256),
    P(3, 2, true),
    F(64, 256),
];

/// Builds AlexNet with 1000 classes.
pub fn alexnet(b: &mut Builder, inputs: &Inputs) -> Built {
    let x = features(b, inputs, ALEXNET)?;
    let x = b.adaptive_average_pool2d("avgpool", x, [6, 6])?;
    classifier(
        b,
        inputs,
        x,
        256 * 6 * 6,
        &[(1, 4096), (4, 4096), (6, 1000)],
    )
}

/// Builds VGG-16 with 1000 classes.
pub fn vgg16(b: &mut Builder, inputs: &Inputs) -> Built {
    let x = features(b, inputs, VGG16)?;
    let x = b.adaptive_average_pool2d("avgpool", x, [7, 7])?;
    classifier(
        b,
        inputs,
        x,
        512 * 7 * 7,
        &[(0, 4096), (3, 4096), (6, 1000)],
    )
}

/// Builds SqueezeNet 1.0 with 1000 classes.
pub fn squeezenet(b: &mut Builder, inputs: &Inputs) -> Built {
    let x = features(b, inputs, SQUEEZENET)?;
    let x = b.conv2d("classifier.1", x, &Conv::square(1000, 1, 1, 0).with_bias())?;
    let x = b.function("classifier.2", x, Function::Relu)?;
    let x = b.adaptive_average_pool2d("classifier.3", x, [1, 1])?;
    let x = b.reshape("flatten", x, &[inputs.batch, 1000])?;
    b.output(x);
    Ok(())
}

/// A sequence, its layers named by their place ("features.3").
fn features(b: &mut Builder, inputs: &Inputs, layers: &[Layer]) -> Result<TensorId, Fault> {
    let mut x = inputs.image(b)?;
    let mut at = 0;
    for layer in layers {
        let name = format!("features.{at}");
        match *layer {
            C(out, kernel, stride, padding) => {
                x = b.conv2d(
                    &name,
                    x,
                    &Conv::square(out, kernel, stride, padding).with_bias(),
                )?;
                at += 1;
                x = b.function(&format!("features.{at}"), x, Function::Relu)?;
            }
            P(kernel, stride, ceil) => {
                x = b.pool2d(
                    &name,
                    x,
                    PoolKind::Max,
                    [kernel; 2],
                    [stride; 2],
                    [0; 4],
                    ceil,
                )?
            }
            F(squeeze, expand) => x = fire(b, &name, x, squeeze, expand)?,
        }
        at += 1;
    }
    Ok(x)
}

/// Squeezes by a 1x1 convolution and expands by a 1x1 and a 3x3 one side by side.
fn fire(
    b: &mut Builder,
    name: &str,
    x: TensorId,
    squeeze: u64,
    expand: u64,
) -> Result<TensorId, Fault> {
    let mut conv = |part: &str, x: TensorId, out: u64, kernel: u64| {
        let y = b.conv2d(
            &format!("{name}.{part}"),
            x,
            &Conv::square(out, kernel, 1, kernel / 2).with_bias(),
        )?;
        b.function(&format!("{name}.{part}_activation"), y, Function::Relu)
    };
    let squeezed = conv("squeeze", x, squeeze, 1)?;
    let small = conv("expand1x1", squeezed, expand, 1)?;
    let large = conv("expand3x3", squeezed, expand, 3)?;
    Ok(b.concat(&format!("{name}.cat"), &[small, large], 1)?)
}

/// Linears at the given places with ReLU between them.
fn classifier(
    b: &mut Builder,
    inputs: &Inputs,
    x: TensorId,
    width: u64,
    layers: &[(u32, u64)],
) -> Built {
    let mut x = b.reshape("flatten", x, &[inputs.batch, width])?;
    for (i, (at, out)) in layers.iter().enumerate() {
        x = b.linear(&format!("classifier.{at}"), x, *out, true)?;
        if i + 1 < layers.len() {
            x = b.function(&format!("classifier.{}", at + 1), x, Function::Relu)?;
        }
    }
    b.output(x);
    Ok(())
}
