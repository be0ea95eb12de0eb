#!/usr/bin/env python3
"""Runs the same mapping problems on presil and on its peers, and prints what each found and what it took.

See README.md beside this file for what is measured and how. Needs only Python's standard library; the peers get
a virtual environment of their own. Exit code: 0 if presil solved every case, 1 if it failed on one, 2 if there is
no presil to run; peers that fail only leave words in their rows.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import zigzag_case

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CASES = ROOT / "tests" / "data" / "mapping" / "optima_accelforge.json"
FEW = ["N00", "N02", "N06", "N18", "N03", "N09"]
# hwcomponents, which AccelForge needs, is written in Python 3.12's syntax.
OLDEST_PYTHON = (3, 12)
# What a peer imports and does not ask for.
EXTRA = {"zigzag-dse": ["six"]}
# One mapping is read and evaluated so often in one call of presil, to tell its cost from that of starting.
EVALUATIONS = 2000
THREADS = ["OMP", "OPENBLAS", "MKL", "NUMBA", "NUMEXPR", "RAYON"]


class Failure(Exception):
    """Why a tool gave no figure."""


def run(command, limit, stdin=""):
    """Standard output of a command, and the CPU seconds (user and system) of it and its children."""
    one_thread = {f"{name}_NUM_THREADS": "1" for name in THREADS}
    file = tempfile.TemporaryFile
    with file("w+") as given, file("w+") as out, file("w+") as err:
        given.write(stdin)
        given.seek(0)
        try:
            child = subprocess.Popen(command, stdin=given, stdout=out, stderr=err, env=os.environ | one_thread)
        except OSError as error:
            raise Failure(str(error)) from error
        usage = wait(child, limit)
        out.seek(0)
        err.seek(0)
        text, complaints = out.read(), err.read().strip()
    if child.returncode is None or usage is None:
        raise Failure(f"stopped after {limit} s")
    if child.returncode != 0:
        last = complaints.splitlines()[-1] if complaints else "no message"
        raise Failure(f"exit code {child.returncode}: {last}")
    return text, usage.ru_utime + usage.ru_stime


def wait(child, limit):
    """Resources that the child used; none if it ran past the limit and was killed."""
    end = time.monotonic() + limit
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return usage
        if time.monotonic() > end:
            child.kill()
            child.wait()
            return None
        time.sleep(0.005)


# --- presil ---------------------------------------------------------------------------------------------------------


def find_presil(given):
    built = [ROOT / "target" / profile / "presil" for profile in ("release", "release-lto")]
    candidates = [given] if given else [*built, shutil.which("presil")]
    for path in candidates:
        if path and os.access(path, os.X_OK):
            return str(path)
    return None


def case_file(case):
    """The JSON form of a case file; see docs/case-files.md."""
    workload = case["workload"]
    return {
        "name": case["id"],
        "objective": case["objective"],
        "convention": "accelforge",
        "bits": workload["bits"],
        "perfect": True,
        "ranks": workload["ranks"],
        "einsum": [
            {"name": e["name"], "expression": e["expr"], "renames": e["renames"]} for e in workload["einsums"]
        ],
        "level": [level_of_case(level) for level in case["arch"]["levels"]],
    }


def level_of_case(level):
    if level["kind"] == "memory":
        must, may = level["must_keep"], level["may_keep"]
        return {
            "memory": level["name"],
            "capacity": level["size_bits"],
            "read_energy": level["read_energy_per_bit"],
            "write_energy": level["write_energy_per_bit"],
            "read_bandwidth": level["read_bw_bits_per_cycle"],
            "write_bandwidth": level["write_bw_bits_per_cycle"],
            "latency": level["latency_rule"],
            "must_keep": must,
            # `~DRAM.tensors` depends on the mapping; a memory that must keep these may keep anything.
            "keeps": "All" if ".tensors" in must else f"({may}) | ({must})",
        }
    if level["kind"] == "fanout":
        axes = [
            {
                "name": a["name"],
                "size": a["fanout"],
                "must_reuse": a["must_reuse"] or "Nothing",
                "may_reuse": a["may_reuse"] or "Nothing",
            }
            for a in level["spatial"]
        ]
        return {"fanout": level["name"], "axis": axes}
    return {"compute": level["name"], "energy": level["energy_per_op"], "rate": level["ops_per_cycle"]}


def presil_map(presil, case, folder, limit):
    path = Path(folder) / f"{case['id']}.json"
    path.write_text(json.dumps(case_file(case)))
    text, seconds = run([presil, "map", str(path), "--json"], limit)
    proof = json.loads(text)["proof"]
    return {"energy_pj": proof["energy_pj"], "cycles": proof["cycles"], "cpu_s": seconds, "proven": proof["proven"]}


# --- peers ----------------------------------------------------------------------------------------------------------


def find_python(given):
    """An interpreter that the peers run on."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    names = ["python3.12", "python3.13", "python3"]
    candidates = [given] if given else [sys.executable, *names, *map(str, sorted(pyenv.glob("*/bin/python3")))]
    for python in candidates:
        try:
            text, _ = run([python, "-c", "import sys; print(*sys.version_info[:2])"], 60)
        except Failure:
            continue
        if tuple(map(int, text.split())) >= OLDEST_PYTHON:
            return python
    raise Failure(f"no Python {'.'.join(map(str, OLDEST_PYTHON))} or later found; name one with --python")


