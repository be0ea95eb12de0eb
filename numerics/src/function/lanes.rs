//! The operations of function units, on blocks of numbers: each rounds once, to a register.

use super::register::{
    AWAY, DOWN, EVEN, FixedRounder, FloatRounder, HALF_UP, Kind, Rounder, UP, ZERO, rule_number,
};
use crate::exact::Exact;
use crate::rounding::Rounding;

/// Numbers that an evaluator works on at once.
pub(crate) const BLOCK: usize = 128;

/// A block's worth of numbers.
pub(crate) type Lanes = [f64; BLOCK];

trait Round: Copy {
    fn round(self, x: f64) -> f64;
}

#[derive(Clone, Copy)]
struct Single;

impl Round for Single {
    #[inline(always)]
    fn round(self, x: f64) -> f64 {
        f64::from(x as f32)
    }
}

#[derive(Clone, Copy)]
struct Float<const R: u8>(FloatRounder);

impl<const R: u8> Round for Float<R> {
    #[inline(always)]
    fn round(self, x: f64) -> f64 {
        self.0.round::<R>(x)
    }
}

#[derive(Clone, Copy)]
struct Fixed<const R: u8>(FixedRounder);

impl<const R: u8> Round for Fixed<R> {
    #[inline(always)]
    fn round(self, x: f64) -> f64 {
        self.0.round::<R>(x)
    }
}

/// A sum rounded to odd. Where it is exact, infinite or NaN, it is the sum.
#[inline(always)]
fn odd_sum(a: f64, b: f64) -> f64 {
    let s = a + b;
    let t = s - a;
    let rest = (a - (s - t)) + (b - t);
    let bits = s.to_bits();
    // Towards the rest: away from zero where the signs agree.
    let agree = (rest.to_bits() ^ bits) >> 63 == 0;
    let step = if agree { 1 } else { u64::MAX };
    let inexact = rest < 0.0 || rest > 0.0;
    let moves = inexact && bits & 1 == 0;
    f64::from_bits(bits.wrapping_add(if moves { step } else { 0 }))
}

trait Operation {
    fn narrow(a: f64, b: f64, c: f64, down: bool) -> f64;
    fn exact(a: Exact, b: Exact, c: Exact, rule: Rounding) -> Exact;
}

/// `-0` where a sum of opposite numbers is rounded down.
#[inline(always)]
fn signed_zero(s: f64, a: f64, b: f64, down: bool) -> f64 {
    if down && s == 0.0 && (a.is_sign_negative() || b.is_sign_negative()) {
        -0.0
    } else {
        s
    }
}

struct Convert;
struct Add;
struct Mul;
struct Fma;

impl Operation for Convert {
    #[inline(always)]
    fn narrow(a: f64, _: f64, _: f64, _: bool) -> f64 {
        a
    }
    fn exact(a: Exact, _: Exact, _: Exact, _: Rounding) -> Exact {
        a
    }
}

impl Operation for Add {
    #[inline(always)]
    fn narrow(a: f64, b: f64, _: f64, down: bool) -> f64 {
        signed_zero(odd_sum(a, b), a, b, down)
    }
    fn exact(a: Exact, b: Exact, _: Exact, rule: Rounding) -> Exact {
        a.plus(b, rule)
    }
}

impl Operation for Mul {
    #[inline(always)]
    fn narrow(a: f64, b: f64, _: f64, _: bool) -> f64 {
        a * b
    }
    fn exact(a: Exact, b: Exact, _: Exact, _: Rounding) -> Exact {
        a.times(b)
    }
}

impl Operation for Fma {
    #[inline(always)]
    fn narrow(a: f64, b: f64, c: f64, down: bool) -> f64 {
        let p = a * b;
        signed_zero(odd_sum(p, c), p, c, down)
    }
    fn exact(a: Exact, b: Exact, c: Exact, rule: Rounding) -> Exact {
        a.times(b).plus(c, rule)
    }
}

struct Loop<'a, O, R> {
    operands: [&'a [f64]; 3],
    out: &'a mut [f64],
    round: R,
    down: bool,
    operation: std::marker::PhantomData<O>,
}

impl<O: Operation, R: Round> pulp::NullaryFnOnce for Loop<'_, O, R> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let [a, b, c] = self.operands;
        let round = self.round;
        let down = self.down;
        for (((a, b), c), y) in a.iter().zip(b).zip(c).zip(self.out) {
            *y = round.round(O::narrow(*a, *b, *c, down));
        }
    }
}

fn run<O: Operation, R: Round>(operands: [&[f64]; 3], out: &mut [f64], round: R, down: bool) {
    pulp::Arch::new().dispatch(Loop::<O, R> {
        operands,
        out,
        round,
        down,
        operation: std::marker::PhantomData,
    });
}

