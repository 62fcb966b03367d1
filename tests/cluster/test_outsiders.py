"""A cluster with certificates: who has none of its own can neither join, read nor write, and disturbs nobody."""

import os
import random
import re
import socket

import grpc
import numpy as np
import pytest

from certs import Authority
from cluster import Cluster, retrying, until

DIM = 4
# Of one outsider to one node: it comes again after a pause that doubles, and is told so each time; not in a flood.
LINES_MAX = 12


@pytest.fixture(scope="module")
def guarded(request, bin_dir, shared_folder):
    authority = Authority(shared_folder / "ca")
    made = Cluster(bin_dir, shared_folder, coordinators=3, data=2, query=1, config=authority.sign("node"))
    request.addfinalizer(made.end)
    made.start()
    with made.query[0].client() as client:
        retrying(lambda: client.create("c", dim=DIM, shards=4))
        client.upsert("c", range(100), np.ones((100, DIM)))
    return made


def works(made):
    with made.query[0].client() as client:
        assert len(client.search("c", np.ones((1, DIM)), 1000, strict=True)[0][0]) == 100
        retrying(lambda: client.create("works", dim=DIM))
        retrying(lambda: client.drop("works"))


def test_with_certificates_it_works(guarded):
    works(guarded)


def outsiders_keys(kind, folder):
    if kind == "none":
        return {}
    if kind == "another CA":
        return Authority(folder / "other").sign("node")
    if kind == "another cluster":
        return {**Authority(folder / "other", "strangers").sign("node"), "cluster_name": "strangers"}
    return {"cluster_name": "strangers"}  # neither


@pytest.mark.parametrize("kind", ["none", "another CA", "another cluster", "another cluster without"])
@pytest.mark.parametrize("role", ["data", "query", "coordinator"])
def test_an_outsider_is_kept_out(guarded, request, bin_dir, folder, role, kind):
    before = {node.name: len(node.log().splitlines()) for node in guarded.nodes}
    refused = guarded.coordinators[0].metric("kith_transport_failed_hellos_total")
    stranger = Cluster(bin_dir, folder, coordinators=0, data=0, query=0)
    request.addfinalizer(stranger.end)
    node = stranger.add(role, f"stranger-{role}", **outsiders_keys(kind, folder))
    node.config["coordinators"] = guarded.coordinators[0].config["coordinators"]
    node.spawn()
    refusal = re.compile(r"event=transport_hello_(refused|failed) .*")
    coordinator = guarded.coordinators[0]

    def lines(of):
        return [line for line in of.log().splitlines()[before[of.name]:] if refusal.search(line)]
    until(lambda: lines(coordinator), 10, "the coordinator says that it refused")
    until(lambda: "transport_peer_lost" in node.log(), 10, "and the outsider why")
    until(lambda: coordinator.metric("kith_transport_failed_hellos_total") > refused, 5, "and counts it")
    print(lines(coordinator)[0])
    print(next(line for line in node.log().splitlines() if "transport_peer_lost" in line))
    assert node.http("/readyz")[0] == 503
    if role == "query":
        with node.client(timeout=3) as client, pytest.raises(grpc.RpcError) as caught:
            client.upsert("c", range(200, 210), np.ones((10, DIM)))
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND,
                                       grpc.StatusCode.DEADLINE_EXCEEDED)
        with node.client(timeout=3) as client, pytest.raises(grpc.RpcError):
            client.search("c", np.ones((1, DIM)), 10)
    works(guarded)
    for one in guarded.nodes:
        assert f"node={node.name}" not in one.log()
        assert len(lines(one)) <= LINES_MAX, lines(one)
    assert node.stop() == 0


def test_noise_on_the_node_port_is_survived(guarded, seed):
    chance = random.Random(seed)
    before = {node.name: len(node.log().splitlines()) for node in guarded.nodes}
    for node in guarded.nodes:
        for size in (0, 1, 16, 200, 5000, 100_000):
            with socket.create_connection((node.host, node.node_port)) as noise:
                try:
                    noise.sendall(chance.randbytes(size))
                    if chance.random() < 0.5:
                        noise.shutdown(socket.SHUT_WR)
                        noise.settimeout(0.2)
                        noise.recv(1000)
                except OSError:
                    pass  # it hangs up, as it may
    works(guarded)
    for node in guarded.nodes:
        assert node.process.poll() is None, node.log_tail()
        said = node.log().splitlines()[before[node.name]:]
        assert len(said) <= 60, "\n".join(said[-20:])
        assert os.path.exists(f"/proc/{node.process.pid}")
