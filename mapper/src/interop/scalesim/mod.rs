//! SCALE-Sim's `.cfg` and topology `.csv`.
//!
//! What users stumble over in them, and what happens here:
//! - rows must end in a comma there, since the last field is dropped; here the comma is optional;
//! - the first line is dropped there whatever it is; here only if it is a header;
//! - in `USER` mode the input's and the filter's bandwidth are `IfmapSRAMBankBandwidth` and `FilterSRAMBankBandwidth`
//!   of `[layout]`; `Bandwidth` is the output's alone (its first number);
//! - a convolution with `DP` anywhere in its name is depthwise: it is run once a channel, with one channel each;
//! - sizes are KiB of one-byte words, and a convolution's input includes its padding.
//!
//! Custom layouts, sparsity and Ramulator traces are refused: their figures have no closed forms.

mod runs;

pub use self::runs::{Comparison, Run, figures, read_runs};

use thiserror::Error;

use crate::conventions::scalesim::{Bandwidth, Dataflow, Layer, SystolicArray};

/// What a `.cfg` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `run_name`; empty if there is none.
    pub name: String,
    /// The array.
    pub array: SystolicArray,
}

/// A layer of a topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedLayer {
    /// Name.
    pub name: String,
    /// The layer.
    pub layer: Layer,
    /// How often it is run: the channels of a depthwise convolution, else 1.
    pub repeat: u64,
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScaleSimFileError {
    /// A key that must be there.
    #[error("[{section}] needs {key}: {reason}")]
    Missing {
        /// Section.
        section: &'static str,
        /// Key.
        key: &'static str,
        /// What it is for.
        reason: &'static str,
    },
    /// A value that is none.
    #[error("[{section}] {key} = {value}: expected {expected}")]
    Value {
        /// Section.
        section: &'static str,
        /// Key.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it could be.
        expected: &'static str,
    },
    /// A line that is none.
    #[error("line {line}: {reason}")]
    Line {
        /// Number, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a `.cfg`.
///
/// # Errors
/// If something is missing, no number, or has no closed form.
pub fn read_config(text: &str) -> Result<Config, ScaleSimFileError> {
    let ini = Ini::parse(text)?;
    for (section, key, expected) in [
        (
            "sparsity",
            "SparsitySupport",
            "False: sparse layers have no closed form here",
        ),
        (
            "layout",
            "IfmapCustomLayout",
            "False: layouts have no closed form",
        ),
        (
            "layout",
            "FilterCustomLayout",
            "False: layouts have no closed form",
        ),
        (
            "run_presets",
            "UseRamulatorTrace",
            "False: traces have no closed form",
        ),
    ] {
        let value = ini.get(section, key).unwrap_or("false");
        if !["false", "no", "off", "0"].contains(&value.to_ascii_lowercase().as_str()) {
            return Err(ScaleSimFileError::Value {
                section,
                key,
                value: value.into(),
                expected,
            });
        }
    }
    let presets = "architecture_presets";
    let sram = |key| {
        ini.number(presets, key, "KiB of an SRAM")
            .map(|kib| kib.saturating_mul(1024))
    };
    let name = ini.need(presets, "Dataflow", "ws, is or os")?;
    let dataflow = Dataflow::parse(name).ok_or_else(|| ScaleSimFileError::Value {
        section: presets,
        key: "Dataflow",
        value: name.into(),
        expected: "ws, is or os",
    })?;
    Ok(Config {
        name: ini.get("general", "run_name").unwrap_or_default().into(),
        array: SystolicArray {
            rows: ini.number(presets, "ArrayHeight", "rows of the array")?,
            cols: ini.number(presets, "ArrayWidth", "columns of the array")?,
            dataflow,
            input_sram: sram("IfmapSramSzkB")?,
            filter_sram: sram("FilterSramSzkB")?,
            output_sram: sram("OfmapSramSzkB")?,
            bandwidth: bandwidth(&ini)?,
        },
    })
}

fn bandwidth(ini: &Ini) -> Result<Bandwidth, ScaleSimFileError> {
    let (section, key) = ("run_presets", "InterfaceBandwidth");
    match ini.need(section, key, "CALC or USER")? {
        "CALC" => Ok(Bandwidth::Estimated),
        "USER" => {
            let given = "in USER mode, words a cycle";
            Ok(Bandwidth::Given {
                input: ini.number("layout", "IfmapSRAMBankBandwidth", given)?,
                filter: ini.number("layout", "FilterSRAMBankBandwidth", given)?,
                output: ini.number("architecture_presets", "Bandwidth", given)?,
            })
        }
        value => Err(ScaleSimFileError::Value {
            section,
            key,
            value: value.into(),
            expected: "CALC or USER",
        }),
    }
}

/// Keys and values by section. Keys are told apart without regard to case, sections with it.
struct Ini<'a>(Vec<(&'a str, &'a str, &'a str)>);

