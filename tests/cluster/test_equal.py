"""A cluster answers as one process does, bit for bit, through any query node, while it is restarted piece by piece."""

import pytest

import data
from cluster import Loop, retrying, until
from kith_client import Client
from kithd import Kithd

K = 10
SHARDS = 8


def answer_of(client, queries):
    answer = retrying(lambda: client.search_raw("c", queries, K, strict=True))
    assert answer.coverage.shards_answered == answer.coverage.shards_total
    return list(answer.hit_counts), answer.ids.SerializeToString(), answer.scores


@pytest.fixture
def wanted(request, bin_dir, folder, record):
    """(metric, base, queries, a standalone server's answer)"""
    metric, base, queries = data.million() if record else data.small()
    server = Kithd(bin_dir, folder / "standalone")
    request.addfinalizer(server.kill)
    server.start()
    with Client(server.address) as client:
        data.load(client, "c", base, metric, shards=1)
        return metric, base, queries, answer_of(client, queries)


def test_the_same_answers_as_standalone_during_a_rolling_restart(cluster, wanted):
    metric, base, queries, expected = wanted
    made = cluster(coordinators=3, data=4, query=2)
    with made.query[0].client() as client:
        data.load(client, "c", base, metric, SHARDS)
        assert client.count("c") == len(base)

    def search(node):
        client = node.client()

        def step():
            assert answer_of(client, queries) == expected
        return Loop(step)

    with search(made.query[0]) as first, search(made.query[1]) as second:
        for node in made.coordinators + made.query:
            assert node.stop() == 0
            node.start()
            first.wait_laps(3)
            second.wait_laps(3)
    print(f"{len(first.laps)} and {len(second.laps)} calls of {len(queries)} searches")
