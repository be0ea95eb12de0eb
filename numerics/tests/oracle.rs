//! Exact integers of any length as the oracle of every float format and rounding.
//!
//! With all numbers as integers in one small enough unit, the neighbours of `x` are found by bisection over codes and
//! the rounding rules are applied as they are defined.

use num_bigint::{BigInt, BigUint};
use presil_numerics::conversion::{Conversion, Overflow};
use presil_numerics::exact::{Exact, Magnitude};
use presil_numerics::float::FloatLayout;
use presil_numerics::format::Specials;
use presil_numerics::{Codec, Format, Rounding};
use proptest::prelude::*;

const ROUNDINGS: [Rounding; 7] = [
    Rounding::NearestEven,
    Rounding::NearestAway,
    Rounding::TowardZero,
    Rounding::Down,
    Rounding::Up,
    Rounding::HalfUp,
    Rounding::ToOdd,
];

/// The number of a magnitude code in units of 2^unit, codes above the range included.
fn number(layout: FloatLayout, code: u128, unit: i32) -> BigUint {
    let field = code >> layout.mantissa;
    let fraction = code & ((1 << layout.mantissa) - 1);
    let (significand, field) = if field == 0 {
        (fraction, 1)
    } else {
        (fraction | 1 << layout.mantissa, field as i64)
    };
    let exponent = field - i64::from(layout.bias) - i64::from(layout.mantissa) - i64::from(unit);
    BigUint::from(significand) << u64::try_from(exponent).unwrap()
}

/// The rounded magnitude code, as if there were no largest one, and whether it is exact.
fn rounded(layout: FloatLayout, x: Exact, rounding: Rounding) -> (u128, bool) {
    let Magnitude::Finite {
        significand,
        exponent,
    } = x.magnitude
    else {
        panic!("finite numbers only")
    };
    let unit = exponent.min(1 - layout.bias - layout.mantissa as i32);
    let target = BigUint::from(significand) << (exponent - unit) as u64;
    let bits = layout.exponent + layout.mantissa;
    // Codes of twice the range; 127 bits have no more above them.
    let (mut low, mut high) = (0u128, u128::MAX >> (127 - bits));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if number(layout, middle, unit) <= target {
            low = middle;
        } else {
            high = middle;
        }
    }
    let below = number(layout, low, unit);
    if below == target {
        return (low, true);
    }
    let above = number(layout, low + 1, unit);
    // Twice the distance from the midpoint: the sign tells which neighbour is nearer.
    let side = BigInt::from(target * 2u32) - BigInt::from(below + above);
    let zero = BigInt::from(0);
    // The significand is even where its last bit is 0; without mantissa bits only zero's is.
    let even = if layout.mantissa == 0 {
        low == 0
    } else {
        low & 1 == 0
    };
    let up = match rounding {
        Rounding::NearestEven => side > zero || side == zero && !even,
        Rounding::NearestAway => side >= zero,
        Rounding::TowardZero | Rounding::Stochastic { .. } => false,
        Rounding::Down => x.negative,
        Rounding::Up => !x.negative,
        Rounding::HalfUp => side > zero || side == zero && !x.negative,
        Rounding::ToOdd => even,
    };
    (low + u128::from(up), false)
}

fn check(layout: FloatLayout, format: Format, x: Exact, rounding: Rounding) {
    let (magnitude, _) = rounded(layout, x, rounding);
    for overflow in [Overflow::Saturate, Overflow::Infinity, Overflow::Nan] {
        let conversion = Conversion {
            rounding,
            overflow,
            ..Conversion::default()
        };
        let codec = Codec::new(format, conversion).unwrap();
        let got = codec.decode(codec.encode(x, 0).code);
        let directed_in = match rounding {
            Rounding::TowardZero | Rounding::ToOdd => true,
            Rounding::Down => !x.negative,
            Rounding::Up => x.negative,
            _ => false,
        };
        if magnitude <= layout.largest() {
            let Magnitude::Finite {
                significand,
                exponent,
            } = got.magnitude
            else {
                panic!("{format} {rounding}: {x:?} became {got:?}")
            };
            let unit = exponent.min(layout.quantum());
            let value = BigUint::from(significand) << (exponent - unit) as u64;
            assert_eq!(
                value,
                number(layout, magnitude, unit),
                "{format} {rounding} {x:?}"
            );
            let no_negative_zero = layout.specials == Specials::NanAtNegativeZero && magnitude == 0;
            assert_eq!(got.negative, x.negative && !no_negative_zero);
            continue;
        }
        let saturates = match overflow {
            Overflow::Saturate | Overflow::Wrap => true,
            Overflow::Infinity => {
                directed_in || layout.infinity().is_none() && layout.nan(false).is_none()
            }
            Overflow::Nan => layout.nan(false).is_none(),
        };
        match got.magnitude {
            Magnitude::Finite { .. } => {
                assert!(saturates, "{format} {rounding} {overflow} {x:?}");
                let largest = codec.encode(got, 0).code & (u128::MAX >> 1);
                let mask = (1u128 << (layout.exponent + layout.mantissa)) - 1;
                assert_eq!(largest & mask, layout.largest());
            }
            Magnitude::Infinite => {
                assert!(!saturates && overflow == Overflow::Infinity);
                assert_eq!(got.negative, x.negative);
            }
            Magnitude::Nan => {
                assert!(!saturates);
                assert!(overflow == Overflow::Nan || layout.infinity().is_none());
            }
        }
    }
}

