#!/usr/bin/env python3
"""Echo between two processes of this machine over different carriers, side by side: bench/run.sh transport.

Carriers: tcp (plain sockets, the floor), ucx (the transport between nodes), ucx+mac (the same with certificates, every frame
signed), ucx busy (both I/O threads never sleep; one in flight, as it is for latency), grpc (unary calls, C core, no TLS). They alternate, round by round, and what
is shown is the median of the rounds: other work on the machine then slows all. cpu_us is the CPU of both processes for one
message there and back, which other work disturbs least. No carrier uses more than one connection.

exit codes: 0 done, 1 something is missing or failed, 2 wrong command line
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHAPES = [(1024, 1), (1024, 16), (1 << 20, 1), (1 << 20, 16)]
FIGURES = ["p50_us", "p99_us", "messages_per_s", "cpu_us"]


def fail(text):
    sys.exit(f"transport_bench: {text}")


def options_read():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/release/bin")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path, help="where the JSON goes")
    parser.add_argument("--record", action="store_true", help="keep it under bench/baseline")
    return parser.parse_args()


def certificates_make(program, folder):
    """A CA and a certificate for any node, by the product's own functions."""
    subprocess.run([program, "certificates", "--credentials", folder], check=True)


def measure(program, arguments, shape, seconds):
    command = [program, *arguments, "--bytes", str(shape[0]), "--in-flight", str(shape[1]), "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + 10 * seconds)
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def rounds_run(program, carriers, options):
    samples = {(name, shape): [] for shape in SHAPES for name in carriers if name != "ucx busy" or shape[1] == 1}
    for number in range(options.rounds):
        for (name, shape), found in samples.items():
            found.append(measure(program, carriers[name], shape, options.seconds))
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    return samples


def row_of(name, shape, samples):
    row = {"carrier": name, "bytes": shape[0], "in_flight": shape[1]}
    row |= {figure: statistics.median(sample[figure] for sample in samples) for figure in FIGURES}
    return row | {"samples": samples}


def table_print(rows):
    print(f"{'bytes':>8} {'in flight':>9}  {'carrier':10} {'p50 us':>9} {'p99 us':>9} {'messages/s':>11} {'cpu us':>8}")
    for row in rows:
        print(f"{row['bytes']:>8} {row['in_flight']:>9}  {row['carrier']:10} {row['p50_us']:>9.1f} {row['p99_us']:>9.1f} "
              f"{row['messages_per_s']:>11.0f} {row['cpu_us']:>8.1f}")


def processor_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def conditions(options, load_before):
    git = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {
        "date": datetime.date.today().isoformat(), "commit": git.stdout.strip(), "processor": processor_name(),
        "cores": os.cpu_count(), "kernel": platform.release(), "seconds": options.seconds, "rounds": options.rounds,
        "load_average_before": load_before, "load_average_after": os.getloadavg(),
    }


def main():
    options = options_read()
    program = options.bin / "bench_transport"
    if not program.exists():
        fail(f"{program} is not there: cmake --preset release && cmake --build --preset release --target bench_transport")
    load_before = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        certificates_make(program, folder)
        carriers = {"tcp": ["tcp"], "ucx": ["ucx"], "ucx+mac": ["ucx", "--credentials", folder],
                    "ucx busy": ["ucx", "--busy-poll"], "grpc": ["grpc"]}
        samples = rounds_run(program, carriers, options)
    rows = [row_of(name, shape, found) for (name, shape), found in samples.items()]
    table_print(rows)
    result = {"conditions": conditions(options, load_before), "rows": rows}
    out = options.out
    if options.record:
        out = ROOT / f"bench/baseline/transport-{result['conditions']['date']}.json"
    if out:
        out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written: {out}")


if __name__ == "__main__":
    main()
