//! What a user names as the problem.

use std::path::{Path, PathBuf};

use presil_workloads::Model;

/// What is to be mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The einsum of a case file.
    Case(PathBuf),
    /// The short form of an einsum.
    Short(String),
    /// An op of a model.
    Layer {
        /// Zoo name or model file.
        model: String,
        /// The op; none for the only one of a model.
        op: Option<String>,
    },
}

impl Target {
    /// What the words of a command line mean; `layer` is that of `--layer`.
    ///
    /// # Errors
    /// If there are several problems, with what to write instead.
    pub fn parse(words: &[PathBuf], layer: Option<&str>) -> Result<Self, String> {
        let words: Vec<String> = words.iter().map(|w| w.display().to_string()).collect();
        let whole = words.join(" ");
        if let Some(layer) = layer {
            return match words.as_slice() {
                [model] => Ok(Self::Layer {
                    model: model.clone(),
                    op: Some(layer.into()),
                }),
                _ => Err(format!(
                    "--layer names an op of one model, not of `{whole}`"
                )),
            };
        }
        if super::short::is_short(&whole) {
            return Ok(Self::Short(whole));
        }
        let [word] = words.as_slice() else {
            return Err(format!(
                "--chip maps one problem at a time, and `{whole}` are {}; map each by itself",
                words.len()
            ));
        };
        let path = Path::new(word);
        if path.is_file() {
            return Ok(match is_model(path) {
                true => layer_of(word, None),
                false => Self::Case(path.into()),
            });
        }
        // A model and its op, where the model's path and the op's name may have slashes themselves.
        for (at, _) in word.match_indices('/') {
            let (model, op) = (&word[..at], &word[at + 1..]);
            if !op.is_empty() && (Model::names().contains(&model) || Path::new(model).is_file()) {
                return Ok(layer_of(model, Some(op)));
            }
        }
        // Nothing of that name: the model is what is missing, unless a file was meant.
        let file = [".onnx", ".toml", ".json"]
            .iter()
            .any(|e| word.ends_with(e));
        Ok(match word.split_once('/').filter(|_| !file) {
            Some((model, op)) => layer_of(model, Some(op)),
            None => layer_of(word, None),
        })
    }
}

fn layer_of(model: &str, op: Option<&str>) -> Target {
    Target::Layer {
        model: model.into(),
        op: op.map(String::from),
    }
}

/// Whether a file is a model and no case: by its ending, and a .toml or .json by what only a model says.
fn is_model(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    let says = |word: &str| std::fs::read_to_string(path).is_ok_and(|t| t.contains(word));
    match ending {
        "toml" => says("[[op]]"),
        "json" => says("\"model_type\"") || says("\"architectures\""),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parse(words: &[&str], layer: Option<&str>) -> Result<Target, String> {
        let words: Vec<PathBuf> = words.iter().map(PathBuf::from).collect();
        Target::parse(&words, layer)
    }

    #[test]
    fn words_mean_layers_short_forms_and_files() {
        let conv = layer_of("resnet50", Some("layer1.0.conv1"));
        assert_eq!(parse(&["resnet50/layer1.0.conv1"], None).unwrap(), conv);
        assert_eq!(parse(&["resnet50"], Some("layer1.0.conv1")).unwrap(), conv);
        let short = Target::Short("matmul 4x5x6".into());
        assert_eq!(parse(&["matmul 4x5x6"], None).unwrap(), short);
        assert_eq!(parse(&["matmul", "4x5x6"], None).unwrap(), short);
        assert_eq!(
            parse(&["resnet50"], None).unwrap(),
            layer_of("resnet50", None)
        );
        let folder = tempfile::tempdir().unwrap();
        let (case, model) = (folder.path().join("a.toml"), folder.path().join("b.toml"));
        std::fs::write(&case, "[[einsum]]\n").unwrap();
        std::fs::write(&model, "[[op]]\n").unwrap();
        let name = model.display().to_string();
        assert_eq!(
            Target::parse(std::slice::from_ref(&case), None).unwrap(),
            Target::Case(case)
        );
        let op = format!("{name}/x/y");
        assert_eq!(parse(&[&op], None).unwrap(), layer_of(&name, Some("x/y")));
        assert_eq!(parse(&[&name], None).unwrap(), layer_of(&name, None));
        let told = parse(&["resnet50", "bert-base"], None).unwrap_err();
        assert!(told.contains("one problem at a time"), "{told}");
    }
}
