//! The arithmetic that a graph is executed in: how operands are stored, how products are added up, what results are
//! kept in, what the vector unit computes in.
//!
//! ```text
//! contraction   a = stored(A), b = stored(B)                         operands as their storage holds them
//!               c = sum a b in the adder's order and registers       from the bias, or from zero
//!               y = stored(c)                                        in the format of results
//! ```
//!
//! Where both operands are stored under scales, elements are multiplied and added without them, and the sum times the
//! product of the scales is the result. Integer accumulators start from the bias in units of that product; elsewhere the
//! vector unit adds it. Weights of another format than the activations' meet them in that of the activations.

use std::sync::Arc;

use presil_numerics::arithmetic::fused::FusedUnit;
use presil_numerics::arithmetic::matmul::{Size, matmul_f32};
use presil_numerics::arithmetic::summation::{Summation, SummationError, Summer};

use crate::storage::Storage;
use crate::vector::VectorUnit;

/// How products are added up.
#[derive(Debug, Clone, Default)]
pub enum Adder {
    /// One fused multiply-add in f32 after the other.
    #[default]
    F32,
    /// Adders of stated formats in a stated order.
    Ordered(Box<Summer>),
    /// A fused dot unit.
    Fused(Box<FusedUnit>),
}

impl Adder {
    /// Adders of stated formats in a stated order.
    pub fn ordered(summation: &Summation) -> Result<Self, SummationError> {
        Ok(Self::Ordered(Box::new(summation.summer()?)))
    }

    /// Whether sums are of integer codes.
    pub fn is_integer(&self) -> bool {
        match self {
            Self::Ordered(summer) => summer.summation.accumulator.format.is_int(),
            _ => false,
        }
    }

    /// `c += a b`; how many sums left the range of their register.
    pub fn add(
        &self,
        a: &[f32],
        b: &[f32],
        c: &mut [f32],
        size: Size,
    ) -> Result<u64, SummationError> {
        match self {
            Self::F32 => matmul_f32(a, b, c, size)?,
            Self::Ordered(summer) => return summer.matmul_float(a, b, c, size),
            Self::Fused(unit) => unit.matmul(a, b, c, size)?,
        }
        Ok(0)
    }
}

/// A place of an order without a product.
pub const EMPTY: u32 = u32::MAX;

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Arithmetic {
    /// How second operands of contractions that are weights are stored.
    pub weights: Storage,
    /// How other operands of contractions are stored.
    pub activations: Storage,
    /// The order of a contraction's products, where it is not that of its einsum: for each place the product that
    /// stands there, [`EMPTY`] where none does.
    pub order: Option<Arc<[u32]>>,
    /// What contractions with weights add with.
    pub adder: Adder,
    /// What contractions of two activations add with.
    pub activation_adder: Adder,
    /// What results of ops are kept in.
    pub results: Storage,
    /// What softmax, norms and formulas are computed in.
    pub vector: VectorUnit,
    /// Whether the safe width of integer accumulators is measured.
    pub measures_width: bool,
}

impl Arithmetic {
    /// f32 products added in f32, vector work in f64 rounded to f32: what everything is compared with.
    pub fn reference() -> Self {
        Self::default()
    }

    /// Whether elements are multiplied without their scales: both operands are stored under scales.
    pub fn scales_apart(&self) -> bool {
        matches!(
            (&self.weights, &self.activations),
            (Storage::Scaled { .. }, Storage::Scaled { .. })
        )
    }
}
