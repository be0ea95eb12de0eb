//! Runs ops of the reference files by the quantized kernels.

use presil_numerics::arithmetic::matmul::Size;
use presil_numerics::quantized::accumulation::Accumulation;
use presil_numerics::quantized::activation::{HardSwish, Requantize, hard_swish, requantize};
use presil_numerics::quantized::convolution::{Conv2d, DepthwiseConv2d, conv2d, depthwise_conv2d};
use presil_numerics::quantized::elementwise::{self, Combination, Combine, Mul, combine};
use presil_numerics::quantized::linear::{
    BatchMatmul, FullyConnected, batch_matmul, fully_connected,
};
use presil_numerics::quantized::lstm::{GateWeights, Lstm, Spec, Weights};
use presil_numerics::quantized::movement::{broadcast, pad};
use presil_numerics::quantized::normalization::{l2_normalization, rsqrt};
use presil_numerics::quantized::pooling::{Mean, Pool, average_pool, max_pool, mean};
use presil_numerics::quantized::rescale::{self, Recipe, Rescale};
use presil_numerics::quantized::sigmoid::{Function, Sigmoid, sigmoid};
use presil_numerics::quantized::softmax::{Softmax, Softmax16, softmax, softmax_int16};
use presil_numerics::quantized::table::{self, Table};
use presil_numerics::quantized::window::Window;
use presil_numerics::quantized::{Clamp, Element, Scaling};
use serde_json::Value;

use crate::{bytes_of, f32_of};

/// A tensor of a reference file, with elements where it has them.
#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub dtype: String,
    pub scales: Vec<f32>,
    pub zero_point: i32,
    pub data: Vec<i64>,
}

impl Tensor {
    pub fn read(value: &Value) -> Self {
        let dtype = value["dtype"].as_str().unwrap().to_owned();
        let list = |v: &Value| v.as_array().unwrap().clone();
        // No tensor here has zero points by channel.
        let zero = &value["zero_point"];
        assert!(zero.is_i64() || list(zero).is_empty());
        Self {
            name: value["name"].as_str().unwrap().into(),
            shape: list(&value["shape"])
                .iter()
                .map(|n| n.as_u64().unwrap() as usize)
                .collect(),
            scales: list(&value["scale"])
                .iter()
                .map(|s| f32_of(s.as_str().unwrap()))
                .collect(),
            zero_point: zero.as_i64().unwrap_or(0) as i32,
            data: value["data"]
                .as_str()
                .map_or(Vec::new(), |d| integers(d, &dtype)),
            dtype,
        }
    }

    fn scaling(&self) -> Scaling {
        Scaling {
            scale: self.scales[0],
            zero_point: self.zero_point,
        }
    }

    fn codes<T: Element>(&self) -> Vec<T> {
        self.data.iter().map(|x| T::saturated(*x)).collect()
    }

    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn last(&self) -> usize {
        *self.shape.last().unwrap()
    }
}

/// Integers of a type from their bytes in hexadecimal.
pub fn integers(hex: &str, dtype: &str) -> Vec<i64> {
    let bytes = bytes_of(hex);
    let width = match dtype {
        "int8" => 1,
        "int16" => 2,
        "int32" => 4,
        "int64" => 8,
        _ => panic!("{dtype}"),
    };
    let integer = |bytes: &[u8]| {
        let mut wide = [if bytes[width - 1] > 127 { 255 } else { 0 }; 8];
        wide[..width].copy_from_slice(bytes);
        i64::from_le_bytes(wide)
    };
    bytes.chunks(width).map(integer).collect()
}

/// Whose arithmetic.
#[derive(Clone, Copy, PartialEq)]
pub enum Runtime {
    Reference,
    /// With XNNPACK, the default resolver's.
    Xnnpack,
    /// LiteRT's optimized kernels, without XNNPACK.
    Optimized,
}

impl Runtime {
    fn recipe(self, litert: Recipe) -> Recipe {
        match self {
            Self::Reference | Self::Optimized => litert,
            Self::Xnnpack => rescale::XNNPACK,
        }
    }
}

/// An op of a reference file.
pub struct Op<'a> {
    pub name: &'a str,
    pub options: &'a Value,
    pub inputs: Vec<&'a Tensor>,
    pub output: &'a Tensor,
    pub runtime: Runtime,
}

fn wide<T: Element>(codes: Vec<T>) -> Vec<i64> {
    codes.into_iter().map(|x| i64::from(x.into())).collect()
}

