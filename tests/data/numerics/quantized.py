"""Makes quantized.json, quantized_int16.json and quantized_digits.json.

    python3 quantized.py CASES DIGITS.tflite

Needs ai-edge-litert 2.3.0 (and the numpy that comes with it). CASES is a folder of one-op models, NAME.tflite with
NAME.json, that holds their inputs and what the reference resolver (BUILTIN_REF) gave; both are run again here and must
agree. `auto` is what the default resolver gave (XNNPACK) on x86-64, `builtin` that of the optimized kernels without
XNNPACK: pairs of position and value where it is not the reference's. The digits network's inputs are the images
DIGITS.json holds beside it.

Elements stand as hexadecimal, little-endian in their type; scales as the bits of an f32.
"""

import glob
import json
import struct
import sys

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

RESOLVERS = {
    "reference": OpResolverType.BUILTIN_REF,
    "auto": OpResolverType.AUTO,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}


def hexed(values, dtype):
    return np.asarray(values).astype(np.dtype(dtype).newbyteorder("<")).tobytes().hex()


def run(path, inputs, resolver):
    """The outputs of every run, each from zeroed variables."""
    interpreter = Interpreter(path, experimental_op_resolver_type=resolver, num_threads=1)
    interpreter.allocate_tensors()
    outputs = []
    for arrays in inputs:
        interpreter.reset_all_variables()
        for detail, array in zip(interpreter.get_input_details(), arrays):
            array = np.array(array, dtype=detail["dtype"]).reshape(detail["shape"])
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        outputs.append([interpreter.get_tensor(d["index"]).ravel() for d in interpreter.get_output_details()])
    return outputs


def compact(tensor):
    data = tensor["data"]
    scale, zero = tensor["scale"] or [], tensor["zero_point"] or []
    return {
        "name": tensor["name"],
        "shape": tensor["shape"],
        "dtype": tensor["dtype"],
        "scale": scale,
        "zero_point": zero[0] if len(set(zero)) == 1 else zero,
        "data": None if data is None else hexed(data, tensor["dtype"]),
    }


def case(path):
    with open(path) as file:
        old = json.load(file)
    model = path.replace(".json", ".tflite")
    inputs = [r["inputs"] for r in old["runs"]]
    types = [old["tensors"][t]["dtype"] for t in old["graph_inputs"]]
    out_type = old["tensors"][old["graph_outputs"][0]]["dtype"]
    results = {name: run(model, inputs, resolver) for name, resolver in RESOLVERS.items()}
    runs = []
    for i, r in enumerate(old["runs"]):
        reference = results["reference"][i][0]
        assert reference.tolist() == r["outputs"][0], path
        new = {
            "inputs": [hexed(x, t) for x, t in zip(r["inputs"], types)],
            "output": hexed(reference, out_type),
        }
        for name in ["auto", "builtin"]:
            other = results[name][i][0]
            new[name] = [[int(k), int(other[k])] for k in np.nonzero(other != reference)[0]]
        runs.append(new)
    return {
        "id": old["id"],
        "op": old["op"],
        "options": old["options"],
        "tensors": [compact(t) for t in old["tensors"]],
        "inputs": old["op_inputs"],
        "outputs": old["op_outputs"],
        "given": old["graph_inputs"],
        "runs": runs,
    }


TYPES = {getattr(schema.TensorType, n): n.lower() for n in ["INT8", "INT16", "INT32", "INT64"]}
OPS = {v: k.lower() for k, v in vars(schema.BuiltinOperator).items() if k[0] != "_"}
ACTIVATIONS = {v: k for k, v in vars(schema.ActivationFunctionType).items() if k[0] != "_"}
PADDINGS = {v: k for k, v in vars(schema.Padding).items() if k[0] != "_"}


