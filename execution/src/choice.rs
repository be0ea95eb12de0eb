//! From names to an arithmetic: formats of weights, activations and results, and the unit that adds.
//!
//! | asked for | |
//! |---|---|
//! | `weights`, `activations`, `results` | what [`Storage::named`] reads: `int8_pc`, `bf16`, `mxfp4`, `fp32` |
//! | `accumulate` | a unit of `configs/numerics` (`hopper_f8`, `int24_saturating`), or a register (`int20`, `int20:wrap`, `fp16`) that takes product after product |
//! | `vector` | a float format; every step of vector work is rounded to it |
//! | `functions` | units of single functions; the others are correctly rounded |
//!
//! What is not asked for follows from the rest and from the chip: its first unit that takes the operands' formats, else
//! 32-bit integers that wrap, or f32. Each such choice is told as an assumption.

use presil_numerics::arithmetic::fused::FusedDotError;
use presil_numerics::arithmetic::presets::TableError;
use presil_numerics::arithmetic::summation::{Accumulator, Summation, SummationError};
use presil_numerics::arithmetic::unit::Unit;
use presil_numerics::codec::CodecError;
use presil_numerics::format::UnknownFormat;
use presil_numerics::function::presets::{NamedUnit, function_units};
use presil_numerics::function::reference::UnknownFunction;
use presil_numerics::function::{self, DesignError, Evaluator, Function, FunctionUnit};
use presil_numerics::{Format, Overflow};
use thiserror::Error;

use crate::arithmetic::{Adder, Arithmetic};
use crate::storage::{Storage, StorageError};
use crate::vector::{Register, VectorUnit};

/// What is asked for, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// Storage of weights.
    pub weights: String,
    /// Storage of activations that contractions read.
    pub activations: String,
    /// Storage of results.
    pub results: Option<String>,
    /// A unit, or a register.
    pub accumulate: Option<String>,
    /// Format of vector work.
    pub vector: Option<String>,
    /// Units of functions: `rsqrt=quake_1` of `configs/numerics/functions.toml`, `exp2=poly4x2`, `silu=table256`.
    pub functions: Vec<(String, String)>,
}