def requirements():
    """Pinned requirement of each package, of requirements.txt."""
    lines = [line.split("#")[0].strip() for line in (HERE / "requirements.txt").read_text().splitlines()]
    return {line.split("==")[0]: line for line in lines if line}


def install(venv, python, package):
    """The environment's interpreter, with the package in it."""
    inside = venv / "bin" / "python"
    if not inside.exists():
        run([find_python(python), "-m", "venv", str(venv)], 300)
    requirement = requirements()[package]
    version = f"import importlib.metadata as m; print(m.version('{package}'))"
    try:
        installed = run([str(inside), "-c", version], 60)[0].strip()
    except Failure:
        installed = None
    if installed != requirement.split("==")[1]:
        print(f"installing {requirement} ...", file=sys.stderr, flush=True)
        extra = EXTRA.get(package, [])
        pip = [str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, requirement, *[requirements()[name] for name in extra]], 1800)
    return str(inside)


def accelforge_map(python, case, limit):
    text, _ = run([python, str(HERE / "run_accelforge.py")], limit, json.dumps(case))
    return json.loads(text.splitlines()[-1])


def zigzag_map(python, limit):
    text, _ = run([python, str(HERE / "run_zigzag.py")], limit, json.dumps(zigzag_case.zigzag_inputs()))
    return json.loads(text.splitlines()[-1])


def presil_eval(presil, loops, folder, limit):
    """The same mapping in presil's convention `zigzag`: its figures, and CPU seconds of a call and of a mapping."""
    path = Path(folder) / "zigzag.json"
    path.write_text(json.dumps(zigzag_case.presil_case(loops)))
    text, once = run([presil, "eval", str(path), "--json"], limit)
    _, often = run([presil, "eval", *[str(path)] * EVALUATIONS], limit)
    told = json.loads(text)["einsums"][0]["conventions"][0]
    each = (often - once) / (EVALUATIONS - 1)
    return {"energy_pj": told["energy_pj"], "cycles": told["cycles"], "call_cpu_s": once, "cpu_s": each}


def zigzag_table(presil, python, folder, limit):
    """ZigZag's mapper on a GEMM, and its choice in presil: figures and CPU time of a mapping."""
    if isinstance(python, Failure):
        return f"ZigZag: {python}"
    peer = attempt(zigzag_map, python, limit)
    if isinstance(peer, Failure):
        return f"ZigZag: {peer}"
    ours = attempt(presil_eval, presil, peer["loops"], folder, limit)
    if isinstance(ours, Failure):
        return f"presil eval: {ours}"
    count = peer["evaluated"]
    rows = [
        ("energy, pJ", ours["energy_pj"], peer["energy_pj"], ours["energy_pj"] / peer["energy_pj"]),
        ("cycles", ours["cycles"], peer["cycles"], ours["cycles"] / peer["cycles"]),
    ]
    rows = [[name, f"{a:.10g}", f"{b:.10g}", f"{ratio:.6f} (presil / ZigZag)"] for name, a, b, ratio in rows]
    for name, seconds in (("cost model alone", peer["model_cpu_s"]), ("whole mapper", peer["cpu_s"])):
        a, b = ours["cpu_s"] * 1e6, seconds / count * 1e6
        label = f"CPU microseconds of a mapping, ZigZag's {name}"
        rows.append([label, f"{a:.0f}", f"{b:.0f}", f"{b / a:.0f} (ZigZag / presil)"])
    told = (
        f"ZigZag evaluated {count} mappings in {peer['cpu_s']:.2f} CPU s; presil's one call for one mapping took"
        f" {ours['call_cpu_s']:.3f} CPU s, the time of a mapping is from {EVALUATIONS} in one call.\n\n"
    )
    header = ["ZigZag's choice for a 256 x 256 x 256 GEMM", "presil, convention zigzag", "ZigZag", "ratio"]
    return told + table(header, rows)


