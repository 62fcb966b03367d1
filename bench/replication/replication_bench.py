"""See run.sh."""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "integration"), str(ROOT / "tests" / "cluster")]
from cluster import Cluster, Loop, retrying, until  # noqa: E402: after their folders are known
from history import AGAIN  # noqa: E402
from kithd import Kithd  # noqa: E402
from network import Network  # noqa: E402
import grpc  # noqa: E402

FAST = {"heartbeat_ms": 100, "heartbeat_timeout_ms": 400}
DIM = 128
BATCH = 500
AGAIN_S, AGAIN_RATE = 20, 40_000
WARMING = 20  # searches that touch the pages of segments for the first time
KILLS_A_CLUSTER = 10  # a node that keeps going down is believed up later and later, up to a minute: that is not what is measured


# All nodes in one session: Linux weighs sessions against each other first (autogroups) and threads by their nice values only within
# one, so that the background threads of one node would weigh as much as the searches of all others.
Kithd.own_session = False


def percentile(values, share):
    return float(np.percentile(values, share)) if values else float("nan")


def say(text):
    print(text, flush=True)


class Setting:
    """A cluster in a folder of its own, ended with the block."""

    def __init__(self, options, data=3, **config):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kith-bench-", dir=options.dir))
        self.network = Network() if options.link else None
        self.cluster = Cluster(options.bin, self.folder, coordinators=3, data=data, query=1, network=self.network, config=config)
        for host in self.network.hosts if self.network else []:
            host.limit(options.link)

    def __enter__(self):
        try:
            self.cluster.start()
        except BaseException:
            self.end()
            raise
        self.client = self.cluster.query[0].client(timeout=60)
        return self

    def __exit__(self, *_):
        self.client.close()
        self.end()

    def end(self):
        for node in self.cluster.nodes:
            node.kill()
        if self.network:
            self.network.delete()
        shutil.rmtree(self.folder, ignore_errors=True)

    def create(self, name, replicas, shards=1, dim=4):
        retrying(lambda: self.client.create(name, dim=dim, shards=shards, replication_factor=replicas))

    def primary(self, name):
        return self.cluster.holder(self.client.shards(name)[0].replicas[0].node)

    def all_in_sync(self, name):
        return all(replica.up and replica.in_sync for shard in self.client.shards(name) for replica in shard.replicas)

    def wait_in_sync(self, name, seconds=120):
        until(lambda: self.all_in_sync(name), seconds, lambda: str(self.client.shards(name)))


# --- pauses ---

def upsert_until_ok(client, name, number):
    request_id = client.request_id()
    row = np.full((1, 4), number % 1000, dtype="<f4")
    while True:
        try:
            return client.upsert(name, [number], row, request_id=request_id, timeout=5)
        except grpc.RpcError as error:
            if error.code() not in AGAIN:
                raise
        time.sleep(0.002)


def failover_some(options, kills, found):
    """Kills the primary so many times, in a new cluster."""
    with Setting(options, **(FAST if options.fast else {})) as made:
        made.create("c", 3)
        client = made.cluster.query[0].client()
        searcher = made.cluster.query[0].client()
        numbers = iter(range(1, 1 << 40))
        acknowledged = []

        def write():
            upsert_until_ok(client, "c", next(numbers))
            acknowledged.append(time.monotonic())

        def search():
            try:
                searcher.search_raw("c", np.zeros((1, 4)), 5, strict=True)
                found["searches"] += 1
            except grpc.RpcError as error:
                found["search_failures"].append(f"{error.code()} {error.details()}")
            time.sleep(0.01)

        with Loop(write) as writing, Loop(search):
            for _ in range(kills):
                made.wait_in_sync("c")
                writing.wait_laps(20)
                victim = made.primary("c")
                killed = time.monotonic()
                before = len(acknowledged)
                victim.kill()
                until(lambda: acknowledged[-1] > killed + 0.05, 60, "a write is acknowledged again")
                around = [when for when in acknowledged[max(0, before - 5):] if when]
                found["pauses"].append(max(b - a for a, b in zip(around, around[1:])))
                victim.start()
                say(f"kill {len(found['pauses'])} of {options.kills}: no write acknowledged for {found['pauses'][-1]:.2f} s")


def failover(options):
    found = {"pauses": [], "searches": 0, "search_failures": []}
    while len(found["pauses"]) < options.kills:
        failover_some(options, min(KILLS_A_CLUSTER, options.kills - len(found["pauses"])), found)
    pauses, failures = found["pauses"], found["search_failures"]
    return {"part": "failover", "profile": "fast" if options.fast else "default", "kills": len(pauses),
            "pause_s": {"p50": percentile(pauses, 50), "p99": percentile(pauses, 99), "max": max(pauses)},
            "all_pauses_s": [round(pause, 3) for pause in pauses],
            "searches": found["searches"], "failed_searches": len(failures), "why": failures[:3]}


