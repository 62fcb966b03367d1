"""Data nodes that die, stand still, are cut off, hear nothing, are slow or full: searches answer in time and say exactly what
is missing; all is back when the node is."""

import concurrent.futures
import threading
import time

import grpc
import numpy as np
import pytest

import data
from cluster import NOTICE_SECONDS, retrying, until

K = 10
SHARDS = 8
FEW = 20  # queries of a call that the transport copies: a larger one ends when the peer is cut, not at its deadline
SETTLED_SECONDS = 0.5  # a search once the fault is known; the machine may be busy
FAULTS = {
    "kill": (lambda node: node.kill(), lambda node: node.start()),
    "freeze": (lambda node: node.freeze(), lambda node: node.thaw()),
    "cut": (lambda node: node.machine.cut(), lambda node: node.machine.heal()),
    "deafen": (lambda node: node.machine.deafen(), lambda node: node.machine.hear()),
}


@pytest.fixture(scope="module")
def loaded(shared_cluster, network_of_all):
    """(cluster, client, queries, the whole answer); every node on a host of its own."""
    made = shared_cluster(coordinators=3, data=4, query=2, network=network_of_all)
    metric, base, queries = data.small()
    client = made.query[0].client()
    data.load(client, "c", base[:2000], metric, SHARDS)
    return made, client, queries, key_of(client.search_raw("c", queries, K, strict=True))


def key_of(answer):
    return list(answer.hit_counts), answer.ids.SerializeToString(), answer.scores


def missing_of(answer, victim):
    """The missing shards, which are exactly those of `victim`."""
    coverage = answer.coverage
    assert coverage.shards_total == SHARDS
    assert len(coverage.missing) == SHARDS - coverage.shards_answered
    assert all(one.node == victim.name and one.reason for one in coverage.missing), coverage
    return sorted(one.shard_id for one in coverage.missing)


def search_all(client, queries, **options):
    began = time.monotonic()
    answer = client.search_raw("c", queries, K, **options)
    return answer, time.monotonic() - began


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lost_data_node_is_noticed_and_named(loaded, fault):
    made, client, queries, whole = loaded
    victim = made.data[list(FAULTS).index(fault)]
    break_it, mend_it = FAULTS[fault]
    began = time.monotonic()
    break_it(victim)
    try:
        answer, seconds = search_all(client, queries)
        print(f"{fault}: first answer after {seconds:.2f} s: {answer.coverage.missing[0].reason}")
        assert time.monotonic() - began <= NOTICE_SECONDS
        missing = missing_of(answer, victim)
        assert len(missing) == SHARDS // len(made.data)
        with pytest.raises(grpc.RpcError) as caught:
            client.search_raw("c", queries, K, strict=True)
        assert time.monotonic() - began <= 2 * NOTICE_SECONDS
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        assert victim.name in caught.value.details() and f"of {SHARDS} shards" in caught.value.details()

        # Taken for down by now or soon: nobody waits for it any more.
        until(lambda: search_all(client, queries)[1] < SETTLED_SECONDS, NOTICE_SECONDS, "searches are quick again")
        until(lambda: time.monotonic() - began > NOTICE_SECONDS, NOTICE_SECONDS, "time passes")
        for _ in range(10):
            answer, seconds = search_all(client, queries)
            assert missing_of(answer, victim) == missing
            assert seconds < SETTLED_SECONDS
    finally:
        mend_it(victim)
    began = time.monotonic()
    retrying(lambda: client.search_raw("c", queries, K, strict=True))
    print(f"whole again after {time.monotonic() - began:.2f} s")
    assert key_of(retrying(lambda: client.search_raw("c", queries, K, strict=True))) == whole


def test_a_search_with_little_time_answers_in_it(loaded):
    """The node is silent, not known to be lost; the client waits less than it takes to notice."""
    made, client, queries, whole = loaded
    victim = made.data[0]
    hasty = made.query[0].client(timeout=0.8)
    assert key_of(retrying(lambda: hasty.search_raw("c", queries, K, strict=True))) == whole
    victim.freeze()
    try:
        answer, seconds = search_all(hasty, queries[:FEW])
        assert seconds <= 0.8 and missing_of(answer, victim)
        print(answer.coverage.missing[0].reason)
    finally:
        victim.thaw()
        hasty.close()
    until(lambda: key_of(client.search_raw("c", queries, K)) == whole, 10, "all is back")


