"""Kernels for a profiler of hardware counters, between cudaProfilerStart and Stop; each runs once before.

    ncu --clock-control none --profile-from-start off --csv --page raw --metrics M,... python counters.py
"""

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel


def heads(batch, keys, n):
    return torch.randn(batch, keys, n, 128, device="cuda", dtype=torch.bfloat16).transpose(1, 2)


def main():
    ops = []
    for rows, columns, dtype in (
        (65536, 1024, torch.bfloat16), (16384, 4096, torch.bfloat16), (2048, 32768, torch.bfloat16), (512, 131072, torch.bfloat16),
        (65536, 1024, torch.float32), (512, 131072, torch.float32),
    ):
        x = torch.randn(rows, columns, device="cuda").to(dtype)
        ops.append(lambda x=x: torch.softmax(x, -1))
    x = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    w = torch.randn(8192, device="cuda", dtype=torch.bfloat16)
    ops.append(lambda: F.layer_norm(x, (8192,), w, w))
    ops.append(lambda: F.rms_norm(x, (8192,), w))
    for batch, keys in ((1, 4096), (8, 4096), (64, 4096)):
        q, k, v = heads(batch, 1, 32), heads(batch, keys, 8), heads(batch, keys, 8)

        def op(q=q, k=k, v=v):
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

        ops.append(op)
    for op in ops:
        op()
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    for op in ops:
        op()
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()


if __name__ == "__main__":
    main()
