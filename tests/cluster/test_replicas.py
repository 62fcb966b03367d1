"""Shards with replicas, while data nodes and coordinators are killed, stand still and are cut off at random: no acknowledged
write is lost, nothing shows that was never written, reads agree with real time, and searches do not fail."""

import contextlib
import random
import time

import grpc
import numpy as np
import pytest

from cluster import Loop, retrying, until
from history import READ_SECONDS, History
from kith_client import collections, id_list, points, types

KEYS, SHARDS, WRITERS = 120, 4, 4
SECONDS = 25  # of faults, where it is not for the record
STOP_SECONDS = 10  # the machine may be busy


def make(cluster, network_of_all, replicas=3, minimum=2, durability=collections.DURABILITY_SYNC, **config):
    made = cluster(coordinators=3, data=4, query=2, network=network_of_all,
                   config={"replica_compare_ms": 500, **config})
    with made.query[0].client() as client:
        retrying(lambda: client.create("c", dim=2, shards=SHARDS, replication_factor=replicas, min_in_sync=minimum,
                                       durability=durability))
    return made


class Faults:
    """Breaks and mends nodes at random, never more than `most` data nodes and one coordinator at once."""

    def __init__(self, made, seed, most=1):
        self.made, self.chance, self.most = made, random.Random(seed), most
        self.broken = {}  # node -> (when to mend it, how)
        self.kills = self.partitions = self.freezes = 0

    def choose(self):
        coordinators = [node for node in self.broken if node in self.made.coordinators]
        data = [node for node in self.broken if node in self.made.data]
        free = [node for node in self.made.data if len(data) < self.most and node not in self.broken]
        if not coordinators and self.chance.random() < 0.2:
            free = list(self.made.coordinators)
        return self.chance.choice(free) if free else None

    def break_one(self):
        node = self.choose()
        if node is None:
            return
        kind = self.chance.random()
        if kind < 0.75:
            node.kill()
            self.kills += 1
            mend = node.start
        elif kind < 0.85:
            node.freeze()
            self.freezes += 1
            mend = node.thaw
        else:
            one_way = self.chance.random() < 0.5
            (node.machine.deafen if one_way else node.machine.cut)()
            self.partitions += 1
            mend = node.machine.hear if one_way else node.machine.heal
        self.broken[node] = (time.monotonic() + self.chance.uniform(0, 3), mend)

    def mend_due(self, all_of_them=False):
        for node, (due, mend) in list(self.broken.items()):
            if all_of_them or due <= time.monotonic():
                del self.broken[node]
                mend()

    def run(self, enough):
        while not enough():
            self.mend_due()
            if self.chance.random() < 0.6:
                self.break_one()
            time.sleep(self.chance.uniform(0.05, 0.8))
        self.mend_due(all_of_them=True)


def all_in_sync(client, replicas):
    return all(len(shard.replicas) >= replicas and all(replica.in_sync for replica in shard.replicas)
               for shard in client.shards())


@contextlib.contextmanager
def under_load(made, history, failed):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(made.query[i % 2].client()) for i in range(WRITERS + 2)]
        for index in range(WRITERS):
            stack.enter_context(Loop(history.writer(clients[index], index, WRITERS)))
        for index in range(2):
            stack.enter_context(Loop(history.reader(clients[WRITERS + index], index, failed)))
        yield


def test_nothing_acknowledged_is_lost_whatever_fails(cluster, network_of_all, record, seed):
    made = make(cluster, network_of_all)
    history, failed = History("c", KEYS, seed), []
    faults = Faults(made, seed)
    until_when = time.monotonic() + SECONDS
    if record:
        def enough():
            return faults.kills >= 600 and faults.partitions >= 100
    else:
        def enough():
            return time.monotonic() > until_when
    with under_load(made, history, failed):
        faults.run(enough)
    with made.query[1].client() as client:
        history.check_final(client)
        until(lambda: all_in_sync(client, 3), 60, lambda: str(client.shards()))
        history.check_final(client)
    differences = sum(node.metric("kith_replica_differences_total") for node in made.data)
    print(f"{faults.kills} kills, {faults.partitions} partitions, {faults.freezes} frozen; {history.writes} writes, "
          f"{history.reads} reads, {len(failed)} reads without an answer, longest pause of a writer "
          f"{max(gap for gap, _ in history.gaps):.2f} s")
    assert history.writes > 100 and history.reads > 20
    assert differences == 0


def epochs_of(client, node):
    return {shard.id: shard.epoch for shard in client.shards() if any(one.node == node.name for one in shard.replicas)}


def left_and_came_back(client, node, before):
    now = epochs_of(client, node)
    return all(now[shard] >= before[shard] + 2 for shard in before)