# --- tables ---------------------------------------------------------------------------------------------------------


def objective(case, result):
    energy, cycles = result["energy_pj"], result["cycles"]
    return {"energy": energy, "latency": cycles, "edp": energy * cycles}[case["objective"]]


def attempt(function, *args):
    """What the function gives, or the failure that it ended in."""
    try:
        return function(*args)
    except Failure as failure:
        return failure
    except (KeyError, ValueError, IndexError) as error:
        return Failure(f"output not understood: {error!r}")


def row(case, ours, peer):
    """Case, objective, both optima and their ratio, both times and their ratio, remark."""
    remarks = []
    cells = [case["id"], case["arch"]["name"], case["workload"]["name"], case["objective"]]
    ok = [not isinstance(result, Failure) for result in (ours, peer)]
    values = [objective(case, r) if good else None for r, good in zip((ours, peer), ok)]
    seconds = [r["cpu_s"] if good else None for r, good in zip((ours, peer), ok)]
    cells += [f"{v:.10g}" if v is not None else "-" for v in values]
    cells.append(f"{values[0] / values[1]:.6f}" if all(ok) else "-")
    cells += [f"{s:.3f}" if s is not None else "-" for s in seconds]
    cells.append(f"{seconds[1] / max(seconds[0], 1e-9):.1f}" if all(ok) else "-")
    if ok[0]:
        remarks.append("proven" if ours["proven"] else "not proven")
    remarks += [f"{name}: {r}" for name, r in (("presil", ours), ("AccelForge", peer)) if isinstance(r, Failure)]
    return cells + ["; ".join(remarks)]


HEADER = [
    "case", "machine", "workload", "objective", "presil", "AccelForge", "presil / AccelForge",
    "presil CPU s", "AccelForge CPU s", "AccelForge CPU / presil CPU", "remark",
]  # fmt: skip


def table(header, rows):
    def line(cells):
        return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"

    return "\n".join([line(header), line(["---"] * len(header)), *map(line, rows)])


def machine():
    """Processor, threads, load and Python of this machine, in words."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    return f"{processor}, {os.cpu_count()} threads (load averages at the start {load}), {platform.system()}"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presil", help="presil to run [default: target/release/presil, then PATH]")
    parser.add_argument("--venv", type=Path, default=HERE / ".venv", help="folder of the peers' environment")
    parser.add_argument("--python", help="interpreter that makes it, 3.12 or later")
    few = " ".join(FEW)
    parser.add_argument("--case", action="append", metavar="ID", help=f"case to run; may be repeated [default: {few}]")
    parser.add_argument("--all", action="store_true", help="run every case")
    parser.add_argument("--limit", type=float, default=600, help="seconds for a tool and case [default: 600]")
    return parser.parse_args()


def chosen(args):
    cases = {case["id"]: case for case in json.loads(CASES.read_text())["cases"]}
    ids = list(cases) if args.all else args.case or FEW
    unknown = [i for i in ids if i not in cases]
    if unknown:
        sys.exit(f"error: no case {', '.join(unknown)}; there are {', '.join(cases)}")
    return [cases[i] for i in ids]


def main():
    args = arguments()
    cases = chosen(args)
    presil = find_presil(args.presil)
    if presil is None:
        print("error: presil is not built; run `cargo build --release`, or name it with --presil", file=sys.stderr)
        return 2
    venv = args.venv.resolve()
    version = attempt(run, [presil, "--version"], 60)
    if isinstance(version, Failure):
        print(f"error: {presil} does not run: {version}", file=sys.stderr)
        return 2
    print(f"{time.strftime('%Y-%m-%d')}; {machine()}")
    print(f"{version[0].strip()}; {', '.join(requirements().values())}\n")
    peer = attempt(install, venv, args.python, "accelforge")
    rows, failed = [], False
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            print(f"{case['id']} ...", file=sys.stderr, flush=True)
            ours = attempt(presil_map, presil, case, folder, args.limit)
            theirs = peer if isinstance(peer, Failure) else attempt(accelforge_map, peer, case, args.limit)
            failed |= isinstance(ours, Failure)
            rows.append(row(case, ours, theirs))
        print(table(HEADER, rows), flush=True)
        print("ZigZag ...", file=sys.stderr, flush=True)
        print("\n" + zigzag_table(presil, attempt(install, venv, args.python, "zigzag-dse"), folder, args.limit))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
