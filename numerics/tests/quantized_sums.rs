//! Registers of quantized products against plain loops: exact, wrapping, saturating, in order.

use presil_numerics::arithmetic::summation::{Accumulator, Spill, Summation};
use presil_numerics::integer::requantize::Requantization;
use presil_numerics::quantized::accumulation::{Accumulation, Operands};
use presil_numerics::quantized::convolution::{Conv2d, DepthwiseConv2d, conv2d, depthwise_conv2d};
use presil_numerics::quantized::linear::{FullyConnected, fully_connected};
use presil_numerics::quantized::movement::{broadcast, concatenate, pad};
use presil_numerics::quantized::rescale::{self, Rescale};
use presil_numerics::quantized::window::Window;
use presil_numerics::quantized::{Clamp, Element, QuantizedError, Scaling};
use presil_numerics::random::word;
use presil_numerics::{Overflow, Rounding};
use proptest::prelude::*;

/// A register as a plain function of a sum; counts what leaves it.
type Register = fn(i64, &mut u64) -> i64;

fn wide(sum: i64, _: &mut u64) -> i64 {
    sum
}

fn wrapping_32(sum: i64, _: &mut u64) -> i64 {
    i64::from(sum as i32)
}

fn saturating_16(sum: i64, overflows: &mut u64) -> i64 {
    let register = sum.clamp(-32768, 32767);
    *overflows += u64::from(register != sum);
    register
}

fn wrapping_14(sum: i64, overflows: &mut u64) -> i64 {
    let register = sum << 50 >> 50;
    *overflows += u64::from(register != sum);
    register
}

#[derive(Debug, Clone)]
struct Problem {
    op: Conv2d,
    seed: u64,
    with_bias: bool,
}

fn codes(seed: u64, count: usize) -> Vec<i8> {
    (0..count).map(|i| word(seed, i as u64) as i8).collect()
}

fn problem() -> impl Strategy<Value = Problem> {
    let pair = |range: std::ops::RangeInclusive<usize>| [range.clone(), range];
    let shape = (
        pair(1..=6),
        pair(1..=3),
        pair(1..=3),
        pair(1..=2),
        any::<bool>(),
    );
    let channels = (1usize..=2, 1usize..=3, 1usize..=4, 1usize..=2);
    let zero_points = (-128i32..=127, prop_oneof![Just(0), -20i32..=20]);
    (shape, channels, zero_points, any::<u64>(), any::<bool>()).prop_map(
        |(
            (input, kernel, stride, dilation, same),
            (groups, i, o, batches),
            (zx, zw),
            seed,
            bias,
        )| {
            let of = if same { Window::same } else { Window::valid };
            let output = Scaling {
                scale: 0.5,
                zero_point: 3,
            };
            let scales: Vec<f32> = (0..groups * o)
                .map(|c| 0.01 + (word(seed, c as u64) % 100) as f32 / 999.0)
                .collect();
            Problem {
                op: Conv2d {
                    batches,
                    window: of(input, kernel, stride, dilation),
                    inputs: groups * i,
                    outputs: groups * o,
                    groups,
                    input_zero_point: zx,
                    weight_zero_point: zw,
                    accumulation: Accumulation::Bits32,
                    rescale: Rescale::new::<i8>(
                        rescale::LITERT,
                        0.1,
                        &scales,
                        output,
                        Clamp::Relu6,
                    ),
                },
                seed,
                with_bias: bias,
            }
        },
    )
}

impl Problem {
    fn input(&self) -> Vec<i8> {
        let [h, w] = self.op.window.input;
        codes(self.seed, self.op.batches * h * w * self.op.inputs)
    }

    fn weights(&self) -> Vec<i8> {
        let [h, w] = self.op.window.kernel;
        let inputs = self.op.inputs / self.op.groups;
        codes(self.seed ^ 1, self.op.outputs * h * w * inputs)
    }

    fn bias(&self) -> Option<Vec<i64>> {
        let number = |i| i64::from(word(self.seed ^ 2, i as u64) as i16) / 2;
        self.with_bias
            .then(|| (0..self.op.outputs).map(number).collect())
    }

