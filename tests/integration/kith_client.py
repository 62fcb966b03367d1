"""A client whose code comes from the .proto files by protoc's Python generator: independent of the server's codec.
numpy in, numpy out."""

import atexit
import importlib
import itertools
import os
import pathlib
import shutil
import sys
import tempfile
import time

import grpc
import numpy as np
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[2]
METRICS = {"l2": 1, "ip": 2, "cosine": 3, "l1": 4}
TYPES = {"f32": 1, "f16": 2, "bf16": 3, "i8": 4}


def generate():
    """Generates into a fresh folder and imports from there."""
    folder = tempfile.mkdtemp(prefix="kith-proto-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    names = [f"kith/v1/{name}.proto" for name in ("types", "collections", "points", "cluster")]
    well_known = str(pathlib.Path(protoc.__file__).parent / "_proto")
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"-I{well_known}", f"--python_out={folder}",
                 f"--grpc_python_out={folder}", *names]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc refused proto/kith/v1")
    sys.path.insert(0, folder)
    return [importlib.import_module(f"kith.v1.{name}") for name in
            ("types_pb2", "collections_pb2", "collections_pb2_grpc", "points_pb2", "points_pb2_grpc", "cluster_pb2",
             "cluster_pb2_grpc")]


types, collections, collections_grpc, points, points_grpc, cluster, cluster_grpc = generate()


def floats(matrix):
    return np.ascontiguousarray(matrix, dtype="<f4").tobytes()


def id_list(ids):
    ids = list(ids)
    if all(isinstance(one, (int, np.integer)) for one in ids):
        return types.IdList(numbers=np.array(ids, dtype="<u8").tobytes())
    return types.IdList(ids=[point_id(one) for one in ids])


def point_id(one):
    if isinstance(one, (int, np.integer)):
        return types.PointId(number=int(one))
    return types.PointId(text=one)


def ids_of(message):
    """An IdList as a list of ints and texts."""
    if message.ids:
        return [one.number if one.WhichOneof("id") == "number" else one.text for one in message.ids]
    return np.frombuffer(message.numbers, dtype="<u8").tolist()


def columns(ids, matrix=None, fields=None, payloads=None):
    """PointColumns; `fields` are {name: matrix} beside or instead of the default field's `matrix`."""
    given = {} if matrix is None else {"": matrix}
    given.update(fields or {})
    message = types.PointColumns(ids=id_list(ids))
    for name, values in given.items():
        message.vectors.append(types.VectorColumn(field=name, values=floats(values)))
    if payloads is not None:
        message.payloads.extend(payloads)
    return message


