//! CORDIC: rotations by angles whose tangent is a power of two, in shifts and additions.
//!
//! ```text
//! circular      x' = x - d 2^-i y,  y' = y + d 2^-i x,  z' = z - d atan 2^-i     d = 1 where z >= 0, else -1
//!               i = 0 .. n-1;  from x = K, y = 0, z = angle:  x -> cos, y -> sin;   K = prod (1 + 2^-2i)^-1/2
//! hyperbolic    x' = x + d 2^-i y,  y' = y + d 2^-i x,  z' = z - d atanh 2^-i
//!               i = 1, 2, 3, 4, 4, 5 .., 13, 13, .. (4, 13, 40, 3 k + 1 twice);  x -> cosh, y -> sinh;  e^z = x + y
//! ```
//!
//! A shifted number is rounded to the register by its rule before it is added (`down` is a plain arithmetic shift). The
//! circular form converges for |angle| <= 1.743, the hyperbolic one for 1.118. Constants are part of the design.
//! Source: Volder, "The CORDIC trigonometric computing technique", IRE Trans. EC-8, 1959; Walther, "A unified algorithm
//! for elementary functions", SJCC 1971.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kernel::Target;
use super::lanes::{BLOCK, Lanes};
use super::register::{Register, Rounder, power};
use super::{DesignError, Function};

/// Shift-and-add rotations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cordic {
    /// What x, y and z are kept in.
    pub register: Register,
    /// Shift of each rotation.
    pub shifts: Vec<u8>,
    /// Angle of each rotation.
    pub angles: Vec<f64>,
    /// What x starts from.
    pub gain: f64,
}

impl Cordic {
    /// Circular rotations with exact constants, which the register rounds: sine and cosine.
    pub fn circular(register: Register, iterations: u8) -> Self {
        let shifts: Vec<u8> = (0..iterations).collect();
        let tangent = |i: &u8| power(-i32::from(*i));
        Self {
            register,
            angles: shifts.iter().map(|i| libm::atan(tangent(i))).collect(),
            gain: shifts
                .iter()
                .map(|i| 1.0 / (1.0 + tangent(i).powi(2)).sqrt())
                .product(),
            shifts,
        }
    }

    /// Hyperbolic rotations with exact constants, which the register rounds: the exponential. Shifts up to `largest`.
    pub fn hyperbolic(register: Register, largest: u8) -> Self {
        let mut repeated = 4u32;
        let mut shifts = Vec::new();
        for i in 1..=largest {
            shifts.push(i);
            if u32::from(i) == repeated {
                shifts.push(i);
                repeated = 3 * repeated + 1;
            }
        }
        let tangent = |i: &u8| power(-i32::from(*i));
        Self {
            register,
            angles: shifts.iter().map(|i| libm::atanh(tangent(i))).collect(),
            gain: shifts
                .iter()
                .map(|i| 1.0 / (1.0 - tangent(i).powi(2)).sqrt())
                .product(),
            shifts,
        }
    }

    pub(crate) fn ready(&self, target: Target, narrow: bool) -> Result<CordicState, DesignError> {
        let output = match target.function {
            Function::Sin => Output::Sine,
            Function::Cos => Output::Cosine,
            Function::Exp => Output::Exponential,
            other => return Err(DesignError::Kernel("cordic", other)),
        };
        if self.shifts.len() != self.angles.len() || !(1..=64).contains(&self.shifts.len()) {
            return Err(DesignError::field(
                "shifts",
                "are 1 to 64, as many as angles",
            ));
        }
        if self.shifts.iter().any(|s| *s > 64) {
            return Err(DesignError::field("shifts", "are 64 at most"));
        }
        let register = self.register.rounder(narrow)?;
        let tangents = self.shifts.iter().map(|i| power(-i32::from(*i)));
        let angles = self.angles.iter().map(|a| register.one(*a));
        Ok(CordicState {
            rotations: tangents.zip(angles).collect(),
            gain: register.one(self.gain),
            output,
            register,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Sine,
    Cosine,
    Exponential,
}

#[derive(Debug, Clone)]
pub(crate) struct CordicState {
    /// Tangent and angle.
    rotations: Vec<(f64, f64)>,
    gain: f64,
    output: Output,
    register: Rounder,
}

impl CordicState {
    pub(crate) fn evaluate(&self, angle: &Lanes) -> Lanes {
        let r = &self.register;
        let (mut x, mut y, mut z) = ([self.gain; BLOCK], [0.0; BLOCK], *angle);
        r.settle(&mut z);
        let turn = if self.output == Output::Exponential {
            1.0
        } else {
            -1.0
        };
        for (tangent, angle) in &self.rotations {
            let d = z.map(|z| if z >= 0.0 { 1.0 } else { -1.0 });
            let (mut xs, mut ys) = ([0.0; BLOCK], [0.0; BLOCK]);
            r.convert(&x.map(|x| x * tangent), &mut xs);
            r.convert(&y.map(|y| y * tangent), &mut ys);
            let signed = |v: &Lanes, sign: f64| -> Lanes {
                std::array::from_fn(|lane| v[lane] * d[lane] * sign)
            };
            let (x0, y0, z0) = (x, y, z);
            r.add(&x0, &signed(&ys, turn), &mut x);
            r.add(&y0, &signed(&xs, 1.0), &mut y);
            r.add(&z0, &signed(&[*angle; BLOCK], -1.0), &mut z);
        }
        match self.output {
            Output::Sine => y,
            Output::Cosine => x,
            Output::Exponential => {
                let cosh = x;
                r.add(&cosh, &y, &mut x);
                x
            }
        }
    }
}