    fn run(&self, accumulation: Accumulation) -> (Vec<i8>, u64) {
        let op = Conv2d {
            accumulation,
            ..self.op.clone()
        };
        let [h, w] = op.window.output;
        let mut y = vec![0; op.batches * h * w * op.outputs];
        let bias = self.bias();
        let overflows = conv2d(&op, &self.input(), &self.weights(), bias.as_deref(), &mut y);
        (y, overflows.unwrap())
    }

    /// Loops over everything, every sum brought into the register.
    fn naive(&self, register: Register) -> (Vec<i8>, u64) {
        let op = &self.op;
        let (x, w, bias) = (self.input(), self.weights(), self.bias());
        let Window {
            input: [height, width],
            kernel: [rows, columns],
            stride,
            dilation,
            before,
            output: [out_rows, out_columns],
        } = op.window;
        let (inputs, outputs) = (op.inputs / op.groups, op.outputs / op.groups);
        let (mut y, mut overflows) = (Vec::new(), 0);
        for b in 0..op.batches {
            for (r, c) in (0..out_rows).flat_map(|r| (0..out_columns).map(move |c| (r, c))) {
                for o in 0..op.outputs {
                    let start = bias.as_ref().map_or(0, |bias| bias[o]);
                    let mut sum = register(start, &mut overflows);
                    for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                        let row = (r * stride[0] + i * dilation[0]) as i64 - before[0] as i64;
                        let column = (c * stride[1] + j * dilation[1]) as i64 - before[1] as i64;
                        let inside = (0..height as i64).contains(&row)
                            && (0..width as i64).contains(&column);
                        for k in 0..inputs {
                            let channel = o / outputs * inputs + k;
                            let at = (b * height + row as usize) * width + column as usize;
                            let x = if inside {
                                i64::from(x[at * op.inputs + channel])
                            } else {
                                op.input_zero_point.into()
                            };
                            let w = w[((o * rows + i) * columns + j) * inputs + k];
                            let product = (x - i64::from(op.input_zero_point))
                                * (i64::from(w) - i64::from(op.weight_zero_point));
                            sum = register(sum + product, &mut overflows);
                        }
                    }
                    let Requantization::DoubleRounding(m) = op.rescale.multipliers[o] else {
                        unreachable!()
                    };
                    // gemmlowp's two roundings, once more.
                    let left = (sum as i32).wrapping_shl(m.shift.max(0) as u32);
                    let high = (i64::from(left) * i64::from(m.significand) + (1 << 30)) >> 31;
                    let right = (-m.shift).max(0);
                    let half = if right > 0 { 1i64 << (right - 1) } else { 0 };
                    let magnitude = (high.abs() + half) >> right;
                    let q = high.signum() * magnitude + op.rescale.zero_point;
                    let (least, largest) = op.rescale.range;
                    y.push(q.clamp(least, largest) as i8);
                }
            }
        }
        (y, overflows)
    }
}

fn in_order(bits: u8, overflow: Overflow, operands: Operands) -> Accumulation {
    let summation = Summation::sequential(Accumulator::int(bits, overflow));
    Accumulation::ordered(&summation, operands).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn convolutions_equal_loops(problem in problem()) {
        prop_assert_eq!(problem.run(Accumulation::Bits32), problem.naive(wrapping_32));
        prop_assert_eq!(problem.run(Accumulation::Bits64), problem.naive(wide));
        let narrow = in_order(16, Overflow::Saturate, Operands::Offset);
        prop_assert_eq!(problem.run(narrow), problem.naive(saturating_16));
        let narrow = in_order(14, Overflow::Wrap, Operands::Offset);
        prop_assert_eq!(problem.run(narrow), problem.naive(wrapping_14));
    }

    /// Zero points taken off before or after the products make no difference where nothing overflows.
    #[test]
    fn raw_operands_give_the_same_in_wide_registers(problem in problem()) {
        let raw = in_order(40, Overflow::Saturate, Operands::Raw);
        prop_assert_eq!(problem.run(raw), problem.naive(wide));
    }

    /// A depthwise convolution is one in groups, its weights with the outputs innermost.
    #[test]
    fn depthwise_equals_groups(problem in problem(), multiplier in 1usize..=3) {
        let channels = problem.op.inputs;
        let taps = problem.op.window.kernel.iter().product::<usize>();
        let scale = |c: usize| 0.02 + c as f32 / 99.0;
        let scales: Vec<f32> = (0..channels * multiplier).map(scale).collect();
        let output = Scaling { scale: 0.5, zero_point: -7 };
        let grouped = Problem {
            op: Conv2d {
                groups: channels,
                outputs: channels * multiplier,
                rescale: Rescale::new::<i8>(rescale::LITERT, 0.1, &scales, output, Clamp::None),
                ..problem.op.clone()
            },
            ..problem.clone()
        };
        let weights = grouped.weights();
        let outputs = channels * multiplier;
        let innermost: Vec<i8> =
            (0..weights.len()).map(|i| weights[i % outputs * taps + i / outputs]).collect();
        for (accumulation, register) in [
            (Accumulation::Bits32, wrapping_32 as Register),
            (in_order(16, Overflow::Saturate, Operands::Offset), saturating_16),
        ] {
            let (expected, outside) = grouped.naive(register);
            let op = DepthwiseConv2d {
                batches: problem.op.batches,
                window: problem.op.window,
                channels,
                multiplier,
                input_zero_point: problem.op.input_zero_point,
                weight_zero_point: problem.op.weight_zero_point,
                accumulation,
                rescale: grouped.op.rescale.clone(),
            };
            let mut y = vec![0; expected.len()];
            let bias = grouped.bias();
            let overflows =
                depthwise_conv2d(&op, &problem.input(), &innermost, bias.as_deref(), &mut y);
            prop_assert_eq!((y, overflows.unwrap()), (expected, outside));
        }
    }
}

