//! MobileNetV2 (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018), width 1.0, in
//! torchvision's form.

use super::{Built, Inputs};
use crate::build::{Builder, Conv, Function};
use crate::formula::Formula;
use crate::graph::GraphError;
use crate::meaning::Meaning;
use crate::tensor::TensorId;

/// Expansion, output channels, blocks, stride of the first block.
const SETTINGS: [(u64, u64, u64, u64); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

/// Builds MobileNetV2 with 1000 classes.
pub fn build(b: &mut Builder, inputs: &Inputs) -> Built {
    let image = inputs.image(b)?;
    let mut x = conv_norm_clip(b, "features.0", image, &Conv::square(32, 3, 2, 1))?;
    let (mut index, mut channels) = (1, 32);
    for (expansion, out, blocks, stride) in SETTINGS {
        for block in 0..blocks {
            let name = format!("features.{index}");
            let stride = if block == 0 { stride } else { 1 };
            let y = inverted_residual(b, &name, x, channels, expansion, out, stride)?;
            let keeps_shape = stride == 1 && channels == out;
            x = if keeps_shape {
                b.add(&format!("{name}.add"), x, y)?
            } else {
                y
            };
            (index, channels) = (index + 1, out);
        }
    }
    let x = conv_norm_clip(
        b,
        &format!("features.{index}"),
        x,
        &Conv::square(1280, 1, 1, 0),
    )?;
    let x = b.adaptive_average_pool2d("avgpool", x, [1, 1])?;
    let x = b.reshape("flatten", x, &[inputs.batch, 1280])?;
    let x = b.linear("classifier.1", x, 1000, true)?;
    b.output(x);
    Ok(())
}

/// A convolution, its batch norm, and ReLU6.
fn conv_norm_clip(
    b: &mut Builder,
    name: &str,
    x: TensorId,
    conv: &Conv,
) -> Result<TensorId, GraphError> {
    let x = b.conv2d(&format!("{name}.0"), x, conv)?;
    let x = b.batch_norm(&format!("{name}.1"), x)?;
    let out = b.function(&format!("{name}.2"), x, Function::Clip)?;
    b.means(Meaning::Elementwise(Formula::input().clipped(0.0, 6.0)));
    Ok(out)
}

/// Expands (unless by 1), filters each channel on its own, projects without activation.
fn inverted_residual(
    b: &mut Builder,
    name: &str,
    x: TensorId,
    channels: u64,
    expansion: u64,
    out: u64,
    stride: u64,
) -> Result<TensorId, GraphError> {
    let hidden = channels * expansion;
    let (mut x, mut at) = (x, 0);
    if expansion != 1 {
        x = conv_norm_clip(
            b,
            &format!("{name}.conv.{at}"),
            x,
            &Conv::square(hidden, 1, 1, 0),
        )?;
        at += 1;
    }
    let depthwise = Conv::square(hidden, 3, stride, 1).with_groups(hidden);
    x = conv_norm_clip(b, &format!("{name}.conv.{at}"), x, &depthwise)?;
    x = b.conv2d(
        &format!("{name}.conv.{}", at + 1),
        x,
        &Conv::square(out, 1, 1, 0),
    )?;
    b.batch_norm(&format!("{name}.conv.{}", at + 2), x)
}
