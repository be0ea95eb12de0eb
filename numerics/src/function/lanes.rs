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
    // False where it is NaN.
    let inexact = rest.abs() > 0.0;
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
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::conversion::{Overflow, Subnormals};
    use crate::format::Format;
    use crate::function::register::Register;
    use proptest::prelude::*;

    fn registers() -> impl Strategy<Value = Register> {
        let formats = [
            "fp32",
            "bf16",
            "fp16",
            "tf32",
            "fp8_e4m3fn",
            "fp8_e5m2",
            "fp8_e4m3fnuz",
            "fp4_e2m1fn",
            "fp_e6m20",
            "int8",
            "uint8",
            "int16",
            "int24",
            "int2",
        ];
        let roundings = [
            Rounding::NearestEven,
            Rounding::NearestAway,
            Rounding::TowardZero,
            Rounding::Down,
            Rounding::Up,
            Rounding::HalfUp,
            Rounding::ToOdd,
        ];
        let overflows = [
            Overflow::Saturate,
            Overflow::Infinity,
            Overflow::Nan,
            Overflow::Wrap,
        ];
        (
            proptest::sample::select(formats.to_vec()),
            proptest::sample::select(roundings.to_vec()),
            proptest::sample::select(overflows.to_vec()),
            any::<bool>(),
            -3i16..30,
        )
            .prop_map(|(format, rounding, overflow, flush, fraction)| {
                let format: Format = format.parse().unwrap_or(Format::FP32);
                let wraps = overflow == Overflow::Wrap && !format.is_int();
                Register {
                    format,
                    fraction: if format.is_int() { fraction } else { 0 },
                    rounding,
                    overflow: if wraps { Overflow::Saturate } else { overflow },
                    subnormals: if flush {
                        Subnormals::Flush
                    } else {
                        Subnormals::Keep
                    },
                }
            })
    }

    /// A number of a narrow register: 24 significant bits, small and large exponents, specials.
    fn number(bits: u32) -> f64 {
        let x = match bits % 7 {
            // Near each other and near one, so that sums cancel and ties happen.
            0..=2 => f32::from_bits(0x3f00_0000 | bits & 0x81ff_f000),
            3 => f32::from_bits(0x3f80_0000 | bits & 0x807f_ffff),
            4 => (bits as i32 >> 20) as f32,
            _ => f32::from_bits(bits),
        };
        f64::from(x)
    }

    fn same(x: f64, y: f64) -> bool {
        x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]
        #[test]
        fn fast_operations_round_exact_ones(
            register in registers(),
            bits in proptest::collection::vec(any::<[u32; 3]>(), 24),
        ) {
            let fast = register.rounder(true).unwrap();
            let exact = register.rounder(false).unwrap();
            let column = |i: usize| bits.iter().map(|b| number(b[i])).collect::<Vec<_>>();
            let (a, b, c) = (column(0), column(1), column(2));
            let mut y = [vec![0.0; a.len()], vec![0.0; a.len()]];
            type Operation<'a> = &'a dyn Fn(&Rounder, &mut [f64]);
            let both: [Operation; 6] = [
                &|r, out| r.convert(&a, out),
                &|r, out| r.add(&a, &b, out),
                &|r, out| r.mul(&a, &b, out),
                &|r, out| r.mul_add(true, &a, &b, &c, out),
                &|r, out| r.mul_add(false, &a, &b, &c, out),
                &|r, out| r.mul_add(true, &a, &b, &b.iter().zip(&a).map(|(b, a)| -a * b).map(|p| f64::from(p as f32)).collect::<Vec<_>>(), out),
            ];
            for (number, operation) in both.iter().enumerate() {
                operation(&fast, &mut y[0]);
                operation(&exact, &mut y[1]);
                for lane in 0..a.len() {
                    prop_assert!(
                        same(y[0][lane], y[1][lane]),
                        "operation {number} of {:e}, {:e}, {:e} in {register:?}: {:e}, not {:e}",
                        a[lane], b[lane], c[lane], y[0][lane], y[1][lane]
                    );
                }
            }
        }

        #[test]
        fn f64_is_rounded_to_odd_between(register in registers(), bits: u64) {
            // Any f64, narrowed as the codec narrows it.
            let x = f64::from_bits(bits);
            let mut y = [0.0];
            register.rounder(true).unwrap().convert(&[x], &mut y);
            let exact = register.rounder(false).unwrap().one(x);
            prop_assert!(same(y[0], exact), "{x:e} in {register:?}: {:e}, not {exact:e}", y[0]);
        }
    }

    #[test]
    fn the_machines_f32_agrees() {
        let r = Register::f32().rounder(true).unwrap();
        let mut y = [0.0];
        for i in 0..20_000u32 {
            let [a, b, c] =
                [1u64, 2, 3].map(|s| number(crate::random::word(s, u64::from(i))) as f32);
            let wide = [a, b, c].map(f64::from);
            let check = |result: f64, expected: f32| {
                assert!(same(result, f64::from(expected)), "{a:e} {b:e} {c:e}");
            };
            r.add(&wide[..1], &wide[1..2], &mut y);
            check(y[0], a + b);
            r.mul(&wide[..1], &wide[1..2], &mut y);
            check(y[0], a * b);
            r.mul_add(true, &wide[..1], &wide[1..2], &wide[2..], &mut y);
            check(y[0], a.mul_add(b, c));
        }
    }
}