/// A fully connected layer large enough for tiles and for sums beyond 32 bits' exactness in f32.
fn layer(accumulation: Accumulation) -> (FullyConnected, Vec<i8>, Vec<i8>) {
    let output = Scaling {
        scale: 100.0,
        zero_point: 0,
    };
    let op = FullyConnected {
        batches: 9,
        inputs: 1500,
        outputs: 37,
        input_zero_point: 127,
        weight_zero_point: 0,
        accumulation,
        rescale: Rescale::new::<i8>(
            rescale::LITERT_FULLY_CONNECTED,
            0.1,
            &[0.1],
            output,
            Clamp::None,
        ),
    };
    // The largest magnitudes too: rows of -128 meet columns of -128.
    let x = codes(1, op.batches * op.inputs);
    let x = x
        .iter()
        .enumerate()
        .map(|(i, x)| if i < 3000 { -128 } else { *x });
    let w = codes(2, op.outputs * op.inputs);
    let w = w
        .iter()
        .enumerate()
        .map(|(i, w)| if i < 3000 { -128 } else { *w });
    let (x, w) = (x.collect(), w.collect());
    (op, x, w)
}

fn run(op: &FullyConnected, x: &[i8], w: &[i8]) -> (Vec<i8>, u64) {
    let mut y = vec![0; op.batches * op.outputs];
    let overflows = fully_connected(op, x, w, None, &mut y).unwrap();
    (y, overflows)
}

/// The sums of the layer, in order.
fn sums(op: &FullyConnected, x: &[i8], w: &[i8], register: Register) -> (Vec<i8>, u64) {
    let (mut y, mut overflows) = (Vec::new(), 0);
    for x in x.chunks(op.inputs) {
        for w in w.chunks(op.inputs) {
            let mut sum = 0;
            for (x, w) in x.iter().zip(w) {
                let product = (i64::from(*x) - i64::from(op.input_zero_point)) * i64::from(*w);
                sum = register(sum + product, &mut overflows);
            }
            let Requantization::SingleRounding(m) = op.rescale.multipliers[0] else {
                unreachable!()
            };
            let product = i128::from(sum) * i128::from(m.significand);
            let q = (product + (1 << (30 - m.shift))) >> (31 - m.shift);
            y.push(q.clamp(-128, 127) as i8);
        }
    }
    (y, overflows)
}

#[test]
fn large_layers_equal_loops() {
    let (mut op, x, w) = layer(Accumulation::Bits32);
    let expected = sums(&op, &x, &w, wrapping_32);
    assert_eq!(run(&op, &x, &w), expected);
    let distinct = |y: &[i8]| y.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert!(distinct(&expected.0) > 100);
    op.accumulation = in_order(20, Overflow::Saturate, Operands::Offset);
    fn saturating_20(sum: i64, overflows: &mut u64) -> i64 {
        let register = sum.clamp(-(1 << 19), (1 << 19) - 1);
        *overflows += u64::from(register != sum);
        register
    }
    let expected = sums(&op, &x, &w, saturating_20);
    assert!(expected.1 > 0);
    assert_eq!(run(&op, &x, &w), expected);
}

