"""Maps one GEMM with ZigZag. Runs in the peers' environment, started by side_by_side.py.

Reads the machine, the mapping rules and the layer, each in the form of ZigZag's YAML inputs, as one JSON document
on standard input:

    {"accelerator": .., "mapping": .., "workload": .., "opt": "latency", "lpf_limit": 6}

and prints one line of JSON: energy (pJ), cycles and temporal loops of the mapping that it chose, how many mappings
it evaluated, and CPU seconds: of all of it, and of its cost model alone. It is run twice in one process and the
second time counts.
"""

import json
import logging
import resource
import sys
import tempfile
from pathlib import Path

import yaml
from zigzag.api import get_hardware_performance_zigzag
from zigzag.stages.evaluation.cost_model_evaluation import CostModelStage


def cpu_seconds():
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])


class Meter:
    """Counts what the cost model is asked, and the CPU seconds that it takes."""

    def __init__(self):
        self.count, self.seconds = 0, 0.0
        inner = CostModelStage.run

        def run(stage):
            start = cpu_seconds()
            results = list(inner(stage))
            self.seconds += cpu_seconds() - start
            self.count += len(results)
            yield from results

        CostModelStage.run = run

    def reset(self):
        self.count, self.seconds = 0, 0.0


def temporal_loops(evaluation):
    """Of each operand, its loops (dimension, trips) in each memory, inner to outer."""
    mapping = evaluation.temporal_mapping.mapping_dic_origin
    return {str(o): [[[str(d), int(n)] for d, n in level] for level in levels] for o, levels in mapping.items()}


def main():
    given = json.load(sys.stdin)
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for name in ("accelerator", "mapping", "workload"):
            path = Path(folder) / f"{name}.yaml"
            path.write_text(yaml.safe_dump(given[name], sort_keys=False))
            paths[name] = str(path)
        logging.disable(logging.CRITICAL)
        for _ in range(2):
            meter.reset()
            start = cpu_seconds()
            energy, cycles, evaluations = get_hardware_performance_zigzag(
                **paths,
                opt=given["opt"],
                lpf_limit=given["lpf_limit"],
                dump_folder=str(Path(folder) / "out"),
                loma_show_progress_bar=False,
            )[:3]
            seconds = cpu_seconds() - start
    chosen = evaluations[0][1][0][0]
    result = {
        "energy_pj": float(energy),
        "cycles": float(cycles),
        "loops": temporal_loops(chosen),
        "evaluated": meter.count,
        "cpu_s": seconds,
        "model_cpu_s": meter.seconds,
    }
    print(json.dumps(result))


main()
