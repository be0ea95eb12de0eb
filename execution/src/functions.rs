//! Functions of one number in f64.

use presil_numerics::function::Function;
use presil_workloads::formula::Unary;

/// What a function gives, exactly as far as f64 goes.
pub fn value(f: Unary, x: f64) -> f64 {
    match f {
        Unary::Of(function) => function.value(x),
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
