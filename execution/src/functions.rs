//! Functions of one number in f64.

use presil_numerics::function::Function;
use presil_workloads::formula::Unary;

/// What a function gives.
pub fn value(f: Unary, x: f64) -> f64 {
    let named = match f {
        Unary::Negate => return -x,
        Unary::Abs => return x.abs(),
        Unary::Sign if x == 0.0 || x.is_nan() => return x,
        Unary::Sign => return x.signum(),
        Unary::Floor => return x.floor(),
        Unary::Ceil => return x.ceil(),
        Unary::Round => return x.round_ties_even(),
        Unary::Square => return x * x,
        Unary::Relu if x.is_nan() => return x,
        Unary::Relu => return x.max(0.0),
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
        Unary::Atan => return x.atan(),
    };
    named.value(x)
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