# --- throughput ---

def sync_rate(folder, frame_bytes, seconds=2):
    """Group commits a second of this disk: append and fdatasync, one after the other."""
    path, count = pathlib.Path(folder) / "sync-rate", 0
    data = os.urandom(frame_bytes)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        os.write(descriptor, data)
        os.fdatasync(descriptor)
        count += 1
    os.close(descriptor)
    path.unlink()
    return count / seconds


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def usage(cluster):
    """CPU seconds by role so far, and what the logs of the data nodes have written."""
    return {"coordinators": sum(cpu_seconds(node.process.pid) for node in cluster.coordinators),
            "query": sum(cpu_seconds(node.process.pid) for node in cluster.query),
            "data": sum(cpu_seconds(node.process.pid) for node in cluster.data),
            "log_bytes": sum(node.metric("kith_log_bytes_total") for node in cluster.data),
            "log_syncs": sum(node.metric("kith_log_syncs_total") for node in cluster.data)}


def loaded_at(options, made, rows_file):
    """Loads the rows once: the rate of acknowledgements, and what it was made of."""
    before, began = usage(made.cluster), time.monotonic()
    client_before = os.times()
    subprocess.run([options.bin / "kith", "load", "c", rows_file, "--server", made.cluster.query[0].address], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds, client_after = time.monotonic() - began, os.times()
    assert made.client.count("c") == options.rows
    time.sleep(1.1)  # nodes carry their counters to /metrics once a second
    used = {key: value - before[key] for key, value in usage(made.cluster).items()}
    used["client"] = (client_after.children_user - client_before.children_user +
                      client_after.children_system - client_before.children_system)
    cpu = {role: 1e6 * used[role] / options.rows for role in ("client", "query", "data", "coordinators")}
    return {"points_per_s": options.rows / seconds, "mb_per_s": options.rows / seconds * DIM * 4 / 1e6,
            "cpu_us_per_point": cpu, "cpu_floor_points_per_s": os.cpu_count() * 1e6 / sum(cpu.values()),
            "log_mb_per_s": used["log_bytes"] / seconds / 1e6, "log_bytes_per_point": used["log_bytes"] / options.rows,
            "log_bytes_per_sync": used["log_bytes"] / used["log_syncs"]}


def throughput(options):
    """Beside the rate, its two floors on this machine: what the disk alone syncs in groups of the size that were written, and
    what the CPU time of a point leaves. All nodes and the client share the disk and the cores."""
    rows = np.random.default_rng(1).random((options.rows, DIM), dtype="<f4")
    result = {"part": "throughput", "rows": options.rows, "dim": DIM, "by_replicas": {}}
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        rows_file = pathlib.Path(folder) / "rows.npy"
        np.save(rows_file, rows)
        for replicas in (1, 2, 3):
            with Setting(options) as made:
                made.create("c", replicas, shards=3, dim=DIM)
                one = loaded_at(options, made, rows_file)
            group_bytes = int(one["log_bytes_per_sync"])
            one["disk_syncs_per_s"] = sync_rate(folder, group_bytes)
            one["disk_floor_points_per_s"] = one["disk_syncs_per_s"] * group_bytes / one["log_bytes_per_point"]
            result["by_replicas"][replicas] = one
            say(f"{replicas} replica(s): {one['points_per_s']:,.0f} points/s acknowledged, {one['mb_per_s']:.0f} MB/s of "
                f"vectors, {one['log_mb_per_s']:.0f} MB/s to logs in groups of {group_bytes >> 10} KiB; the disk alone "
                f"{one['disk_floor_points_per_s']:,.0f} points/s, the CPU {one['cpu_floor_points_per_s']:,.0f} "
                f"({', '.join(f'{role} {us:.1f}' for role, us in one['cpu_us_per_point'].items())} us a point)")
    return result


# --- durability ---

def one_at_a_time(client, name, numbers, seconds):
    """One writer, a point a call: how long each is waited for."""
    row, waits, ends = np.zeros((1, DIM), dtype="<f4"), [], time.monotonic() + seconds
    while time.monotonic() < ends:
        row[0, 0] = next(numbers)
        began = time.monotonic()
        client.upsert(name, [int(row[0, 0])], row)
        waits.append(time.monotonic() - began)
    return waits


def durability(options):
    """What a writer waits for with durability sync and async: three copies, in turns, so that what else the machine does meets both."""
    waits = {"sync": [], "async": []}
    with Setting(options) as made:
        for name, number in ("sync", 1), ("async", 2):
            retrying(lambda: made.client.create(name, dim=DIM, shards=1, replication_factor=3, min_in_sync=2, durability=number))
            made.wait_in_sync(name)
        numbers = iter(range(1 << 20))
        for _ in range(int(options.seconds)):
            for name, of_one in waits.items():
                of_one += one_at_a_time(made.client, name, numbers, 1)
        syncs = sync_rate(made.folder, 1 << 10)
    found = {name: {"p50": 1000 * percentile(of_one, 50), "p99": 1000 * percentile(of_one, 99), "count": len(of_one)}
             for name, of_one in waits.items()}
    say("; ".join(f"{name}: p50 {ms['p50']:.2f} ms, p99 {ms['p99']:.2f} of {ms['count']}" for name, ms in found.items()) +
        f"; the disk alone syncs 1 KiB in {1000 / syncs:.2f} ms")
    return {"part": "durability", "replicas": 3, "write_ms": found, "disk_sync_ms": 1000 / syncs}


# --- lag ---

def paced(client, name, rate, numbers):
    """A step that writes one batch, at so many points a second."""
    due = [time.monotonic()]

    def step():
        due[0] += BATCH / rate
        time.sleep(max(0, due[0] - time.monotonic()))
        first = next(numbers) * BATCH
        client.upsert_patiently(
            name, range(first, first + BATCH), np.random.default_rng(first).random((BATCH, DIM), dtype="<f4"))
    return step


def lag(options):
    seen = []
    with Setting(options) as made:
        made.create("c", 3, shards=3, dim=DIM)
        writer = made.cluster.query[0].client()
        began = time.monotonic()
        with Loop(paced(writer, "c", options.rate, iter(range(1 << 40)))) as writing:
            while time.monotonic() - began < options.seconds:
                time.sleep(0.05)
                for node in made.cluster.data:
                    seen.append(node.metric("kith_replica_lag_seconds_max") or node.metric("kith_replica_lag_seconds"))
            written = len(writing.laps) * BATCH / (time.monotonic() - began)
    return {"part": "lag", "points_per_s": written, "samples": len(seen),
            "lag_s": {"p50": percentile(seen, 50), "p99": percentile(seen, 99), "max": max(seen)}}


# --- catching up ---

def search_step(options, client, latencies, phase):
    """One search: in a closed loop, or due at a fixed rate and then measured from when it was due, so that a search that comes late
    because the one before took long counts as long as it made a user wait."""
    due, rng = [time.monotonic()], np.random.default_rng(2)

    def step():
        query = rng.random((1, DIM), dtype="<f4")
        if options.search_rate:
            due[0] += 1 / options.search_rate
            time.sleep(max(0, due[0] - time.monotonic()))
        began = due[0] if options.search_rate else time.monotonic()
        client.search_raw("c", query, 10)
        latencies[phase[0]].append(time.monotonic() - began)
    return step


def missed_write(client, seconds, rate, numbers):
    """What one that is away misses, at the given rate; the number of points."""
    writing = paced(client, "c", rate, numbers)
    began, batches = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        writing()
        batches += 1
    return batches * BATCH


def wait_quiet(nodes, seconds=300):
    """Until these have done next to nothing for three seconds: no seal, no merge, none of the store's own."""
    calm, used, deadline = 0, 0.0, time.monotonic() + seconds
    while calm < 3:
        before = sum(cpu_seconds(node.process.pid) for node in nodes)
        time.sleep(1)
        used = sum(cpu_seconds(node.process.pid) for node in nodes) - before
        calm = calm + 1 if used < 0.1 else 0
        if time.monotonic() > deadline:
            raise TimeoutError(f"the nodes still use {used:.2f} s of CPU a second after {seconds} s without writes")


def copied_bytes(node):
    """Of the shards whose copies were installed since its log began; 0 where the log reached back far enough."""
    return sum(int(found) for found in re.findall(r"event=replica_installed .*? bytes=(\d+)", node.log()))


def come_back(options, made, away_s, rate, numbers, latencies):
    """One node is away for so long and comes back. The disk is measured right before, and right after."""
    laps, phase = int(30 * options.search_rate) if options.search_rate else 400, ["warming"]
    victim, sources = made.cluster.data[-1], made.cluster.data[:-1]
    writer, searcher = made.cluster.query[0].client(), made.cluster.query[0].client()
    victim.kill()
    copied_before = copied_bytes(victim)
    missed_points = missed_write(writer, away_s, rate, numbers)
    until(lambda: made.client.describe("c").segments == made.client.describe("c").segments_sealed, 300, "sealed")
    wait_quiet(sources)
    disk_before = sync_rate(options.dir, 1 << 20) * (1 << 20) / 1e6
    say(f"{missed_points} points were missed")
    with Loop(search_step(options, searcher, latencies, phase)) as loop:
        loop.wait_laps(WARMING)
        phase[0] = "before"
        loop.wait_laps(laps)
        phase[0] = "during"
        sources_before = [cpu_seconds(node.process.pid) for node in sources]
        began = time.monotonic()
        victim.start()
        made.wait_in_sync("c", 600)
        seconds = time.monotonic() - began
        cpu = {"of_the_one_that_comes_back": cpu_seconds(victim.process.pid),
               "of_the_others": sum(cpu_seconds(node.process.pid) for node in sources) - sum(sources_before)}
        phase[0] = "after"
        loop.wait_laps(laps)
    writer.close()
    searcher.close()
    disk_after = sync_rate(options.dir, 1 << 20) * (1 << 20) / 1e6
    copied, disk = (copied_bytes(victim) - copied_before) / 1e6, (disk_before + disk_after) / 2
    link = options.link / 8 if options.link else float("inf")
    what, bound = ("disk", disk) if disk < link else ("link", link)
    say(f"{copied:.0f} MB copied in {seconds:.1f} s: {copied / seconds:.0f} MB/s, {100 * copied / seconds / bound:.0f} % "
        f"of the {what}'s {bound:.0f}; CPU {cpu['of_the_one_that_comes_back']:.1f} s there, {cpu['of_the_others']:.1f} s in the others")
    return {"away_s": away_s, "missed_points": missed_points, "missed_mb": missed_points * DIM * 4 / 1e6, "copied_mb": copied,
            "seconds": seconds, "copied_mb_per_s": copied / seconds, "disk_mb_per_s": {"before": disk_before, "after": disk_after},
            "share_of_the_disk": copied / seconds / disk, "share_of_the_link": copied / seconds / link, "cpu_s": cpu, "load_average": os.getloadavg()[0]}


def catchup(options):
    """Once after --seconds away, then again after twenty seconds of as much as is taken, which is more than logs keep: searches are
    too few in one return for a p99."""
    latencies = {"warming": [], "before": [], "during": [], "after": []}
    numbers = iter(range(1 << 40))
    with Setting(options) as made:
        made.create("c", 3, shards=3, dim=DIM)
        away = [(options.seconds, options.rate)] + [(AGAIN_S, AGAIN_RATE)] * (options.returns - 1)
        returns = [come_back(options, made, away_s, rate, numbers, latencies) for away_s, rate in away]
    search_ms = {when: {"p50": 1000 * percentile(all_of, 50), "p99": 1000 * percentile(all_of, 99), "count": len(all_of)}
                 for when, all_of in latencies.items()}
    quiet = 1000 * percentile(latencies["before"] + latencies["after"], 99)
    load = f"{options.search_rate:g} searches/s" if options.search_rate else "searches one after the other"
    say(f"{load}: " + ", ".join(f"{when} p50 {ms['p50']:.1f} p99 {ms['p99']:.1f} ms of {ms['count']}" for when, ms in search_ms.items()))
    return {"part": "catchup", "returns": returns, "searches_per_s": options.search_rate or "closed loop", "search_ms": search_ms,
            "p99_during_to_quiet": search_ms["during"]["p99"] / quiet}


PARTS = {"failover": failover, "throughput": throughput, "durability": durability, "lag": lag, "catchup": catchup}


def conditions(options):
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    git = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True,
                         text=True)
    return {"date": datetime.date.today().isoformat(), "cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(),
            "commit": git.stdout.strip(), "load_average_before": os.getloadavg()[0],
            "cluster": "3 coordinators, 3 data nodes, 1 query node and the client on the same cores, over "
                       + (f"links of {options.link} Mbit/s" if options.link else "loopback")}


def main():
    parser = argparse.ArgumentParser(prog="bench/replication/run.sh", description="Measures replication; see run.sh.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/release/bin")
    parser.add_argument("--dir", type=pathlib.Path, default=ROOT / "build", help="where the clusters' folders go")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rate", type=float, default=20_000, help="points a second while the lag is measured, or one is away")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--search-rate", type=float, default=5,
                        help="searches a second while one comes back, whatever the last one took; 0: one after the other")
    parser.add_argument("--link", type=int, metavar="MBIT", help="a host and a link of so many Mbit/s for every node")
    parser.add_argument("--returns", type=int, default=1, help="how often one is away and comes back")
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"there is no part '{part}'; there are: {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are ended, too
    report = {"conditions": conditions(options), "results": []}
    for part in options.parts or PARTS:
        result = PARTS[part](options)
        report["results"].append(result)
        say(json.dumps(result))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