impl Op<'_> {
    fn clamp(&self) -> Clamp {
        match self.options["activation"].as_str() {
            None | Some("NONE") => Clamp::None,
            Some("RELU") => Clamp::Relu,
            Some("RELU6") => Clamp::Relu6,
            Some("RELU_N1_TO_1") => Clamp::ReluN1To1,
            other => panic!("{other:?}"),
        }
    }

    /// An option of rows and columns, or one number for both.
    fn pair(&self, key: &str) -> [usize; 2] {
        match &self.options[key] {
            Value::Array(pair) => [0, 1].map(|i| pair[i].as_u64().unwrap() as usize),
            number => [number.as_u64().unwrap_or(1) as usize; 2],
        }
    }

    fn window(&self, kernel: [usize; 2]) -> Window {
        let shape = &self.inputs[0].shape;
        let (stride, dilation) = (self.pair("stride"), self.pair("dilation"));
        let of = match self.options["padding"].as_str().unwrap() {
            "SAME" => Window::same,
            _ => Window::valid,
        };
        let window = of([shape[1], shape[2]], kernel, stride, dilation);
        assert_eq!(window.output, self.output.shape[1..3]);
        window
    }

    /// The codes that it makes.
    pub fn run(&self) -> Vec<i64> {
        if self.output.dtype == "int16" {
            return self.run_int16();
        }
        let (x, out) = (self.inputs[0], self.output);
        match self.name {
            "conv2d" | "conv_2d" | "depthwise_conv2d" | "depthwise_conv_2d" => {
                self.convolution::<i8>(rescale::LITERT, Accumulation::Bits32)
            }
            n if n.starts_with("fully_connected") => {
                self.fully_connected::<i8>(rescale::LITERT_FULLY_CONNECTED, Accumulation::Bits32)
            }
            "batch_matmul" => self.batch_matmul(),
            "add" | "sub" | "squared_difference" | "mul" => self.elementwise::<i8>(),
            "requantize_int8" | "relu" | "leaky_relu" => {
                let recipe = match self.runtime {
                    Runtime::Xnnpack if self.name != "relu" => rescale::XNNPACK_CONVERT,
                    _ => rescale::LITERT,
                };
                let (from, to) = (x.scaling(), out.scaling());
                let op = match self.options["alpha"].as_f64() {
                    Some(alpha) => Requantize::leaky::<i8>(recipe, from, to, alpha as f32),
                    None if self.name == "relu" => {
                        Requantize::new::<i8>(recipe, from, to, Clamp::Relu)
                    }
                    None => Requantize::new::<i8>(recipe, from, to, Clamp::None),
                };
                let mut y = vec![0i8; x.elements()];
                requantize(&op, &x.codes::<i8>(), &mut y).unwrap();
                wide(y)
            }
            "hard_swish" => {
                let mut y = vec![0i8; x.elements()];
                let op = HardSwish::new(x.scaling(), out.scaling());
                hard_swish(&op, &x.codes::<i8>(), &mut y).unwrap();
                wide(y)
            }
            "logistic" => self.table(|a, b| Table::of_real(a, b, table::logistic)),
            "tanh" => self.table(|a, b| Table::of_real(a, b, table::tanh)),
            "exp" => self.table(|a, b| Table::of_real(a, b, table::exp)),
            "gelu" => self.table(|a, b| Table::of_real(a, b, table::gelu)),
            "gelu_tanh" => self.table(|a, b| Table::of_real(a, b, table::gelu_tanh)),
            "rsqrt" => self.table(|a, b| rsqrt(a, b).unwrap()),
            "softmax" => {
                let beta = self.options["beta"].as_f64().unwrap() as f32;
                let mut y = vec![0i8; x.elements()];
                let op = Softmax::new(x.scaling().scale, beta);
                softmax(&op, x.last(), &x.codes::<i8>(), &mut y).unwrap();
                wide(y)
            }
            "l2_normalization" => {
                let mut y = vec![0i8; x.elements()];
                l2_normalization(x.zero_point, x.last(), &x.codes::<i8>(), &mut y).unwrap();
                wide(y)
            }
            "average_pool2d" | "max_pool2d" => self.pool(),
            "mean_hw" | "mean" => {
                assert_eq!(self.inputs[1].data, [1, 2]);
                let count = x.shape[1] * x.shape[2];
                let recipe = self.runtime.recipe(rescale::LITERT);
                let op = Mean::new::<i8>(recipe, count, x.scaling(), out.scaling());
                let mut y = vec![0i8; out.elements()];
                mean(&op, x.last(), &x.codes::<i8>(), &mut y).unwrap();
                wide(y)
            }
            "pad" => {
                let padding = self.inputs[1].data.chunks(2);
                let padding: Vec<[usize; 2]> =
                    padding.map(|p| [p[0] as usize, p[1] as usize]).collect();
                let zero = i8::saturated(x.zero_point.into());
                wide(pad(&x.shape, &padding, zero, &x.codes::<i8>()).unwrap())
            }
            n if n.starts_with("lstm") => self.lstm(),
            other => panic!("{other}"),
        }
    }

    fn run_int16(&self) -> Vec<i64> {
        let x = self.inputs[0];
        let mut y = vec![0i16; x.elements()];
        match self.name {
            "conv2d_int16x8" | "depthwise_conv2d_int16x8" => {
                return self.convolution::<i16>(rescale::LITERT_INT16, Accumulation::Bits64);
            }
            "fully_connected_int16x8" => {
                return self
                    .fully_connected::<i16>(rescale::LITERT_FULLY_CONNECTED, Accumulation::Bits64);
            }
            "add_int16" | "mul_int16" => return self.elementwise::<i16>(),
            "logistic_int16" | "tanh_int16" => {
                let function = if self.name == "tanh_int16" {
                    Function::Tanh
                } else {
                    Function::Logistic
                };
                let op = match self.runtime {
                    Runtime::Reference => Sigmoid::interpolated(function, x.scaling().scale),
                    Runtime::Xnnpack | Runtime::Optimized => {
                        Sigmoid::fixed_point(function, x.scaling().scale)
                            .unwrap_or_else(|| Sigmoid::interpolated(function, x.scaling().scale))
                    }
                };
                sigmoid(&op, &x.codes::<i16>(), &mut y).unwrap();
            }
            "softmax_int16" => {
                let beta = self.options["beta"].as_f64().unwrap() as f32;
                let op = Softmax16::new(x.scaling().scale, beta);
                softmax_int16(&op, x.last(), &x.codes::<i16>(), &mut y).unwrap();
            }
            other => panic!("{other}"),
        }
        wide(y)
    }

    /// XNNPACK takes convolutions and fully connected layers of int8 whose weights have no zero point; the optimized
    /// kernels take what is left.
    fn rescale<T: Element>(&self, litert: Recipe) -> Rescale {
        let weights = self.inputs[1];
        let taken = T::LARGEST == 127 && self.name != "batch_matmul";
        let recipe = match self.runtime {
            Runtime::Xnnpack if taken && weights.zero_point == 0 => rescale::XNNPACK,
            Runtime::Xnnpack | Runtime::Optimized if taken => {
                if self.name.starts_with("fully_connected") && weights.scales.len() == 1 {
                    rescale::LITERT_OPTIMIZED_FULLY_CONNECTED
                } else {
                    rescale::LITERT_OPTIMIZED
                }
            }
            _ => litert,
        };
        Rescale::new::<T>(
            recipe,
            self.inputs[0].scaling().scale,
            &weights.scales,
            self.output.scaling(),
            self.clamp(),
        )
    }

    fn convolution<T: Element>(&self, litert: Recipe, accumulation: Accumulation) -> Vec<i64> {
        let (x, w) = (self.inputs[0], self.inputs[1]);
        let bias = self.inputs.get(2).map(|b| &b.data[..]);
        let window = self.window([w.shape[1], w.shape[2]]);
        let mut y = vec![T::default(); self.output.elements()];
        let (codes, weights) = (x.codes::<T>(), w.codes::<i8>());
        if self.name.starts_with("depthwise") {
            let op = DepthwiseConv2d {
                batches: x.shape[0],
                window,
                channels: x.last(),
                multiplier: self.output.last() / x.last(),
                input_zero_point: x.zero_point,
                weight_zero_point: 0,
                accumulation,
                rescale: self.rescale::<T>(litert),
            };
            depthwise_conv2d(&op, &codes, &weights, bias, &mut y).unwrap();
        } else {
            let op = Conv2d {
                batches: x.shape[0],
                window,
                inputs: x.last(),
                outputs: self.output.last(),
                groups: 1,
                input_zero_point: x.zero_point,
                weight_zero_point: 0,
                accumulation,
                rescale: self.rescale::<T>(litert),
            };
            conv2d(&op, &codes, &weights, bias, &mut y).unwrap();
        }
        wide(y)
    }

    fn fully_connected<T: Element>(&self, litert: Recipe, accumulation: Accumulation) -> Vec<i64> {
        let (x, w) = (self.inputs[0], self.inputs[1]);
        let bias = self.inputs.get(2).map(|b| &b.data[..]);
        let (outputs, inputs) = (w.shape[0], w.shape[1]);
        let op = FullyConnected {
            batches: x.elements() / inputs,
            inputs,
            outputs,
            input_zero_point: x.zero_point,
            weight_zero_point: w.zero_point,
            accumulation,
            rescale: self.rescale::<T>(litert),
        };
        let mut y = vec![T::default(); self.output.elements()];
        fully_connected(&op, &x.codes(), &w.codes(), bias, &mut y).unwrap();
        wide(y)
    }

    fn batch_matmul(&self) -> Vec<i64> {
        let [a, b] = self.inputs[..] else {
            panic!("{}", self.name)
        };
        let op = BatchMatmul {
            batches: a.shape[0],
            size: Size {
                m: a.shape[1],
                n: b.shape[2],
                k: a.shape[2],
            },
            left_zero_point: a.zero_point,
            right_zero_point: b.zero_point,
            accumulation: Accumulation::Bits32,
            rescale: self.rescale::<i8>(rescale::LITERT),
        };
        let mut y = vec![0i8; self.output.elements()];
        batch_matmul(&op, &a.codes(), &b.codes(), &mut y).unwrap();
        wide(y)
    }

    fn elementwise<T: Element>(&self) -> Vec<i64> {
        let [a, b] = self.inputs[..] else {
            panic!("{}", self.name)
        };
        let out = self.output;
        let of = |x: &Tensor| broadcast(&x.shape, &out.shape, &x.codes::<T>()).unwrap();
        let scalings = [a.scaling(), b.scaling()];
        let mut y = vec![T::default(); out.elements()];
        let combination = match self.name {
            "mul" | "mul_int16" => {
                let recipe = self.runtime.recipe(rescale::LITERT_F32_RATIO);
                let op = Mul::new::<T>(recipe, scalings, out.scaling(), self.clamp());
                elementwise::mul(&op, &of(a), &of(b), &mut y).unwrap();
                return wide(y);
            }
            "add" | "add_int16" => Combination::Add,
            "sub" => Combination::Sub,
            _ => Combination::SquaredDifference,
        };
        let recipe = rescale::LITERT;
        let op = Combine::new::<T>(combination, recipe, scalings, out.scaling(), self.clamp());
        combine(&op, &of(a), &of(b), &mut y).unwrap();
        wide(y)
    }

    fn table(&self, of: impl Fn(Scaling, Scaling) -> Table) -> Vec<i64> {
        let x = self.inputs[0];
        let mut y = vec![0i8; x.elements()];
        let table = of(x.scaling(), self.output.scaling());
        table.apply(&x.codes(), &mut y).unwrap();
        wide(y)
    }

    fn pool(&self) -> Vec<i64> {
        let x = self.inputs[0];
        let op = Pool {
            batches: x.shape[0],
            window: self.window(self.pair("filter")),
            channels: x.last(),
            range: self.clamp().range::<i8>(self.output.scaling()),
        };
        let mut y = vec![0i8; self.output.elements()];
        if self.name == "max_pool2d" {
            max_pool(&op, &x.codes(), &mut y).unwrap();
        } else {
            average_pool(&op, &x.codes(), &mut y).unwrap();
        }
        wide(y)
    }

    /// All steps of all sequences.
    fn lstm(&self) -> Vec<i64> {
        let tensor = |name: &str| self.inputs.iter().find(|t| t.name == name).copied();
        let codes = |name: String| tensor(&name).map(|t| t.codes::<i8>()).unwrap_or_default();
        let names = ["i", "f", "c", "o"];
        let data = names.map(|n| {
            (
                codes(format!("input_to_{n}")),
                codes(format!("recurrent_to_{n}")),
            )
        });
        let gate = |i: usize| {
            let scale =
                |kind: &str| tensor(&format!("{kind}_to_{}", names[i])).map(|t| t.scales[0]);
            Some(GateWeights {
                input: &data[i].0,
                input_scale: scale("input")?,
                recurrent: &data[i].1,
                recurrent_scale: scale("recurrent")?,
                bias: &tensor(&format!("bias_{}", names[i]))?.data,
            })
        };
        let (x, out) = (self.inputs[0], self.output);
        let [batches, steps, inputs] = x.shape[..] else {
            panic!("{:?}", x.shape)
        };
        let cells = out.last();
        let exponent = tensor("cell_state").unwrap().scales[0].log2();
        let spec = Spec {
            inputs,
            cells,
            input: x.scaling(),
            state: out.scaling(),
            cell_exponent: exponent as i32,
            cell_clip: None,
            recipe: rescale::LITERT_F32_RATIO,
            accumulation: Accumulation::Bits32,
        };
        let weights = Weights {
            input: gate(0),
            forget: gate(1).unwrap(),
            cell: gate(2).unwrap(),
            output: gate(3).unwrap(),
        };
        let lstm = Lstm::new(spec, &weights).unwrap();
        let mut state = lstm.start(batches);
        let codes = x.codes::<i8>();
        let mut y = vec![0i8; out.elements()];
        for step in 0..steps {
            let at = |batch: usize| (batch * steps + step) * inputs;
            let input: Vec<i8> = (0..batches)
                .flat_map(|b| &codes[at(b)..at(b) + inputs])
                .copied()
                .collect();
            lstm.step(&input, &mut state).unwrap();
            for (b, h) in state.output.chunks(cells).enumerate() {
                let first = (b * steps + step) * cells;
                y[first..first + cells].copy_from_slice(h);
            }
        }
        wide(y)
    }
}
