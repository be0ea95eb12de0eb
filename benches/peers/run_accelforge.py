"""Maps one case with AccelForge. Runs in the peers' environment, started by side_by_side.py.

Reads a case of tests/data/mapping/optima_accelforge.json on standard input and prints one line of JSON: energy
(pJ), cycles and CPU seconds. The mapper runs twice in one process and the second time counts, so that importing and
compilation by numba do not. Only the search is timed: not the building of the specification, and neither the
detailed evaluation nor the drawing of the mapping found.

One cycle is one second in the specification, one picojoule one joule, so that no figure is scaled.
"""

import json
import os
import re
import resource
import sys
import tempfile

import accelforge as af
from accelforge.frontend.mapper.metrics import Metrics
from accelforge.mapper.FFM.main import map_workload_to_arch
from accelforge.mapper.FFM.mappings import Mappings

METRICS = {"energy": Metrics.ENERGY, "latency": Metrics.LATENCY, "edp": Metrics.ENERGY_DELAY_PRODUCT}
TOTAL_LATENCY = {
    "sum": "sum(a.n_calls / a.throughput for a in actions)",
    "max": "max(a.n_calls / a.throughput for a in actions)",
}


def action(name, energy, throughput):
    return {"name": name, "energy": energy, "throughput": float(throughput), "bits_per_action": 1}


def size(bits):
    """`bits_per_value(weight)`, as the cases have it, is an attribute of the set in AccelForge."""
    return re.sub(r"bits_per_value\((\w+)\)", r"\1.bits_per_value", bits) if isinstance(bits, str) else bits


def memory(level):
    return af.arch.Memory(
        name=level["name"],
        size=size(level["size_bits"]),
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
    one_each = [mappings[i] for i in range(len(mappings))]
    pairs = [(float(m.energy()), float(m.latency())) for m in one_each]
    return min(pairs, key=lambda pair: value(case, *pair))


def main():
    case = json.load(sys.stdin)
    af.set_n_parallel_jobs(1)
    # A drawing of each mapping is written to the working folder, which needs Graphviz; nobody looks at it here.
    Mappings.render = lambda *_, **__: ""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        mappings = specification(case).map_workload_to_arch(print_progress=False)
        energy, cycles = best(case, mappings)
        os.chdir("/")
    spec = specification(case)
    start = cpu_seconds()
    map_workload_to_arch(spec, print_progress=False, eval_in_detail=False)
    seconds = cpu_seconds() - start
    print(json.dumps({"energy_pj": energy, "cycles": cycles, "cpu_s": seconds}))


main()
