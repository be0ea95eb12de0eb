#!/usr/bin/env python3
"""Runs the same layers on presil and on SCALE-Sim, and the same networks on presil and on Arm's Vela.

See README.md beside this file. Needs only Python's standard library; the peers get a virtual environment of their own. Exit code: 0
if presil gave every figure, 1 if it failed on one, 2 if there is no presil to run; peers that fail only leave words in their rows.
"""

import argparse
import csv
import io
import json
import sys
import tempfile
from pathlib import Path

from side_by_side import HERE, ROOT, Failure, attempt, find_presil, machine, requirements, run, table

TFLITE = ROOT / "tests" / "data" / "vela" / "tflite"
GEMMS = [(100, 50, 30), (128, 256, 64), (17, 1000, 33), (512, 512, 512)]
ARRAYS = [(16, 16), (32, 32), (128, 128)]
NETWORKS = ["ds_cnn_kws", "mobilenet_v1_a0.25_96", "lstm_28x28_20_unrolled", "conv3x3_56x56x64_64"]
# Accelerator of both tools, and Vela's names of the system that presil's chip file states.
NPUS = [
    ("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Shared_Sram"),
    ("ethos-u65-256", "Ethos_U65_Mid_End", "Dedicated_Sram_384KB"),
]
# What SCALE-Sim is imported with: later versions of numpy end it.
NUMPY = "numpy==1.26.4"

CONFIG = """[general]
run_name = layer

[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {columns}
IfmapSramSzkB = 1024
FilterSramSzkB = 1024
OfmapSramSzkB = 1024
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = ws
Bandwidth = 10
ReadRequestBuffer = 32
WriteRequestBuffer = 32

[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2

[sparsity]
SparsitySupport = false
SparseRep = ellpack_block
OptimizedMapping = false
BlockSize = 8
RandomNumberGeneratorSeed = 40

[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""
TOPOLOGY = "Layer, M, N, K,\ngemm, {m}, {n}, {k},\n"
# SCALE-Sim asks for a layout also where layouts are off.
LAYOUT = "Layer name" + ", factor" * 16 + ",\ngemm," + "1," * 16 + "\n"


def install(venv, python):
    """The environment's interpreter, with both peers."""
    inside = venv / "bin" / "python"
    if not inside.exists():
        run([python or sys.executable, "-m", "venv", str(venv)], 300)
    wanted = requirements()
    packages = [wanted["scalesim"], NUMPY, wanted["ethos-u-vela"]]
    run([str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages], 1800)
    return inside


def write_layer(folder, gemm, array):
    """A layer in SCALE-Sim's files, which presil reads as well."""
    (m, n, k), (rows, columns) = gemm, array
    files = [folder / name for name in ("run.cfg", "layer.csv", "layout.csv")]
    texts = [CONFIG.format(rows=rows, columns=columns), TOPOLOGY.format(m=m, n=n, k=k), LAYOUT]
    for file, text in zip(files, texts):
        file.write_text(text)
    return files


def scalesim(python, files, folder, limit):
    """Compute cycles and CPU seconds, the start of the interpreter taken off."""
    config, topology, layout = files
    _, start = run([str(python), "-c", "import scalesim.scale_sim"], limit)
    command = [str(python), "-m", "scalesim.scale", "-c", config, "-t", topology, "-l", layout]
    _, seconds = run([*map(str, command), "-i", "gemm", "-p", str(folder), "-s", "N"], limit)
    report = (folder / "layer" / "COMPUTE_REPORT.csv").read_text()
    row = next(csv.DictReader(io.StringIO(report), skipinitialspace=True))
    # Its last cycle counts from 0.
    return int(float(row["Total Cycles"])) - int(float(row["Stall Cycles"])), max(seconds - start, 1e-6)


def presil_layer(presil, files, limit):
    """Compute cycles as SCALE-Sim counts them and CPU seconds of the whole process."""
    text, seconds = run([presil, "eval", str(files[0]), str(files[1]), "--json"], limit)
    layer = json.loads(text)["layers"][0]
    return layer["compute_cycles"], seconds


def vela(python, model, npu, folder, limit):
    """Estimated microseconds of a network and CPU seconds of the whole process."""
    accelerator, system, memory = npu
    command = [str(python.parent / "vela"), str(model), "--accelerator-config", accelerator]
    command += ["--config", "Arm/vela.ini", "--system-config", system, "--memory-mode", memory]
    _, seconds = run([*command, "--output-dir", str(folder)], limit)
    summary = next(folder.glob("*_summary_*.csv"))
    row = next(csv.DictReader(io.StringIO(summary.read_text())))
    return float(row["inference_time"]) * 1e6, seconds


def presil_network(presil, model, npu, limit):
    """Microseconds of a network and CPU seconds of the whole process."""
    text, seconds = run([presil, "run", str(model), "--chip", npu[0], "--json"], limit)
    return json.loads(text)["totals"]["latency_s"] * 1e6, seconds


def row(name, ours, peer, digits):
    """Cells of one comparison; words where a tool failed."""
    if isinstance(ours, Failure) or isinstance(peer, Failure):
        failed = [f"{tool}: {e}" for tool, e in (("presil", ours), ("peer", peer)) if isinstance(e, Failure)]
        return [*name, *["-"] * 5, "; ".join(failed)]
    (a, ours_s), (b, peer_s) = ours, peer
    cells = [f"{a:.0f}", f"{b:.0f}", f"{a / b:.{digits}f}", f"{ours_s:.3f}", f"{peer_s:.3f}"]
    return [*name, *cells, f"{peer_s / max(ours_s, 1e-6):.0f}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presil", help="binary; default: that of target/release")
    parser.add_argument("--python", help="interpreter for the environment")
    parser.add_argument("--venv", type=Path, default=HERE / ".venv-simulators", help="folder of the peers' environment")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one run")
    args = parser.parse_args()
    presil = find_presil(args.presil)
    if presil is None:
        print("no presil: cargo build --release, or --presil PATH", file=sys.stderr)
        return 2
    python = attempt(install, args.venv.resolve(), args.python)
    peer = (lambda f, *a: python) if isinstance(python, Failure) else (lambda f, *a: attempt(f, python, *a))
    failures = 0
    print(machine())
    layers, networks = [], []
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        for gemm in GEMMS:
            for array in ARRAYS:
                folder = scratch / f"{gemm}-{array}".replace(" ", "")
                folder.mkdir()
                files = write_layer(folder, gemm, array)
                ours = attempt(presil_layer, presil, files, args.limit)
                failures += isinstance(ours, Failure)
                name = ["x".join(map(str, gemm)), "x".join(map(str, array))]
                layers.append(row(name, ours, peer(scalesim, files, folder, args.limit), 6))
        for npu in NPUS:
            for network in NETWORKS:
                folder = scratch / f"{npu[0]}-{network}"
                model = TFLITE / f"{network}.tflite"
                ours = attempt(presil_network, presil, model, npu, args.limit)
                failures += isinstance(ours, Failure)
                networks.append(row([network, npu[0]], ours, peer(vela, model, npu, folder, args.limit), 3))
    figures = ["presil", "peer", "presil / peer", "presil CPU s", "peer CPU s", "peer CPU / presil CPU"]
    print("\nSCALE-Sim, weight stationary: compute cycles\n")
    print(table(["M x N x K", "array", *figures], layers))
    print("\nVela: microseconds of a network\n")
    print(table(["network", "NPU", *figures], networks))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
