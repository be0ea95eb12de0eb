"""One GEMM on one machine, in ZigZag's inputs and as a case file of presil.

The machine: an array of 8 x 8 multipliers with a weight register each, a buffer of 64 KiB with a read and a write
port, and an off-chip memory with one port. Products are added along `k` on their way out of the array.
"""

BITS, PARTIAL_BITS = 8, 32
SIZES = {"m": 256, "n": 256, "k": 256}
# Spatial loops: axis, dimension, instances.
ARRAY = [("D1", "n", 8), ("D2", "k", 8)]
MULTIPLY_PJ = 0.5
OPERANDS = {"I": "I1", "W": "I2", "O": "O"}

# Inner to outer: bits, picojoules of an access of full width, and ports: name, kind, bits of a cycle, transfers by
# operand (`fh`, `th`, `fl`, `tl`: from and to above, from and to below).
MEMORIES = {
    "reg": (8, 0.02, [("r_port_1", "read", 8, {"W": ["tl"]}), ("w_port_1", "write", 8, {"W": ["fh"]})]),
    "glb": (
        64 * 1024 * 8,
        384.0,
        [
            ("r_port_1", "read", 512, {"I": ["tl"], "W": ["tl"], "O": ["tl", "th"]}),
            ("w_port_1", "write", 512, {"I": ["fh"], "W": ["fh"], "O": ["fl", "fh"]}),
        ],
    ),
    "dram": (10**11, 800.0, [("rw_port_1", "read_write", 64, {"I": ["tl"], "W": ["tl"], "O": ["tl", "fl"]})]),
}


def zigzag_inputs(lpf_limit=6):
    """Accelerator, mapping and workload of ZigZag, and options of its mapper."""
    memories = {}
    for name, (bits, price, ports) in MEMORIES.items():
        allocations = [[f"{OPERANDS[o]}, {t}" for o, ts in carries.items() for t in ts] for *_, carries in ports]
        memories[name] = {
            "size": bits,
            "r_cost": price,
            "w_cost": price,
            "area": 0.0,
            "latency": 1,
            "operands": [OPERANDS[o] for o in kept(name)],
            "ports": [
                {"name": p, "type": kind, "bandwidth_min": BITS, "bandwidth_max": width, "allocation": allocation}
                for (p, kind, width, _), allocation in zip(ports, allocations)
            ],
            "served_dimensions": [] if name == "reg" else [axis for axis, *_ in ARRAY],
        }
    array = {
        "unit_energy": MULTIPLY_PJ,
        "unit_area": 1.0,
        "dimensions": [axis for axis, *_ in ARRAY],
        "sizes": [instances for *_, instances in ARRAY],
    }
    layer = {
        "id": 0,
        "operator_type": "Gemm",
        "equation": "O[m][n]=I[m][k]*W[k][n]",
        "loop_dims": [rank.upper() for rank in SIZES],
        "loop_sizes": list(SIZES.values()),
        "operand_precision": {"I": BITS, "W": BITS, "O": PARTIAL_BITS, "O_final": BITS},
        "operand_source": {"I": 0, "W": 0},
    }
    mapping = {
        "name": "default",
        "spatial_mapping": {axis: [f"{rank.upper()}, {instances}"] for axis, rank, instances in ARRAY},
        "memory_operand_links": OPERANDS,
    }
    return {
        "accelerator": {"name": "peers", "memories": memories, "operational_array": array},
        "mapping": [mapping],
        "workload": [layer],
        "opt": "latency",
        "lpf_limit": lpf_limit,
    }


def kept(memory):
    """Operands that a memory keeps."""
    ports = MEMORIES[memory][2]
    return [operand for operand in OPERANDS if any(operand in carries for *_, carries in ports)]


def presil_case(loops):
    """The case file, with the mapping that ZigZag's temporal loops are."""
    carried = {"fh": "from_above", "th": "to_above", "fl": "from_below", "tl": "to_below"}
    levels = []
    for name, (bits, price, ports) in reversed(MEMORIES.items()):
        if name == "reg":
            levels.append({"fanout": "array", "axis": [{"name": axis, "size": n} for axis, _, n in ARRAY]})
        tensors = " | ".join(kept(name))
        levels.append({
            "memory": name,
            "capacity": bits,
            "final_bits": BITS,
            "keeps": tensors,
            "must_keep": tensors,
            "port": [
                {
                    "name": port,
                    "bandwidth": width,
                    "granule": BITS,
                    "carries": {operand: [carried[t] for t in ts] for operand, ts in carries.items()},
                    "read_access_energy": price,
                    "write_access_energy": price,
                }
                for port, _, width, carries in ports
            ],
        })  # fmt: skip
    levels.append({"compute": "mac", "energy": MULTIPLY_PJ})
    return {
        "name": "gemm",
        "convention": "zigzag",
        "bits": {"All": BITS, "O": PARTIAL_BITS},
        "ranks": SIZES,
        "einsum": [
            {
                "name": "G",
                "expression": "O[m, n] = I[m, k] * W[k, n]",
                "renames": {"input": "I", "weight": "W", "output": "O"},
                "mapping": mapping_text(loops),
            }
        ],
        "level": levels,
    }


def mapping_text(loops):
    """The loop nest, from the outside in. `loops` gives each operand's loops by memory, inner to outer."""
    order = [loop for memory in loops["O"] for loop in memory]
    keeps = {}
    for operand, memories in loops.items():
        inside = 0
        for name, own in zip([m for m in MEMORIES if operand in kept(m)], memories):
            inside += len(own)
            keeps.setdefault(inside, []).append((name, operand))
    names = list(MEMORIES)
    lines = []
    for inside in range(len(order), -1, -1):
        here = sorted(keeps.get(inside, []), key=lambda keep: -names.index(keep[0]))
        for name, operand in here:
            if name == "reg":
                lines += [f"for {rank} in {n} across array.{axis}" for axis, rank, n in ARRAY]
            lines.append(f"{name}: keep {operand}")
        if inside > 0:
            rank, trips = order[inside - 1]
            lines.append(f"for {rank.lower()} in {trips}")
    return "\n".join(lines)
