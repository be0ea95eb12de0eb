//! Functions made of other function units and plain operations.
//!
//! With `*`, `+` rounded to the design's register and `f(..)` a part of that function:
//!
//! ```text
//! exp           exp2(x * log2e)                        log       log2(x) * ln2
//! sigmoid       reciprocal(1 + exp(-x))                tanh      2 * sigmoid(2x) + (-1)
//! gelu          x/2 * (1 + erf(x * sqrt(1/2)))         gelu_tanh x * sigmoid(k * (x + 0.044715 * (x * x * x)))
//!                                                                with tanh: x/2 * (1 + tanh(k/2 * ..)),  k = 2 sqrt(2/pi)
//! quick_gelu    x * sigmoid(1.702 * x)                 silu      x * sigmoid(x)
//! softplus      log(1 + exp(x))                        division  a * reciprocal(x)
//! hard_sigmoid  confine(x * 1/6 + 1/2)                 sqrt      x * rsqrt(x)
//! hard_swish    x * hard_sigmoid(x)                    rsqrt     reciprocal(sqrt(x))
//! ```
//!
//! `hard_sigmoid` and `hard_swish` need no part. Halving, doubling and negation are exact. `log` is a part of softplus as
//! it is: beyond `exp`'s range softplus is what the register makes of infinity.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lanes::{BLOCK, Lanes};
use super::register::{Register, Rounder};
use super::unit::{Evaluator, FunctionUnit};
use super::{DesignError, Function};

/// Other units and plain operations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Composed {
    /// What constants, products and sums are rounded to.
    pub register: Register,
    /// Whether a product and a sum round once.
    #[serde(default)]
    pub fma: bool,
    /// The units, one a function.
    #[serde(default)]
    pub parts: Vec<FunctionUnit>,
}

#[derive(Debug, Clone)]
pub(crate) struct ComposedState {
    function: Function,
    register: Rounder,
    fma: bool,
    /// In the order of [`needs`].
    parts: Vec<Evaluator>,
}

/// The functions that one is made of, one list a way.
fn needs(function: Function) -> &'static [&'static [Function]] {
    match function {
        Function::Exp => &[&[Function::Exp2]],
        Function::Log => &[&[Function::Log2]],
        Function::Sigmoid => &[&[Function::Exp, Function::Reciprocal]],
        Function::Tanh | Function::QuickGelu | Function::Silu => &[&[Function::Sigmoid]],
        Function::Gelu => &[&[Function::Erf]],
        Function::GeluTanh => &[&[Function::Sigmoid], &[Function::Tanh]],
        Function::Softplus => &[&[Function::Exp, Function::Log]],
        Function::Division => &[&[Function::Reciprocal]],
        Function::Sqrt => &[&[Function::Rsqrt]],
        Function::Rsqrt => &[&[Function::Sqrt, Function::Reciprocal]],
        Function::HardSigmoid | Function::HardSwish => &[&[]],
        _ => &[],
    }
}

impl Composed {
    pub(crate) fn registers(&self) -> Vec<Register> {
        let outputs = self.parts.iter().map(|p| p.output);
        [self.register].into_iter().chain(outputs).collect()
    }

    pub(crate) fn ready(
        &self,
        function: Function,
        narrow: bool,
        depth: usize,
    ) -> Result<ComposedState, DesignError> {
        let ways = needs(function);
        let part = |f: &Function| self.parts.iter().find(|p| p.function == *f);
        let way = ways
            .iter()
            .find(|way| way.iter().all(|f| part(f).is_some()));
        let Some(way) = way else {
            return Err(match ways.first() {
                None => DesignError::Kernel("composed", function),
                Some(first) => DesignError::Part {
                    function,
                    needs: first.to_vec(),
                },
            });
        };
        let parts = way.iter().filter_map(part);
        Ok(ComposedState {
            function,
            register: self.register.rounder(narrow)?,
            fma: self.fma,
            parts: parts
                .map(|p| p.ready(depth + 1))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl ComposedState {
    /// The function at `x`; of division, `numerator / x`.
    pub(crate) fn evaluate(&self, x: &Lanes, numerator: Option<&Lanes>) -> Lanes {
        let part = |index: usize, x: &Lanes| self.parts[index].evaluate(x, None);
        match self.function {
            Function::Exp => part(0, &self.times(x, std::f64::consts::LOG2_E)),
            Function::Log => self.times(&part(0, x), std::f64::consts::LN_2),
            Function::Sigmoid => {
                let e = part(0, &x.map(|x| -x));
                part(1, &self.plus(&e, 1.0))
            }
            Function::Tanh => {
                let s = part(0, &x.map(|x| 2.0 * x));
                self.plus(&s.map(|s| 2.0 * s), -1.0)
            }
            Function::QuickGelu => self.product(x, &part(0, &self.times(x, 1.702))),
            Function::Silu => self.product(x, &part(0, x)),
            Function::Gelu => {
                let e = part(0, &self.times(x, std::f64::consts::FRAC_1_SQRT_2));
                self.product(&x.map(|x| 0.5 * x), &self.plus(&e, 1.0))
            }
            Function::GeluTanh => self.gelu_tanh(x),
            Function::Softplus => part(1, &self.plus(&part(0, x), 1.0)),
            Function::Division => {
                let y = part(0, x);
                self.product(numerator.unwrap_or(&[1.0; BLOCK]), &y)
            }
            Function::Sqrt => self.product(x, &part(0, x)),
            Function::Rsqrt => part(1, &part(0, x)),
            Function::HardSigmoid => self.hard_sigmoid(x),
            // No other function is composed.
            _ => self.product(x, &self.hard_sigmoid(x)),
        }
    }

    fn gelu_tanh(&self, x: &Lanes) -> Lanes {
        let square = self.product(x, x);
        let cube = self.product(&square, x);
        let mut inner = [0.0; BLOCK];
        let factor = [self.register.one(0.044715); BLOCK];
        self.register
            .mul_add(self.fma, &cube, &factor, x, &mut inner);
        let root = (2.0 / std::f64::consts::PI).sqrt();
        let of_tanh = self.parts[0].unit().function == Function::Tanh;
        let inner = self.times(&inner, if of_tanh { root } else { 2.0 * root });
        let y = self.parts[0].evaluate(&inner, None);
        if of_tanh {
            self.product(&x.map(|x| 0.5 * x), &self.plus(&y, 1.0))
        } else {
            self.product(x, &y)
        }
    }

    fn hard_sigmoid(&self, x: &Lanes) -> Lanes {
        let mut y = [0.0; BLOCK];
        let sixth = [self.register.one(1.0 / 6.0); BLOCK];
        self.register
            .mul_add(self.fma, x, &sixth, &[0.5; BLOCK], &mut y);
        y.map(|y| y.clamp(0.0, 1.0))
    }

    fn product(&self, a: &Lanes, b: &Lanes) -> Lanes {
        let mut y = [0.0; BLOCK];
        self.register.mul(a, b, &mut y);
        y
    }

    fn times(&self, a: &Lanes, constant: f64) -> Lanes {
        self.product(a, &[self.register.one(constant); BLOCK])
    }

    fn plus(&self, a: &Lanes, constant: f64) -> Lanes {
        let mut y = [0.0; BLOCK];
        self.register.add(a, &[constant; BLOCK], &mut y);
        y
    }
}