/// Partial sums of 16 products spilled into a wide register: only what a partial sum loses differs.
#[test]
fn spills_are_between_narrow_and_wide() {
    let (mut op, x, w) = layer(Accumulation::Bits32);
    let wide = run(&op, &x, &w).0;
    let narrow = Accumulator::int(18, Overflow::Saturate);
    let mut errors = Vec::new();
    for every in [1500, 16, 4] {
        let spill = Spill {
            every,
            accumulator: Accumulator::int(32, Overflow::Wrap),
        };
        let summation = Summation {
            spill: Some(spill),
            ..Summation::sequential(narrow)
        };
        op.accumulation = Accumulation::ordered(&summation, Operands::Offset).unwrap();
        let y = run(&op, &x, &w).0;
        let error = |(a, b): (&i8, &i8)| u32::from(a.abs_diff(*b));
        errors.push(y.iter().zip(&wide).map(error).sum::<u32>());
    }
    assert!(errors[0] > errors[1] && errors[1] > 0, "{errors:?}");
    assert_eq!(errors[2], 0, "4 x 255 x 128 fits 18 bits");
}

/// A start that its register can't hold is brought into it.
#[test]
fn starts_are_confined() {
    let (mut op, _, _) = layer(in_order(8, Overflow::Saturate, Operands::Offset));
    (op.batches, op.inputs, op.outputs) = (1, 1, 1);
    op.input_zero_point = 0;
    op.rescale.multipliers = vec![Requantization::PowerOfTwo {
        shift: 0,
        rounding: Rounding::NearestEven,
    }];
    let mut y = [0i8];
    let overflows = fully_connected(&op, &[0], &[0], Some(&[1000]), &mut y).unwrap();
    assert_eq!((y, overflows), ([127], 1));
    op.accumulation = in_order(8, Overflow::Wrap, Operands::Raw);
    let overflows = fully_connected(&op, &[1], &[2], Some(&[1000]), &mut y).unwrap();
    assert_eq!((y, overflows), ([-22], 1));
}

#[test]
fn wrong_lengths_are_refused() {
    let (op, x, w) = layer(Accumulation::Bits32);
    let mut y = vec![0i8; op.batches * op.outputs];
    let short = fully_connected(&op, &x[1..], &w, None, &mut y);
    assert!(matches!(
        short,
        Err(QuantizedError::Length { found: 13499, .. })
    ));
    let bias = fully_connected(&op, &x, &w, Some(&[1, 2]), &mut y);
    assert_eq!(
        bias.unwrap_err().to_string(),
        "the bias has 2 elements, its shape 37"
    );
    let mut op = op;
    op.rescale.multipliers = vec![op.rescale.multipliers[0]; 2];
    assert!(fully_connected(&op, &x, &w, None, &mut y).is_err());
    let float = Summation::sequential(Accumulator::float(presil_numerics::Format::FP32));
    op.rescale.multipliers.truncate(1);
    op.accumulation = Accumulation::ordered(&float, Operands::Offset).unwrap();
    assert!(fully_connected(&op, &x, &w, None, &mut y).is_err());
}

#[test]
fn codes_are_moved() {
    let x = [1, 2, 3, 4, 5, 6];
    let padded = pad(&[2, 3], &[[0, 1], [1, 0]], 9, &x).unwrap();
    assert_eq!(padded, [9, 1, 2, 3, 9, 4, 5, 6, 9, 9, 9, 9]);
    let joined = concatenate(2, &[(&x[..], 3), (&[7, 8], 1)]).unwrap();
    assert_eq!(joined, [1, 2, 3, 7, 4, 5, 6, 8]);
    let repeated = broadcast(&[3, 1], &[2, 3, 2], &[1, 2, 3]).unwrap();
    assert_eq!(repeated, [1, 1, 2, 2, 3, 3, 1, 1, 2, 2, 3, 3]);
    assert!(broadcast(&[2], &[3], &[1, 2]).is_err());
    assert_eq!(u8::saturated(-3), 0);
}