class Client:
    def __init__(self, address, timeout=30):
        self.channel = grpc.insecure_channel(address, options=[
            ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
            ("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 200)])
        self.timeout = timeout
        self.collections = collections_grpc.CollectionsStub(self.channel)
        self.points = points_grpc.PointsStub(self.channel)
        self.cluster = cluster_grpc.ClusterStub(self.channel)
        self.client_id = os.urandom(16)
        self.numbers = itertools.count(1)

    def close(self):
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def request_id(self):
        return types.RequestId(client=self.client_id, number=next(self.numbers))

    def create(self, name, dim=None, metric="l2", type="f32", fields=None, shards=0, **options):
        """`fields` are {name: (dim, metric, type)}; `options` of the request."""
        given = fields or {"": (dim, metric, type)}
        request = collections.CreateCollectionRequest(name=name, shard_count=shards, **options)
        for field, (field_dim, field_metric, field_type) in given.items():
            request.fields.append(types.VectorField(name=field, dim=field_dim, metric=METRICS[field_metric],
                                                    type=TYPES[field_type]))
        return self.collections.Create(request, timeout=self.timeout).collection

    def describe(self, name):
        return self.collections.Get(collections.GetCollectionRequest(name=name), timeout=self.timeout).collection

    def list(self):
        answer = self.collections.List(collections.ListCollectionsRequest(), timeout=self.timeout)
        return [one.name for one in answer.collections]

    def drop(self, name, missing_ok=False):
        return self.collections.Delete(
            collections.DeleteCollectionRequest(name=name, missing_ok=missing_ok), timeout=self.timeout).deleted

    def upsert_request(self, name, ids, matrix=None, fields=None, payloads=None, request_id=None):
        return points.UpsertRequest(collection=name, request_id=request_id or self.request_id(),
                                    columns=columns(ids, matrix, fields, payloads))

    def upsert(self, name, ids, matrix=None, fields=None, payloads=None, request_id=None, timeout=None):
        request = self.upsert_request(name, ids, matrix, fields, payloads, request_id)
        return self.points.Upsert(request, timeout=timeout or self.timeout)

    def upsert_patiently(self, name, ids, matrix, **options):
        """Repeats, under the same request id, what is refused only because sealing has to catch up."""
        request_id = self.request_id()
        deadline = time.monotonic() + 30
        while True:
            try:
                return self.upsert(name, ids, matrix, request_id=request_id, **options)
            except grpc.RpcError as error:
                catching_up = "to be sealed" in error.details() or "retry" in error.details()
                if not catching_up or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def delete(self, name, ids, timeout=None):
        request = points.DeletePointsRequest(collection=name, request_id=self.request_id(), ids=id_list(ids))
        return self.points.Delete(request, timeout=timeout or self.timeout).deleted

    def get(self, name, ids, payload=False, vectors=False):
        request = points.GetPointsRequest(collection=name, ids=id_list(ids), with_payload=payload,
                                          with_vectors=vectors)
        return self.points.Get(request, timeout=self.timeout).points

    def search_raw(self, name, queries, k, field="", payload=False, exact=False, strict=False):
        request = points.SearchRequest(collection=name, field=field, queries=floats(queries), k=k,
                                       with_payload=payload, strict=strict)
        if exact:
            request.params.exact = True
        return self.points.Search(request, timeout=self.timeout)

    def search(self, name, queries, k, **options):
        """A list of (ids, scores), one a query."""
        answer = self.search_raw(name, queries, k, **options)
        ids, scores = ids_of(answer.ids), np.frombuffer(answer.scores, dtype="<f4")
        hits, first = [], 0
        for count in answer.hit_counts:
            hits.append((ids[first:first + count], scores[first:first + count]))
            first += count
        assert first == len(ids) == len(scores)
        return hits

    def count(self, name):
        return self.points.Count(points.CountRequest(collection=name), timeout=self.timeout).count

    def shards(self, name=""):
        """Of a collection, or of all: where each shard is."""
        answer = self.cluster.Shards(cluster.ClusterShardsRequest(collection=name), timeout=self.timeout)
        return [shard for one in answer.collections for shard in one.shards]

    def scroll(self, name, limit=1000, payload=False, vectors=False):
        """All points, page by page."""
        request = points.ScrollRequest(collection=name, limit=limit, with_payload=payload, with_vectors=vectors)
        while True:
            answer = self.points.Scroll(request, timeout=self.timeout)
            yield from answer.points
            if not answer.HasField("next"):
                return
            getattr(request, "from").CopyFrom(answer.next)


def oracle(metric, base, queries):
    """Scores [query][row] in double precision, and a key that sorts nearest first."""
    base, queries = base.astype(np.float64), queries.astype(np.float64)
    if metric == "l2":
        scores = np.sqrt(((queries[:, None, :] - base[None, :, :]) ** 2).sum(axis=2))
        return scores, scores
    if metric == "l1":
        scores = np.abs(queries[:, None, :] - base[None, :, :]).sum(axis=2)
        return scores, scores
    scores = queries @ base.T
    if metric == "cosine":
        scores /= np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(base, axis=1)[None, :]
    return scores, -scores


def assert_exact(hits, metric, ids, base, queries, k):
    """Hits are the nearest by brute force: same scores, each hit's own score right, no id twice."""
    ids = np.asarray(ids)
    rows = {one: row for row, one in enumerate(ids.tolist())}
    scores, key = oracle(metric, base, queries)
    for query, (hit_ids, hit_scores) in enumerate(hits):
        expected = min(k, len(ids))
        assert len(hit_ids) == expected, f"query {query}: {len(hit_ids)} hits, not {expected}"
        assert len(set(hit_ids)) == len(hit_ids), f"query {query}: an id twice"
        wanted = scores[query][np.argsort(key[query], kind="stable")[:expected]]
        own = np.array([scores[query][rows[one]] for one in hit_ids])
        tolerance = 1e-5 * max(1.0, float(np.abs(scores[query]).max()))
        assert np.abs(hit_scores - own).max(initial=0) <= tolerance, f"query {query}: a score is wrong"
        assert np.abs(own - wanted).max(initial=0) <= tolerance, f"query {query}: not the nearest"
