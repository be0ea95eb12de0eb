"""Times of a GPU's kernels through PyTorch, one line of JSON a point on stdout.

    python kernels.py OUT.jsonl [--seconds S] [--only CLASS,...]

A point is a CUDA graph of the same op over and over, each time on the next of several sets of operands that together
exceed the cache several times, so that operands come from memory. Its time is that of a replay over its ops: the median
of the replays, which follow each other without a gap. Operands are standard normal.

Board power is the driver's energy counter over a second and more of replays.
"""

import argparse
import json
import math
import statistics
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

COLD = 400e6  # bytes that all sets of operands exceed
MOST = 2000  # ops of a graph
TYPES = {"bfloat16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "fp8": torch.float8_e4m3fn}


class Pool:
    """Random numbers of a type, handed out in turn."""

    def __init__(self, dtype, bytes_, device):
        size = dtype.itemsize
        self.all = torch.empty(int(bytes_) // size, dtype=dtype, device=device)
        step = 1 << 28
        for at in range(0, self.all.numel(), step):
            part = self.all[at : at + step]
            if dtype == torch.float8_e4m3fn:
                part.copy_(torch.randn(part.numel(), dtype=torch.bfloat16, device=device))
            else:
                part.normal_()
        self.at = 0

    def take(self, *shape):
        n = math.prod(shape)
        # Operands start at 1 KiB.
        step = -(-n * self.all.itemsize // 1024) * 1024 // self.all.itemsize
        if n > self.all.numel():
            raise ValueError("larger than the pool")
        if self.at + step > self.all.numel():
            self.at = 0
        x = self.all[self.at : self.at + n].view(*shape)
        self.at += step
        return x


class Bench:
    def __init__(self, out, seconds, gib):
        self.out, self.seconds = out, seconds
        device = "cuda"
        self.pools = {
            torch.bfloat16: Pool(torch.bfloat16, gib * 2**30, device),
            torch.float16: Pool(torch.float16, 2**32, device),
            torch.float32: Pool(torch.float32, 2**33, device),
            torch.float8_e4m3fn: Pool(torch.float8_e4m3fn, 2**32, device),
        }
        self.failed = 0

    def take(self, dtype, *shape):
        return self.pools[dtype].take(*shape)

    def graph(self, make, op, bytes_, flops):
        """A captured graph, the number of its ops, and what it must keep alive."""
        estimate = bytes_ / 2.5e12 + flops / 600e12 + 2.5e-6
        cold = math.ceil(COLD / max(bytes_, 1))
        nodes = min(max(2, cold, math.ceil(1.5e-3 / estimate)), MOST)
        sets = [make() for _ in range(min(nodes, max(2, cold)))]
        op(*sets[0])
        torch.cuda.synchronize()
        kept, g = [], torch.cuda.CUDAGraph()
        with torch.cuda.graph(g):
            for i in range(nodes):
                kept.append(op(*sets[i % len(sets)]))
        return g, nodes, (sets, kept)

    def point(self, kind, about, make, op, bytes_, flops=0.0):
        try:
            started = time.time()
            g, nodes, kept = self.graph(make, op, bytes_, flops)
            events = [torch.cuda.Event(enable_timing=True) for _ in range(31)]
            g.replay()
            events[0].record()
            g.replay()
            events[1].record()
            torch.cuda.synchronize()
            once = events[0].elapsed_time(events[1]) * 1e-3
            replays = min(max(5, int(self.seconds / once)), 30)
            events[0].record()
            for i in range(replays):
                g.replay()
                events[i + 1].record()
            torch.cuda.synchronize()
            times = sorted(events[i].elapsed_time(events[i + 1]) * 1e3 / nodes for i in range(replays))
            del g, kept
            row = {"kind": kind, **about, "latency_us": round(statistics.median(times), 4)}
            row |= {"least_us": round(times[0], 4), "most_us": round(times[-1], 4)}
            row |= {"ops": nodes, "replays": replays, "bytes": int(bytes_), "took_s": round(time.time() - started, 3)}
        except Exception as e:  # a point that a library refuses is no reason to lose the others
            self.failed += 1
            row = {"kind": kind, **about, "error": f"{type(e).__name__}: {str(e)[:200]}"}
            torch.cuda.synchronize()
        print(json.dumps(row), file=self.out, flush=True)
        if torch.cuda.memory_reserved() > 62 * 2**30:
            torch.cuda.empty_cache()

    # What is timed.

    def gemm(self, name, m, n, k, batch=1):
        dtype = TYPES[name]
        one = torch.ones((), device="cuda")
        size = dtype.itemsize
        if name == "fp8":
            make = lambda: (self.take(dtype, m, k), self.take(dtype, n, k).t())
            op = lambda a, b: torch._scaled_mm(a, b, one, one, out_dtype=torch.bfloat16, use_fast_accum=True)
        elif batch > 1:
            make = lambda: (self.take(dtype, batch, m, k), self.take(dtype, batch, k, n))
            op = torch.bmm
        else:
            # Weights as layers keep them: [n, k].
            make = lambda: (self.take(dtype, m, k), self.take(dtype, n, k).t())
            op = torch.mm
        out = 4 if name == "fp32" else 2
        bytes_ = batch * ((m * k + k * n) * size + m * n * out)
        about = {"dtype": name, "m": m, "n": n, "k": k, "batch": batch}
        self.point("gemm", about, make, op, bytes_, 2.0 * batch * m * n * k * (8 if name == "fp32" else 1))

    def vector(self, op, name, rows, columns):
        dtype = TYPES[name]
        n = rows * columns
        ones = self.take(dtype, columns).abs()
        one = lambda: (self.take(dtype, rows, columns),)
        two = lambda: (self.take(dtype, rows, columns), self.take(dtype, rows, columns))
        make, run, moved = {
            "softmax": (one, lambda x: torch.softmax(x, -1), 2),
            "layernorm": (one, lambda x: F.layer_norm(x, (columns,), ones, ones), 2),
            "rmsnorm": (one, lambda x: F.rms_norm(x, (columns,), ones), 2),
            "add": (two, torch.add, 3),
            "mul": (two, torch.mul, 3),
            "gelu": (one, F.gelu, 2),
            "relu": (one, torch.relu, 2),
            "silu_and_mul": (two, silu_and_mul, 3),
            "copy": (one, torch.clone, 2),
        }[op]
        about = {"op": op, "dtype": name, "rows": rows, "cols": columns, "elements": n}
        self.point("vector", about, make, run, moved * n * dtype.itemsize)

    def attention(self, backend, phase, batch, queries, keys, heads, kv_heads, dim):
        dtype = torch.bfloat16
        kernels = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}[backend]
        causal = phase == "prefill"

        def make():
            q = self.take(dtype, batch, queries, heads, dim).transpose(1, 2)
            k = self.take(dtype, batch, keys, kv_heads, dim).transpose(1, 2)
            v = self.take(dtype, batch, keys, kv_heads, dim).transpose(1, 2)
            return q, k, v

        def op(q, k, v):
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=heads != kv_heads)

        bytes_ = 2 * batch * dim * (2 * queries * heads + 2 * keys * kv_heads)
        flops = 4.0 * batch * heads * queries * keys * dim * (0.5 if causal else 1)
        about = {"backend": backend, "phase": phase, "dtype": "bfloat16", "batch": batch, "q_len": queries}
        about |= {"kv_len": keys, "heads": heads, "kv_heads": kv_heads, "head_dim": dim}
        with sdpa_kernel(kernels):
            self.point("attention", about, make, op, bytes_, 1.5 * flops)

    def power(self, what, make, op, bytes_, flops, seconds=1.5):
        """Energy of a second of replays by the driver's counter, and the clocks in its middle."""
        import pynvml as nv

        try:
            g, nodes, kept = self.graph(make, op, bytes_, flops)
            h = nv.nvmlDeviceGetHandleByIndex(0)
            g.replay()
            torch.cuda.synchronize()
            a, b = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            a.record()
            g.replay()
            b.record()
            torch.cuda.synchronize()
            replays = max(3, int(seconds / (a.elapsed_time(b) * 1e-3)))
            # The counter moves every 20 ms or so: it is read while work goes on.
            for _ in range(max(2, replays // 4)):
                g.replay()
            start = torch.cuda.Event(enable_timing=True)
            end = torch.cuda.Event(enable_timing=True)
            start.record()
            for _ in range(replays):
                g.replay()
            end.record()
            start.synchronize()
            e0, t0 = nv.nvmlDeviceGetTotalEnergyConsumption(h), time.time()
            clocks, watts = [], []
            while not end.query():
                clocks.append(nv.nvmlDeviceGetClockInfo(h, nv.NVML_CLOCK_SM))
                watts.append(nv.nvmlDeviceGetPowerUsage(h) / 1e3)
                time.sleep(0.01)
            e1, t1 = nv.nvmlDeviceGetTotalEnergyConsumption(h), time.time()
            each = start.elapsed_time(end) * 1e-3 / replays / nodes
            row = {"kind": "power", **what, "latency_us": round(each * 1e6, 3), "watts": round((e1 - e0) / 1e3 / (t1 - t0), 1)}
            row |= {"flops": flops, "bytes": int(bytes_), "seconds": round(t1 - t0, 3), "draw_w": watts[-1] if watts else None}
            row |= {"sm_mhz": statistics.median(clocks) if clocks else None}
            row |= {"celsius": nv.nvmlDeviceGetTemperature(h, nv.NVML_TEMPERATURE_GPU)}
        except Exception as e:
            row = {"kind": "power", **what, "error": f"{type(e).__name__}: {str(e)[:200]}"}
        print(json.dumps(row), file=self.out, flush=True)


def silu_and_mul(x, y):
    """One kernel, as models' frameworks have it."""
    from silu import kernel

    out = torch.empty_like(x)
    n = x.numel()
    kernel[(-(-n // 2048),)](x, y, out, n, BLOCK=2048, num_warps=8)
    return out


LAYERS = [  # n, k of two models' layers, whole and an eighth
    (6144, 4096),
    (4096, 4096),
    (28672, 4096),
    (4096, 14336),
    (1280, 8192),
    (8192, 1024),
    (7168, 8192),
    (8192, 3584),
    (57344, 8192),
    (8192, 28672),
]


def gemms(b):
    for n, k in LAYERS:
        for m in (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 8192):
            for name in ("bfloat16", "fp8"):
                b.gemm(name, m, n, k)
        for m in (1, 64, 512, 4096):
            b.gemm("fp16", m, n, k)
    for side in (256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192):
        for name in ("bfloat16", "fp16", "fp8"):
            b.gemm(name, side, side, side)
    for m, n, k in (
        (16, 16, 4096), (64, 64, 64), (128, 128, 128), (128, 128, 4096), (64, 2048, 64), (64, 2048, 512), (512, 512, 64),
        (512, 512, 4096), (512, 512, 16384), (1024, 256, 1024), (2048, 128, 2048), (4096, 64, 512), (16384, 64, 256),
        (16384, 512, 128), (300, 1000, 700), (130, 4096, 4096), (257, 4096, 4096), (1025, 4096, 4096),
    ):
        b.gemm("bfloat16", m, n, k)
    for batch, m, n, k in ((32, 128, 128, 128), (32, 512, 512, 128), (32, 512, 128, 512), (256, 128, 128, 64), (64, 1024, 1024, 64), (8, 2048, 2048, 128)):
        b.gemm("bfloat16", m, n, k, batch)
    for side in (512, 1024, 2048, 4096):
        b.gemm("fp32", side, side, side)


def vectors(b):
    for name in ("bfloat16", "fp32"):
        for columns in (128, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072):
            for total in (1 << 17, 1 << 20, 1 << 23, 1 << 26):
                if total >= columns:
                    b.vector("softmax", name, total // columns, columns)
    for op, names in (("layernorm", ("bfloat16", "fp32")), ("rmsnorm", ("bfloat16",))):
        for name in names:
            for columns in (1024, 4096, 8192, 16384):
                for rows in (1, 16, 128, 1024, 8192):
                    b.vector(op, name, rows, columns)
    for op, names in (
        ("add", ("bfloat16", "fp32")), ("mul", ("bfloat16",)), ("gelu", ("bfloat16", "fp32")), ("relu", ("bfloat16",)),
        ("silu_and_mul", ("bfloat16",)), ("copy", ("bfloat16",)),
    ):
        for name in names:
            for log in (12, 14, 16, 18, 20, 21, 22, 23, 24, 26, 28):
                b.vector(op, name, 1 << log - 10, 1024)


def attentions(b):
    for backend in ("flash", "cudnn"):
        for batch, queries in (
            (1, 128), (1, 512), (1, 1024), (1, 2048), (1, 4096), (1, 8192), (1, 16384), (4, 512), (4, 1024), (4, 4096),
            (8, 128), (16, 512), (32, 128), (64, 64), (16, 2048),
        ):
            b.attention(backend, "prefill", batch, queries, queries, 32, 8, 128)
        for batch, queries, heads, kv_heads, dim in ((1, 2048, 64, 8, 128), (4, 2048, 16, 16, 64), (4, 2048, 32, 32, 128), (16, 197, 12, 12, 64), (1, 4096, 8, 1, 128)):
            b.attention(backend, "prefill", batch, queries, queries, heads, kv_heads, dim)
    for backend in ("flash", "cudnn"):
        # The other library prepares each shape for a while.
        flash = backend == "flash"
        for batch in (1, 2, 4, 8, 16, 32, 64) if flash else (1, 8, 64):
            for keys in (128, 512, 1024, 2048, 4096, 8192, 16384, 32768) if flash else (512, 4096, 32768):
                b.attention(backend, "decode", batch, 1, keys, 32, 8, 128)
        for batch, keys, heads, kv_heads, dim in (
            (1, 2048, 32, 32, 128), (8, 2048, 32, 32, 128), (1, 8192, 64, 8, 128), (16, 8192, 64, 8, 128), (1, 8192, 8, 1, 128),
            (16, 8192, 8, 1, 128), (64, 1024, 8, 1, 128), (8, 4096, 16, 16, 64), (64, 1024, 16, 16, 64), (128, 1024, 32, 8, 128), (256, 512, 32, 8, 128),
        ):
            b.attention(backend, "decode", batch, 1, keys, heads, kv_heads, dim)


def kernel_names(b):
    """Kernels of an attention or a row op, with their grids and durations, as the profiler sees them."""
    cases = []
    for backend in ("flash", "cudnn"):
        for phase, batch, queries, keys in (
            ("decode", 1, 1, 512), ("decode", 1, 1, 4096), ("decode", 1, 1, 32768), ("decode", 4, 1, 4096), ("decode", 8, 1, 4096),
            ("decode", 16, 1, 4096), ("decode", 32, 1, 4096), ("decode", 64, 1, 4096), ("decode", 64, 1, 512), ("prefill", 1, 2048, 2048), ("prefill", 4, 4096, 4096),
        ):
            cases.append((backend, phase, batch, queries, keys))
    for backend, phase, batch, queries, keys in cases:
        dtype = torch.bfloat16
        kernels = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}[backend]
        what = {"backend": backend, "phase": phase, "batch": batch, "q_len": queries, "kv_len": keys}
        try:
            sets = []
            for _ in range(4):
                sets.append(tuple(b.take(dtype, batch, n, h, 128).transpose(1, 2) for n, h in ((queries, 32), (keys, 8), (keys, 8))))
            op = lambda i: F.scaled_dot_product_attention(*sets[i], is_causal=phase == "prefill", enable_gqa=True)
            with sdpa_kernel(kernels):
                profiled(b, "attention", what, op, 4)
        except Exception as e:
            print(json.dumps({"kind": "kernel", **what, "error": str(e)[:200]}), file=b.out, flush=True)
    for op, name, rows, columns in (
        ("softmax", "bfloat16", 65536, 1024), ("softmax", "bfloat16", 16384, 4096), ("softmax", "bfloat16", 2048, 32768), ("softmax", "bfloat16", 512, 131072),
        ("softmax", "fp32", 65536, 1024), ("softmax", "fp32", 8192, 8192), ("softmax", "fp32", 512, 131072), ("softmax", "fp32", 65536, 128), ("layernorm", "bfloat16", 8192, 8192),
        ("rmsnorm", "bfloat16", 8192, 8192), ("rmsnorm", "bfloat16", 1, 8192), ("softmax", "bfloat16", 128, 1024),
    ):
        dtype = TYPES[name]
        sets = [b.take(dtype, rows, columns) for _ in range(4)]
        weight = b.take(dtype, columns)
        run = {
            "softmax": lambda i: torch.softmax(sets[i], -1),
            "layernorm": lambda i: F.layer_norm(sets[i], (columns,), weight, weight),
            "rmsnorm": lambda i: F.rms_norm(sets[i], (columns,), weight),
        }[op]
        profiled(b, "vector", {"op": op, "dtype": name, "rows": rows, "cols": columns}, run, 4)
    for name, m, n, k in (("bfloat16", 1, 4096, 4096), ("bfloat16", 64, 4096, 4096), ("bfloat16", 512, 512, 4096), ("bfloat16", 4096, 4096, 4096), ("fp8", 1, 4096, 4096), ("fp8", 64, 4096, 4096), ("fp8", 4096, 4096, 4096)):
        dtype = TYPES[name]
        one = torch.ones((), device="cuda")
        sets = [(b.take(dtype, m, k), b.take(dtype, n, k).t()) for _ in range(4)]
        run = (lambda i: torch._scaled_mm(*sets[i], one, one, out_dtype=torch.bfloat16, use_fast_accum=True)) if name == "fp8" else (lambda i: torch.mm(*sets[i]))
        profiled(b, "gemm", {"dtype": name, "m": m, "n": n, "k": k}, run, 4)


def profiled(b, kind, what, op, sets):
    from torch.profiler import ProfilerActivity, profile

    op(0)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as p:
        for i in range(2 * sets):
            op(i % sets)
        torch.cuda.synchronize()
    path = "/tmp/profile.json"
    p.export_chrome_trace(path)
    found = {}
    for e in json.load(open(path))["traceEvents"]:
        if e.get("cat") == "kernel":
            a = e["args"]
            key = (e["name"][:160], tuple(a.get("grid", ())), tuple(a.get("block", ())), a.get("shared memory"), a.get("registers per thread"))
            found.setdefault(key, []).append(e["dur"])
    for (name, grid, block, shared, registers), times in found.items():
        row = {"kind": "kernel", "of": kind, **what, "name": name, "grid": grid, "block": block, "shared": shared}
        row |= {"registers": registers, "calls": len(times), "duration_us": statistics.median(times)}
        print(json.dumps(row), file=b.out, flush=True)


def powers(b):
    import pynvml as nv

    nv.nvmlInit()
    h = nv.nvmlDeviceGetHandleByIndex(0)
    limits = {"limit_w": nv.nvmlDeviceGetEnforcedPowerLimit(h) / 1e3, "max_sm_mhz": nv.nvmlDeviceGetMaxClockInfo(h, nv.NVML_CLOCK_SM)}
    limits |= {"max_memory_mhz": nv.nvmlDeviceGetMaxClockInfo(h, nv.NVML_CLOCK_MEM)}
    time.sleep(1.0)
    e0, t0 = nv.nvmlDeviceGetTotalEnergyConsumption(h), time.time()
    time.sleep(1.0)
    e1, t1 = nv.nvmlDeviceGetTotalEnergyConsumption(h), time.time()
    print(json.dumps({"kind": "power", "what": "idle", "watts": (e1 - e0) / 1e3 / (t1 - t0), "draw_w": nv.nvmlDeviceGetPowerUsage(h) / 1e3, **limits}), file=b.out, flush=True)
    for name, m, n, k in (
        ("bfloat16", 4096, 4096, 4096), ("bfloat16", 8192, 8192, 8192), ("bfloat16", 16384, 8192, 8192), ("bfloat16", 4096, 8192, 16384), ("fp16", 8192, 8192, 8192),
        ("fp8", 4096, 4096, 4096), ("fp8", 8192, 8192, 8192), ("fp8", 16384, 8192, 8192), ("bfloat16", 8, 16384, 16384), ("fp8", 16, 16384, 16384), ("bfloat16", 1024, 1024, 1024),
    ):
        dtype = TYPES[name]
        one = torch.ones((), device="cuda")
        make = lambda: (b.take(dtype, m, k), b.take(dtype, n, k).t())
        op = (lambda x, y: torch._scaled_mm(x, y, one, one, out_dtype=torch.bfloat16, use_fast_accum=True)) if name == "fp8" else torch.mm
        size = dtype.itemsize
        b.power({"what": "gemm", "dtype": name, "m": m, "n": n, "k": k}, make, op, (m * k + n * k) * size + 2 * m * n, 2.0 * m * n * k)
    n = 1 << 28
    b.power({"what": "copy", "dtype": "bfloat16", "elements": n}, lambda: (b.take(torch.bfloat16, n),), torch.clone, 4 * n, 0.0)
    b.power({"what": "softmax", "dtype": "bfloat16", "elements": n >> 2}, lambda: (b.take(torch.bfloat16, n >> 14, 4096),), lambda x: torch.softmax(x, -1), n, 0.0)
    zeros = torch.zeros(8192, 8192, dtype=torch.bfloat16, device="cuda")
    b.power({"what": "gemm of zeros", "dtype": "bfloat16", "m": 8192, "n": 8192, "k": 8192}, lambda: (zeros, zeros), torch.mm, 6 * 2**26, 2.0 * 8192**3)
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        make = lambda: tuple(b.take(torch.bfloat16, 4, 4096, heads, 128).transpose(1, 2) for heads in (32, 8, 8))
        b.power({"what": "prefill 4 x 4096 32/8x128 cudnn"}, make, lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True), 4 * 4096 * 80 * 256, 2.0 * 4 * 32 * 4096**2 * 128)


def warm():
    """The clocks rise."""
    x = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    until = time.time() + 0.7
    while time.time() < until:
        for _ in range(20):
            x @ x
        torch.cuda.synchronize()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--seconds", type=float, default=0.02, help="of a point's replays")
    parser.add_argument("--gib", type=float, default=20, help="of the pool of bf16 numbers")
    parser.add_argument("--only", default="attentions,gemms,vectors,kernel_names,powers")
    arguments = parser.parse_args()
    torch.manual_seed(1)
    with open(arguments.out, "w") as out:
        p = torch.cuda.get_device_properties(0)
        about = {"kind": "device", "name": p.name, "sms": p.multi_processor_count, "memory": p.total_memory, "l2": p.L2_cache_size}
        about |= {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        print(json.dumps(about), file=out, flush=True)
        b = Bench(out, arguments.seconds, arguments.gib)
        torch.backends.cuda.matmul.allow_tf32 = False
        for name in arguments.only.split(","):
            warm()
            started = time.time()
            globals()[name](b)
            print(f"{name}: {time.time() - started:.1f} s, {b.failed} failed", flush=True)


if __name__ == "__main__":
    main()
