#!/usr/bin/env python3
"""See run.sh. Standard library only."""

import argparse
import datetime
import json
import os
import pathlib
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integration"))
from kithd import Kithd, free_port  # noqa: E402: after its folder is known

DATASETS = pathlib.Path(os.environ.get("KITH_DATASETS_DIR", pathlib.Path.home() / ".cache" / "kith-datasets"))
DIM = 128
SHARDS = 8
SEALED_SECONDS = 300
TARGET_US = 60  # more than standalone, p50, for two data nodes
SCHEDULERS = {os.SCHED_OTHER: "other", os.SCHED_FIFO: "fifo", os.SCHED_RR: "rr"}
CONFIG = {"segment_seal_idle_ms": 500}


def fail(message):
    print(f"bench/cluster: {message}", file=sys.stderr)
    sys.exit(1)


class Topology:
    """A standalone server, or a coordinator, `data_count` data nodes and a query node."""

    def __init__(self, options, data_count):
        self.options = options
        self.name = f"{data_count} data node{'s' if data_count > 1 else ''}" if data_count else "standalone"
        self.data_count = data_count
        folder = options.dir / self.name.replace(" ", "-")
        roles = ["coordinator", *["data"] * data_count, "query"] if data_count else ["standalone"]
        self.nodes = [Kithd(options.bin, folder / f"{i}-{role}", config=dict(CONFIG), role=role)
                      for i, role in enumerate(roles)]
        for node in self.nodes:
            node.grpc_port, node.http_port = free_port(), free_port()
            if data_count:
                node.node_port = free_port()
                node.config["coordinators"] = f"127.0.0.1:{self.nodes[0].node_port}"
                node.config["node_busy_poll"] = options.busy_poll

    def start(self):
        for node in self.nodes:
            node.spawn()
        for node in self.nodes:
            node.wait_ready()

    def end(self):
        for node in self.nodes:
            node.kill()

    def kith(self, *arguments):
        result = subprocess.run([self.options.bin / "kith", *map(str, arguments), "--json", "--server",
                                 self.nodes[-1].address], capture_output=True, text=True)
        if result.returncode != 0:
            fail(f"{self.name}: kith {' '.join(map(str, arguments))}: {result.stderr.strip()}")
        return [json.loads(line) for line in result.stdout.splitlines()]

    def load(self, name, dim, path):
        self.kith("create", name, "--dim", dim, "--metric", "l2", "--shards", SHARDS)
        self.kith("load", name, path)
        deadline = time.monotonic() + SEALED_SECONDS
        while True:
            info = self.kith("describe", name)[0]
            if info["segments"] == info["segments_sealed"] > 0:
                return
            if time.monotonic() > deadline:
                fail(f"{self.name}: {name} is not sealed after {SEALED_SECONDS} s")
            time.sleep(0.2)

    def cpu_seconds(self):
        ticks = 0
        for node in self.nodes:
            fields = pathlib.Path(f"/proc/{node.process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def bench(self, name, queries, connections):
        before = self.cpu_seconds()
        report = self.kith("bench", name, "--queries", queries, "--k", self.options.k, "--seconds", self.options.seconds,
                           "--connections", connections)[0]
        used = self.cpu_seconds() - before
        return {"qps": report["qps"], "p50_us": 1000 * report["latency_ms"]["p50"],
                "p99_us": 1000 * report["latency_ms"]["p99"], "server_cpu_us": 1e6 * used / max(1, report["requests"])}


def first_rows(options):
    rows = options.dir / "base.fvecs"
    row_bytes = 4 + 4 * DIM
    with open(options.data / "base.fvecs", "rb") as whole, open(rows, "wb") as part:
        part.write(whole.read(options.rows * row_bytes))
    return rows


def few_points(options):
    """Two points a shard and more, of four dimensions: a search of them is all overhead."""
    points, query = options.dir / "few.jsonl", options.dir / "few.fvecs"
    points.write_text("".join(f'{{"id": {i}, "vector": [{i}, 2, 3, 4]}}\n' for i in range(8 * SHARDS)))
    query.write_bytes(struct.pack("<I4f", 4, 1, 2, 3, 4))
    return points, query


def conditions(options):
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    git = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True,
                         text=True)
    return {"date": datetime.date.today().isoformat(), "cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(),
            "commit": git.stdout.strip(), "dataset": "sift-1m", "rows": options.rows, "shards": SHARDS, "k": options.k,
            "seconds_each": options.seconds, "repeat": options.repeat, "node_busy_poll": options.busy_poll,
            "client": "on the same machine and cores, over loopback", "load_average_before": os.getloadavg()[0],
            "scheduler": SCHEDULERS.get(os.sched_getscheduler(0), "?")}


