"""A shard whose last copy in sync is gone: it is not written until an operator accepts what is lost with it, and goes on with
another copy then."""

import json
import os
import subprocess

import grpc
import numpy as np
import pytest

from cluster import retrying, until

KEPT, LOST, LATER = range(0, 100), range(100, 150), range(200, 250)


def vectors(ids, mark):
    return np.array([[at, mark] for at in ids], dtype="<f4")


def in_sync(client):
    return {replica.node for replica in client.shards("c")[0].replicas if replica.in_sync}


def up(client):
    return {replica.node for replica in client.shards("c")[0].replicas if replica.up}


def kith(bin_dir, node, *arguments, expect=0):
    result = subprocess.run([bin_dir / "kith", "cluster", *map(str, arguments)], capture_output=True, text=True, timeout=60,
                            env={**os.environ, "KITH_SERVER": node.address})
    assert result.returncode == expect, f"{arguments}: {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result


def content(client):
    """Each point there is, whole, by its id."""
    found = retrying(lambda: client.get("c", [*KEPT, *LOST, *LATER], vectors=True))
    return {one.id.number: one.SerializeToString(deterministic=True) for one in found}


def lose_the_last_in_sync(made, client):
    """(the primary, which is down; the two others, up and not in sync). Only the first has LOST, and newer content of some of KEPT."""
    retrying(lambda: client.create("c", dim=2, shards=1, replication_factor=3, min_in_sync=1))
    retrying(lambda: client.upsert("c", KEPT, vectors(KEPT, 1)))
    until(lambda: len(in_sync(client)) == 3, 60, lambda: str(client.shards("c")))
    last = made.holder(client.shards("c")[0].replicas[0].node)
    chosen, other = (node for node in made.data if node is not last)
    chosen.kill()
    other.kill()
    until(lambda: in_sync(client) == {last.name}, 60, lambda: str(client.shards("c")))
    retrying(lambda: client.upsert("c", KEPT[:10], vectors(KEPT[:10], 2)))
    retrying(lambda: client.upsert("c", LOST, vectors(LOST, 2)))
    assert client.count("c") == len(KEPT) + len(LOST)
    last.kill()
    chosen.start()
    other.start()
    until(lambda: up(client) == {chosen.name, other.name}, 60, lambda: str(client.shards("c")))
    assert in_sync(client) == {last.name}
    return last, chosen, other


def accept(bin_dir, made, chosen):
    return json.loads(kith(bin_dir, made.query[0], "accept-loss", "c", 0, "--node", chosen.name, "--yes", "--json").stdout)


def test_who_accepts_loss_goes_on_with_another_copy(cluster, bin_dir):
    made = cluster(coordinators=3, data=3, query=1)
    query = made.query[0]
    with query.client() as client:
        last, chosen, other = lose_the_last_in_sync(made, client)
        with pytest.raises(grpc.RpcError) as refusal:
            client.upsert("c", LATER, vectors(LATER, 3), timeout=5)
        assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "NO COPY IN SYNC IS UP" in kith(bin_dir, query, "shards", "c").stdout

        # Without --yes nothing happens.
        before = client.shards("c")[0].epoch
        said = kith(bin_dir, query, "accept-loss", "c", 0, "--node", chosen.name, expect=2)
        assert f"{chosen.name} would be its primary" in said.stdout and "would be lost for good" in said.stdout
        assert "WARNING" not in said.stdout and "nothing was done" in said.stderr
        assert client.shards("c")[0].epoch == before and in_sync(client) == {last.name}
        refused = kith(bin_dir, query, "accept-loss", "c", 0, "--node", last.name, "--yes", expect=1)
        assert "is down" in refused.stderr

        # Writes and strict searches work again, with what was acknowledged before the others were gone.
        accepted = accept(bin_dir, made, chosen)
        assert accepted["primary"] == chosen.name and accepted["epoch"] == before + 1
        retrying(lambda: client.upsert("c", LATER, vectors(LATER, 3)))
        found = retrying(lambda: client.search("c", vectors([0], 1), 250, strict=True))[0][0]
        assert set(found) == set(content(client)) == {*KEPT, *LATER}
        until(lambda: in_sync(client) == {chosen.name, other.name}, 60, lambda: str(client.shards("c")))


def test_a_copy_that_comes_back_after_all_has_nothing_of_its_own(cluster, bin_dir):
    """It had applied what is lost."""
    made = cluster(coordinators=3, data=3, query=1)
    with made.query[0].client() as client:
        last, chosen, other = lose_the_last_in_sync(made, client)
        accept(bin_dir, made, chosen)
        for _ in range(8):  # more entries than were lost
            retrying(lambda: client.upsert("c", LATER, vectors(LATER, 3)))
        wanted = content(client)
        assert set(wanted) == {*KEPT, *LATER}
        last.start()
        until(lambda: len(in_sync(client)) == 3, 60, lambda: str(client.shards("c")))
        chosen.stop()
        other.stop()  # then it alone answers
        assert content(client) == wanted
        assert retrying(lambda: client.count("c")) == len(KEPT) + len(LATER)
