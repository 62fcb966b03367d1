#!/usr/bin/env python3
"""See run.sh. Standard library only."""

import argparse
import datetime
import json
import os
import pathlib
import platform
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATASETS = pathlib.Path(os.environ.get("KITH_DATASETS_DIR", pathlib.Path.home() / ".cache" / "kith-datasets"))
DIM = 128
READY_SECONDS = 120
SEALED_SECONDS = 300


def fail(message):
    print(f"bench/served: {message}", file=sys.stderr)
    sys.exit(1)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    def __init__(self, bin_dir, folder):
        self.bin_dir, self.folder = bin_dir, folder
        self.grpc_port, self.http_port = free_port(), free_port()
        self.process = None

    def start(self):
        """Seconds until a search is answered, not only until the port is open."""
        began = time.monotonic()
        with open(self.folder / "kithd.log", "ab") as log:
            self.process = subprocess.Popen(
                [self.bin_dir / "kithd", "--role", "standalone", "--data-dir", self.folder / "data", "--grpc-port",
                 str(self.grpc_port), "--http-port", str(self.http_port), "--node-port", "0"], stdout=log, stderr=log)
        while time.monotonic() - began < READY_SECONDS:
            if self.process.poll() is not None:
                fail(f"kithd ended with {self.process.returncode}; its log is {self.folder / 'kithd.log'}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/readyz", timeout=1)
                return time.monotonic() - began
            except (OSError, urllib.error.URLError):
                time.sleep(0.005)
        fail(f"kithd is not ready after {READY_SECONDS} s; its log is {self.folder / 'kithd.log'}")

    def end(self, number):
        if self.process:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None

    def kith(self, *arguments):
        result = subprocess.run([self.bin_dir / "kith", *map(str, arguments), "--json", "--server",
                                 f"127.0.0.1:{self.grpc_port}"], capture_output=True, text=True)
        if result.returncode != 0:
            fail(f"kith {' '.join(map(str, arguments))} ended with {result.returncode}: {result.stderr.strip()}")
        return [json.loads(line) for line in result.stdout.splitlines()]

    def memory(self):
        """Bytes: what the process keeps for itself, and how much of mapped files is resident."""
        fields = {}
        for line in pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()[1:]:
            key, value = line.split(":")
            fields[key] = int(value.split()[0]) * 1024
        return {"anonymous": fields["Anonymous"], "mapped": fields["Rss"] - fields["Anonymous"], "rss": fields["Rss"]}


def first_rows(source, folder, rows):
    """The first rows of an fvecs file, in a file of their own unless that is all of it."""
    row_bytes = 4 + 4 * DIM
    if source.stat().st_size == rows * row_bytes:
        return source
    if source.stat().st_size < rows * row_bytes:
        fail(f"{source} has fewer than {rows} rows")
    made = folder / "base.fvecs"
    with open(source, "rb") as whole, open(made, "wb") as part:
        part.write(whole.read(rows * row_bytes))
    return made


def wait_sealed(server, name):
    began = time.monotonic()
    while time.monotonic() - began < SEALED_SECONDS:
        info = server.kith("describe", name)[0]
        if info["segments"] and info["segments"] == info["segments_sealed"]:
            return time.monotonic() - began, info
        time.sleep(0.25)
    fail(f"the last segment is not sealed after {SEALED_SECONDS} s")


def bench(server, name, queries, options, *more):
    return server.kith("bench", name, "--queries", queries, "--k", options.k, "--seconds", options.seconds, *more)[0]


def conditions(options):
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = int(next(line for line in open("/proc/meminfo") if line.startswith("MemTotal")).split()[1])
    git = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True)
    version = subprocess.run([options.bin / "kithd", "--version"], capture_output=True, text=True).stdout.strip()
    return {"date": datetime.date.today().isoformat(), "cpu": cpu, "cores": os.cpu_count(),
            "memory_gib": round(memory / (1 << 20), 1), "kernel": platform.release(), "commit": git.stdout.strip(),
            "version": version, "client": "on the same machine, over loopback", "dataset": "sift-1m", "rows": options.rows,
            "k": options.k, "seconds_each": options.seconds, "load_average": os.getloadavg()[0]}