def measure(topologies, sets, options):
    """Rounds over all, so that what else the machine does meets each alike; a figure is the median of its rounds."""
    samples = {}
    for _ in range(options.repeat):
        for name, queries in sets:
            for connections in options.connections:
                for topology in topologies:
                    report = topology.bench(name, queries, connections)
                    samples.setdefault((name, connections, topology.name), []).append(report)
    rows = []
    for (name, connections, topology), reports in samples.items():
        row = {"set": name, "connections": connections, "topology": topology, "samples": reports}
        row.update({key: statistics.median(report[key] for report in reports) for key in reports[0]})
        rows.append(row)
    return rows


def compare(rows):
    """Medians of the differences within a round; and of the least disturbed rounds, for machines that do other things too."""
    for row in rows:
        alone = next(one for one in rows if (one["set"], one["connections"], one["topology"]) ==
                     (row["set"], row["connections"], "standalone"))
        pairs = list(zip(row["samples"], alone["samples"]))
        row["added_p50_us"] = statistics.median(one["p50_us"] - other["p50_us"] for one, other in pairs)
        row["p50_least_us"] = min(one["p50_us"] for one in row["samples"])
        row["added_p50_least_us"] = row["p50_least_us"] - min(one["p50_us"] for one in alone["samples"])
        row["qps_ratio"] = statistics.median(one["qps"] / other["qps"] for one, other in pairs)


def table(rows):
    lines = [f"{'set':<6} {'conn':>4}  {'topology':<14} {'queries/s':>10} {'of alone':>8} {'p50 us':>8} {'added':>7} "
             f"{'least':>8} {'added':>7} {'p99 us':>8} {'server CPU us':>13}"]
    for row in rows:
        lines.append(f"{row['set']:<6} {row['connections']:>4}  {row['topology']:<14} {row['qps']:>10,.0f} "
                     f"{row['qps_ratio']:>8.2f} {row['p50_us']:>8.0f} {row['added_p50_us']:>7.0f} "
                     f"{row['p50_least_us']:>8.0f} {row['added_p50_least_us']:>7.0f} {row['p99_us']:>8.0f} "
                     f"{row['server_cpu_us']:>13.0f}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/release/bin")
    parser.add_argument("--data", type=pathlib.Path, default=DATASETS / "sift-1m")
    parser.add_argument("--dir", type=pathlib.Path, default=ROOT / "build/bench-cluster", help="work folder")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1, help="each sample")
    parser.add_argument("--repeat", type=int, default=9, help="rounds")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--busy-poll", action="store_true", help="node_busy_poll on all nodes")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/bench-cluster.json")
    parser.add_argument("--record", action="store_true", help="keep the JSON as bench/baseline/cluster-DATE.json")
    options = parser.parse_args()
    for program in ("kithd", "kith"):
        if not (options.bin / program).exists():
            fail(f"{options.bin / program} is not there: cmake --preset release && cmake --build --preset release")
    if not (options.data / "base.fvecs").exists():
        fail(f"{options.data} has no base.fvecs: bench/datasets/make_sift.py makes it")
    shutil.rmtree(options.dir, ignore_errors=True)
    options.dir.mkdir(parents=True)
    result = {"conditions": conditions(options), "target_added_p50_us_of_2_nodes": TARGET_US}
    base, (few, few_query) = first_rows(options), few_points(options)
    topologies = [Topology(options, count) for count in [0, *options.nodes]]
    try:
        for topology in topologies:
            topology.start()
            topology.load("sift", DIM, base)
            topology.load("few", 4, few)
        rows = measure(topologies, [("few", few_query), ("sift", options.data / "queries.fvecs")], options)
    finally:
        for topology in topologies:
            topology.end()
    shutil.rmtree(options.dir, ignore_errors=True)
    compare(rows)
    result["conditions"]["load_average_after"] = os.getloadavg()[0]
    result["rows"] = rows
    if options.record:
        options.out = ROOT / "bench" / "baseline" / f"cluster-{result['conditions']['date']}.json"
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print("; ".join(f"{key} {value}" for key, value in result["conditions"].items()), end="\n\n")
    print(table(rows), end=f"\n\nall of it: {options.out}\n")


if __name__ == "__main__":
    main()
