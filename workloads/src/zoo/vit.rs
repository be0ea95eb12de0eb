//! Vision transformers (Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020), in torchvision's form.

use super::{Built, Fault, Inputs};
use crate::build::{Attention, Builder, Conv, Function, Mask, NormKind};

/// A vision transformer.
pub struct Vit {
    patch: u64,
    layers: u64,
    heads: u64,
    hidden: u64,
    mlp: u64,
}

pub const B_16: Vit = Vit {
    patch: 16,
    layers: 12,
    heads: 12,
    hidden: 768,
    mlp: 3072,
};

/// Builds a vision transformer with 1000 classes. The position embedding has the size of the image.
pub fn build(b: &mut Builder, inputs: &Inputs, net: &Vit) -> Built {
    let [batch, _, height, width] = inputs.shape::<4>("image")?;
    let &Vit {
        patch,
        layers,
        heads,
        hidden,
        mlp,
    } = net;
    if height % patch != 0 || width % patch != 0 {
        let reason = format!(
            "the image's height and width must be multiples of {patch}; {height}x{width} is not"
        );
        return Err(Fault::Unsupported(reason));
    }
    let image = inputs.image(b)?;
    let x = b.conv2d(
        "conv_proj",
        image,
        &Conv::square(hidden, patch, patch, 0).with_bias(),
    )?;
    let patches = (height / patch).saturating_mul(width / patch);
    let x = b.reshape("patches", x, &[batch, hidden, patches])?;
    let x = b.transpose("tokens", x, &[0, 2, 1])?;
    // One learned class token, copied in front of each image's patches.
    let class = b.weight("class_token", &[1, 1, hidden]);
    let tokens = patches.saturating_add(1);
    let x = b.copy("cat", &[class, x], &[batch, tokens, hidden]);
    let position = b.weight("encoder.pos_embedding", &[1, tokens, hidden]);
    let x = b.add("encoder.position", x, position)?;
    b.end_block("embedding", 1);

    let name = |part: &str| format!("encoder.layers.encoder_layer.{part}");
    let y = b.norm(&name("ln_1"), x, NormKind::Layer, true, true)?;
    let qkv = b.linear(&name("self_attention.in_proj"), y, 3 * hidden, true)?;
    let [q, k, v] = ["q", "k", "v"].map(|part| {
        b.view(
            &name(&format!("self_attention.{part}")),
            qkv,
            &[batch, tokens, hidden],
        )
    });
    let attention = Attention {
        batch,
        heads,
        kv_heads: heads,
        query_length: tokens,
        key_length: tokens,
        key_width: hidden / heads,
        value_width: hidden / heads,
        mask: Mask::Full,
    };
    let y = b.attention(&name("self_attention"), [q, k, v], &attention)?;
    let y = b.linear(&name("self_attention.out_proj"), y, hidden, true)?;
    let x = b.add(&name("add_1"), x, y)?;
    let y = b.norm(&name("ln_2"), x, NormKind::Layer, true, true)?;
    let y = b.linear(&name("mlp.0"), y, mlp, true)?;
    let y = b.function(&name("mlp.1"), y, Function::Gelu)?;
    let y = b.linear(&name("mlp.3"), y, hidden, true)?;
    let x = b.add(&name("add_2"), x, y)?;
    b.end_block("encoder", layers);

    let x = b.norm("encoder.ln", x, NormKind::Layer, true, true)?;
    let x = b.view("class", x, &[batch, hidden]);
    let x = b.linear("heads.head", x, 1000, true)?;
    b.output(x);
    Ok(())
}