impl<'a> Ini<'a> {
    fn parse(text: &'a str) -> Result<Self, ScaleSimFileError> {
        let (mut entries, mut section) = (Vec::new(), "");
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                section = name.trim();
                continue;
            }
            let Some((key, value)) = line.split_once(['=', ':']) else {
                return Err(ScaleSimFileError::Line {
                    line: i + 1,
                    reason: format!("`{line}` is neither a section nor `key = value`"),
                });
            };
            entries.push((section, key.trim(), value.trim()));
        }
        Ok(Self(entries))
    }

    fn get(&self, section: &str, key: &str) -> Option<&'a str> {
        let mut entries = self.0.iter();
        let found = entries.find(|(s, k, _)| *s == section && k.eq_ignore_ascii_case(key));
        found.map(|(_, _, value)| *value)
    }

    fn need(
        &self,
        section: &'static str,
        key: &'static str,
        reason: &'static str,
    ) -> Result<&'a str, ScaleSimFileError> {
        self.get(section, key).ok_or(ScaleSimFileError::Missing {
            section,
            key,
            reason,
        })
    }

    /// A whole number, the first of a list.
    fn number(
        &self,
        section: &'static str,
        key: &'static str,
        reason: &'static str,
    ) -> Result<u64, ScaleSimFileError> {
        let value = self.need(section, key, reason)?;
        let first = value.split(',').next().unwrap_or_default().trim();
        first.parse().map_err(|_| ScaleSimFileError::Value {
            section,
            key,
            value: value.into(),
            expected: "a whole number",
        })
    }
}

