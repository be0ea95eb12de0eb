//! The designs that the tables of inverse square roots name, as units.

#![allow(dead_code, reason = "the tests and the benchmark use different parts")]

use presil_numerics::Format;
use presil_numerics::function::composed::Composed;
use presil_numerics::function::fit::{Evaluation, Weight, minimax};
use presil_numerics::function::kernel::{Kernel, Origin, Polynomial, Target};
use presil_numerics::function::presets::function_units;
use presil_numerics::function::reduction::Direct;
use presil_numerics::function::roots::{Refined, Refinement, Seed, Step};
use presil_numerics::function::segments::Segments;
use presil_numerics::function::{Design, Function, FunctionUnit, Register, SpecialValues};

pub fn f32_unit(function: Function, design: Design) -> FunctionUnit {
    FunctionUnit {
        function,
        input: Register::f32(),
        output: Register::f32(),
        special_values: SpecialValues::Raw,
        design,
    }
}

pub fn refined(seed: Seed, steps: Vec<Step>) -> FunctionUnit {
    f32_unit(
        Function::Rsqrt,
        Design::Refined(Refined {
            register: Register::f32(),
            seed,
            refinement: Refinement::Steps(steps),
            correction: false,
            fma: false,
        }),
    )
}

/// Minimax polynomials on equal parts of each of the two binades.
fn piecewise(segments: u32, degree: usize, coefficient: Register) -> Polynomial {
    Polynomial::fit(
        Target::of(Function::Rsqrt),
        Segments::Octaves {
            low: 1.0,
            octaves: 2,
            parts: segments / 2,
        },
        degree,
        Weight::Relative,
        Origin::Start,
        Evaluation {
            coefficient,
            ..Evaluation::within(Register::f32(), true)
        },
    )
    .unwrap()
}

fn numbers(name: &str) -> Vec<u32> {
    let digits = name.split(|c: char| !c.is_ascii_digit());
    digits.filter_map(|d| d.parse().ok()).collect()
}

/// Minimax polynomial of `1 / sqrt c` over the `c = x y^2` that a magic constant leaves, for every f32 `x` of two binades.
fn minimax_step(magic: i64, degree: usize, fma: bool) -> Option<FunctionUnit> {
    let range = match magic {
        0x5f20_0000 => [0.75, 0.843_750_067_055_225_4],
        _ => [0.932_430_148_124_694_8, 1.069_073_785_464_039_7],
    };
    let fit = minimax(|c| 1.0 / c.sqrt(), range, degree, Weight::Relative, 0.0)?;
    let step = Step::product(&fit.coefficients, fma);
    Some(refined(Seed::Magic(magic), vec![step]))
}

/// The unit of a row, where it is one.
pub fn unit_of(method: &str) -> Option<FunctionUnit> {
    let preset = |name: &str| {
        let units = function_units().unwrap();
        units.into_iter().find(|u| u.name == name).map(|u| u.unit)
    };
    let plain = Step::product(&[1.5, -0.5], false);
    let newton = Step::residual(&[0.5], true);
    let halley = Step::residual(&[0.5, 0.375], true);
    let named = match method {
        "quake0" => "quake_0",
        "quake1" => "quake_1",
        "quake2" => "quake_2",
        "quake3" => "quake_3",
        "lom0" => "lomont_0",
        "lom1" => "lomont_1",
        "lom2" => "lomont_2",
        "wmc1" => "walczyk_1",
        "wmc2" => "walczyk_2",
        "kad1" => "kadlec_1",
        "kad2" => "kadlec_2",
        "kad1f" => "kadlec_1_fma",
        "kad2f" => "kadlec_2_fma",
        "hal1" => "moroz_1",
        "hal1nr" => "moroz_2_fma",
        "halq" => "quake_halley",
        _ => "",
    };
    if !named.is_empty() {
        return preset(named);
    }
    if method == "ref1" {
        let part = |f| FunctionUnit::reference(f, Register::f32(), Register::f32());
        let composed = Composed {
            register: Register::f32(),
            fma: false,
            parts: vec![part(Function::Sqrt), part(Function::Reciprocal)],
        };
        return Some(f32_unit(Function::Rsqrt, Design::Composed(composed)));
    }
    if let Some((seed, rest)) = method.split_once("_deg") {
        let magic = match seed {
            "quakeseed" => Some(0x5f37_59df),
            "magic_0x5f200000" => Some(0x5f20_0000),
            _ => None,
        };
        if let Some(magic) = magic {
            return minimax_step(magic, numbers(rest)[0] as usize, rest.ends_with("fma"));
        }
    }
    if method.starts_with("pw_seg") {
        let n = numbers(method);
        let kernel = Kernel::Polynomial(piecewise(n[0], n[1] as usize, Register::f32()));
        let direct = Direct {
            kernel,
            below: None,
            above: None,
        };
        return Some(f32_unit(Function::Rsqrt, Design::Direct(direct)));
    }
    let (entries, fraction, steps) = if let Some(rest) = method.strip_prefix("arm") {
        let step = Step {
            fuse_argument: true,
            ..Step::product(&[1.5, -0.5], true)
        };
        let steps = numbers(rest)[0] as usize;
        (256, Some(8), vec![step; steps])
    } else {
        let rest = method.strip_prefix("table")?;
        let entries = numbers(rest)[0];
        let fraction = rest.contains("bit").then(|| numbers(rest)[1] as u8);
        let steps = match rest.split_once('_')?.1.rsplit('_').next()? {
            "0NR" => Vec::new(),
            "1NR" => vec![plain],
            "1NRfma" => vec![newton],
            "2NRfma" => vec![newton.clone(), newton],
            "1Halleyfma" => vec![halley],
            _ => return None,
        };
        (entries, fraction, steps)
    };
    // Seeds lie in (1/2, 1]: a fraction of n bits below the leading one.
    let entry = fraction.map_or(Register::f32(), |n| Register {
        format: Format::Int {
            bits: n + 1,
            signed: false,
        },
        ..Register::fixed(n + 1, i16::from(n) + 1)
    });
    let seed = Seed::Kernel(Kernel::Polynomial(piecewise(entries, 0, entry)));
    Some(refined(seed, steps))
}

/// Every f32 in [1, 4).
pub fn two_binades(stride: usize) -> impl Iterator<Item = f64> {
    (0x3f80_0000u32..0x4080_0000)
        .step_by(stride)
        .map(|bits| f64::from(f32::from_bits(bits)))
}
