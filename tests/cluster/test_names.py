"""A name that was dropped and created again never shows old points."""

import numpy as np

from cluster import Loop, retrying, until

DIM = 8
ROWS = 200


def fill(client, name, generation):
    """Points of a generation have ids of their own."""
    ids = range(generation * ROWS, (generation + 1) * ROWS)
    matrix = np.random.default_rng(generation).standard_normal((ROWS, DIM))
    request_id = client.request_id()
    retrying(lambda: client.upsert(name, ids, matrix, request_id=request_id))


def generations(client, name, **options):
    query = np.zeros((1, DIM))
    found = retrying(lambda: client.search(name, query, ROWS * 2, **options))[0][0]
    return {one // ROWS for one in found}


def again(client, name, creator=None):
    retrying(lambda: client.drop(name, missing_ok=True))
    retrying(lambda: (creator or client).create(name, dim=DIM, shards=8))


def test_through_the_other_query_node(cluster):
    made = cluster(coordinators=3, data=3, query=2)
    with made.query[0].client() as client, made.query[1].client() as other:
        retrying(lambda: client.create("n", dim=DIM, shards=8))
        fill(client, "n", 0)
        least = [0]

        def look():
            before = least[0]
            try:
                seen = generations(other, "n")
            except Exception as error:
                if "NOT_FOUND" in str(error):  # between the drop and the new one
                    return
                raise
            assert all(one >= before for one in seen), f"generations {seen}, dropped before {before}"

        with Loop(look) as looking:
            for generation in range(1, 16):
                again(client, "n", creator=other)  # whose map may still have the old one
                least[0] = generation
                # A map that is old is refreshed, not shown: no retry here.
                found = other.search("n", np.zeros((1, DIM)), ROWS)[0][0]
                assert {one // ROWS for one in found} <= {generation}
                fill(client, "n", generation)
                assert generations(other, "n", strict=True) == {generation}
                assert generations(client, "n", strict=True) == {generation}
        assert looking.laps
        assert retrying(lambda: other.count("n")) == ROWS


def test_with_a_data_node_away(cluster):
    made = cluster(coordinators=3, data=3, query=2)
    with made.query[0].client() as client, made.query[1].client() as other:
        for generation in range(3):
            victim = made.data[generation]
            if generation == 0:
                retrying(lambda: client.create("n", dim=DIM, shards=8))
            fill(client, "n", 2 * generation)
            assert generations(other, "n", strict=True) == {2 * generation}
            victim.kill()
            again(client, "n")
            for one in client, other:
                assert generations(one, "n") == set()
            victim.start()
            until(lambda: not other.search_raw("n", np.zeros((1, DIM)), 1).coverage.missing, 10, "the node is back")
            for one in client, other:
                assert generations(one, "n", strict=True) == set()
                assert retrying(lambda: one.count("n")) == 0
            fill(client, "n", 2 * generation + 1)
            for one in client, other:
                assert generations(one, "n", strict=True) == {2 * generation + 1}
            again(client, "n")
