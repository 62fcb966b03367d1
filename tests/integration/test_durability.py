"""kill -9 at random moments, again and again: every acknowledged write is there afterwards, exactly, and nothing else.

Several writers upsert and delete in parallel and log outside the server what was acknowledged. A write that was under
way when the server died may have happened or not, but all of it or nothing (a batch goes to one shard here), and its
repeat under the same request id must not undo what came later."""

import random
import threading
import time

import grpc
import numpy as np

from kith_client import Client, assert_exact, ids_of

DIM = 8
WRITERS = 3
IDS_EACH = 400
KILLS = 40


class Writer:
    """Owns its ids, so that what must be there is known. `truth` is {id: version} of acknowledged points; `open_write`
    is the batch whose outcome is not known: {id: version or None}."""

    def __init__(self, number, seed, collection):
        self.number = number
        self.random = random.Random(seed * 1000 + number)
        self.collection = collection
        self.truth = {}
        self.version = 0
        self.open_write = None
        self.acknowledged = 0
        self.refused = 0
        self.error = None

    def ids(self):
        first = self.number * IDS_EACH
        return self.random.sample(range(first, first + IDS_EACH), self.random.randint(1, 40))

    def run(self, address):
        """Writes until the server is gone."""
        try:
            with Client(address, timeout=20) as client:
                while True:
                    self.step_or_wait(client)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED,
                                    grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL):
                self.error = error

    def step_or_wait(self, client):
        """A refusal for want of room is a promise that nothing was done."""
        try:
            self.step(client)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            self.open_write = None
            self.refused += 1
            time.sleep(0.005)

    def step(self, client):
        ids = self.ids()
        if self.random.random() < 0.25:
            self.open_write = {one: None for one in ids}
            client.delete(self.collection, ids)
        else:
            self.version += 1
            self.open_write = {one: self.version for one in ids}
            client.upsert(self.collection, ids, [vector(one, self.version) for one in ids],
                          payloads=[payload(one, self.version) for one in ids])
        self.settle(self.open_write)
        self.acknowledged += 1
        self.open_write = None

    def settle(self, write):
        for one, version in write.items():
            if version is None:
                self.truth.pop(one, None)
            else:
                self.truth[one] = version


def vector(one, version):
    return np.random.default_rng(one * 1_000_003 + version).standard_normal(DIM).astype("<f4")


def payload(one, version):
    return b'{"id": %d, "version": %d}' % (one, version)


def settle_open_writes(writers, there):
    """Each unknown write happened whole or not at all; then it is known."""
    for writer in writers:
        if writer.open_write is None:
            continue
        before = {one: writer.truth.get(one) for one in writer.open_write}
        now = {one: there.get(one) for one in writer.open_write}
        assert now in (before, writer.open_write), f"writer {writer.number}: a torn batch: {before} {now}"
        if now == writer.open_write:
            writer.settle(writer.open_write)
        writer.open_write = None


def verify(client, collection, writers):
    there, matrix = {}, []
    for point in client.scroll(collection, limit=5000, payload=True, vectors=True):
        one = point.id.number
        assert one not in there, f"id {one} twice"
        version = int(point.payload.split(b'"version": ')[1].rstrip(b"}"))
        assert point.payload == payload(one, version)
        values = np.frombuffer(point.vectors[0].values, "<f4")
        assert np.array_equal(values, vector(one, version)), f"id {one}: vector and payload are of two versions"
        there[one] = version
        matrix.append(values)
    settle_open_writes(writers, there)
    truth = {one: version for writer in writers for one, version in writer.truth.items()}
    missing = {one: version for one, version in truth.items() if there.get(one) != version}
    assert not missing, f"acknowledged, but not there: {missing}"
    extra = {one: version for one, version in there.items() if one not in truth}
    assert not extra, f"deleted, but there: {extra}"
    assert client.count(collection) == len(truth)
    if not matrix:
        return
    queries = np.random.default_rng(len(truth)).standard_normal((5, DIM)).astype("<f4")
    assert_exact(client.search(collection, queries, 20), "l2", list(there), np.array(matrix), queries, 20)