/// Formats of at most 16 bits: every code's own number, every midpoint, and what lies just beside either.
#[test]
fn narrow_formats_round_every_interval_right() {
    let named = Format::names();
    let floats = named.iter().map(|n| n.parse::<Format>().unwrap());
    let others = [
        "fp_e4m3",
        "fp_e3m4",
        "fp_e4m3fnuz_b11",
        "fp_e1m2",
        "fp_e2m0finite",
        "fp_e5m0",
        "fp_e3m0fn",
        "fp_e6m9",
        "fp_e8m7fn",
    ];
    let others = others.iter().map(|n| n.parse::<Format>().unwrap());
    let mut formats = 0;
    for format in floats
        .chain(others)
        .filter(|f| f.is_float() && f.bits() <= 16)
    {
        let layout = format.float_layout().unwrap();
        // Wide formats: all exponents with some fractions; 8 bits and fewer: everything.
        let step = if layout.mantissa > 4 { 97 } else { 1 };
        let conversion = Conversion::default();
        let decode = Codec::new(format, conversion).unwrap();
        for code in (0..layout.largest())
            .step_by(step)
            .chain([layout.largest()])
        {
            let number = decode.decode(code);
            let Magnitude::Finite {
                significand,
                exponent,
            } = number.magnitude
            else {
                panic!()
            };
            // The next code's number is one unit above; a fraction of it by 60 more bits.
            let spot = |part: u128| (significand << 60) + part;
            for part in [0, 1, (1 << 59) - 1, 1 << 59, (1 << 59) + 1, (1 << 60) - 1] {
                for negative in [false, true] {
                    let x = Exact::finite(negative, spot(part), exponent - 60);
                    for rounding in ROUNDINGS {
                        check(layout, format, x, rounding);
                    }
                }
            }
        }
        formats += 1;
    }
    assert_eq!(formats, 18);
}

/// bf16, fp16 and two more of 16 bits: every code, every midpoint, and what lies just beside either. By construction
/// the number lies `part` of 2^60 above the code's.
#[test]
fn wide_formats_round_every_interval_right() {
    for name in ["bf16", "fp16", "fp_e6m9fn", "fp_e4m11fnuz"] {
        let format: Format = name.parse().unwrap();
        let layout = format.float_layout().unwrap();
        for rounding in ROUNDINGS {
            let conversion = Conversion {
                rounding,
                ..Conversion::default()
            };
            let codec = Codec::new(format, conversion).unwrap();
            for code in 0..layout.largest() {
                let Magnitude::Finite {
                    significand,
                    exponent,
                } = codec.decode(code).magnitude
                else {
                    panic!()
                };
                for part in [
                    0,
                    1,
                    (1 << 59) - 1,
                    1 << 59,
                    (1 << 59) + 1,
                    (1u128 << 60) - 1,
                ] {
                    for negative in [false, true] {
                        let x = Exact::finite(negative, (significand << 60) + part, exponent - 60);
                        let (tie, nearer_above) = (part == 1 << 59, part > 1 << 59);
                        let up = part != 0
                            && match rounding {
                                Rounding::NearestEven => nearer_above || tie && code & 1 == 1,
                                Rounding::NearestAway => nearer_above || tie,
                                Rounding::HalfUp => nearer_above || tie && !negative,
                                Rounding::TowardZero | Rounding::Stochastic { .. } => false,
                                Rounding::Down => negative,
                                Rounding::Up => !negative,
                                Rounding::ToOdd => code & 1 == 0,
                            };
                        let magnitude = code + u128::from(up);
                        let minus_zero =
                            layout.specials == Specials::NanAtNegativeZero && magnitude == 0;
                        let sign = u128::from(negative && !minus_zero) << 15;
                        assert_eq!(
                            codec.encode(x, 0).code,
                            sign | magnitude,
                            "{name} {rounding} {code:x} {part}"
                        );
                    }
                }
            }
        }
    }
}

fn any_float() -> impl Strategy<Value = Format> {
    let kind = proptest::sample::select(vec!["", "fn", "fnuz", "finite"]);
    (1u8..=15, 0u8..=112, -300i16..300, kind)
        .prop_map(|(e, m, bias, kind)| format!("fp_e{e}m{m}{kind}_b{bias}").parse().unwrap())
}

