//! The denoising network of latent diffusion (Rombach et al., "High-Resolution Image Synthesis with Latent
//! Diffusion Models", 2022), in the form of diffusers' `UNet2DConditionModel`, from its `config.json`: one step.
//!
//! A level of the way down is `layers_per_block` residual blocks (each with a transformer behind it where the level
//! has cross attention) and a strided convolution; the way up has one more residual block in each level, which
//! reads what the way down left, and enlarges. The time step enters every residual block as a channel offset.
//! Batch counts latents: guidance without a classifier runs a batch of two for each image.

use std::collections::BTreeMap;

use presil_numerics::LanePrimitive as L;
use serde::Deserialize;

use super::{Built, Fault, Inputs, configuration};
use crate::build::{Attention, Builder, Conv, Function, Mask, NormKind};
use crate::op::OpClass;
use crate::tensor::{Role, TensorId};

pub const SD15: &str = include_str!("../../../configs/models/sd15-unet.json");
pub const SDXL: &str = include_str!("../../../configs/models/sdxl-unet.json");

/// Latents [batch, channels, height, width] (64 x 64 for 512 px) and text states [batch, tokens, width].
pub const INPUTS: &[(&str, &[u64])] = &[
    ("sample", &[4, 64, 64]),
    ("encoder_hidden_states", &[77, 768]),
];

/// The same of a network that takes the pooled text and the sizes of the picture beside the time step (128 x 128 for 1024 px).
pub const INPUTS_WITH_SIZES: &[(&str, &[u64])] = &[
    ("sample", &[4, 128, 128]),
    ("encoder_hidden_states", &[77, 2048]),
    ("text_embeds", &[1280]),
    ("time_ids", &[6]),
];

/// One number for all levels, or one for each.
#[derive(Deserialize)]
#[serde(untagged)]
enum PerLevel {
    All(u64),
    Each(Vec<u64>),
}

impl PerLevel {
    fn at(&self, level: usize) -> u64 {
        match self {
            Self::All(n) => *n,
            Self::Each(list) => list.get(level).copied().unwrap_or(0),
        }
    }
    fn is_for(&self, levels: usize) -> bool {
        match self {
            Self::All(n) => *n > 0,
            Self::Each(list) => list.len() == levels && list.iter().all(|n| *n > 0),
        }
    }
}

fn one() -> PerLevel {
    PerLevel::All(1)
}

/// What else the network is told beside the time step.
#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Addition {
    /// Pooled text states, and numbers in sines and cosines (sizes and crop of the picture).
    TextTime,
}

#[derive(Deserialize)]
struct Config {
    act_fn: String,
    addition_embed_type: Option<Addition>,
    addition_time_embed_dim: Option<u64>,
    /// diffusers gives the number of heads under this name.
    attention_head_dim: PerLevel,
    block_out_channels: Vec<u64>,
    cross_attention_dim: u64,
    down_block_types: Vec<String>,
    in_channels: u64,
    layers_per_block: u32,
    norm_num_groups: u64,
    out_channels: u64,
    projection_class_embeddings_input_dim: Option<u64>,
    #[serde(default = "one")]
    transformer_layers_per_block: PerLevel,
    up_block_types: Vec<String>,
    /// Whether the transformers' first and last layers are linears over tokens (else convolutions over pixels).
    #[serde(default)]
    use_linear_projection: bool,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

/// Keys that change no shape.
const NO_SHAPE: [&str; 8] = [
    "_class_name",
    "center_input_sample",
    "downsample_padding",
    "flip_sin_to_cos",
    "freq_shift",
    "mid_block_scale_factor",
    "norm_eps",
    "sample_size",
];

/// Filter, stride and padding of the 3x3 convolutions, with bias.
fn conv3x3(out: u64, stride: u64) -> Conv {
    Conv::square(out, 3, stride, 1).with_bias()
}

/// What the parts of the network share.
struct Unet<'a> {
    b: &'a mut Builder,
    c: &'a Config,
    /// Batch.
    n: u64,
    /// Time embedding [n, 4 x first level's channels].
    time: TensorId,
    /// Text states and their number of tokens.
    text: TensorId,
    text_tokens: u64,
}

