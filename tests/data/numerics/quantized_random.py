"""Makes quantized_random.json: one-op models with random shapes, options, scales and elements, and what LiteRT's
reference resolver gives for them.

    python3 quantized_random.py CASES COUNT OUT.json

CASES is the folder of one-op models that quantized.py reads: each is changed COUNT times. Needs ai-edge-litert 2.3.0.
"""

import glob
import json
import math
import os
import sys
import tempfile

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

import quantized

RANDOM = np.random.default_rng(20261127)
LIMITS = {"int8": 127, "int16": 32767}


def choice(values):
    return values[int(RANDOM.integers(len(values)))]


def between(low, high):
    return int(RANDOM.integers(low, high + 1))


def scale(low, high):
    """Uniform in its logarithm."""
    return float(np.float32(math.exp(RANDOM.uniform(math.log(low), math.log(high)))))


class Model:
    """A one-op model that can be changed."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file.read()))
        self.graph = self.model.subgraphs[0]
        self.op = self.graph.operators[0]
        self.options = self.op.builtinOptions

    def dtype(self, index):
        return quantized.TYPES[self.graph.tensors[index].type]

    def operand(self, position):
        return int(self.op.inputs[position])

    def output(self):
        return int(self.op.outputs[0])

    def shape(self, index, shape):
        self.graph.tensors[index].shape = [int(n) for n in shape]
        self.graph.tensors[index].shapeSignature = None

    def fill(self, index, low=None, high=None):
        """A constant of random elements, where the tensor is one."""
        tensor = self.graph.tensors[index]
        buffer = self.model.buffers[tensor.buffer]
        if buffer.data is None or len(buffer.data) == 0:
            return
        dtype = self.dtype(index)
        limit = LIMITS.get(dtype, 0)
        low = -limit if low is None else low
        high = limit if high is None else high
        data = RANDOM.integers(low, high + 1, tensor.shape).astype(dtype)
        buffer.data = np.frombuffer(data.tobytes(), np.uint8)

    def scaling(self, index, scales, zero_point=None):
        q = self.graph.tensors[index].quantization
        q.scale = [scales] if isinstance(scales, float) else list(scales)
        if zero_point is None:
            zero_point = 0 if self.dtype(index) != "int8" else between(-128, 127)
        q.zeroPoint = [zero_point] * len(q.scale)

    def scale_of(self, index):
        return [float(s) for s in self.graph.tensors[index].quantization.scale]

    def bytes(self):
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def activation(m):
    if hasattr(m.options, "fusedActivationFunction"):
        m.options.fusedActivationFunction = choice([0, 0, 1, 2, 3])


def products(m, weights_shape, channels, depth, per_channel, weight_zero_point=0):
    """Weights, bias and scales of an op that sums `depth` products."""
    x, w, y = m.operand(0), m.operand(1), m.output()
    b = m.operand(2)
    m.shape(w, weights_shape)
    m.fill(w)
    m.scaling(x, scale(1e-3, 0.1))
    scales = [scale(1e-3, 0.05) for _ in range(channels if per_channel else 1)]
    m.scaling(w, scales, weight_zero_point)
    m.shape(b, [channels])
    m.scaling(b, [s * m.scale_of(x)[0] for s in scales], 0)
    spread = LIMITS[m.dtype(x)] * 64 * math.sqrt(depth)
    m.fill(b, -int(spread // 4), int(spread // 4))
    real = m.scale_of(x)[0] * max(scales) * spread
    m.scaling(y, scale(0.3, 2) * real / LIMITS[m.dtype(y)])


def convolution(m, depthwise):
    x, y = m.operand(0), m.output()
    kernel = [between(1, 3), between(1, 3)]
    extent = [between(3, 7), between(3, 7)]
    stride = choice([[1, 1], [1, 1], [2, 2], [1, 2], [3, 1]])
    dilation = choice([[1, 1], [2, 2], [2, 1]]) if stride == [1, 1] else [1, 1]
    same = choice([True, False])
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
    if not same:
        extent = [max(e, r) for e, r in zip(extent, reach)]
    out = [
        -(-e // s) if same else -(-(e - r + 1) // s)
        for e, r, s in zip(extent, reach, stride)
    ]
    batches, inputs = between(1, 2), between(1, 6)
    o = m.options
    o.padding = schema.Padding.SAME if same else schema.Padding.VALID
    (o.strideH, o.strideW), (o.dilationHFactor, o.dilationWFactor) = stride, dilation
    activation(m)
    if depthwise:
        o.depthMultiplier = between(1, 3)
        outputs = inputs * o.depthMultiplier
        weights, depth = [1, *kernel, outputs], kernel[0] * kernel[1]
    else:
        outputs = between(1, 6)
        weights, depth = [outputs, *kernel, inputs], kernel[0] * kernel[1] * inputs
    m.shape(x, [batches, *extent, inputs])
    m.shape(y, [batches, *out, outputs])
    products(m, weights, outputs, depth, True)
    return {
        "padding": "SAME" if same else "VALID",
        "stride": stride,
        "dilation": dilation,
    }


def fully_connected(m):
    x, y = m.operand(0), m.output()
    per_channel = len(m.scale_of(m.operand(1))) > 1
    batches, inputs, outputs = between(1, 3), between(1, 40), between(2, 12)
    if per_channel and choice([True, False]):
        inputs, outputs = 1, 60
    m.shape(x, [batches, inputs])
    m.shape(y, [batches, outputs])
    activation(m)
    offset = m.dtype(x) == "int8" and not per_channel
    zero_point = between(-30, 30) if offset else 0
    products(m, [outputs, inputs], outputs, inputs, per_channel, zero_point)
    if choice(range(5)) == 0:
        m.op.inputs = [m.operand(0), m.operand(1), -1]
    return {}


def batch_matmul(m):
    a, b, y = m.operand(0), m.operand(1), m.output()
    batches, rows, depth, columns = between(1, 3), between(1, 5), between(1, 40), between(1, 5)
    m.shape(a, [batches, rows, depth])
    m.shape(b, [batches, depth, columns])
    m.shape(y, [batches, rows, columns])
    m.scaling(a, scale(1e-3, 0.1))
    m.scaling(b, scale(1e-3, 0.1))
    m.scaling(y, scale(0.3, 3) * m.scale_of(a)[0] * m.scale_of(b)[0] * 64 * math.sqrt(depth))
    return {}


def elementwise(m, op):
    a, b, y = m.operand(0), m.operand(1), m.output()
    shape = [between(1, 3), between(1, 4), between(1, 6)]
    other = choice([shape, shape, shape[1:], [1, 1, shape[2]], [shape[0], 1, 1]])
    if op == "squared_difference":
        other = shape
    swap = choice([True, False])
    m.shape(a, other if swap else shape)
    m.shape(b, shape if swap else other)
    m.shape(y, shape)
    small = LIMITS[m.dtype(a)] > 127
    scales = [scale(1e-5, 1e-4) if small else scale(3e-3, 0.1) for _ in range(2)]
    m.scaling(a, scales[0])
    m.scaling(b, scales[1])
    reach = LIMITS[m.dtype(a)]
    out = max(scales) if op in ["add", "sub"] else scales[0] * scales[1] * reach
    if op == "squared_difference":
        out = max(scales) ** 2 * reach
    m.scaling(y, scale(0.2, 2.5) * out)
    activation(m)
    if small and op == "add" and choice([True, False]):
        # Powers of two, one of them the output's.
        powers = [2.0 ** -between(12, 15), 2.0**-12]
        for index, power in zip([a, b, y], choice([powers, powers[::-1]]) + powers[1:]):
            m.scaling(index, power)
    return {}


def unary(m, op):
    x, y = m.operand(0), m.output()
    shape = [between(2, 5), choice([1, 3, 10, 33])]
    if op in ["tanh", "logistic", "exp", "gelu", "gelu_tanh", "hard_swish", "rsqrt", "relu"]:
        shape = [1, 256]
    options = {}
    m.shape(x, shape)
    m.shape(y, shape)
    fixed = op in ["tanh", "logistic", "softmax", "l2_normalization"]
    if m.dtype(x) == "int16":
        low = 2e-5 if fixed and op != "softmax" else 1e-5
        power = 2.0 ** -between(11, 12)
        m.scaling(x, power if choice([True, False]) else scale(low, 3e-3))
    else:
        m.scaling(x, scale(3e-3, 0.3), -128 if op == "rsqrt" else None)
    s = m.scale_of(x)[0]
    if op == "exp":
        m.scaling(y, math.exp(min(127 * s, 3)) / between(100, 255))
    elif op == "rsqrt":
        m.scaling(y, 1 / math.sqrt(s) / between(50, 255))
    elif not fixed:
        m.scaling(y, scale(0.2, 3) * s)
    if op == "softmax":
        m.options.beta = choice([1.0, 1.0, scale(0.1, 3)])
        options["beta"] = m.options.beta
    if op == "leaky_relu":
        m.options.alpha = choice([0.1, scale(0.01, 1.5), -scale(0.01, 0.5)])
        options["alpha"] = m.options.alpha
    return options


def pool(m):
    x, y = m.operand(0), m.output()
    filter_, stride = [between(1, 4), between(1, 4)], [between(1, 3), between(1, 3)]
    extent = [between(4, 8), between(4, 8)]
    same = choice([True, False])
    out = [-(-e // s) if same else -(-(e - f + 1) // s) for e, f, s in zip(extent, filter_, stride)]
    batches, channels = between(1, 2), between(1, 4)
    o = m.options
    o.padding = schema.Padding.SAME if same else schema.Padding.VALID
    (o.filterHeight, o.filterWidth), (o.strideH, o.strideW) = filter_, stride
    activation(m)
    m.shape(x, [batches, *extent, channels])
    m.shape(y, [batches, *out, channels])
    s, z = scale(3e-3, 0.1), between(-128, 127)
    m.scaling(x, s, z)
    m.scaling(y, s, z)
    return {"padding": "SAME" if same else "VALID", "stride": stride, "filter": filter_}


def mean(m):
    x, y = m.operand(0), m.output()
    batches, rows, columns, channels = between(1, 2), between(1, 9), between(1, 9), between(1, 6)
    m.shape(x, [batches, rows, columns, channels])
    m.shape(y, [batches, 1, 1, channels])
    m.scaling(x, scale(3e-3, 0.1))
    m.scaling(y, scale(0.1, 3) * m.scale_of(x)[0])
    return {}


def lstm(m):
    """New elements, scales and zero points; the shapes stay."""
    names = {t.name.decode(): i for i, t in enumerate(m.graph.tensors)}
    m.scaling(names["input"], scale(5e-3, 0.05))
    hidden, zero = scale(3e-3, 8.5e-3), between(-20, 20)
    for name in ["output_state", "intermediate_hidden", "output"]:
        m.scaling(names[name], hidden, zero)
    for name, index in names.items():
        if "_to_" in name:
            m.fill(index)
            m.scaling(index, scale(2e-3, 2e-2), 0)
    for name, index in names.items():
        if name.startswith("bias"):
            gate = name[-1]
            weights = names["input_to_" + gate]
            m.scaling(index, m.scale_of(weights)[0] * m.scale_of(names["input"])[0], 0)
            m.fill(index, -5000, 5000)
    return {}


def change(m, op):
    base = op.split("_int16")[0]
    if base in ["conv2d", "depthwise_conv2d"]:
        return convolution(m, base[0] == "d")
    if base.startswith("fully_connected"):
        return fully_connected(m)
    if base == "batch_matmul":
        return batch_matmul(m)
    if base in ["add", "sub", "mul", "squared_difference"]:
        return elementwise(m, base)
    if base in ["average_pool2d", "max_pool2d"]:
        return pool(m)
    if base == "mean_hw":
        return mean(m)
    if base.startswith("lstm"):
        return lstm(m)
    return unary(m, base)


def case(path, number):
    with open(path.replace(".tflite", ".json")) as file:
        old = json.load(file)
    m = Model(path)
    options = {**old["options"], **change(m, old["op"])}
    if hasattr(m.options, "fusedActivationFunction") and "activation" in options:
        options["activation"] = quantized.ACTIVATIONS[m.options.fusedActivationFunction]
    with tempfile.TemporaryDirectory() as folder:
        changed = os.path.join(folder, "model.tflite")
        with open(changed, "wb") as file:
            file.write(m.bytes())
        tensors, ops, given, result = quantized.network(changed)
        inputs = []
        for index in given:
            t = tensors[index]
            low, high = -LIMITS[t["dtype"]] - 1, LIMITS[t["dtype"]]
            inputs.append(RANDOM.integers(low, high + 1, t["shape"]))
            if t["dtype"] == "int8" and inputs[-1].size == 256:
                inputs[-1] = np.arange(-128, 128).reshape(t["shape"])
        outputs = quantized.run(changed, [inputs], quantized.RESOLVERS["reference"])[0]
        others = {
            name: quantized.run(changed, [inputs], quantized.RESOLVERS[name])[0][0] for name in ["auto", "builtin"]
        }
    return {
        "id": f"{old['op']}_random_{number}",
        "op": old["op"],
        "options": options,
        "tensors": tensors,
        "inputs": ops[0]["inputs"],
        "outputs": ops[0]["outputs"],
        "given": given,
        "runs": [
            {
                "inputs": [quantized.hexed(x, tensors[i]["dtype"]) for x, i in zip(inputs, given)],
                "output": quantized.hexed(outputs[0], tensors[result[0]]["dtype"]),
                **{
                    name: [[int(k), int(other[k])] for k in np.nonzero(other != outputs[0])[0]]
                    for name, other in others.items()
                },
            }
        ],
    }


def main():
    folder, count, out = sys.argv[1:]
    cases, refused = [], 0
    for path in sorted(glob.glob(folder + "/*.tflite")):
        if "biasonly" in path:
            continue
        for number in range(int(count)):
            try:
                cases.append(json.dumps(case(path, len(cases)), separators=(",", ":")))
            except (RuntimeError, ValueError) as error:
                refused += 1
                print(os.path.basename(path), str(error)[:300])
    with open(out, "w") as file:
        file.write("[\n" + ",\n".join(cases) + "\n]\n")
    print(len(cases), "cases;", refused, "refused by the runtime")


if __name__ == "__main__":
    main()
