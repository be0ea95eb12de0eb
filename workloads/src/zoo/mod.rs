//! Models by name, each built from a few lines of configuration.
//!
//! | names | form |
//! |---|---|
//! | alexnet, vgg16, squeezenet1_0, resnet18..152, mobilenet_v2, vit_b_16 | torchvision's |
//! | bert-base, bert-large | HuggingFace transformers' `BertModel` (with pooler) and `BertForQuestionAnswering` |
//! | sd15-unet | diffusers' `UNet2DConditionModel` of Stable Diffusion 1.5: one denoising step |
//! | sdxl-unet | the same of Stable Diffusion XL |
//!
//! Parameters and MACs equal those of the named frameworks exactly (the tests hold them to it). Every norm,
//! activation, residual addition, pooling, look-up, concatenation and transposition is an op; equal consecutive
//! layers are one repeated block. A dropout is nothing at inference.
//!
//! A request's batch is the first extent of every input. Its `shapes` may give an input another size where the
//! architecture allows one; each model says which inputs it has. A model of the zoo has a forward pass only.

mod bert;
mod classic;
mod mobilenet;
mod resnet;
mod unet;
mod vit;

use presil_numerics::diagnostic::nearest_names;

use crate::build::Builder;
use crate::graph::{Graph, GraphError};
use crate::model::{ModelError, Pass, Request};

/// Why a model cannot be built; [`build`] adds its name.
enum Fault {
    Graph(GraphError),
    Unsupported(String),
}

impl From<GraphError> for Fault {
    fn from(error: GraphError) -> Self {
        Self::Graph(error)
    }
}

type Built = Result<(), Fault>;

/// A model of the zoo: its name, the inputs that it has (batch first, as they are by default), how it is built.
struct Entry {
    name: &'static str,
    /// Names and default shapes without the batch.
    inputs: &'static [(&'static str, &'static [u64])],
    build: fn(&mut Builder, &Inputs) -> Built,
}

const IMAGE: &[(&str, &[u64])] = &[("image", &[3, 224, 224])];

/// In the order of names.
const ZOO: &[Entry] = &[
    Entry {
        name: "alexnet",
        inputs: IMAGE,
        build: classic::alexnet,
    },
    Entry {
        name: "bert-base",
        inputs: bert::INPUTS,
        build: |b, i| bert::build(b, i, bert::BASE),
    },
    Entry {
        name: "bert-large",
        inputs: bert::INPUTS,
        build: |b, i| bert::build(b, i, bert::LARGE),
    },
    Entry {
        name: "mobilenet_v2",
        inputs: IMAGE,
        build: mobilenet::build,
    },
    Entry {
        name: "resnet101",
        inputs: IMAGE,
        build: |b, i| resnet::build(b, i, &resnet::RESNET101),
    },
    Entry {
        name: "resnet152",
        inputs: IMAGE,
        build: |b, i| resnet::build(b, i, &resnet::RESNET152),
    },
    Entry {
        name: "resnet18",
        inputs: IMAGE,
        build: |b, i| resnet::build(b, i, &resnet::RESNET18),
    },
    Entry {
        name: "resnet34",
        inputs: IMAGE,
        build: |b, i| resnet::build(b, i, &resnet::RESNET34),
    },
    Entry {
        name: "resnet50",
        inputs: IMAGE,
        build: |b, i| resnet::build(b, i, &resnet::RESNET50),
    },
    Entry {
        name: "sd15-unet",
        inputs: unet::INPUTS,
        build: |b, i| unet::build(b, i, unet::SD15),
    },
    Entry {
        name: "sdxl-unet",
        inputs: unet::INPUTS_WITH_SIZES,
        build: |b, i| unet::build(b, i, unet::SDXL),
    },
    Entry {
        name: "squeezenet1_0",
        inputs: IMAGE,
        build: classic::squeezenet,
    },
    Entry {
        name: "vgg16",
        inputs: IMAGE,
        build: classic::vgg16,
    },
    Entry {
        name: "vit_b_16",
        inputs: IMAGE,
        build: |b, i| vit::build(b, i, &vit::B_16),
    },
];

/// Names of the zoo, sorted.
pub fn names() -> Vec<&'static str> {
    ZOO.iter().map(|e| e.name).collect()
}