/// Builds the network of a configuration.
pub fn build(b: &mut Builder, inputs: &Inputs, config: &str) -> Built {
    let c: Config = configuration(config)?;
    if let Some(key) = c.rest.keys().find(|k| !NO_SHAPE.contains(&k.as_str())) {
        return Err(Fault::Unsupported(format!(
            "its configuration has a `{key}`, which presil does not build"
        )));
    }
    let sample = inputs.shape::<4>("sample")?;
    let states = inputs.shape::<3>("encoder_hidden_states")?;
    let levels = c.block_out_channels.len();
    let known = |types: &[String], plain: &str, cross: &str| {
        types.len() == levels && types.iter().all(|t| t == plain || t == cross)
    };
    let down_known = known(&c.down_block_types, "DownBlock2D", "CrossAttnDownBlock2D");
    let up_known = known(&c.up_block_types, "UpBlock2D", "CrossAttnUpBlock2D");
    let (Some(&first), Some(&last)) = (c.block_out_channels.first(), c.block_out_channels.last())
    else {
        return Err(Fault::Unsupported("its configuration has no levels".into()));
    };
    let layered =
        c.attention_head_dim.is_for(levels) && c.transformer_layers_per_block.is_for(levels);
    if !down_known || !up_known || !layered || c.act_fn != "silu" {
        return Err(Fault::Unsupported(
            "its configuration has blocks or activations that presil does not build".into(),
        ));
    }
    if sample[1] != c.in_channels || states[2] != c.cross_attention_dim {
        let reason = format!(
            "`sample` has {} channels and `encoder_hidden_states` a width of {}; not {} and {}",
            c.in_channels, c.cross_attention_dim, sample[1], states[2]
        );
        return Err(Fault::Unsupported(reason));
    }
    // Each level but the last halves the latent, and the way up doubles it.
    let factor = 1 << (levels - 1);
    if sample[2] % factor != 0 || sample[3] % factor != 0 {
        let reason = format!(
            "height and width of `sample` must be multiples of {factor}; {}x{} is not",
            sample[2], sample[3]
        );
        return Err(Fault::Unsupported(reason));
    }

    let x = b.input("sample", &sample);
    let text = b.input("encoder_hidden_states", &states);
    let mut time = time_embedding(b, sample[0], first)?;
    if c.addition_embed_type.is_some() {
        let more = sizes_embedding(b, inputs, &c, 4 * first)?;
        time = b.add("add_embedding.add", time, more)?;
    }
    let mut net = Unet {
        b,
        c: &c,
        n: sample[0],
        time,
        text,
        text_tokens: states[1],
    };
    let mut x = net.b.conv2d("conv_in", x, &conv3x3(first, 1))?;
    let mut skips = vec![x];
    for (level, (&channels, kind)) in c
        .block_out_channels
        .iter()
        .zip(&c.down_block_types)
        .enumerate()
    {
        let name = format!("down_blocks.{level}");
        for i in 0..c.layers_per_block {
            x = net.resnet(&format!("{name}.resnets.{i}"), x, channels)?;
            if kind.starts_with("CrossAttn") {
                x = net.transformer(&format!("{name}.attentions.{i}"), x, channels, level)?;
            }
            skips.push(x);
        }
        if level + 1 < levels {
            x = net.b.conv2d(
                &format!("{name}.downsamplers.0.conv"),
                x,
                &conv3x3(channels, 2),
            )?;
            skips.push(x);
        }
        net.b.end_block(name, 1);
    }
    x = net.resnet("mid_block.resnets.0", x, last)?;
    x = net.transformer("mid_block.attentions.0", x, last, levels - 1)?;
    x = net.resnet("mid_block.resnets.1", x, last)?;
    net.b.end_block("mid_block", 1);
    for (level, (&channels, kind)) in c
        .block_out_channels
        .iter()
        .rev()
        .zip(&c.up_block_types)
        .enumerate()
    {
        let name = format!("up_blocks.{level}");
        for i in 0..=c.layers_per_block {
            let skip = skips
                .pop()
                .ok_or_else(|| Fault::Unsupported("its ways down and up do not fit".into()))?;
            x = net
                .b
                .concat(&format!("{name}.resnets.{i}.cat"), &[x, skip], 1)?;
            x = net.resnet(&format!("{name}.resnets.{i}"), x, channels)?;
            if kind.starts_with("CrossAttn") {
                x = net.transformer(
                    &format!("{name}.attentions.{i}"),
                    x,
                    channels,
                    levels - 1 - level,
                )?;
            }
        }
        if level + 1 < levels {
            x = net
                .b
                .upsample_nearest(&format!("{name}.upsamplers.0.interpolate"), x, [2; 2])?;
            x = net.b.conv2d(
                &format!("{name}.upsamplers.0.conv"),
                x,
                &conv3x3(channels, 1),
            )?;
        }
        net.b.end_block(name, 1);
    }
    let x = net.norm_silu("conv_norm_out", "conv_act", x)?;
    let x = net.b.conv2d("conv_out", x, &conv3x3(c.out_channels, 1))?;
    net.b.output(x);
    Ok(())
}