def run_writers(server, writers, seconds):
    threads = [threading.Thread(target=writer.run, args=(server.address,)) for writer in writers]
    for thread in threads:
        thread.start()
    timer = threading.Timer(seconds, server.kill)
    timer.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a writer hangs after the server died"
    timer.join()
    for writer in writers:
        assert writer.error is None, writer.error


def test_every_acknowledged_write_survives_kill_9(kithd, seed, scale):
    # Small segments and log files, so that sealing, merging and log trimming happen between the kills too.
    server = kithd(config={"segment_seal_rows": 150, "segment_seal_idle_ms": 200, "log_file_bytes": 65536,
                           "log_retain_bytes": 0})
    server.start()
    rng = random.Random(seed)
    writers = [Writer(number, seed, "kill") for number in range(WRITERS)]
    with Client(server.address) as client:
        client.create("kill", dim=DIM)
    kills = max(1, int(KILLS * scale))
    for kill in range(kills):
        run_writers(server, writers, rng.uniform(0.02, 0.6))
        server.start()
        with Client(server.address) as client:
            verify(client, "kill", writers)
    print(f"{kills} kills, {sum(writer.acknowledged for writer in writers)} acknowledged writes, "
          f"{sum(writer.refused for writer in writers)} refused")
    # And nothing of it was only in memory.
    assert server.stop() == 0
    server.start()
    with Client(server.address) as client:
        verify(client, "kill", writers)


def test_kills_while_starting_lose_nothing(kithd, seed, scale):
    server = kithd(config={"segment_seal_rows": 300, "segment_seal_idle_ms": 100})
    server.start()
    base = np.random.default_rng(seed).standard_normal((3000, DIM)).astype("<f4")
    with Client(server.address) as client:
        client.create("start", dim=DIM)
        for first in range(0, 3000, 100):
            client.upsert_patiently("start", range(first, first + 100), base[first:first + 100])
    server.kill()
    rng = random.Random(seed)
    for _ in range(max(1, int(8 * scale))):
        server.spawn()
        threading.Event().wait(rng.uniform(0.005, 0.25))
        server.kill()
    server.start()
    with Client(server.address) as client:
        assert client.count("start") == 3000
        assert_exact(client.search("start", base[:10], 10), "l2", range(3000), base, base[:10], 10)


def test_collections_survive_kill_9(kithd, seed):
    """Created and dropped collections are durable like points."""
    server = kithd().start()
    rng = random.Random(seed)
    truth = {}
    for round_number in range(6):
        with Client(server.address) as client:
            for _ in range(rng.randint(1, 6)):
                name = f"c{rng.randrange(12)}"
                if name in truth and rng.random() < 0.5:
                    assert client.drop(name)
                    del truth[name]
                elif name not in truth:
                    dim = rng.randint(1, 50)
                    truth[name] = (client.create(name, dim=dim, shards=rng.randint(1, 3)).id, dim)
                    client.upsert(name, [round_number], np.zeros((1, dim)))
        server.kill()
        server.start()
        with Client(server.address) as client:
            assert client.list() == sorted(truth)
            for name, (number, dim) in truth.items():
                info = client.describe(name)
                assert (info.id, info.fields[0].dim, client.count(name)) == (number, dim, 1)


def test_repeats_after_kill_9_get_the_first_answer(kithd):
    server = kithd().start()
    with Client(server.address) as client:
        client.create("again", dim=1)
        requests = [client.upsert_request("again", [i], [[float(i)]]) for i in range(50)]
        first = [client.points.Upsert(request, timeout=10) for request in requests]
        client.upsert("again", range(50), np.full((50, 1), 1000.0))
        server.kill()
        server.start()
    with Client(server.address) as client:
        again = [client.points.Upsert(request, timeout=10) for request in requests]
        assert again == first
        answer = client.search_raw("again", [[1000.0]], 50)
        assert len(ids_of(answer.ids)) == 50
        assert set(np.frombuffer(answer.scores, "<f4")) == {0.0}
