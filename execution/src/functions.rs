//! Functions of one number in f64.

use presil_numerics::function::Function;
use presil_workloads::formula::Unary;

/// What a function gives, exactly as far as f64 goes.
pub fn value(f: Unary, x: f64) -> f64 {
    named(f).map_or_else(|| plain(f, x), |function| function.value(x))
}

/// A function that hardware evaluates by a unit of its own.
pub fn named(f: Unary) -> Option<Function> {
    Some(match f {
        Unary::Sqrt => Function::Sqrt,
        Unary::Rsqrt => Function::Rsqrt,
        Unary::Reciprocal => Function::Reciprocal,
        Unary::Exp => Function::Exp,
        Unary::Exp2 => Function::Exp2,
        Unary::Log => Function::Log,
        Unary::Log2 => Function::Log2,
        Unary::Sigmoid => Function::Sigmoid,
        Unary::Tanh => Function::Tanh,
        Unary::Erf => Function::Erf,
        Unary::Softplus => Function::Softplus,
        Unary::Silu => Function::Silu,
        Unary::Gelu => Function::Gelu,
        Unary::GeluTanh => Function::GeluTanh,
        Unary::HardSigmoid => Function::HardSigmoid,
        Unary::HardSwish => Function::HardSwish,
        Unary::Sin => Function::Sin,
        Unary::Cos => Function::Cos,
        _ => return None,
    })
}

/// The others: one step of a lane each.
fn plain(f: Unary, x: f64) -> f64 {
    match f {
        Unary::Negate => -x,
        Unary::Abs => x.abs(),
        Unary::Sign if x == 0.0 || x.is_nan() => x,
        Unary::Sign => x.signum(),
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => x.round_ties_even(),
        Unary::Square => x * x,
        Unary::Relu if x.is_nan() => x,
        Unary::Relu => x.max(0.0),
        Unary::Atan => libm::atan(x),
        _ => x,
    }
}

/// `x^y`, by exponentials of logarithms but for whole and half powers, which are exact.
pub fn power(x: f64, y: f64) -> f64 {
    if y == 0.5 {
        return x.sqrt();
    }
    if y.fract() == 0.0 && y.abs() <= 64.0 {
        return x.powi(y as i32);
    }
    Function::Exp2.value(y * Function::Log2.value(x))
}
