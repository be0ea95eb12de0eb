"""Maps one case with AccelForge. Runs in the peers' environment, started by side_by_side.py.

Reads a case of tests/data/mapping/optima_accelforge.json on standard input and prints one line of JSON: energy
(pJ), cycles, and the CPU seconds of each run. Only `Spec.map_workload_to_arch` is timed: importing, building the
specification and, by taking the lower of two runs in one process, compilation by numba are not.

One cycle is one second in the specification, one picojoule one joule, so that no figure is scaled.
"""

import json
import os
import re
import resource
import sys

import accelforge as af
from accelforge.frontend.mapper.metrics import Metrics

METRICS = {"energy": Metrics.ENERGY, "latency": Metrics.LATENCY, "edp": Metrics.ENERGY_DELAY_PRODUCT}
TOTAL_LATENCY = {
    "sum": "sum(a.n_calls / a.throughput for a in actions)",
    "max": "max(a.n_calls / a.throughput for a in actions)",
}


def action(name, energy, throughput):
    return {"name": name, "energy": energy, "throughput": float(throughput), "bits_per_action": 1}


def memory(level):
    return af.arch.Memory(
        name=level["name"],
        size=level["size_bits"],
        area=0,
        leak_power=0,
        total_latency=TOTAL_LATENCY[level["latency_rule"]],
        tensors={"keep": level["must_keep"], "may_keep": level["may_keep"]},
        actions=[
            action("read", level["read_energy_per_bit"], level["read_bw_bits_per_cycle"]),
            action("write", level["write_energy_per_bit"], level["write_bw_bits_per_cycle"]),
        ],
    )


def fanout(level):
    def axis(a):
        axis = {"name": a["name"], "fanout": a["fanout"], "may_reuse": a["may_reuse"], "min_usage": a["min_usage"]}
        return axis | ({"reuse": a["must_reuse"]} if a["must_reuse"] else {})

    return af.arch.Container(name=level["name"], spatial=[axis(a) for a in level["spatial"]])


def compute(level):
    action = {"name": "compute", "energy": level["energy_per_op"], "throughput": float(level["ops_per_cycle"])}
    return af.arch.Compute(name=level["name"], area=0, leak_power=0, actions=[action])


NODES = {"memory": memory, "fanout": fanout, "compute": compute}


def accesses(expression):
    """`O[m, n] = A[m, k] * W[k, n]` as tensor accesses: name, projection, whether it is the output."""
    for i, (name, indices) in enumerate(re.findall(r"(\w+)\[([^\]]*)\]", expression)):
        indices = [index.strip() for index in indices.split(",")]
        pairs = [index.split(":") if ":" in index else (index.upper(), index) for index in indices]
        yield {"name": name, "projection": {rank.strip(): e.strip() for rank, e in pairs}, "output": i == 0}


def specification(case):
    workload = case["workload"]
    einsums = [
        {"name": e["name"], "tensor_accesses": list(accesses(e["expr"])), "renames": e["renames"]}
        for e in workload["einsums"]
    ]
    spec = af.Spec(
        arch=af.arch.Arch(nodes=[NODES[level["kind"]](level) for level in case["arch"]["levels"]]),
        workload=af.Workload(
            einsums=einsums,
            iteration_space_shape={r: f"0 <= {r} < {size}" for r, size in workload["ranks"].items()},
            bits_per_value={"All": workload["bits"]},
        ),
    )
    spec.mapper.metrics = METRICS[case["objective"]]
    return spec


def cpu_seconds():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def value(case, energy, cycles):
    return {"energy": energy, "latency": cycles, "edp": energy * cycles}[case["objective"]]


def best(case, mappings):
    """Energy and cycles of the best mapping returned."""
    pairs = []
    for i in range(len(mappings)):
        one = mappings[i]
        pairs.append((float(one.energy()), float(one.latency())))
    return min(pairs, key=lambda pair: value(case, *pair))


def main():
    case = json.load(sys.stdin)
    af.set_n_parallel_jobs(1)
    seconds = []
    for _ in range(2):
        spec = specification(case)
        start = cpu_seconds()
        mappings = spec.map_workload_to_arch(print_progress=False)
        seconds.append(cpu_seconds() - start)
    energy, cycles = best(case, mappings)
    print(json.dumps({"energy_pj": energy, "cycles": cycles, "cpu_s": seconds}))


main()
