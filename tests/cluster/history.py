"""Writers, readers and a checker that shares no code with the product: whatever fails, no acknowledged write is lost, nothing
shows that was never written, and every read agrees with real time.

Each id belongs to one writer, which writes versions 1, 2, 3, ... of it, one after the other, each under one request id that
is repeated until it is acknowledged. What a version says is a function of its number: every seventh is a delete, any other
a point whose distance from the origin and whose payload are the version. So a read is right when it shows the state of some version between
the last one acknowledged before it began and the last one begun before it ended.
"""

import json
import random
import threading
import time

import grpc
import numpy as np

from cluster import RETRY, until
from kith_client import floats, ids_of, id_list, points

DIM = 2
ATTEMPT_SECONDS = 5
READ_SECONDS = 20  # a replica that is left answers once it has been made primary, which takes some seconds
# Of a write: repeated with its request id, it is done once, whatever became of the attempt before.
AGAIN = RETRY + (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.ABORTED)


def is_delete(version):
    return version == 0 or version % 7 == 0


class Key:
    """What is known of one id: the version acknowledged last, and the one begun last."""

    def __init__(self):
        self.acknowledged, self.begun = 0, 0


class History:
    def __init__(self, name, keys, seed, give_up_seconds=60):
        self.name, self.seed, self.give_up_seconds = name, seed, give_up_seconds
        self.keys = [Key() for _ in range(keys)]
        self.lock = threading.Lock()
        self.gaps = []  # (seconds, when) between two acknowledgements of one writer
        self.writes = self.reads = self.partial = 0

    # --- writing ---

    def write(self, client, number):
        key = self.keys[number]
        version = key.begun + 1
        with self.lock:
            key.begun = version
        request_id = client.request_id()
        if is_delete(version):
            request = points.DeletePointsRequest(collection=self.name, request_id=request_id, ids=id_list([number]))
            self.persist(lambda: client.points.Delete(request, timeout=ATTEMPT_SECONDS), number, version)
        else:
            row = np.array([[version, 0]], dtype="<f4")
            request = client.upsert_request(self.name, [number], row, payloads=[json.dumps({"v": version}).encode()],
                                            request_id=request_id)
            self.persist(lambda: client.points.Upsert(request, timeout=ATTEMPT_SECONDS), number, version)
        with self.lock:
            key.acknowledged = version
            self.writes += 1

    def persist(self, call, number, version):
        began, pause = time.monotonic(), 0.01
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                if error.code() not in AGAIN:
                    raise
                assert time.monotonic() - began < self.give_up_seconds, (
                    f"version {version} of {number} not acknowledged: {error.code()} {error.details()}")
            time.sleep(pause)
            pause = min(2 * pause, 0.2)

    def writer(self, client, index, writers):
        """One step of writer `index` of so many."""
        mine = range(index, len(self.keys), writers)
        chance = random.Random(self.seed * 1000 + index)
        last = [time.monotonic()]

        def step():
            self.write(client, chance.choice(mine))
            now = time.monotonic()
            self.gaps.append((now - last[0], now))
            last[0] = now
        return step

    # --- reading ---

    def bounds(self):
        with self.lock:
            return [key.acknowledged for key in self.keys]

    def begun(self):
        with self.lock:
            return [key.begun for key in self.keys]

    def judge(self, what, number, seen, low, high):
        """`seen`: the version that was read, None for no point."""
        if seen is None:
            assert any(is_delete(version) for version in range(low, high + 1)), (
                f"{what}: id {number} is missing; version {low} was acknowledged before, {high} is the newest begun")
        else:
            assert low <= seen <= high and not is_delete(seen), (
                f"{what}: id {number} shows version {seen}; {low} was acknowledged before, {high} is the newest begun")

    def judge_all(self, what, found, low, high, only=None):
        for number in only if only is not None else range(len(self.keys)):
            self.judge(what, number, found.pop(number, None), low[number], high[number])
        assert not found, f"{what}: ids that nobody wrote: {sorted(found)[:5]}"

    def get(self, client, **options):
        low = self.bounds()
        request = points.GetPointsRequest(collection=self.name, ids=id_list(range(len(self.keys))), with_payload=True,
                                          **options)
        answer = client.points.Get(request, timeout=READ_SECONDS)
        found = {point.id.number: json.loads(point.payload)["v"] for point in answer.points}
        self.judge_all(f"get {options}", found, low, self.begun())
        self.reads += 1

    def search(self, client, strict=True, **options):
        """All points are near enough: the hits are what there is, and their distance is the version."""
        low = self.bounds()
        request = points.SearchRequest(collection=self.name, queries=floats(np.array([[0, 0]])), k=len(self.keys),
                                       strict=strict, with_payload=True, **options)
        answer = client.points.Search(request, timeout=READ_SECONDS)
        coverage = answer.coverage
        assert coverage.shards_answered + len(coverage.missing) == coverage.shards_total, f"coverage {coverage}"
        scores = np.frombuffer(answer.scores, dtype="<f4").astype(int).tolist()
        found, payloads = {}, {}
        for number, version, payload in zip(ids_of(answer.ids), scores, answer.payloads):
            assert number not in found, f"search: id {number} twice"
            found[number] = version
            payloads[number] = json.loads(payload)["v"] if payload else None  # fetched a moment later: of that, or newer
        high = self.begun()
        for number, version in found.items():
            self.judge("payload of a hit", number, payloads[number], version, high[number])
        if coverage.missing:
            self.partial += 1
            for number, version in found.items():
                self.judge("partial search", number, version, low[number], high[number])
        else:
            self.judge_all(f"search {options}", found, low, high)
        self.reads += 1

    def reader(self, client, seed, failed=None):
        """One step of a reader. `failed` counts the reads that got no answer; None: none may."""
        chance = random.Random(seed)

        def step():
            try:
                (self.get if chance.random() < 0.3 else self.search)(client)
            except grpc.RpcError as error:
                if failed is None or error.code() not in AGAIN:
                    raise
                failed.append((error.code(), error.details()))
                time.sleep(0.02)
        return step

    # --- the end ---

    def check_final(self, client, seconds=60):
        """Nothing is under way: what is there is what was acknowledged, by get, scroll, search and count."""
        def answered():
            try:
                self.get(client)
                self.search(client)
                return True
            except grpc.RpcError as error:
                if error.code() not in AGAIN:
                    raise
                return False
        until(answered, seconds, "the cluster answers again")
        low, high = self.bounds(), self.begun()
        assert low == high
        there = [number for number, version in enumerate(low) if not is_delete(version)]
        assert [point.id.number for point in client.scroll(self.name)] == there
        assert client.count(self.name) == len(there)