/// The graph of a model of the zoo.
///
/// # Errors
/// An unknown name, a pass other than forward, a shape for an input that the model does not have or that its
/// architecture does not allow.
pub fn build(name: &str, request: &Request) -> Result<Graph, ModelError> {
    let Some(entry) = ZOO.iter().find(|e| e.name == name) else {
        let near = nearest_names(name, names())
            .into_iter()
            .map(|n| format!("`{n}`"))
            .collect();
        return Err(ModelError::Unknown {
            name: name.into(),
            near,
        });
    };
    let model = || name.to_string();
    let graph_error = |error| ModelError::Graph {
        model: model(),
        error,
    };
    if request.pass != Pass::Forward {
        let reason = "has no prefill or decode pass; leave out prompt, context and phase, or take a language model";
        return Err(ModelError::Unsupported {
            model: model(),
            reason: reason.into(),
        });
    }
    let mut builder = Builder::new(name);
    let built = Inputs::of(entry, request).and_then(|inputs| (entry.build)(&mut builder, &inputs));
    match built {
        Ok(()) => builder.finish().map_err(graph_error),
        Err(Fault::Graph(error)) => Err(graph_error(error)),
        Err(Fault::Unsupported(reason)) => Err(ModelError::Unsupported {
            model: model(),
            reason,
        }),
    }
}

/// The inputs of a model: batch and shapes.
struct Inputs {
    batch: u64,
    /// Names and shapes with the batch first.
    shapes: Vec<(&'static str, Vec<u64>)>,
}

impl Inputs {
    fn of(entry: &Entry, request: &Request) -> Result<Self, Fault> {
        let mut batch = request.batch;
        let names: Vec<&str> = entry.inputs.iter().map(|(n, _)| *n).collect();
        let mut shapes: Vec<(&'static str, Vec<u64>)> = Vec::new();
        for (name, default) in entry.inputs {
            shapes.push((name, [&[batch], *default].concat()));
        }
        for (name, given) in &request.shapes {
            let Some((_, shape)) = shapes.iter_mut().find(|(n, _)| n == name) else {
                let list = names
                    .iter()
                    .map(|n| format!("`{n}`"))
                    .collect::<Vec<_>>()
                    .join(", ");
                return Err(Fault::Unsupported(format!(
                    "has no input `{name}`; its inputs are {list}"
                )));
            };
            if given.len() != shape.len() || given.contains(&0) {
                let reason = format!(
                    "input `{name}` has {} extents of 1 or more, as in {shape:?}; {given:?} does not",
                    shape.len()
                );
                return Err(Fault::Unsupported(reason));
            }
            shape.clone_from(given);
            match given[0] {
                1 => {}
                own if batch == 1 || own == batch => batch = own,
                own => {
                    let reason = format!(
                        "input `{name}` has batch {own}, but batch {batch} is asked for; give one of them"
                    );
                    return Err(Fault::Unsupported(reason));
                }
            }
        }
        if batch == 0 {
            return Err(Fault::Unsupported("a batch holds at least 1".into()));
        }
        for (_, shape) in &mut shapes {
            shape[0] = batch;
        }
        Ok(Self { batch, shapes })
    }

    /// The shape of an input, batch first; `N` is its rank.
    fn shape<const N: usize>(&self, name: &str) -> Result<[u64; N], Fault> {
        let found = self
            .shapes
            .iter()
            .find(|(n, _)| *n == name)
            .and_then(|(_, s)| <[u64; N]>::try_from(s.as_slice()).ok());
        found.ok_or_else(|| Fault::Unsupported(format!("has no input `{name}` of {N} ranks")))
    }

    /// Adds the input "image" [batch, channels, height, width] of a network for colour images.
    fn image(&self, b: &mut Builder) -> Result<crate::TensorId, Fault> {
        let shape = self.shape::<4>("image")?;
        if shape[1] != 3 {
            return Err(Fault::Unsupported(format!(
                "images have 3 channels, not {}",
                shape[1]
            )));
        }
        Ok(b.input("image", &shape))
    }
}

/// A configuration that ships with the crate.
fn configuration<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_json::from_str(text)
        .map_err(|e| Fault::Unsupported(format!("its configuration is wrong: {e}")))
}

#[cfg(test)]
mod tests;