/// Sines and cosines of the time step at `width / 2` frequencies, then two linears.
fn time_embedding(b: &mut Builder, n: u64, width: u64) -> Result<TensorId, Fault> {
    let step = b.input("timestep", &[n, 1]);
    let frequencies = b.tensor("time_proj.frequencies", &[1, width], Role::Constant);
    let x = b.elementwise(
        "time_proj",
        OpClass::Position,
        &[step, frequencies],
        &[L::Mul, L::Lookup],
    )?;
    let x = b.linear("time_embedding.linear_1", x, 4 * width, true)?;
    let x = b.function("time_embedding.act", x, Function::Silu)?;
    Ok(b.linear("time_embedding.linear_2", x, 4 * width, true)?)
}

/// The embedding of the pooled text and of the picture's sizes: each size as sines and cosines, all of them beside the text
/// through two linears.
fn sizes_embedding(
    b: &mut Builder,
    inputs: &Inputs,
    c: &Config,
    width: u64,
) -> Result<TensorId, Fault> {
    let text = inputs.shape::<2>("text_embeds")?;
    let ids = inputs.shape::<2>("time_ids")?;
    let (n, each) = (text[0], c.addition_time_embed_dim.unwrap_or(0));
    let wide = text[1].saturating_add(ids[1].saturating_mul(each));
    if each == 0 || c.projection_class_embeddings_input_dim != Some(wide) || ids[0] != n {
        let reason = format!(
            "`text_embeds` of {} and {} `time_ids` of {each} are {wide} numbers, not the {} of its configuration",
            text[1],
            ids[1],
            c.projection_class_embeddings_input_dim.unwrap_or(0)
        );
        return Err(Fault::Unsupported(reason));
    }
    let states = b.input("text_embeds", &text);
    let sizes = b.input("time_ids", &ids);
    let sizes = b.reshape("add_time_proj.ids", sizes, &[n.saturating_mul(ids[1]), 1])?;
    let frequencies = b.tensor("add_time_proj.frequencies", &[1, each], Role::Constant);
    let waves = b.elementwise(
        "add_time_proj",
        OpClass::Position,
        &[sizes, frequencies],
        &[L::Mul, L::Lookup],
    )?;
    let waves = b.reshape(
        "add_time_proj.flat",
        waves,
        &[n, ids[1].saturating_mul(each)],
    )?;
    let x = b.concat("add_embedding.cat", &[states, waves], 1)?;
    let x = b.linear("add_embedding.linear_1", x, width, true)?;
    let x = b.function("add_embedding.act", x, Function::Silu)?;
    Ok(b.linear("add_embedding.linear_2", x, width, true)?)
}

