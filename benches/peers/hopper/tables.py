"""Rows for `presil validate --data` from what kernels.py wrote.

    python tables.py KERNELS.jsonl FOLDER --prefix NAME- --source TEXT

Writes gemm.csv, attention.csv, vector.csv, gemm_power.csv, each behind the prefix. Standard library only.
"""

import argparse
import csv
import json
import os
import statistics

# As configs/validation/devices.csv knows them.
DEVICES = {"NVIDIA H200": "H200-SXM", "NVIDIA H100 80GB HBM3": "H100 80GB HBM3"}


def write(folder, name, columns, rows):
    with open(os.path.join(folder, name), "w", newline="") as out:
        table = csv.DictWriter(out, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    print(name, len(rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernels")
    parser.add_argument("folder")
    parser.add_argument("--source", required=True)
    parser.add_argument("--prefix", default="")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in open(arguments.kernels)]
    about = next(r for r in rows if r["kind"] == "device")
    framework = f"graph/torch{about['torch'].split('+')[0]}"
    same = {"device": DEVICES[about["name"]], "source": arguments.source, "power_w": ""}
    timed = [r for r in rows if "latency_us" in r]

    def table(kind, columns, more):
        chosen = [r for r in timed if r["kind"] == kind]
        chosen = [{**same, "framework": framework, **r, **more(r)} for r in chosen]
        return [{c: r[c] for c in columns} for r in chosen if r]

    columns = "device,dtype,m,n,k,batch,latency_us,power_w,framework,source".split(",")
    write(arguments.folder, arguments.prefix + "gemm.csv", columns, table("gemm", columns, lambda r: {}))
    columns = "device,phase,dtype,kv_dtype,batch,q_len,kv_len,heads,kv_heads,head_dim,window,latency_us,framework,source".split(",")
    more = lambda r: {"kv_dtype": r["dtype"], "window": 0, "framework": f"{framework} {r['backend']}"}
    write(arguments.folder, arguments.prefix + "attention.csv", columns, table("attention", columns, more))
    columns = "device,op,dtype,rows,cols,elements,latency_us,framework,source".split(",")
    write(arguments.folder, arguments.prefix + "vector.csv", columns, table("vector", columns, lambda r: {}))

    columns = "sys,fw,dtype,n_big,TFLOPs_med,TFLOPs_p95,W_big,pJ_per_flop,n_small,GBs_small,W_small,pJ_per_weightbyte".split(",")
    powers = []
    for dtype in ("bfloat16", "fp16", "fp8"):
        large, few = [], []
        for r in timed:
            if r["kind"] != "power" or r.get("what") != "gemm" or r["dtype"] != dtype:
                continue
            seconds, watts = r["latency_us"] * 1e-6, r["draw_w"]
            if min(r["m"], r["n"], r["k"]) >= 4096:
                large.append((r["flops"] / seconds / 1e12, watts, watts * seconds / r["flops"] * 1e12))
            elif r["m"] <= 16:
                weights = r["n"] * r["k"] * (1 if dtype == "fp8" else 2)
                few.append((weights / seconds / 1e9, watts, watts * seconds / weights * 1e12))
        row = dict.fromkeys(columns, "") | {"sys": same["device"], "fw": framework, "dtype": dtype, "n_big": len(large), "n_small": len(few)}
        middle = lambda x, i: round(statistics.median(v[i] for v in x), 4)
        if large:
            row |= {"TFLOPs_med": middle(large, 0), "W_big": middle(large, 1), "pJ_per_flop": middle(large, 2)}
        if few:
            row |= {"GBs_small": middle(few, 0), "W_small": middle(few, 1), "pJ_per_weightbyte": middle(few, 2)}
        powers.append(row)
    write(arguments.folder, arguments.prefix + "gemm_power.csv", columns, powers)


if __name__ == "__main__":
    main()
