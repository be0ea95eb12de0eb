//! Residual networks (He et al., "Deep Residual Learning for Image Recognition", 2015), in torchvision's form: the
//! stride of a bottleneck is in its 3x3 convolution.

use super::{Built, Inputs};
use crate::build::{Builder, Conv, Function, PoolKind};
use crate::graph::GraphError;
use crate::tensor::TensorId;

/// A residual network.
pub struct ResNet {
    /// Bottlenecks (1x1, 3x3, 1x1 with four times the width) instead of two 3x3 convolutions.
    bottleneck: bool,
    /// Residual blocks of each stage.
    blocks: [u32; 4],
}

pub const RESNET18: ResNet = ResNet {
    bottleneck: false,
    blocks: [2, 2, 2, 2],
};
pub const RESNET34: ResNet = ResNet {
    bottleneck: false,
    blocks: [3, 4, 6, 3],
};
pub const RESNET50: ResNet = ResNet {
    bottleneck: true,
    blocks: [3, 4, 6, 3],
};
pub const RESNET101: ResNet = ResNet {
    bottleneck: true,
    blocks: [3, 4, 23, 3],
};
pub const RESNET152: ResNet = ResNet {
    bottleneck: true,
    blocks: [3, 8, 36, 3],
};

/// Builds a residual network with 1000 classes.
pub fn build(b: &mut Builder, inputs: &Inputs, net: &ResNet) -> Built {
    let image = inputs.image(b)?;
    let x = b.conv2d("conv1", image, &Conv::square(64, 7, 2, 3))?;
    let x = b.batch_norm("bn1", x)?;
    let x = b.function("relu", x, Function::Relu)?;
    let mut x = b.pool2d("maxpool", x, PoolKind::Max, [3; 2], [2; 2], [1; 4], false)?;
    b.end_block("stem", 1);
    for (stage, blocks) in net.blocks.into_iter().enumerate() {
        let width = 64 << stage;
        // The first block of a stage changes the shape; the others are equal.
        let stride = if stage == 0 { 1 } else { 2 };
        let stage = stage + 1;
        for block in 0..blocks {
            x = residual(
                b,
                &format!("layer{stage}.{block}"),
                x,
                net.bottleneck,
                width,
                if block == 0 { stride } else { 1 },
            )?;
        }
        b.end_block(format!("layer{stage}"), 1);
    }
    let x = b.adaptive_average_pool2d("avgpool", x, [1, 1])?;
    let features = b.shape(x)[1];
    let x = b.reshape("flatten", x, &[inputs.batch, features])?;
    let x = b.linear("fc", x, 1000, true)?;
    b.output(x);
    Ok(())
}

fn residual(
    b: &mut Builder,
    name: &str,
    x: TensorId,
    bottleneck: bool,
    width: u64,
    stride: u64,
) -> Result<TensorId, GraphError> {
    let out = if bottleneck { 4 * width } else { width };
    let convs: &[Conv] = if bottleneck {
        &[
            Conv::square(width, 1, 1, 0),
            Conv::square(width, 3, stride, 1),
            Conv::square(out, 1, 1, 0),
        ]
    } else {
        &[
            Conv::square(width, 3, stride, 1),
            Conv::square(out, 3, 1, 1),
        ]
    };
    let mut y = x;
    for (i, conv) in convs.iter().enumerate() {
        let i = i + 1;
        y = b.conv2d(&format!("{name}.conv{i}"), y, conv)?;
        y = b.batch_norm(&format!("{name}.bn{i}"), y)?;
        if i < convs.len() {
            y = b.function(&format!("{name}.relu{i}"), y, Function::Relu)?;
        }
    }
    let mut identity = x;
    if stride != 1 || b.shape(x).get(1) != Some(&out) {
        identity = b.conv2d(
            &format!("{name}.downsample.0"),
            x,
            &Conv::square(out, 1, stride, 0),
        )?;
        identity = b.batch_norm(&format!("{name}.downsample.1"), identity)?;
    }
    let sum = b.add(&format!("{name}.add"), y, identity)?;
    b.function(&format!("{name}.relu"), sum, Function::Relu)
}