def measure(server, options, folder, result):
    base = first_rows(options.data / "base.fvecs", folder, options.rows)
    queries = options.data / "queries.fvecs"
    truth = ["--groundtruth", options.data / "groundtruth.ivecs"] if options.rows == 1_000_000 else []
    result["start_empty_s"] = server.start()
    server.kith("create", "sift", "--dim", DIM, "--metric", "l2")
    result["load"] = server.kith("load", "sift", base)[0]
    result["seal_s"], info = wait_sealed(server, "sift")
    result["segments"] = info["segments"]

    result["search"] = {}
    for connections in (1, 16, 64):
        result["search"][str(connections)] = bench(server, "sift", queries, options, "--connections", connections, *truth)
    result["search_batch_64"] = bench(server, "sift", queries, options, "--batch", 64)
    result["memory"] = server.memory()
    raw = options.rows * DIM * 4
    result["memory"]["limit"] = int(1.15 * raw + 64 * options.rows)

    server.kith("create", "one", "--dim", 4, "--metric", "l2")
    one, query = folder / "one.jsonl", folder / "one.fvecs"
    one.write_text('{"id": 1, "vector": [1, 2, 3, 4]}\n')
    query.write_bytes(struct.pack("<I4f", 4, 1, 2, 3, 4))
    server.kith("load", "one", one)
    result["one_point"] = {}
    for connections, in_flight in ((1, 1), (64, 1), (16, 16)):
        report = server.kith("bench", "one", "--queries", query, "--k", 1, "--seconds", options.seconds, "--connections",
                             connections, "--in-flight", in_flight)[0]
        result["one_point"][f"{connections}x{in_flight}"] = report

    for how, number in (("restart_s", signal.SIGTERM), ("restart_after_kill_s", signal.SIGKILL)):
        server.end(number)
        began = time.monotonic()
        server.start()
        hits = server.kith("search", "sift", "--id", 7, "--k", 1)[0]["hits"]
        result[how] = time.monotonic() - began
        if hits[0]["id"] != 7 or server.kith("count", "sift")[0]["count"] != options.rows:
            fail("after a restart the collection is not what it was")


def table(result):
    mib = 1 << 20
    memory = result["memory"]
    rows = [("load, durable", f"{result['load']['points_per_second']:,} points/s", f"{result['load']['seconds']:.1f} s"),
            ("sealed after the load", f"{result['seal_s']:.1f} s", f"{result['segments']} segments")]
    for connections, report in result["search"].items():
        latency = report["latency_ms"]
        recall = "" if report["recall"] is None else f", recall {report['recall']:.4f}"
        rows.append((f"search, {connections} connection(s)", f"{report['qps']:,.0f} queries/s",
                     f"p50 {latency['p50']:.2f} p99 {latency['p99']:.2f} p99.9 {latency['p99.9']:.2f} ms{recall}"))
    report = result["search_batch_64"]
    rows.append(("search, 64 queries a call", f"{report['qps']:,.0f} queries/s", f"p50 {report['latency_ms']['p50']:.2f} ms"))
    for load, report in result["one_point"].items():
        connections, in_flight = load.split("x")
        rows.append((f"one point, {connections} connection(s), {in_flight} in flight on each", f"{report['requests_per_second']:,.0f} calls/s",
                     f"p50 {report['latency_ms']['p50']:.3f} p99 {report['latency_ms']['p99']:.3f} ms"))
    rows.append(("memory after sealing", f"{(memory['anonymous'] + memory['mapped']) / mib:,.0f} MiB",
                 f"anonymous {memory['anonymous'] / mib:,.0f} + mapped {memory['mapped'] / mib:,.0f}; "
                 f"1.15 x raw + 64 B a point is {memory['limit'] / mib:,.0f}"))
    rows.append(("restart until a search", f"{result['restart_s']:.2f} s", f"after kill -9: {result['restart_after_kill_s']:.2f} s"))
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return "\n".join(f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]}" for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/release/bin")
    parser.add_argument("--data", type=pathlib.Path, default=DATASETS / "sift-1m")
    parser.add_argument("--dir", type=pathlib.Path, default=ROOT / "build/bench-served", help="work folder, on a real disk")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/bench-served.json")
    options = parser.parse_args()
    for program in ("kithd", "kith"):
        if not (options.bin / program).exists():
            fail(f"{options.bin / program} is not there: cmake --preset release && cmake --build --preset release")
    if not (options.data / "base.fvecs").exists():
        fail(f"{options.data} has no base.fvecs: bench/datasets/make_sift.py makes it")
    shutil.rmtree(options.dir, ignore_errors=True)
    options.dir.mkdir(parents=True)
    server = Server(options.bin, options.dir)
    result = {"conditions": conditions(options)}
    try:
        measure(server, options, options.dir, result)
    finally:
        server.end(signal.SIGTERM)
    shutil.rmtree(options.dir, ignore_errors=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print("; ".join(f"{key} {value}" for key, value in result["conditions"].items()), end="\n\n")
    print(table(result), end=f"\n\nall of it: {options.out}\n")


if __name__ == "__main__":
    main()
