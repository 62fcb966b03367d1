"""A data node that lacks more than the logs of the others keep: its shards are replaced by copies, whenever it is killed."""

import random
import re
import time

import numpy as np

from cluster import retrying, until

ROWS, DIM, SHARDS, BATCH = 40_000, 128, 4, 1000
KILLS = 4
# Logs keep nothing that is sealed, and what is written is sealed soon.
FORGETFUL = {"log_retain_bytes": 0, "log_file_bytes": 64 << 10, "segment_seal_bytes": 2 << 20, "segment_seal_idle_ms": 200,
             "replica_compare_ms": 500}


def write(client, rows, first):
    for at in range(first, len(rows), BATCH):
        ids = range(at, min(at + BATCH, len(rows)))
        request_id = client.request_id()
        retrying(lambda: client.upsert("c", ids, rows[at:at + BATCH], request_id=request_id), seconds=120)


def in_sync(client, count):
    return all(sum(replica.in_sync and replica.up for replica in shard.replicas) >= count for shard in client.shards("c"))


def sealed(client):
    described = client.describe("c")
    return described.segments == described.segments_sealed


def answers(client, queries):
    return [(ids, scores.tolist()) for ids, scores in retrying(lambda: client.search("c", queries, 10, strict=True))]


def test_one_that_was_away_too_long_is_copied_though_it_is_killed_meanwhile(cluster, seed):
    made = cluster(coordinators=3, data=3, query=1, config=FORGETFUL)
    chance, rows = random.Random(seed), np.random.default_rng(seed).random((ROWS, DIM), dtype="<f4")
    victim = made.data[-1]
    with made.query[0].client(timeout=60) as client:
        retrying(lambda: client.create("c", dim=DIM, shards=SHARDS, replication_factor=3, min_in_sync=2))
        write(client, 1 - rows[:4 * BATCH], 0)  # the victim's old content, all of which is replaced
        until(lambda: in_sync(client, 3), 60, lambda: str(client.shards("c")))
        victim.kill()
        write(client, rows, 0)
        until(lambda: sealed(client), 120, lambda: str(client.describe("c")))
        write(client, rows[:BATCH], 0)  # so that log files before it go
        until(lambda: sealed(client), 120, lambda: str(client.describe("c")))
        wanted = answers(client, rows[::4001])
        for _ in range(KILLS):
            begun = victim.log().count("event=replica_replaced")
            victim.start()
            until(lambda: victim.log().count("event=replica_replaced") > begun or in_sync(client, 3), 60, victim.log_tail)
            time.sleep(chance.uniform(0, 0.3))
            victim.kill()
        victim.start()
        until(lambda: in_sync(client, 3), 120, lambda: str(client.shards("c")))
        # A kill may come between the last byte of a copy and the line that says so: the next start opens it.
        assert len(set(re.findall(r"event=replica_replaced shard=(\d+)", victim.log()))) == SHARDS
        assert client.count("c") == ROWS
        for other in made.data[:-1]:  # then it alone answers
            other.stop()
        assert answers(client, rows[::4001]) == wanted
        assert client.count("c") == ROWS
        assert victim.metric("kith_replica_differences_total") == 0
