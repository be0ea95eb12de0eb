//! Function units: a function, what goes in and out, and the design between.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::composed::{Composed, ComposedState};
use super::lanes::{BLOCK, Lanes};
use super::reduction::{
    Circular, CircularState, Direct, DirectState, Exponential, ExponentialState, Logarithm,
    LogarithmState, Mirrored, MirroredState,
};
use super::register::{Register, Rounder};
use super::roots::{Refined, RefinedState};
use super::table::{CodeTable, CodeTableState};
use super::{DesignError, Function};
use crate::exact::Exact;

/// A unit that takes a function of every number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionUnit {
    /// What it approximates.
    pub function: Function,
    /// What arguments are rounded to first.
    pub input: Register,
    /// What results are rounded to in the end.
    pub output: Register,
    /// Who makes zeros, infinities, NaNs and arguments without a result.
    #[serde(default)]
    pub special_values: SpecialValues,
    /// How it is made.
    pub design: Design,
}

/// Who makes the results of zeros, infinities, NaNs and arguments without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpecialValues {
    /// The unit tells them apart: they are the function's own.
    #[default]
    Reference,
    /// Nobody: they go through the design like other numbers.
    Raw,
}

/// How a function unit is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Design {
    /// In f64, rounded once.
    Reference,
    /// A code of the output for each code of the input.
    CodeTable(CodeTable),
    /// A kernel on its interval.
    Direct(Direct),
    /// A kernel of magnitudes.
    Mirrored(Mirrored),
    /// The fraction of an exponential.
    Exponential(Exponential),
    /// The significand of a logarithm.
    Logarithm(Logarithm),
    /// The remainder of an angle.
    Circular(Circular),
    /// A seed and refinements.
    Refined(Refined),
    /// Other units and plain operations.
    Composed(Composed),
}

/// How deep units may be made of units.
const DEEPEST: usize = 8;

impl FunctionUnit {
    /// The function in f64, rounded once to a register.
    pub fn reference(function: Function, input: Register, output: Register) -> Self {
        Self {
            function,
            input,
            output,
            special_values: SpecialValues::Reference,
            design: Design::Reference,
        }
    }

    /// The unit made ready.
    pub fn evaluator(&self) -> Result<Evaluator, DesignError> {
        self.ready(0)
    }

    pub(crate) fn ready(&self, depth: usize) -> Result<Evaluator, DesignError> {
        if depth > DEEPEST {
            return Err(DesignError::field("parts", "nest eight deep at most"));
        }
        let narrow = self.registers().iter().all(Register::is_narrow);
        let function = self.function;
        let state = match &self.design {
            Design::Reference => State::Reference,
            Design::CodeTable(table) => State::CodeTable(table.ready()?),
            Design::Direct(d) => State::Direct(d.ready(function, narrow)?),
            Design::Mirrored(m) => State::Mirrored(m.ready(function, narrow)?),
            Design::Exponential(e) => State::Exponential(e.ready(function, narrow)?),
            Design::Logarithm(l) => State::Logarithm(l.ready(function, narrow)?),
            Design::Circular(c) => State::Circular(Box::new(c.ready(function, narrow)?)),
            Design::Refined(r) => State::Refined(r.ready(function, narrow)?),
            Design::Composed(c) => State::Composed(c.ready(function, narrow, depth)?),
        };
        Ok(Evaluator {
            // Conversions need no exact products.
            input: self.input.rounder(true)?,
            output: self.output.rounder(true)?,
            unit: self.clone(),
            state,
        })
    }

    /// The registers that operands come from.
    fn registers(&self) -> Vec<Register> {
        let inner = match &self.design {
            Design::Reference | Design::CodeTable(_) => Vec::new(),
            Design::Direct(d) => d.kernel.registers(),
            Design::Mirrored(m) => [m.kernel.registers(), vec![m.register]].concat(),
            Design::Exponential(e) => [e.kernel.registers(), vec![e.register]].concat(),
            Design::Logarithm(l) => [l.kernel.registers(), vec![l.register]].concat(),
            Design::Circular(c) => {
                [c.sine.registers(), c.cosine.registers(), vec![c.register]].concat()
            }
            Design::Refined(r) => r.registers(),
            Design::Composed(c) => c.registers(),
        };
        [vec![self.input], inner].concat()
    }
}

#[derive(Debug, Clone)]
enum State {
    Reference,
    CodeTable(CodeTableState),
    Direct(DirectState),
    Mirrored(MirroredState),
    Exponential(ExponentialState),
    Logarithm(LogarithmState),
    Circular(Box<CircularState>),
    Refined(RefinedState),
    Composed(ComposedState),
}

/// A function unit, ready for many numbers.
#[derive(Debug, Clone)]
pub struct Evaluator {
    unit: FunctionUnit,
    input: Rounder,
    output: Rounder,
    state: State,
}

/// Whether a function's number is a matter of its own: zeros, infinities, NaNs, and where there is none.
fn is_special(function: Function, x: f64) -> bool {
    let positive = matches!(
        function,
        Function::Log | Function::Log2 | Function::Sqrt | Function::Rsqrt
    );
    !(x.is_finite() && x != 0.0) || positive && x < 0.0
}

impl Evaluator {
    /// The unit that it evaluates.
    pub fn unit(&self) -> &FunctionUnit {
        &self.unit
    }