def network(path):
    """Tensors and ops of a file's graph."""
    with open(path, "rb") as file:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file.read()))
    graph = model.subgraphs[0]
    tensors = []
    for t in graph.tensors:
        dtype = TYPES[t.type]
        data = model.buffers[t.buffer].data
        data = None if data is None or len(data) == 0 else np.frombuffer(bytes(data), dtype)
        q = t.quantization
        scale = [] if q is None or q.scale is None else q.scale
        tensors.append(
            compact(
                {
                    "name": t.name.decode(),
                    "shape": [int(x) for x in t.shape],
                    "dtype": dtype,
                    "scale": [struct.pack(">f", s).hex() for s in scale],
                    "zero_point": [] if len(scale) == 0 else [int(z) for z in q.zeroPoint],
                    "data": data,
                }
            )
        )
    ops = []
    for op in graph.operators:
        o, options = op.builtinOptions, {}
        if hasattr(o, "fusedActivationFunction"):
            options["activation"] = ACTIVATIONS[o.fusedActivationFunction]
        if hasattr(o, "padding"):
            options["padding"] = PADDINGS[o.padding]
            options["stride"] = [o.strideH, o.strideW]
        if hasattr(o, "dilationHFactor"):
            options["dilation"] = [o.dilationHFactor, o.dilationWFactor]
        code = model.operatorCodes[op.opcodeIndex].builtinCode
        ops.append(
            {
                "op": OPS[code],
                "options": options,
                "inputs": [int(i) for i in op.inputs],
                "outputs": [int(i) for i in op.outputs],
            }
        )
    return tensors, ops, [int(i) for i in graph.inputs], [int(i) for i in graph.outputs]


def digits(path):
    tensors, ops, given, result = network(path)
    with open(path.replace(".tflite", ".json")) as file:
        images = json.load(file)
    one = Interpreter(
        path,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    one.allocate_tensors()
    taps = []
    for image in images[:2]:
        one.set_tensor(given[0], np.array(image, np.int8).reshape(tensors[given[0]]["shape"]))
        one.invoke()
        outputs = [o for op in ops for o in op["outputs"]]
        taps.append({tensors[o]["name"]: hexed(one.get_tensor(o), tensors[o]["dtype"]) for o in outputs})
    logits = {
        name: hexed(np.concatenate([o[0] for o in run(path, [[i] for i in images], r)]), "int8")
        for name, r in RESOLVERS.items()
        if name != "builtin"
    }
    return {
        "tensors": tensors,
        "ops": ops,
        "given": given[0],
        "result": result[0],
        "images": hexed(images, "int8"),
        "taps": taps,
        "logits": logits,
    }


def int16(folder):
    """FNV-1a of what functions of int16 give for every code, at a scale of 2^-12."""
    codes = np.arange(-32768, 32768).astype(np.int16).reshape(1, -1)
    hashes = {}
    for function in ["logistic", "tanh"]:
        hashes[function] = {}
        for name in ["reference", "builtin"]:
            interpreter = Interpreter(
                f"{folder}/{function}_int16_01.tflite", experimental_op_resolver_type=RESOLVERS[name]
            )
            given = interpreter.get_input_details()[0]["index"]
            interpreter.resize_tensor_input(given, codes.shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(given, codes)
            interpreter.invoke()
            result = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
            value = 0xCBF29CE484222325
            for byte in result.astype("<i2").tobytes():
                value = (value ^ byte) * 0x100000001B3 % (1 << 64)
            hashes[function][name] = f"{value:016x}"
    return hashes


def main():
    folder, model = sys.argv[1:]
    dump = lambda x: json.dumps(x, separators=(",", ":"))
    cases = [dump(case(path)) for path in sorted(glob.glob(folder + "/*.json"))]
    with open("quantized.json", "w") as file:
        file.write("[\n" + ",\n".join(cases) + "\n]\n")
    with open("quantized_int16.json", "w") as file:
        file.write(dump(int16(folder)) + "\n")
    with open("quantized_digits.json", "w") as file:
        file.write(dump(digits(model)) + "\n")


if __name__ == "__main__":
    main()