/// Why there is no such arithmetic.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChoiceError {
    /// A storage.
    #[error("`{name}`: {error}")]
    Storage {
        /// Its name.
        name: String,
        /// Why.
        error: StorageError,
    },
    /// A name that is neither a unit nor a register.
    #[error(
        "`{name}` is no unit and no register: write a format (int20, int20:wrap, fp16) or one of {units}"
    )]
    Accumulate {
        /// The name.
        name: String,
        /// The units there are.
        units: String,
    },
    /// A unit that the chip file names and that there is not.
    #[error("the chip file's numerics.units has `{0}`, and configs/numerics has no such unit")]
    ChipUnit(String),
    /// A unit that does not take the operands.
    #[error("unit `{unit}` takes {takes}, not {given}")]
    Inputs {
        /// The unit.
        unit: String,
        /// What it takes.
        takes: String,
        /// What it was given.
        given: String,
    },
    /// A vector format that is none.
    #[error(transparent)]
    Format(#[from] UnknownFormat),
    /// A vector format without an encoder.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A unit whose description is wrong.
    #[error(transparent)]
    Unit(#[from] FusedDotError),
    /// Adders whose description is wrong.
    #[error(transparent)]
    Summation(#[from] SummationError),
    /// A function that there is not.
    #[error(transparent)]
    Function(#[from] UnknownFunction),
    /// A function unit that can't be made.
    #[error("{function}={unit}: {error}")]
    Design {
        /// The function.
        function: String,
        /// The unit.
        unit: String,
        /// Why.
        error: DesignError,
    },
    /// A name that is no unit of the function.
    #[error(
        "`{unit}` is no unit of {function}: write poly8x2 (8 segments of degree 2), table64{named}"
    )]
    NoUnit {
        /// The function.
        function: String,
        /// The name.
        unit: String,
        /// Named ones.
        named: String,
    },
    /// A table of units that can't be read.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// An arithmetic, and what was assumed to make it.
#[derive(Debug, Clone, Default)]
pub struct Chosen {
    /// The arithmetic.
    pub arithmetic: Arithmetic,
    /// What adds, in words.
    pub adder: String,
    /// What was not asked for.
    pub assumptions: Vec<String>,
}

impl Choice {
    /// The arithmetic of these names on a chip with units of these names.
    ///
    /// # Errors
    /// A name that stands for nothing, formats that do not go together.
    pub fn arithmetic(&self, chip: &[String]) -> Result<Chosen, ChoiceError> {
        let stored = |name: &str| {
            Storage::named(name).map_err(|error| ChoiceError::Storage {
                name: name.into(),
                error,
            })
        };
        let mut assumptions = Vec::new();
        let (weights, activations) = (stored(&self.weights)?, stored(&self.activations)?);
        let results = match (&self.results, &activations) {
            (Some(name), _) => stored(name)?,
            (None, Storage::Kept | Storage::Rounded(_)) => activations.clone(),
            (None, _) => {
                assumptions.push("results of ops are kept in fp32".into());
                Storage::Kept
            }
        };
        let vector = match &self.vector {
            Some(name) => name.parse::<Format>()?,
            None => {
                assumptions.push("vector work is done in fp32".into());
                Format::FP32
            }
        };
        let mut arithmetic = Arithmetic {
            weights,
            activations,
            results,
            vector: VectorUnit {
                register: Some(Register::new(vector)?),
                functions: self.function_units(vector)?,
            },
            ..Arithmetic::reference()
        };
        let a = element(&arithmetic.activations);
        let b = if arithmetic.scales_apart() {
            element(&arithmetic.weights)
        } else {
            a
        };
        let unit = self.unit(chip, [a, b], &mut assumptions)?;
        if matches!(arithmetic.activations, Storage::Scheme(_))
            || matches!(arithmetic.weights, Storage::Scheme(_))
        {
            assumptions.push("block scales are applied before products are added".into());
        }
        arithmetic.measures_width = a.is_int() && b.is_int() && arithmetic.scales_apart();
        let adder;
        (arithmetic.adder, adder) = unit.adder([a, b])?;
        (arithmetic.activation_adder, _) = unit.adder([a, a])?;
        Ok(Chosen {
            arithmetic,
            adder,
            assumptions,
        })
    }

    /// The units of functions, in the vector unit's format.
    fn function_units(&self, vector: Format) -> Result<Vec<Evaluator>, ChoiceError> {
        let published = function_units()?;
        let each = self.functions.iter().map(|(name, word)| {
            let function: Function = name.parse()?;
            let own = |u: &&NamedUnit| u.unit.function == function;
            let wrong = |error| ChoiceError::Design {
                function: name.clone(),
                unit: word.clone(),
                error,
            };
            let named = published.iter().filter(own).find(|u| u.name == *word);
            let unit = match named {
                Some(named) => Some(named.unit.clone()),
                None => FunctionUnit::of_word(function, word, function::Register::float(vector))
                    .map_err(wrong)?,
            };
            let none = || ChoiceError::NoUnit {
                function: name.clone(),
                unit: word.clone(),
                named: published
                    .iter()
                    .filter(own)
                    .map(|u| format!(", {}", u.name))
                    .collect(),
            };
            unit.ok_or_else(none)?.evaluator().map_err(wrong)
        });
        each.collect()
    }

    /// What adds products of two formats.
    fn unit(
        &self,
        chip: &[String],
        inputs: [Format; 2],
        assumptions: &mut Vec<String>,
    ) -> Result<Source, ChoiceError> {
        let units = Unit::all()?;
        let named = |name: &str| units.iter().find(|u| u.name() == name).cloned();
        let takes = |unit: &Unit| inputs.iter().all(|f| unit.inputs().contains(f));
        if let Some(name) = &self.accumulate {
            if let Some(unit) = named(name) {
                return if takes(&unit) {
                    Ok(Source::Unit(Box::new(unit)))
                } else {
                    Err(ChoiceError::Inputs {
                        unit: name.clone(),
                        takes: list(unit.inputs()),
                        given: list(&inputs),
                    })
                };
            }
            return register(name)
                .map(Source::Register)
                .ok_or_else(|| ChoiceError::Accumulate {
                    name: name.clone(),
                    units: units.iter().map(Unit::name).collect::<Vec<_>>().join(", "),
                });
        }
        if let Some(unknown) = chip.iter().find(|name| named(name).is_none()) {
            return Err(ChoiceError::ChipUnit(unknown.clone()));
        }
        if let Some(unit) = chip.iter().filter_map(|name| named(name)).find(takes) {
            return Ok(Source::Unit(Box::new(unit)));
        }
        let register = if inputs.iter().all(|f| f.is_int()) {
            Accumulator::int(32, Overflow::Wrap)
        } else {
            Accumulator::float(Format::FP32)
        };
        assumptions.push(format!(
            "the chip names no unit for {}: products are added one after the other in {}",
            list(&inputs),
            register.format
        ));
        Ok(Source::Register(register))
    }
}

/// The format in which a storage's elements are multiplied: schemes are decoded to f32.
fn element(storage: &Storage) -> Format {
    storage.element_format().unwrap_or(Format::FP32)
}

fn list(formats: &[Format]) -> String {
    let mut names: Vec<String> = formats.iter().map(Format::to_string).collect();
    names.dedup();
    names.join(", ")
}

/// `int20`, `int20:wrap`, `int20:saturate`, `fp16`.
fn register(name: &str) -> Option<Accumulator> {
    let (format, overflow) = match name.split_once(':') {
        Some((format, overflow)) => (format, Some(overflow)),
        None => (name, None),
    };
    let format: Format = format.parse().ok()?;
    match (format, overflow) {
        (Format::Int { bits, signed: true }, overflow) => {
            let overflow = match overflow {
                None | Some("saturate") => Overflow::Saturate,
                Some("wrap") => Overflow::Wrap,
                Some(_) => return None,
            };
            Some(Accumulator::int(bits, overflow))
        }
        (format, None) if format.float_layout().is_some() => Some(Accumulator::float(format)),
        _ => None,
    }
}

enum Source {
    Unit(Box<Unit>),
    Register(Accumulator),
}

impl Source {
    /// The adder for operands of two formats, and its name.
    fn adder(&self, [a, b]: [Format; 2]) -> Result<(Adder, String), ChoiceError> {
        Ok(match self {
            Self::Unit(unit) => return adder_of(unit, [a, b]),
            Self::Register(register) => {
                let how = match (register.format.is_int(), register.overflow) {
                    (true, Overflow::Wrap) => ", wrapping",
                    (true, _) => ", saturating",
                    _ => "",
                };
                (
                    Adder::ordered(&Summation::sequential(*register))?,
                    format!("{}{how}", register.format),
                )
            }
        })
    }
}

/// The adder of a unit for operands of two formats, and its name.
fn adder_of(unit: &Unit, [a, b]: [Format; 2]) -> Result<(Adder, String), ChoiceError> {
    let adder = match unit {
        Unit::Fused(unit) => Adder::Fused(Box::new(unit.with_inputs(a, b)?)),
        Unit::Ordered(unit) => Adder::ordered(&unit.summation)?,
    };
    Ok((adder, unit.name().to_string()))
}