def test_a_slow_node_costs_only_its_own_shards(loaded):
    """It stands still for a second, runs for a moment, and so on: never silent for long enough to be cut."""
    made, client, queries, whole = loaded
    victim = made.data[1]
    over = threading.Event()

    def stutter():
        while not over.is_set():
            victim.freeze()
            over.wait(1.0)
            victim.thaw()
            over.wait(0.1)
    thread = threading.Thread(target=stutter)
    thread.start()
    try:
        hasty = made.query[1].client(timeout=0.7)
        for _ in range(10):
            answer, seconds = search_all(hasty, queries[:FEW])
            assert seconds <= 0.7
            missing_of(answer, victim)
    finally:
        over.set()
        thread.join()
        victim.thaw()
        hasty.close()
    until(lambda: key_of(client.search_raw("c", queries, K)) == whole, 10, "all is back")


def test_nothing_acknowledged_is_lost_with_a_killed_node(loaded):
    """Writes go on while a node is killed and comes back; each that was acknowledged is there afterwards."""
    made, client, _, _ = loaded
    victim = made.data[2]
    retrying(lambda: client.create("w", dim=8, shards=SHARDS))
    rng = np.random.default_rng(1)
    acknowledged, tries = set(), iter(range(10**6))

    def write(seconds):
        number = next(tries)
        ids = range(number * 20, number * 20 + 20)
        request_id, matrix = client.request_id(), rng.standard_normal((20, 8))
        retrying(lambda: client.upsert("w", ids, matrix, request_id=request_id, timeout=5), seconds=seconds)
        acknowledged.update(ids)

    for _ in range(20):
        write(30)
    query = made.query[0]
    lost = query.metric("kith_transport_losses_total")
    assert query.metric("kith_transport_connections") > 0
    for direction in ("messages", "bytes"):
        until(lambda: query.metric(f"kith_transport_{direction}_total") > 0, 5, "what nodes say is counted")
    victim.kill()
    missing = client.search_raw("w", np.zeros((1, 8)), 1).coverage.missing
    assert missing and all(one.node == victim.name for one in missing)
    with pytest.raises(grpc.RpcError) as caught:
        write(2)
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    until(lambda: query.metric("kith_transport_losses_total") > lost, 5, "the lost connection is counted")
    victim.start()
    for _ in range(20):
        write(30)
    there = {point.id.number for point in client.scroll("w")}
    assert acknowledged <= there
    assert client.count("w") == len(there)


def test_a_full_queue_refuses_at_once(cluster):
    """More searches than may be in flight to a node that stands still: the others hear so at once, none waits for long."""
    made = cluster(coordinators=1, data=2, query=1, config={"node_in_flight_max": 16})
    metric, base, queries = data.small()
    with made.query[0].client() as client:
        data.load(client, "c", base[:500], metric, SHARDS)
        client.search_raw("c", queries[:1], K, strict=True)
        victim = made.data[0]
        victim.freeze()
        try:
            with concurrent.futures.ThreadPoolExecutor(32) as pool:
                answers = list(pool.map(lambda _: retrying(lambda: search_all(client, queries[:1])), range(32)))
        finally:
            victim.thaw()
        for answer, seconds in answers:
            assert seconds <= NOTICE_SECONDS
            assert missing_of(answer, victim)
        refused = [seconds for answer, seconds in answers if "in flight" in answer.coverage.missing[0].reason]
        print(f"{len(refused)} of {len(answers)} refused, the slowest after {max(refused, default=0):.3f} s; all within "
              f"{max(seconds for _, seconds in answers):.2f} s")
        assert len(refused) >= 32 - 16
        until(lambda: made.query[0].metric("kith_transport_busy_total") >= len(refused), 5, "the refused are counted")
        assert max(refused) < SETTLED_SECONDS
        until(lambda: client.search_raw("c", queries, K).coverage.shards_answered == SHARDS, 10, "all is back")