/// Reads a topology: rows `name, M, N, K` (products) or `name, input height, input width, filter height, filter width,
/// channels, filters, stride` (convolutions), each with an optional sparsity ratio `N:M`, which is not used.
///
/// # Errors
/// The first row that is neither.
pub fn read_topology(text: &str) -> Result<Vec<NamedLayer>, ScaleSimFileError> {
    let mut layers = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let mut fields: Vec<&str> = line.split(',').map(str::trim).collect();
        while fields.last().is_some_and(|f| f.is_empty()) {
            fields.pop();
        }
        if fields.last().is_some_and(|f| f.contains(':')) {
            fields.pop();
        }
        let Some((name, sizes)) = fields.split_first() else {
            continue;
        };
        let numbers: Option<Vec<u64>> = sizes.iter().map(|s| s.parse().ok()).collect();
        let is_header = layers.is_empty() && sizes.iter().all(|s| s.parse::<f64>().is_err());
        match numbers.as_deref() {
            Some(&[m, n, k]) => layers.push(NamedLayer {
                name: (*name).into(),
                layer: Layer::Gemm { m, n, k },
                repeat: 1,
            }),
            Some(
                &[
                    height,
                    width,
                    filter_height,
                    filter_width,
                    channels,
                    filters,
                    stride,
                ],
            ) => {
                let depthwise = name.contains("DP");
                layers.push(NamedLayer {
                    name: (*name).into(),
                    layer: Layer::Conv {
                        height,
                        width,
                        filter_height,
                        filter_width,
                        channels: if depthwise { 1 } else { channels },
                        filters,
                        stride,
                    },
                    repeat: if depthwise { channels } else { 1 },
                });
            }
            _ if is_header => {}
            _ => {
                return Err(ScaleSimFileError::Line {
                    line: i + 1,
                    reason: format!(
                        "`{}` is no layer: expected a name and 3 whole numbers (M, N, K) or 7 (input height and width, \
                         filter height and width, channels, filters, stride)",
                        line.trim()
                    ),
                });
            }
        }
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const CONFIG: &str = "\
[general]
run_name = small

[architecture_presets]
ArrayHeight:    16
ArrayWidth:     8
IfmapSramSzkB:    64
FilterSramSzkB:   32
OfmapSramSzkB:    16
IfmapOffset:    0
Dataflow : ws
Bandwidth : 10,20
ReadRequestBuffer: 32

[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 12
FilterSRAMBankBandwidth: 14
FilterCustomLayout: False

[sparsity]
SparsitySupport : false

# comment
[run_presets]
InterfaceBandwidth: USER
UseRamulatorTrace: False
";

    #[test]
    fn a_configuration_gives_the_bandwidths_that_are_used() {
        let config = read_config(CONFIG).unwrap();
        assert_eq!(config.name, "small");
        let expected = SystolicArray {
            rows: 16,
            cols: 8,
            dataflow: Dataflow::WeightStationary,
            input_sram: 64 * 1024,
            filter_sram: 32 * 1024,
            output_sram: 16 * 1024,
            bandwidth: Bandwidth::Given {
                input: 12,
                filter: 14,
                output: 10,
            },
        };
        assert_eq!(config.array, expected);
        let calc = read_config(&CONFIG.replace("USER", "CALC")).unwrap();
        assert_eq!(calc.array.bandwidth, Bandwidth::Estimated);
    }

    #[test]
    fn what_has_no_closed_form_is_refused_with_its_key() {
        for (from, to, says) in [
            (
                "SparsitySupport : false",
                "SparsitySupport : true",
                "SparsitySupport",
            ),
            (
                "UseRamulatorTrace: False",
                "UseRamulatorTrace: True",
                "UseRamulatorTrace",
            ),
            (
                "IfmapCustomLayout: False",
                "IfmapCustomLayout: True",
                "IfmapCustomLayout",
            ),
            ("Dataflow : ws", "Dataflow : rs", "ws, is or os"),
            ("ArrayWidth:     8", "ArrayWidth: -8", "ArrayWidth"),
            (
                "ArrayWidth:     8",
                "",
                "[architecture_presets] needs ArrayWidth",
            ),
            (
                "IfmapSRAMBankBandwidth: 12",
                "",
                "[layout] needs IfmapSRAMBankBandwidth",
            ),
            ("# comment", "comment", "line 24"),
        ] {
            let error = read_config(&CONFIG.replace(from, to))
                .unwrap_err()
                .to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn topologies_of_both_forms_with_and_without_the_last_comma() {
        let gemm = "Layer, M, N, K,\n a, 4, 5, 6,\nb,7,8,9\n\nc,1,2,3,1:1,\n";
        let layers = read_topology(gemm).unwrap();
        let names: Vec<&str> = layers.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(layers[1].layer, Layer::Gemm { m: 7, n: 8, k: 9 });

        let conv = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n\
                    Conv1, 224, 225, 7, 6, 3, 64, 2,\nDP1, 16, 16, 3, 3, 32, 1, 1\n";
        let layers = read_topology(conv).unwrap();
        let first = Layer::Conv {
            height: 224,
            width: 225,
            filter_height: 7,
            filter_width: 6,
            channels: 3,
            filters: 64,
            stride: 2,
        };
        assert_eq!((layers[0].layer, layers[0].repeat), (first, 1));
        assert_eq!(layers[1].repeat, 32);
        assert!(matches!(layers[1].layer, Layer::Conv { channels: 1, .. }));
    }

    #[test]
    fn rows_that_are_no_layers_are_told_by_line() {
        for (text, line) in [
            ("Layer,M,N,K,\na,1,2,\n", "line 2"),
            ("Layer,M,N,K,\na,1,2,3,\nb,1,x,3,\n", "line 3"),
            ("a,1,2.5,3,\n", "line 1"),
        ] {
            let error = read_topology(text).unwrap_err().to_string();
            assert!(error.contains(line), "{error}");
        }
        assert_eq!(read_topology("").unwrap(), []);
        // The tool drops a first line that is a layer.
        assert_eq!(read_topology("a,1,2,3,\n").unwrap().len(), 1);
    }
}