impl Unet<'_> {
    fn norm_silu(&mut self, norm: &str, act: &str, x: TensorId) -> Result<TensorId, Fault> {
        let x = self.b.group_norm(norm, x, self.c.norm_num_groups)?;
        Ok(self.b.function(act, x, Function::Silu)?)
    }

    /// A residual block to `out` channels.
    fn resnet(&mut self, name: &str, x: TensorId, out: u64) -> Result<TensorId, Fault> {
        let y = self.norm_silu(
            &format!("{name}.norm1"),
            &format!("{name}.nonlinearity1"),
            x,
        )?;
        let y = self
            .b
            .conv2d(&format!("{name}.conv1"), y, &conv3x3(out, 1))?;
        let time = self.b.function(
            &format!("{name}.nonlinearity_time"),
            self.time,
            Function::Silu,
        )?;
        let time = self
            .b
            .linear(&format!("{name}.time_emb_proj"), time, out, true)?;
        let time = self
            .b
            .reshape(&format!("{name}.time"), time, &[self.n, out, 1, 1])?;
        let y = self.b.add(&format!("{name}.add_time"), y, time)?;
        let y = self.norm_silu(
            &format!("{name}.norm2"),
            &format!("{name}.nonlinearity2"),
            y,
        )?;
        let y = self
            .b
            .conv2d(&format!("{name}.conv2"), y, &conv3x3(out, 1))?;
        let changes = self.b.shape(x).get(1) != Some(&out);
        let x = match changes {
            true => self.b.conv2d(
                &format!("{name}.conv_shortcut"),
                x,
                &Conv::square(out, 1, 1, 0).with_bias(),
            )?,
            false => x,
        };
        Ok(self.b.add(&format!("{name}.add"), x, y)?)
    }

    /// Transformer layers over the pixels of a level, between two projections.
    fn transformer(
        &mut self,
        name: &str,
        x: TensorId,
        channels: u64,
        level: usize,
    ) -> Result<TensorId, Fault> {
        let (image, n) = (x, self.n);
        let shape = self.b.shape(x).to_vec();
        let pixels = shape
            .iter()
            .skip(2)
            .fold(1, |p: u64, d| p.saturating_mul(*d));
        let project = Conv::square(channels, 1, 1, 0).with_bias();
        let linear = self.c.use_linear_projection;
        let mut x = self
            .b
            .group_norm(&format!("{name}.norm"), x, self.c.norm_num_groups)?;
        if !linear {
            x = self.b.conv2d(&format!("{name}.proj_in"), x, &project)?;
        }
        x = self
            .b
            .reshape(&format!("{name}.pixels"), x, &[n, channels, pixels])?;
        x = self
            .b
            .transpose(&format!("{name}.to_tokens"), x, &[0, 2, 1])?;
        if linear {
            x = self
                .b
                .linear(&format!("{name}.proj_in"), x, channels, true)?;
        }
        let heads = self.c.attention_head_dim.at(level);
        for layer in 0..self.c.transformer_layers_per_block.at(level) {
            let part = format!("{name}.transformer_blocks.{layer}");
            x = self.layer(&part, x, (channels, pixels), heads)?;
        }
        if linear {
            x = self
                .b
                .linear(&format!("{name}.proj_out"), x, channels, true)?;
        }
        x = self
            .b
            .transpose(&format!("{name}.to_channels"), x, &[0, 2, 1])?;
        x = self.b.reshape(&format!("{name}.image"), x, &shape)?;
        if !linear {
            x = self.b.conv2d(&format!("{name}.proj_out"), x, &project)?;
        }
        Ok(self.b.add(&format!("{name}.add"), x, image)?)
    }

    /// A transformer layer over tokens: self attention, attention to the text, gated feed-forward.
    fn layer(
        &mut self,
        part: &str,
        x: TensorId,
        (channels, pixels): (u64, u64),
        heads: u64,
    ) -> Result<TensorId, Fault> {
        let size = (channels, pixels);
        let y = self.layer_norm(&format!("{part}.norm1"), x)?;
        let y = self.attention(&format!("{part}.attn1"), y, (y, pixels), size, heads)?;
        let x = self.b.add(&format!("{part}.add1"), x, y)?;
        let y = self.layer_norm(&format!("{part}.norm2"), x)?;
        let text = (self.text, self.text_tokens);
        let y = self.attention(&format!("{part}.attn2"), y, text, size, heads)?;
        let x = self.b.add(&format!("{part}.add2"), x, y)?;
        let y = self.layer_norm(&format!("{part}.norm3"), x)?;
        let y = self
            .b
            .linear(&format!("{part}.ff.net.0.proj"), y, 8 * channels, true)?;
        let halves = [self.n, pixels, 4 * channels];
        let value = self.b.view(&format!("{part}.ff.net.0.value"), y, &halves);
        let gate = self.b.view(&format!("{part}.ff.net.0.gate"), y, &halves);
        let gate = self
            .b
            .function(&format!("{part}.ff.net.0.gelu"), gate, Function::Gelu)?;
        let y = self.b.mul(&format!("{part}.ff.net.0.mul"), value, gate)?;
        let y = self
            .b
            .linear(&format!("{part}.ff.net.2"), y, channels, true)?;
        Ok(self.b.add(&format!("{part}.add3"), x, y)?)
    }

    fn layer_norm(&mut self, name: &str, x: TensorId) -> Result<TensorId, Fault> {
        Ok(self.b.norm(name, x, NormKind::Layer, true, true)?)
    }

    /// Attention of `x` to a source of (states, tokens); projections without bias but the last.
    fn attention(
        &mut self,
        name: &str,
        x: TensorId,
        (source, keys): (TensorId, u64),
        (channels, pixels): (u64, u64),
        heads: u64,
    ) -> Result<TensorId, Fault> {
        let attention = Attention {
            batch: self.n,
            heads,
            kv_heads: heads,
            query_length: pixels,
            key_length: keys,
            key_width: channels / heads,
            value_width: channels / heads,
            mask: Mask::Full,
        };
        let q = self.b.linear(&format!("{name}.to_q"), x, channels, false)?;
        let k = self
            .b
            .linear(&format!("{name}.to_k"), source, channels, false)?;
        let v = self
            .b
            .linear(&format!("{name}.to_v"), source, channels, false)?;
        let y = self.b.attention(name, [q, k, v], &attention)?;
        Ok(self
            .b
            .linear(&format!("{name}.to_out.0"), y, channels, true)?)
    }
}