def test_writes_that_wait_for_no_disk_survive_every_kill_of_one(cluster, network_of_all, seed):
    """Who is killed may lack what it acknowledged: it is not counted until it has it again. A stop in good order leaves no such
    doubt, also of all at once."""
    made = make(cluster, network_of_all, durability=collections.DURABILITY_ASYNC)
    history, chance = History("c", KEYS, seed), random.Random(seed)
    with made.query[0].client() as client:
        with under_load(made, history, failed=[]):
            for _ in range(6):
                victim = chance.choice(made.data)
                before = epochs_of(client, victim)
                victim.kill()
                victim.start()
                until(lambda: all_in_sync(client, 3) and left_and_came_back(client, victim, before), 60,
                      lambda: str(client.shards()))
        history.check_final(client)
        for node in made.data:
            node.stop()
        for node in made.data:
            node.start()
        until(lambda: all_in_sync(client, 3), 60, lambda: str(client.shards()))
        history.check_final(client)
    assert history.writes > 100


def test_a_search_does_not_fail_while_a_replica_is_left(cluster, network_of_all, seed):
    made = make(cluster, network_of_all, replicas=2, minimum=1)
    history = History("c", KEYS, seed)
    with under_load(made, history, failed=None):
        for victim in made.data:
            victim.kill()
            time.sleep(1)
            victim.start()
            with made.query[0].client() as client:
                until(lambda: all_in_sync(client, 2), 60, lambda: str(client.shards()))
    with made.query[0].client() as client:
        history.check_final(client)


def test_a_rolling_restart_costs_no_failed_request(cluster, network_of_all, seed):
    made = make(cluster, network_of_all)
    history = History("c", KEYS, seed)
    with under_load(made, history, failed=None):
        for node in made.data:
            node.stop()
            node.start()
            with made.query[0].client() as client:
                until(lambda: all_in_sync(client, 3), 60, lambda: str(client.shards()))
    with made.query[0].client() as client:
        history.check_final(client)


def test_a_node_stops_soon_whatever_its_replicas_wait_for(cluster, network_of_all, seed):
    made = make(cluster, network_of_all)
    history = History("c", KEYS, seed)
    with under_load(made, history, failed=None):
        for node in 2 * made.data:
            time.sleep(0.3)  # copies are being compared
            began = time.monotonic()
            node.stop()
            assert time.monotonic() - began < STOP_SECONDS
            node.start()
    with made.query[0].client() as client:
        history.check_final(client)


def test_writes_need_min_in_sync(cluster, network_of_all):
    made = make(cluster, network_of_all, replicas=2, minimum=2)
    history = History("c", KEYS, 1, give_up_seconds=10)
    with made.query[0].client() as client:
        for number in range(KEYS):
            history.write(client, number)
        victim = made.holder(client.shards("c")[0].replicas[1].node)
        victim.kill()
        with pytest.raises(AssertionError, match="in sync, min_in_sync is 2"):
            for number in range(KEYS):
                history.write(client, number)
        victim.start()
        until(lambda: all_in_sync(client, 2), 60, lambda: str(client.shards()))


def test_copies_are_read_where_no_coordinator_answers(cluster, network_of_all):
    """Data nodes that start then go by the map that they kept. They answer what promises nothing about other copies, and nothing else."""
    made = cluster(coordinators=3, data=3, query=1, network=network_of_all)
    ids = list(range(KEYS))

    def get(client, read, seconds=READ_SECONDS):
        request = points.GetPointsRequest(collection="c", ids=id_list(ids), read=read)
        return len(client.points.Get(request, timeout=seconds).points)

    with made.query[0].client() as client:
        retrying(lambda: client.create("c", dim=2, shards=SHARDS, replication_factor=3, min_in_sync=2))
        for _ in range(2):  # the second write tells the logs that the first was committed; of itself nobody may be sure
            retrying(lambda: client.upsert("c", ids, np.ones((KEYS, 2), dtype=np.float32)))
            until(lambda: all_in_sync(client, 3), 60, lambda: str(client.shards()))
        for node in made.coordinators:
            node.kill()
        for node in made.data:
            node.kill()
            node.start()
        until(lambda: get(client, types.READ_CONSISTENCY_ANY) == KEYS, 30, "all points are read")
        with pytest.raises(grpc.RpcError):
            get(client, types.READ_CONSISTENCY_IN_SYNC, seconds=2)
        for node in made.coordinators:
            node.spawn()
        for node in made.coordinators:
            node.wait_ready()
        until(lambda: retrying(lambda: get(client, types.READ_CONSISTENCY_IN_SYNC)) == KEYS, 30, "all is as before")