proptest! {
    #[test]
    fn any_float_format_rounds_right(
        format in any_float(), significand: u128, drop in 0u32..128, low in 0u32..3, spread in -200i32..200, negative: bool,
    ) {
        let layout = format.float_layout().unwrap();
        // Near the range of the format, with long and short significands and ones near a midpoint.
        let short = (significand >> drop << (drop % 7)).max(1);
        let significand = match low {
            0 => short,
            1 => short | 1 << short.ilog2().saturating_sub(layout.mantissa + 1),
            _ => significand.max(1),
        };
        let centre = (1 << (layout.exponent - 1)) - layout.bias;
        let x = Exact::finite(negative, significand, centre + spread - 64);
        for rounding in ROUNDINGS {
            check(layout, format, x, rounding);
        }
    }

    /// A narrow result from f64 is that of one rounding, which going through f32 is not.
    #[test]
    fn f64_rounds_once(bits: u64) {
        let x = f64::from_bits(bits);
        if x.is_finite() && x != 0.0 {
            for name in ["bf16", "fp8_e4m3fn", "tf32", "fp32"] {
                let format: Format = name.parse().unwrap();
                for rounding in ROUNDINGS {
                    check(format.float_layout().unwrap(), format, Exact::from(x), rounding);
                }
            }
        }
    }

    /// Integers against exact integers.
    #[test]
    fn integers_round_right(bits in 1u8..=64, signed: bool, significand: u64, exponent in -80i32..40, negative: bool) {
        let format = Format::Int { bits, signed };
        let range = format.int_range().unwrap();
        let one = BigInt::from(1);
        let (least, largest): (BigInt, BigInt) = if signed {
            (-(one.clone() << (bits - 1)), (one.clone() << (bits - 1)) - 1)
        } else {
            (BigInt::from(0), (one.clone() << bits) - 1)
        };
        prop_assert_eq!((BigInt::from(range.least()), BigInt::from(range.largest())), (least.clone(), largest.clone()));
        let sign = if negative { -1 } else { 1 };
        // In units of 2^-81.
        let x = (BigInt::from(significand) * sign) << (exponent + 81) as u64;
        let unit = one << 81;
        let floor = |v: &BigInt| -> BigInt { (v - ((v % &unit) + &unit) % &unit) / &unit };
        let below = floor(&x);
        let twice = (&x - &below * &unit) * 2;
        let is_integer = twice == BigInt::from(0);
        let odd = &below % 2 != BigInt::from(0);
        let integer = |rounding: Rounding| -> BigInt {
            if is_integer { return below.clone(); }
            let above: BigInt = &below + 1;
            let (inner, outer) = if negative { (above.clone(), below.clone()) } else { (below.clone(), above.clone()) };
            match rounding {
                Rounding::NearestEven if twice == unit => if odd { above } else { below.clone() },
                Rounding::NearestAway if twice == unit => outer,
                Rounding::HalfUp if twice == unit => above,
                Rounding::NearestEven | Rounding::NearestAway | Rounding::HalfUp =>
                    if twice > unit { above } else { below.clone() },
                Rounding::TowardZero | Rounding::Stochastic { .. } => inner,
                Rounding::Down => below.clone(),
                Rounding::Up => above,
                Rounding::ToOdd => if odd { below.clone() } else { above },
            }
        };
        for rounding in ROUNDINGS {
            let exact = integer(rounding);
            for overflow in [Overflow::Saturate, Overflow::Wrap] {
                let conversion = Conversion { rounding, overflow, ..Conversion::default() };
                let codec = Codec::new(format, conversion).unwrap();
                let code = codec.encode(Exact::finite(negative, significand.into(), exponent), 0).code;
                let got = BigInt::from(range.integer(code));
                let expected = match overflow {
                    Overflow::Wrap => {
                        let modulus = BigInt::from(1) << bits;
                        let low: BigInt = ((&exact % &modulus) + &modulus) % &modulus;
                        if low > largest { low - modulus } else { low }
                    }
                    _ => exact.clone().clamp(least.clone(), largest.clone()),
                };
                prop_assert_eq!(got, expected, "{} {} {} x 2^{}", format, rounding, significand, exponent);
            }
        }
    }

    /// With k random bits and a fraction of at most k bits, the chance of rounding up is the fraction exactly.
    #[test]
    fn stochastic_rounding_has_the_mean(bits in 1u8..=8, seed: u64, numerator in 0u32..256) {
        let fraction = f64::from(numerator % (1 << bits)) / f64::from(1u32 << bits);
        let conversion = Conversion { rounding: Rounding::Stochastic { bits, seed }, ..Conversion::default() };
        let codec = Codec::new(Format::INT8, conversion).unwrap();
        let trials = 4096u64;
        let up: u64 = (0..trials).map(|i| codec.encode(Exact::from(5.0 + fraction), i).code as u64 - 5).sum();
        let sigma = (trials as f64 * fraction * (1.0 - fraction)).sqrt();
        prop_assert!((up as f64 - trials as f64 * fraction).abs() <= 6.0 * sigma + 1e-9);
    }
}
