//! Function units from few numbers: segments and a degree.
//!
//! `poly8x2` is eight segments of degree two, `table64` sixty-four of degree zero: minimax coefficients on the function's
//! reduced interval, everything rounded to one register.
//!
//! | function | reduction | interval | error made small |
//! |---|---|---|---|
//! | exp, exp2 | 2^integer times the fraction's power | [0, 1) | relative |
//! | log, log2 | exponent plus the significand's | [1, 2) | absolute |
//! | reciprocal | significand, no refinement | [1, 2) | relative |
//! | sqrt, rsqrt | significand and the exponent's parity, no refinement | [1, 4) | relative |
//! | sigmoid, tanh, erf, softplus, SiLU, both GELU | symmetry; the limit beyond 16 (tanh and GELU 8, erf 4) | [0, 16) | absolute |
//!
//! Rounded coefficients are the nearest to the minimax ones in the register; better ones may be near them.

use super::fit::{Evaluation, Weight};
use super::kernel::{Kernel, Origin, Polynomial, Target};
use super::reduction::{Exponential, Logarithm, Mirrored, Split};
use super::register::Register;
use super::roots::{Refined, Refinement, Seed};
use super::segments::Segments;
use super::{Design, DesignError, Function, FunctionUnit};

impl FunctionUnit {
    /// A unit of so many segments of a degree in a register; `None` of functions that the table above does not have.
    pub fn piecewise(
        function: Function,
        segments: u32,
        degree: usize,
        register: Register,
    ) -> Result<Option<Self>, DesignError> {
        use Function::*;
        let fitted = |target: Target, [low, high]: [f64; 2], weight: Weight| {
            let cut = Segments::Uniform {
                low,
                high,
                count: segments,
            };
            let evaluation = Evaluation::within(register, true);
            let fit = Polynomial::fit(target, cut, degree, weight, Origin::Start, evaluation)?;
            Ok::<Kernel, DesignError>(Kernel::Polynomial(fit))
        };
        let design = match function {
            Exp | Exp2 => Design::Exponential(Exponential {
                split: Split::Floor,
                register,
                fma: true,
                kernel: fitted(Target::of(Exp2), [0.0, 1.0], Weight::Relative)?,
            }),
            Log | Log2 => Design::Logarithm(Logarithm {
                kernel: fitted(Target::of(Log2), [1.0, 2.0], Weight::Absolute)?,
                centred: false,
                register,
            }),
            Reciprocal | Rsqrt | Sqrt => {
                let (target, high) = match function {
                    Reciprocal => (Reciprocal, 2.0),
                    _ => (Rsqrt, 4.0),
                };
                Design::Refined(Refined {
                    register,
                    seed: Seed::Kernel(fitted(Target::of(target), [1.0, high], Weight::Relative)?),
                    refinement: Refinement::Steps(Vec::new()),
                    correction: false,
                    fma: true,
                })
            }
            Sigmoid | Tanh | Erf | Softplus | Silu | Gelu | GeluTanh => {
                let (limit, beyond) = match function {
                    Sigmoid => (16.0, 1.0),
                    Tanh => (8.0, 1.0),
                    Erf => (4.0, 1.0),
                    Softplus | Silu => (16.0, 0.0),
                    _ => (8.0, 0.0),
                };
                let target = Target {
                    function,
                    mirrored: beyond == 0.0,
                };
                Design::Mirrored(Mirrored {
                    kernel: fitted(target, [0.0, limit], Weight::Absolute)?,
                    limit,
                    beyond,
                    register,
                })
            }
            _ => return Ok(None),
        };
        Ok(Some(Self {
            design,
            ..Self::reference(function, register, register)
        }))
    }

    /// The unit of a word: `poly8x2`, `table64`.
    pub fn of_word(
        function: Function,
        word: &str,
        register: Register,
    ) -> Result<Option<Self>, DesignError> {
        let numbers = match (word.strip_prefix("poly"), word.strip_prefix("table")) {
            (Some(rest), _) => rest
                .split_once('x')
                .and_then(|(s, d)| Some((s.parse().ok()?, d.parse().ok()?))),
            (_, Some(rest)) => rest.parse().ok().map(|s| (s, 0)),
            _ => None,
        };
        match numbers {
            Some((segments, degree)) if degree <= 24 => {
                Self::piecewise(function, segments, degree, register)
            }
            _ => Ok(None),
        }
    }
}