impl Rounder {
    fn apply<O: Operation>(&self, operands: [&[f64]; 3], out: &mut [f64]) {
        let rule = self.rule();
        let down = rule == Rounding::Down;
        match (&self.kind, rule_number(rule)) {
            _ if !self.narrow => self.apply_exactly::<O>(operands, out),
            (Kind::Exact, _) => self.apply_exactly::<O>(operands, out),
            (Kind::Single, _) => run::<O, _>(operands, out, Single, down),
            (Kind::Float(f), AWAY) => run::<O, _>(operands, out, Float::<AWAY>(*f), down),
            (Kind::Float(f), ZERO) => run::<O, _>(operands, out, Float::<ZERO>(*f), down),
            (Kind::Float(f), DOWN) => run::<O, _>(operands, out, Float::<DOWN>(*f), down),
            (Kind::Float(f), UP) => run::<O, _>(operands, out, Float::<UP>(*f), down),
            (Kind::Float(f), HALF_UP) => run::<O, _>(operands, out, Float::<HALF_UP>(*f), down),
            (Kind::Float(f), _) => run::<O, _>(operands, out, Float::<EVEN>(*f), down),
            (Kind::Fixed(f), AWAY) => run::<O, _>(operands, out, Fixed::<AWAY>(*f), down),
            (Kind::Fixed(f), ZERO) => run::<O, _>(operands, out, Fixed::<ZERO>(*f), down),
            (Kind::Fixed(f), DOWN) => run::<O, _>(operands, out, Fixed::<DOWN>(*f), down),
            (Kind::Fixed(f), UP) => run::<O, _>(operands, out, Fixed::<UP>(*f), down),
            (Kind::Fixed(f), HALF_UP) => run::<O, _>(operands, out, Fixed::<HALF_UP>(*f), down),
            (Kind::Fixed(f), _) => run::<O, _>(operands, out, Fixed::<EVEN>(*f), down),
        }
    }

    fn apply_exactly<O: Operation>(&self, [a, b, c]: [&[f64]; 3], out: &mut [f64]) {
        let rule = self.rule();
        for (((a, b), c), y) in a.iter().zip(b).zip(c).zip(out) {
            let exact = O::exact(Exact::from(*a), Exact::from(*b), Exact::from(*c), rule);
            *y = self.exact.round(exact);
        }
    }

    /// Numbers of any width, or rounded to odd at 53 bits, in the register.
    pub(crate) fn convert(&self, x: &[f64], out: &mut [f64]) {
        self.apply::<Convert>([x, x, x], out);
    }

    /// `x` in the register, in place.
    pub(crate) fn settle(&self, x: &mut Lanes) {
        let unrounded = *x;
        self.convert(&unrounded, x);
    }

    /// `a + b`.
    pub(crate) fn add(&self, a: &[f64], b: &[f64], out: &mut [f64]) {
        self.apply::<Add>([a, b, b], out);
    }

    /// `a - b`.
    pub(crate) fn sub(&self, a: &[f64], b: &Lanes, out: &mut [f64]) {
        self.add(a, &b.map(|b| -b), out);
    }

    /// `a b`.
    pub(crate) fn mul(&self, a: &[f64], b: &[f64], out: &mut [f64]) {
        self.apply::<Mul>([a, b, b], out);
    }

    /// `a b + c`, rounded once where `fused`, else twice.
    pub(crate) fn mul_add(&self, fused: bool, a: &[f64], b: &[f64], c: &[f64], out: &mut [f64]) {
        if fused {
            return self.apply::<Fma>([a, b, c], out);
        }
        let mut product = [0.0; BLOCK];
        let product = &mut product[..a.len().min(BLOCK)];
        self.mul(a, b, product);
        self.add(product, c, out);
    }

    /// One number in the register.
    pub(crate) fn one(&self, x: f64) -> f64 {
        self.exact.round(Exact::from(x))
    }

    /// `a / b`, rounded once.
    pub(crate) fn divide(&self, a: &[f64], b: &[f64], out: &mut [f64]) {
        for ((a, b), y) in a.iter().zip(b).zip(out) {
            *y = match self.kind {
                // Both of 24 bits: 53 bits are enough that rounding twice is rounding once.
                Kind::Single if self.narrow => f64::from((*a / *b) as f32),
                _ => self.exact.round(Exact::from(*a).quotient(Exact::from(*b))),
            };
        }
    }

    /// The square root, rounded once.
    pub(crate) fn sqrt(&self, x: &[f64], out: &mut [f64]) {
        for (x, y) in x.iter().zip(out) {
            let root = x.sqrt();
            // To odd: of 53 bits at most one is beyond 24-bit numbers' ties; the remainder's sign decides.
            *y = self.one(odd_root(*x, root));
        }
    }
}

/// A square root to 53 bits, made odd where it is not exact.
fn odd_root(x: f64, root: f64) -> f64 {
    if !(root.is_finite() && root > 0.0) {
        return root;
    }
    let rest = Exact::from(root)
        .times(Exact::from(root))
        .plus(Exact::from(-x), Rounding::NearestEven);
    if rest.is_zero() || root.to_bits() & 1 == 1 {
        root
    } else if rest.negative {
        f64::from_bits(root.to_bits() + 1)
    } else {
        f64::from_bits(root.to_bits() - 1)
    }
}
