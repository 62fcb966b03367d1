"""Big reads beside small writes: nobody waits for a whole page of somebody else's."""

import re
import statistics
import threading
import time

import numpy as np
import pytest

from kith_client import Client, id_list, points

DIM = 8
POINTS = 65536
READERS = 4
READS = 4
SLICE = 256


def slices_of(server):
    _, text = server.http("/metrics")
    found = re.search(r"^kith_read_slices_total (\S+)$", text, re.M)
    return float(found.group(1)) if found else 0


def slices_wait(server, least):
    """The shards' counters are carried over once a second."""
    deadline = time.monotonic() + 10
    while slices_of(server) < least and time.monotonic() < deadline:
        time.sleep(0.05)
    return slices_of(server)


def undecoded(client, method, request_type):
    """The call without the decoding of its answer, which would take turns with the test's other threads."""
    return client.channel.unary_unary(f"/kith.v1.Points/{method}", request_serializer=request_type.SerializeToString)


@pytest.fixture(scope="module")
def big(server):
    rng = np.random.default_rng(1)
    with Client(server.address) as client:
        client.create("big", dim=DIM)
        client.create("small", dim=DIM)
        for first in range(0, POINTS, 4096):
            ids = range(first, first + 4096)
            payloads = [b'{"text":"%s"}' % (b"x" * 100)] * 4096
            client.upsert_patiently("big", ids, rng.standard_normal((4096, DIM)), payloads=payloads)
        yield client


def get_pages(client):
    request = points.GetPointsRequest(collection="big", ids=id_list(range(POINTS)), with_payload=True, with_vectors=True)
    call = undecoded(client, "Get", points.GetPointsRequest)
    return lambda: len(call(request, timeout=60)) > POINTS * 100


def scroll_pages(client):
    request = points.ScrollRequest(collection="big", limit=16384, with_payload=True, with_vectors=True)
    call = undecoded(client, "Scroll", points.ScrollRequest)
    return lambda: all([len(call(request, timeout=60)) > 16384 * 100 for _ in range(4)])


@pytest.mark.parametrize("pages", [get_pages, scroll_pages])
def test_one_point_upserts_go_on_between_the_slices_of_big_pages(server, big, pages):
    upserts, errors = [0], []
    during = []  # upserts that were answered while one read was under way
    ended = threading.Event()
    slices_before = slices_wait(server, 0)

    def read():
        try:
            with Client(server.address) as client:
                page = pages(client)
                for _ in range(READS):
                    before = upserts[0]
                    assert page()
                    during.append(upserts[0] - before)
        except Exception as error:  # shown by the test's own thread
            errors.append(error)

    def write():
        try:
            with Client(server.address) as client:
                while not ended.is_set():
                    client.upsert("small", [upserts[0]], [[1] * DIM])
                    upserts[0] += 1
        except Exception as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    readers = [threading.Thread(target=read) for _ in range(READERS)]
    for thread in [writer, *readers]:
        thread.start()
    for thread in readers:
        thread.join(240)
    ended.set()
    writer.join(60)
    assert not errors, errors
    assert len(during) == READERS * READS
    print(f"upserts during each read: {sorted(during)}")
    assert statistics.median(during) >= 8, "upserts wait for whole pages"
    slices = slices_wait(server, slices_before + len(during) * POINTS // SLICE) - slices_before
    assert slices >= len(during) * POINTS // SLICE
    assert big.count("small") >= upserts[0]


def test_pages_of_many_shards_hold_every_point_once(server):
    rng = np.random.default_rng(2)
    with Client(server.address) as client:
        client.create("shards", dim=4, shards=16)
        sizes = rng.integers(0, 60000, 3000)
        for first in range(0, 3000, 100):
            ids = range(first, first + 100)
            payloads = [b'{"t":"%s"}' % (b"y" * sizes[i]) for i in ids]
            client.upsert_patiently("shards", ids, np.ones((100, 4)), payloads=payloads)
        found = list(client.scroll("shards", limit=3000, payload=True))
        assert [point.id.number for point in found] == list(range(3000))
        assert all(len(point.payload) == sizes[i] + 8 for i, point in enumerate(found))
        got = client.get("shards", range(500), payload=True)
        assert [point.id.number for point in got] == list(range(500))
