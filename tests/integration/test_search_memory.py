"""What the largest searches take: memory stays within a bound however many shards there are, and the answer is the same."""

import concurrent.futures

import grpc
import numpy as np
import pytest

from conftest import make_folder, make_kithd, seed_of
from kith_client import Client, ids_of

DIM, SHARDS = 4, 16
QUERIES, K = 256, 16384  # queries x k is the most that is allowed
POINTS = 3 * K


def memory_mib(server, key):
    """VmHWM (the highest so far) or VmRSS of the process."""
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(key + ":"):
                return int(line.split()[1]) / 1024
    raise AssertionError(f"no {key}")


def peak_reset(server):
    with open(f"/proc/{server.process.pid}/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


@pytest.fixture(scope="module")
def filled(request, bin_dir):
    """A server, a client, collections "one" and "many" with the same points, and "few" with as many as k; small integers, so
    that ties abound."""
    server = make_kithd(request, bin_dir, make_folder(request))(config={"search_timeout_ms": 300000}).start()
    rng = np.random.default_rng(seed_of(request.config))
    matrix = rng.integers(0, 60, (POINTS, DIM)).astype(np.float32)
    with Client(server.address, timeout=300) as client:
        for name, shards, count in (("one", 1, POINTS), ("many", SHARDS, POINTS), ("few", SHARDS, K)):
            client.create(name, DIM, shards=shards)
            for first in range(0, count, K):
                rows = matrix[first:first + K]
                client.upsert_patiently(name, range(first, first + len(rows)), rows)
        yield server, client, rng.integers(0, 60, (QUERIES, DIM)).astype(np.float32)


def test_the_largest_search_takes_bounded_memory_and_equals_that_of_one_shard(filled, seed):
    server, client, queries = filled
    before = memory_mib(server, "VmRSS")
    peaks = {}
    answers = {}
    for name in ("many", "one"):
        peak_reset(server)
        answers[name] = client.search_raw(name, queries, K, strict=True)
        peaks[name] = memory_mib(server, "VmHWM") - before
        print(f"{name}: {peaks[name]:.0f} MiB over {before:.0f} MiB")
    assert len(ids_of(answers["many"].ids)) == QUERIES * K
    assert answers["many"].ids == answers["one"].ids
    assert answers["many"].scores == answers["one"].scores
    assert answers["many"].hit_counts == answers["one"].hit_counts
    # queries x k hits in lists of one shard and merged (32 bytes each), or as answers on their way, and what scanning takes
    assert max(peaks.values()) < 500, peaks
    # Nothing of that size stays.
    assert memory_mib(server, "VmRSS") - before < 200


def test_large_searches_beyond_the_allowed_memory_are_refused_and_the_rest_is_answered(filled, seed):
    server, client, queries = filled
    wanted = client.search_raw("few", queries, K).scores
    before = memory_mib(server, "VmRSS")
    peak_reset(server)

    def search(_):
        try:
            return client.search_raw("few", queries, K).scores
        except grpc.RpcError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        results = list(pool.map(search, range(5)))
    refused = [one for one in results if isinstance(one, grpc.RpcError)]
    answered = [one for one in results if not isinstance(one, grpc.RpcError)]
    print(f"{len(refused)} refused; {memory_mib(server, 'VmHWM') - before:.0f} MiB over {before:.0f} MiB")
    assert answered and all(one == wanted for one in answered)
    assert refused
    for error in refused:
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert f"{QUERIES} queries with k {K}" in error.details() and str(1 << 30) in error.details()
    assert memory_mib(server, "VmHWM") - before < 1600
