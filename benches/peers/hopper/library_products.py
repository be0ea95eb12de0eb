"""Products of a library through PyTorch, bit for bit: FP8 with and without fast accumulation, bf16 and fp16 into f32.

    python library_products.py run OUT.npz
    python library_products.py pack OUT.npz JSON --about TEXT    # some rows and columns as reference cases

Operands are codes; results are f32.
"""

import argparse
import json

import numpy as np

UNITS = {"fast0": "hopper_f8_promoted", "fast1": "hopper_f8", "": "hopper_16"}


def run(arguments):
    import torch

    torch.manual_seed(20261127)
    saved = {}
    one = torch.ones((), device="cuda")
    for k in (64, 128, 192, 256, 512, 1024, 2048):
        for spread in (0.0, 2.0):
            m = n = 64

            def numbers(*shape):
                x = torch.randn(*shape, device="cuda")
                return x * torch.exp2((spread * torch.randn(*shape, device="cuda")).round())

            a, b = numbers(m, k), numbers(n, k)
            for name, dtype, view in (
                ("e4m3", torch.float8_e4m3fn, torch.uint8),
                ("bf16", torch.bfloat16, torch.int16),
                ("f16", torch.float16, torch.int16),
            ):
                x = a.clamp(-400, 400).to(dtype)
                y = b.clamp(-400, 400).to(dtype)
                key = f"{name}.k{k}.spread{spread:g}"
                try:
                    if name == "e4m3":
                        for fast in (False, True):
                            d = torch._scaled_mm(x, y.t(), one, one, out_dtype=torch.float32, use_fast_accum=fast)
                            saved[f"{key}.d.fast{int(fast)}"] = d.cpu().numpy()
                    else:
                        d = torch.mm(x, y.t(), out_dtype=torch.float32)
                        saved[f"{key}.d"] = d.cpu().numpy()
                    saved[f"{key}.a"] = x.view(view).cpu().numpy()
                    saved[f"{key}.b"] = y.view(view).cpu().numpy()
                except Exception as e:
                    print(key, type(e).__name__, str(e)[:200], flush=True)
    np.savez_compressed(arguments.npz, **saved)
    print(len(saved), "arrays")


def pack(arguments):
    """Every so many rows and columns of the products of a few lengths."""
    saved, cases = np.load(arguments.npz), []
    for key in saved:
        operands, found, fast = key.partition(".d")
        name, k, spread = operands.split(".")[:3]
        if not found or int(k[1:]) not in arguments.k:
            continue
        a, b, d = saved[f"{operands}.a"], saved[f"{operands}.b"], saved[key]
        rows, columns = (range(0, 64, 64 // n) for n in (arguments.rows, arguments.columns))
        cases.append(
            {
                "unit": UNITS[fast.strip(".")],
                "format": name,
                "k": int(k[1:]),
                "spread": spread,
                "a": a[rows].tobytes().hex(),
                "b": b[columns].tobytes().hex(),
                "d": np.ascontiguousarray(d[rows][:, columns]).tobytes().hex(),
            }
        )
    with open(arguments.json, "w") as out:
        head = {"about": arguments.about, "columns": arguments.columns}
        out.write(json.dumps(head)[:-1] + ', "cases": [\n')
        out.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run")
    command.add_argument("npz")
    command.set_defaults(do=run)
    command = commands.add_parser("pack")
    command.add_argument("npz")
    command.add_argument("json")
    command.add_argument("--about", default="")
    command.add_argument("--rows", type=int, default=4)
    command.add_argument("--columns", type=int, default=4)
    command.add_argument("--k", type=int, nargs="+", default=[192, 256])
    command.set_defaults(do=pack)
    arguments = parser.parse_args()
    arguments.do(arguments)


if __name__ == "__main__":
    main()
