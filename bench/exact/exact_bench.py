#!/usr/bin/env python3
"""Exact search, side by side with FAISS in one run: bench/run.sh exact.

kith is a shard on disk (bench_exact); FAISS is IndexFlatL2 or IndexFlatIP of the newest faiss-cpu, on as many threads, with
each setting that may be its best. Their searches alternate, and a ratio is that of the medians: other work on the machine
then slows both. "By CPU" is the ratio by seconds of CPU, which other work disturbs least (and in which FAISS's threads pay
for waiting for each other). Answers are compared with a float64 brute force. The shares, also by seconds of CPU, are those of
the read bandwidth (batch 1) and of the multiply-adds (large batches) that as many threads reach on this machine, measured in
the same run; the JSON has them by the clock too.

Data sets that are not there are made first (sift-1m: 5 minutes; debian-text-384: about 50). A run takes about half
an hour and 2 GB of memory; --sets sift-1m --rows 100000 --repeat 1 --seconds 0.1 gives a first idea in a minute.

exit codes: 0 done, 1 something is missing or failed (said in one sentence), 2 wrong command line, 3 an answer differs
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys

import exact_data
from exact_data import common

ROOT = exact_data.ROOT
HERE = pathlib.Path(__file__).resolve().parent

# The newest faiss-cpu on PyPI on 2026-11-21; it imports packaging.
REQUIREMENTS = ("numpy==2.2.6", "faiss-cpu==1.15.1", "packaging==25.0")

BATCHES = (1, 32, 1024)
KS = (10, 100)
CALLS_MAX = 2000
QUALIFIED = 0.7             # of the fastest setting's speed in one search: these alternate with kith
BLAS_FROM_LOW = 8           # queries from which BLAS is tried, beside FAISS's own choice
INTEGER_BATCH_LEAST = 1024  # from here on arithmetic, not memory, is the limit
# OpenBLAS may not know a newer processor and then use kernels for a far older one.
BLAS_CORE_AVX512 = "SkylakeX"


# ---- processes that search ------------------------------------------------------------------------------------------

class Process:
    """A child that answers each line with one line of JSON."""

    def __init__(self, name, arguments, environment):
        self.name = name
        self.child = subprocess.Popen([str(argument) for argument in arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                      env={**os.environ, **environment})

    def ask(self, line):
        try:
            self.child.stdin.write(line + "\n")
            self.child.stdin.flush()
            answer = self.child.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise common.DatasetError(f"{self.name} ended with {self.child.wait()} at '{line}'; its message is above")
        return json.loads(answer)

    def end(self):
        """Closing its input ends it."""
        if self.child.stdin.closed:
            return
        try:
            self.child.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.child.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Kith:
    def __init__(self, options, base, queries, metric, folder):
        self.name = "kith"
        self.process = Process("bench_exact", [
            options.bin / "bench_exact", "--base", base.spec(), "--rows", base.count, "--queries", queries.spec(), "--query-count",
            queries.count, "--dim", base.dim, "--metric", metric], {"TMPDIR": str(folder)})

    def search(self, first, batch, k, count):
        return self.process.ask(f"search {first} {batch} {k} {count}")

    def hits(self, batch, k, count, folder):
        import numpy
        path = folder / "hits"
        self.process.ask(f"hits 0 {batch} {k} {count} {path}")
        record = numpy.dtype([("ids", "<u8", k), ("closeness", "<f8", k)])
        return numpy.fromfile(path, record)["ids"].astype(numpy.int64)  # none: -1


class Faiss:
    """One setting of FAISS; settings that differ by BLAS threshold or threads share a process."""

    def __init__(self, name, process, threads, blas_from=None):
        self.name, self.process, self.threads, self.blas_from = name, process, threads, blas_from

    def ask(self, what, first, batch, k, count, **more):
        return self.process.ask(json.dumps(
            {"do": what, "first": first, "batch": batch, "k": k, "count": count, "threads": self.threads, "blas_from": self.blas_from, **more}))

    def search(self, first, batch, k, count):
        return self.ask("search", first, batch, k, count)

    def hits(self, batch, k, count, folder):
        import numpy
        path = folder / "faiss-hits.npy"
        self.ask("hits", 0, batch, k, count, file=str(path))
        return numpy.load(path)


def faiss_process(base, queries, metric, threads, environment):
    threads_named = {variable: str(threads) for variable in common.THREAD_VARIABLES}
    return Process("exact_faiss.py", [
        sys.executable, HERE / "exact_faiss.py", base.spec(), base.count, queries.spec(), queries.count, base.dim,
        "l2" if metric == "l2" else "ip"], {**threads_named, **environment})


def has_avx512():
    with open("/proc/cpuinfo") as file:
        return any(line.startswith("flags") and " avx512f " in line + " " for line in file)


def faiss_settings(base, queries, metric, threads):
    """FAISS with each setting that may be its best."""
    low = f"BLAS from {BLAS_FROM_LOW} queries"
    settings = []

    def add(name, environment):
        process = faiss_process(base, queries, metric, threads, environment)
        settings.append(Faiss(name, process, threads))
        settings.append(Faiss(f"{name}, {low}", process, threads, BLAS_FROM_LOW))
        return process

    about = add("as it comes", {}).ask('{"do": "about"}')
    if threads > 1:
        # Threads that wait by turning round and round harm each other where the cores have other work too; and one
        # query may be faster on one thread.
        process = add("OMP_WAIT_POLICY=passive", {"OMP_WAIT_POLICY": "passive"})
        settings.append(Faiss("1 thread", process, 1))
    if has_avx512() and about["blas"] not in (None, BLAS_CORE_AVX512, "Cooperlake", "SapphireRapids"):
        add(f"OPENBLAS_CORETYPE={BLAS_CORE_AVX512}", {"OPENBLAS_CORETYPE": BLAS_CORE_AVX512, "OMP_WAIT_POLICY": "passive"})
    return settings, about


# ---- measuring ------------------------------------------------------------------------------------------------------

def qualify(peers, batch, k):
    """Those that may be the fastest, by one search each after one that warms up; and {name: queries a second} of all."""
    rates = {}
    for peer in peers:
        peer.search(0, batch, k, 1)
        rates[peer.name] = batch / peer.search(0, batch, k, 1)["seconds"]
    best = max(rates.values())
    return [peer for peer in peers if rates[peer.name] >= QUALIFIED * best], rates


def measure_alternating(searchers, query_count, batch, k, options):
    """{name: the answers of each repeat, with their number of queries}."""
    calls, answers = {}, {searcher.name: [] for searcher in searchers}
    for searcher in searchers:
        seconds = searcher.search(0, batch, k, 1)["seconds"]
        calls[searcher.name] = max(1, min(CALLS_MAX, math.ceil(options.seconds / max(seconds, 1e-6))))
    for repeat in range(options.repeat):
        # All begin at the same query; each repeat at another.
        first = repeat * 7919 * batch % query_count
        for searcher in searchers:
            answer = searcher.search(first, batch, k, calls[searcher.name])
            answers[searcher.name].append({**answer, "queries": calls[searcher.name] * batch})
    return answers


def measure_with_best_peer(kith, peers, query_count, batch, k, options):
    """The answers of kith and the peers that alternate with it; {name: queries a second} of the slower ones."""
    chosen, first_rates = qualify(peers, batch, k)
    while True:
        answers = measure_alternating([kith, *chosen], query_count, batch, k, options)
        rates = rates_of(answers, "seconds")
        best = max(statistics.median(rates[peer.name]) for peer in chosen)
        slower = {peer.name: first_rates[peer.name] for peer in peers if peer not in chosen}
        # One search may have met a quiet moment, and so another setting be left out that is faster in the median.
        missed = [peer for peer in peers if slower.get(peer.name, 0) > best]
        if not missed:
            return answers, slower
        chosen += missed


def rates_of(answers, clock):
    """{name: queries a second of each repeat} by one of the clocks."""
    return {name: [answer["queries"] / max(answer[clock], 1e-6) for answer in own] for name, own in answers.items()}


def shares(row, rate, ceilings, opened):
    """What parts of the ceilings `rate` queries a second are; None where another thing is the limit."""
    read = integer = f32 = None
    if row["batch"] == 1:
        read = rate * opened["scan_bytes"] / ceilings["read_bytes_per_s"]
    if row["batch"] >= INTEGER_BATCH_LEAST and opened["code_multiplications"]:
        # A query's levels are wider than 8 bits: two planes where factors are bytes (kernels/codes/codes.h).
        operations = opened["code_multiplications"] * (4 if ceilings["integer_bits"] == 8 else 2)
        integer = rate * operations / ceilings["integer_ops_per_s"] if ceilings["integer_ops_per_s"] else None
    elif row["batch"] >= INTEGER_BATCH_LEAST:
        f32 = rate * 2 * row["rows"] * row["dim"] / ceilings["f32_ops_per_s"]
    return {"read_share": read, "integer_share": integer, "f32_share": f32}


def measure_speed(row, kith, peers, context, options):
    """Fills in the speeds; returns the peer at its best."""
    answers, slower = measure_with_best_peer(kith, peers, context["query_count"], row["batch"], row["k"], options)
    chosen = [peer for peer in peers if peer.name in answers]
    rates, cpu_rates = rates_of(answers, "seconds"), rates_of(answers, "cpu_seconds")
    medians = {name: statistics.median(values) for name, values in rates.items()}
    cpu_medians = {name: statistics.median(values) for name, values in cpu_rates.items()}
    best = max(chosen, key=lambda peer: medians[peer.name])
    row.update(kith_qps=medians["kith"], peer=f"faiss-cpu {context['faiss']['version']}, {best.name}", peer_qps=medians[best.name],
               ratio=medians["kith"] / medians[best.name], cpu_ratio=cpu_medians["kith"] / max(cpu_medians[peer.name] for peer in chosen),
               samples=rates, cpu_samples=cpu_rates, slower_peers=slower)

    counted = {key: sum(answer[key] for answer in answers["kith"]) for key in answers["kith"][0]}
    survivors = counted["code_survivors"] if counted.get("rows_coded") else counted["rows_rescored"]
    row.update(survivors=survivors / counted["queries"], rescored=counted["rows_rescored"] / counted["queries"],
               wide_scans=counted["wide_scans"])
    row.update(shares(row, row["kith_qps"], context["ceilings"], context["opened"]))
    # A ceiling is what threads do that nothing interrupts.
    row["by_cpu"] = shares(row, cpu_medians["kith"] * row["threads"], context["ceilings"], context["opened"])
    return best


def measure_row(row, kith, peers, oracle, context, options):
    import exact_oracle
    batch, k = row["batch"], row["k"]
    best = measure_speed(row, kith, peers, context, options)
    asked = len(oracle.queries)
    calls = math.ceil(asked / batch)
    answer = exact_oracle.compare(oracle, kith.hits(batch, k, calls, context["folder"])[:asked], k)
    row.update(identical=answer.identical, oracle_queries=asked, ties=answer.ties, differences=answer.differences,
               peer_recall=exact_oracle.recall(oracle, best.hits(batch, k, calls, context["folder"])[:asked], k),
               load_average=os.getloadavg()[0])


def better(ceilings, again):
    """Each figure at its best of two measurements; names as they are."""
    return {key: max(value, again[key]) if isinstance(value, float | int) else value for key, value in ceilings.items()}


def measure_threads(name, metric, threads, kith, vectors, oracle, options, result):
    base, queries = vectors
    opened = kith.process.ask(f"open {threads}")
    if opened["rows"] != base.count:
        raise common.DatasetError(f"{opened['rows']} of {base.count} rows are sealed")
    ceilings = better(kith.process.ask(f"ceilings {threads}"), kith.process.ask(f"ceilings {threads}"))
    peers, about = faiss_settings(base, queries, metric, threads)
    try:
        context = {"query_count": queries.count, "faiss": about, "ceilings": ceilings, "opened": opened, "folder": options.dir}
        result["ceilings"].append({"dataset": name, "threads": threads, **ceilings})
        result["shards"].append({"dataset": name, "metric": metric, "threads": threads, **opened})
        result["faiss"] = about
        print(f"\n{name}, {metric}, {base.count:,} x {base.dim}, {threads} thread(s), kith {opened['backend']}, {opened['segments']} segment(s); "
              f"reads {ceilings['read_bytes_per_s'] / 1e9:.1f} GB/s, f32 {ceilings['f32_ops_per_s'] / 1e9:.0f} GFLOP/s, "
              f"{ceilings['integer_instruction']} {ceilings['integer_ops_per_s'] / 1e9:.0f} G/s; FAISS {about['version']} ({about['options']}), "
              f"OpenBLAS for {about['blas']}", flush=True)
        print(TABLE_HEAD, flush=True)
        for batch in options.batches:
            for k in options.ks:
                row = {"dataset": name, "metric": metric, "rows": base.count, "dim": base.dim, "threads": threads, "batch": batch, "k": k}
                measure_row(row, kith, peers, oracle, context, options)
                result["rows"].append(row)
                common.write_json(options.out, result)  # what is measured is kept when the run is interrupted
                print(table_row(row), flush=True)
    finally:
        for process in {peer.process for peer in peers}:
            process.end()


def measure_set(name, options, result):
    import exact_oracle
    base, queries = vectors = exact_data.open_set(name, options.rows)
    for metric in options.metrics or exact_data.SOURCES[name].metrics[:1]:
        if metric not in exact_data.SOURCES[name].metrics:
            continue
        print(f"\n{name}: float64 brute force of {min(options.oracle, queries.count)} queries by {metric}", flush=True)
        oracle = exact_oracle.Oracle(base.view(), queries.view()[:options.oracle], metric, max(options.ks))
        print(f"{name}: loading a shard", flush=True)
        kith = Kith(options, base, queries, metric, options.dir)
        try:
            for threads in options.threads:
                measure_threads(name, metric, threads, kith, vectors, oracle, options, result)
        finally:
            kith.process.end()


# ---- printing -------------------------------------------------------------------------------------------------------

TABLE_HEAD = (f"{'batch':>5} {'k':>4} {'kith q/s':>10} {'FAISS q/s':>10} {'ratio':>6} {'by CPU':>6}  {'identical':<10} {'ties':>4} {'FAISS recall':>12} "
              f"{'survivors':>9} {'of read':>7} {'of int':>6} {'of f32':>6} {'load':>5}  FAISS at its best; others")


def percent(share):
    return "" if share is None else f"{100 * share:.0f}%"


def table_row(row):
    best = row["peer"].split(", ", 1)[1]
    others = {name: statistics.median(values) for name, values in row["samples"].items() if name not in ("kith", best)}
    others = ", ".join(f"{name} {rate:.0f}" for name, rate in {**others, **row["slower_peers"]}.items())
    return (f"{row['batch']:>5} {row['k']:>4} {row['kith_qps']:>10.1f} {row['peer_qps']:>10.1f} {row['ratio']:>6.2f} {row['cpu_ratio']:>6.2f}  "
            f"{'yes' if row['identical'] else 'NO':<10} {len(row['ties']):>4} {row['peer_recall']:>12.4f} {row['survivors']:>9.0f} "
            f"{percent(row['by_cpu']['read_share']):>7} {percent(row['by_cpu']['integer_share']):>6} {percent(row['by_cpu']['f32_share']):>6} {row['load_average']:>5.1f}  "
            f"{best}; {others}")


def conditions(options):
    with open("/proc/cpuinfo") as file:
        cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "?")
    with open("/proc/meminfo") as file:
        memory = int(next(line for line in file if line.startswith("MemTotal")).split()[1])
    git = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True)
    return {"date": datetime.date.today().isoformat(), "cpu": cpu, "cores": os.cpu_count(), "memory_gib": round(memory / (1 << 20), 1),
            "kernel": platform.release(), "commit": git.stdout.strip(), "repeats": options.repeat, "seconds_each": options.seconds,
            "load_average_before": os.getloadavg()[0]}


def numbers(least, most):
    def parse(text):
        values = [int(part) for part in text.split(",")]
        if not all(least <= value <= most for value in values):
            raise ValueError
        return values
    parse.__name__ = f"list of numbers in {least}..{most}"  # argparse's message: "invalid ... value"
    return parse


def options_parse():
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="bench/run.sh exact", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=lambda text: pathlib.Path(text).absolute(), default=ROOT / "build/release/bin", help="folder of bench_exact")
    parser.add_argument("--sets", type=lambda text: text.split(","), default=list(exact_data.SOURCES), help=f"of {','.join(exact_data.SOURCES)}")
    parser.add_argument("--metrics", type=lambda text: text.split(","), help="of l2,cosine,ip; each set has its own as default")
    parser.add_argument("--threads", type=numbers(1, 256), default=[1, 2] if cores > 1 else [1], help="numbers of threads (default 1,2)")
    parser.add_argument("--batches", type=numbers(1, 16384), default=list(BATCHES), help="queries a search (default 1,32,1024)")
    parser.add_argument("--ks", type=numbers(1, 16384), default=list(KS), help="default 10,100")
    parser.add_argument("--rows", type=int, default=1 << 32, help="only so many of each set's first rows")
    parser.add_argument("--repeat", type=int, default=5, help="alternations; a figure is the median of so many (default 5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="each of them takes at least this long (default 0.5)")
    parser.add_argument("--oracle", type=int, default=200, help="queries compared with the brute force (default 200)")
    parser.add_argument("--dir", type=lambda text: pathlib.Path(text).absolute(), default=ROOT / "build/bench-exact", help="work folder, on a real disk")
    parser.add_argument("--out", type=lambda text: pathlib.Path(text).absolute(), default=ROOT / "build/bench-exact.json")
    parser.add_argument("--record", action="store_true", help="keep the result as bench/baseline/exact-<date>.json too")
    options = parser.parse_args()
    for name in options.sets:
        if name not in exact_data.SOURCES:
            parser.error(f"--sets: {name} is none of {', '.join(exact_data.SOURCES)}")
    for metric in options.metrics or ():
        if metric not in ("l2", "cosine", "ip"):
            parser.error(f"--metrics: {metric} is none of l2, cosine, ip")
    if min(options.repeat, options.oracle, options.rows) < 1:
        parser.error("--repeat, --oracle and --rows are at least 1")
    return options


def main():
    options = options_parse()
    if not (options.bin / "bench_exact").exists():
        raise common.DatasetError(f"{options.bin / 'bench_exact'} is not there: "
                                  "cmake --preset release && cmake --build --preset release --target bench_exact")
    exact_data.make_missing(options.sets)
    common.enter_venv(REQUIREMENTS, len(os.sched_getaffinity(0)))
    shutil.rmtree(options.dir, ignore_errors=True)
    options.dir.mkdir(parents=True)
    result = {"conditions": conditions(options), "ceilings": [], "shards": [], "rows": []}
    print("; ".join(f"{key} {value}" for key, value in result["conditions"].items()), flush=True)
    try:
        for name in options.sets:
            measure_set(name, options, result)
    finally:
        shutil.rmtree(options.dir, ignore_errors=True)
    result["conditions"]["load_average_after"] = os.getloadavg()[0]
    common.write_json(options.out, result)
    print(f"\nall of it: {options.out}")
    if options.record:
        recorded = ROOT / "bench" / "baseline" / f"exact-{result['conditions']['date']}.json"
        common.write_json(recorded, result)
        print(f"recorded: {recorded}")
    if not all(row["identical"] for row in result["rows"]):
        raise common.DatasetError("an answer differs from the float64 brute force: 'differences' in the JSON lists where", common.EXIT_MISMATCH)


if __name__ == "__main__":
    common.run_main(main)