    pub(crate) fn input(&self) -> &Rounder {
        &self.input
    }

    pub(crate) fn output(&self) -> &Rounder {
        &self.output
    }

    /// The function's numbers at `x`, which are rounded to the input's register first, in the output's register. Of
    /// division, `x` are divisors and the dividends 1 where absent.
    pub(crate) fn evaluate(&self, x: &Lanes, dividend: Option<&Lanes>) -> Lanes {
        let mut x = *x;
        self.input.settle(&mut x);
        let dividend = dividend.map(|a| {
            let mut a = *a;
            self.input.settle(&mut a);
            a
        });
        let mut y = match &self.state {
            State::Reference => std::array::from_fn(|lane| self.exact(&x, dividend.as_ref(), lane)),
            State::CodeTable(t) => x.map(|x| t.evaluate_one(x)),
            State::Direct(s) => s.evaluate(&x),
            State::Mirrored(s) => s.evaluate(&x),
            State::Exponential(s) => s.evaluate(&x),
            State::Logarithm(s) => s.evaluate(&x),
            State::Circular(s) => s.evaluate(&x),
            State::Refined(s) => s.evaluate(&x, dividend.as_ref()),
            State::Composed(s) => s.evaluate(&x, dividend.as_ref()),
        };
        let tells_apart = self.unit.special_values == SpecialValues::Reference
            && !matches!(self.state, State::Reference | State::CodeTable(_));
        if tells_apart {
            for lane in 0..BLOCK {
                let numerator = dividend.as_ref().map_or(1.0, |a| a[lane]);
                if is_special(self.unit.function, x[lane])
                    || is_special(Function::Division, numerator)
                {
                    y[lane] = self.exact(&x, dividend.as_ref(), lane);
                }
            }
        }
        self.output.settle(&mut y);
        y
    }

    /// Of an exponential design, the fraction's power and the integer's exponent; of others, their result and 0.
    pub(crate) fn halves(&self, x: &Lanes) -> (Lanes, Lanes) {
        let mut x = *x;
        self.input.settle(&mut x);
        match &self.state {
            State::Exponential(s) => {
                let (mut fraction, exponent) = s.halves(&x);
                self.output.settle(&mut fraction);
                (fraction, exponent)
            }
            _ => (self.evaluate(&x, None), [0.0; BLOCK]),
        }
    }

    fn exact(&self, x: &Lanes, dividend: Option<&Lanes>, lane: usize) -> f64 {
        match (self.unit.function, dividend) {
            (Function::Division, a) => a.map_or(1.0, |a| a[lane]) / x[lane],
            (function, _) => function.value(x[lane]),
        }
    }

    /// The unit at one number.
    pub fn one(&self, x: f64) -> f64 {
        self.evaluate(&[x; BLOCK], None)[0]
    }

    /// The unit at as many numbers as both slices have. Results that f32 lacks are rounded to it.
    pub fn apply(&self, x: &[f32], y: &mut [f32]) {
        for (x, y) in x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)) {
            write(y, &self.evaluate(&read(x), None));
        }
    }

    /// `a / x`, of units of division.
    pub fn divide(&self, a: &[f32], x: &[f32], y: &mut [f32]) {
        let blocks = a.chunks(BLOCK).zip(x.chunks(BLOCK));
        for ((a, x), y) in blocks.zip(y.chunks_mut(BLOCK)) {
            write(y, &self.evaluate(&read(x), Some(&read(a))));
        }
    }

    /// The unit's results, as f64, at numbers given as f64.
    pub fn apply_f64(&self, x: &[f64], y: &mut [f64]) {
        for (x, y) in x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)) {
            let mut lanes = [0.0; BLOCK];
            lanes[..x.len()].copy_from_slice(x);
            let results = self.evaluate(&lanes, None);
            y.copy_from_slice(&results[..y.len()]);
        }
    }

    /// The output's code of every code of the input, where both have 16 bits at most: the unit as one table. A unit
    /// that is a table of codes gives that.
    pub fn codes(&self) -> Option<Vec<u16>> {
        if let Design::CodeTable(table) = &self.unit.design {
            return Some(table.entries.clone());
        }
        let (input, output) = (&self.input.exact, &self.output.exact);
        if input.code_bits() > 16 || output.code_bits() > 16 {
            return None;
        }
        let numbers: Vec<f64> = (0..1u128 << input.code_bits())
            .map(|code| input.value(code))
            .collect();
        let mut results = vec![0.0; numbers.len()];
        self.apply_f64(&numbers, &mut results);
        let codes = results.iter().map(|y| output.code(Exact::from(*y)) as u16);
        Some(codes.collect())
    }
}

fn read(x: &[f32]) -> Lanes {
    let mut lanes = [0.0; BLOCK];
    for (lane, x) in lanes.iter_mut().zip(x) {
        *lane = f64::from(*x);
    }
    lanes
}

fn write(y: &mut [f32], lanes: &Lanes) {
    for (y, lane) in y.iter_mut().zip(lanes) {
        *y = *lane as f32;
    }
}

/// The codes of a table at some codes.
pub fn look_up(table: &[u16], codes: &[u16], results: &mut [u16]) {
    for (code, result) in codes.iter().zip(results) {
        *result = table.get(usize::from(*code)).copied().unwrap_or(0);
    }
}
