"""The whole API by a client that shares no code with the server: generated from proto/ by protoc's own generator."""

import json
import threading
import uuid

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from google.protobuf import descriptor_pb2

import kith_client
from kith_client import Client, assert_exact, floats, ids_of, point_id, points, types


@pytest.fixture(scope="module")
def client(server):
    with Client(server.address) as made:
        yield made


def random_matrix(seed, rows, dim):
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype("<f4")


def test_collections_come_and_go(client, name):
    made = client.create(name, dim=4, metric="cosine", type="f16", shards=3)
    assert (made.name, made.shard_count, made.health) == (name, 3, "ok")
    assert (made.fields[0].dim, made.fields[0].metric, made.fields[0].type) == (4, 3, 2)
    assert made.created_unix_ms > 1.6e12
    assert client.create(name, dim=4, metric="cosine", type="f16", shards=3).id == made.id
    with pytest.raises(grpc.RpcError) as refusal:
        client.create(name, dim=5, metric="cosine", type="f16", shards=3)
    assert refusal.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert name in client.list()
    assert client.list() == sorted(client.list())
    assert client.drop(name)
    assert name not in client.list()
    assert not client.drop(name, missing_ok=True)
    with pytest.raises(grpc.RpcError) as refusal:
        client.drop(name)
    assert refusal.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_dropped_name_shows_no_old_points(client, name):
    first = client.create(name, dim=2)
    client.upsert(name, [1, 2], [[1, 2], [3, 4]])
    client.drop(name)
    second = client.create(name, dim=2)
    assert second.id != first.id
    assert client.count(name) == 0
    assert client.search(name, [[1, 2]], 5)[0][0] == []
    client.drop(name)


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine", "l1"])
@pytest.mark.parametrize("shards", [1, 4])
def test_search_is_exact(client, name, metric, shards):
    base, queries = random_matrix(1, 3000, 24), random_matrix(2, 40, 24)
    client.create(name, dim=24, metric=metric, shards=shards)
    for first in range(0, 3000, 700):
        client.upsert(name, range(first, min(first + 700, 3000)), base[first:first + 700])
    assert client.count(name) == 3000
    for k in (1, 10, 4000):
        assert_exact(client.search(name, queries, k), metric, np.arange(3000), base, queries, k)
    # One query alone gives the same bits as in a batch.
    together = client.search(name, queries, 10)
    for query in range(0, 40, 9):
        alone = client.search(name, queries[query:query + 1], 10, exact=True)[0]
        assert alone[0] == together[query][0]
        assert alone[1].tobytes() == together[query][1].tobytes()
    answer = client.search_raw(name, queries[:1], 3, strict=True)
    assert answer.coverage.shards_total == answer.coverage.shards_answered == shards
    assert len(answer.coverage.missing) == 0
    client.drop(name)


@pytest.mark.parametrize("stored", ["f16", "bf16", "i8"])
def test_stored_types_round_to_nearest(client, name, stored):
    values = random_matrix(3, 50, 8)
    values *= 30 if stored == "i8" else 1
    client.create(name, dim=8, metric="l2", type=stored)
    client.upsert(name, range(50), values)
    if stored == "f16":
        expected = values.astype(np.float16).astype("<f4")
    elif stored == "i8":
        expected = np.rint(values).astype("<f4")
    else:
        bits = values.view("<u4").astype(np.uint64)
        expected = (((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) << 16).astype("<u4").view("<f4")
    for point in client.get(name, range(50), vectors=True):
        assert np.array_equal(np.frombuffer(point.vectors[0].values, "<f4"), expected[point.id.number])
    assert_exact(client.search(name, values[:5], 7), "l2", np.arange(50), expected, values[:5], 7)
    client.drop(name)


def test_ids_of_every_kind(client, name):
    client.create(name, dim=2)
    unique = uuid.UUID("9b2e1e5c-0a55-4c0e-a3d1-0c8f2f9a7b11")
    ids = [42, "42", str(unique), "straße", 2**64 - 1, 0, "x" * 255]
    client.upsert(name, ids, [[i, 0] for i in range(len(ids))])
    assert client.count(name) == len(ids)
    got = client.get(name, [unique.hex.upper(), "{" + str(unique) + "}", unique.urn])
    assert [one.id.text for one in got] == [str(unique)] * 3
    hits = client.search(name, [[0, 0]], 10)[0]
    assert hits[0] == ids
    scrolled = [one.id.number if one.id.WhichOneof("id") == "number" else one.id.text
                for one in client.scroll(name, limit=2)]
    assert scrolled == [0, 42, 2**64 - 1, str(unique), "42", "straße", "x" * 255]
    assert client.delete(name, ["42", 7]) == 1
    assert [one.id.number for one in client.get(name, [42, "42"])] == [42]
    client.drop(name)


def test_payloads_and_fields(client, name):
    client.create(name, fields={"": (2, "l2", "f32"), "title": (3, "ip", "f16")})
    payload = json.dumps({"name": "é", "list": [1, {"deep": None}]}, ensure_ascii=False).encode()
    request = points.UpsertRequest(collection=name, request_id=client.request_id())
    first = request.rows.points.add(id=point_id(1), payload=payload)
    first.vectors.add(field="", values=floats([1, 2]))
    first.vectors.add(field="title", values=floats([1, 0, 0]))
    second = request.rows.points.add(id=point_id("two"))
    second.vectors.add(field="title", values=floats([0, 1, 0]))
    assert client.points.Upsert(request, timeout=10).points == 2
    one, two = client.get(name, [1, "two"], payload=True, vectors=True)
    assert json.loads(one.payload) == json.loads(payload)
    assert {v.field: list(np.frombuffer(v.values, "<f4")) for v in one.vectors} == {"": [1, 2], "title": [1, 0, 0]}
    assert [v.field for v in two.vectors] == ["title"] and two.payload == b""
    assert client.search(name, [[1, 2]], 5)[0][0] == [1]
    assert client.search(name, [[0, 2, 0]], 5, field="title")[0][0] == ["two", 1]
    answer = client.search_raw(name, [[0, 2, 0]], 5, field="title", payload=True)
    assert list(answer.payloads) == [b"", payload]
    # A column with gaps.
    gaps = types.PointColumns(ids=types.IdList(numbers=np.array([5, 6, 7], "<u8").tobytes()))
    gaps.vectors.add(field="", values=floats([[9, 9], [8, 8]]), present=b"\1\0\1")
    client.points.Upsert(points.UpsertRequest(collection=name, request_id=client.request_id(), columns=gaps))
    assert client.search(name, [[9, 9]], 2)[0][0] == [5, 7]
    assert client.count(name) == 5
    # An upsert replaces the whole point.
    client.upsert(name, [1], [[0, 0]])
    assert client.get(name, [1], payload=True)[0].payload == b""
    assert client.search(name, [[1, 0, 0]], 5, field="title")[0][0] == ["two"]
    client.drop(name)


def test_a_repeat_gets_the_first_answer(client, name):
    client.create(name, dim=1)
    request = client.upsert_request(name, [1], [[1.0]])
    first = client.points.Upsert(request, timeout=10)
    client.upsert(name, [1], [[2.0]])
    again = client.points.Upsert(request, timeout=10)
    assert again == first
    assert client.get(name, [1], vectors=True)[0].vectors[0].values == floats([2.0])
    assert first.tokens[0].sequence > 0
    client.drop(name)


def test_upsert_stream_answers_in_order_and_survives_a_refusal(client, name):
    client.create(name, dim=2)
    batches = [client.upsert_request(name, range(i * 10, i * 10 + 10), np.full((10, 2), i)) for i in range(60)]
    batches[30] = client.upsert_request(name, [1], [[1, 2, 3]])
    answers = list(client.points.UpsertStream(iter(batches), timeout=60))
    assert [one.code for one in answers] == [3 if i == 30 else 0 for i in range(60)]
    assert "dim" in answers[30].message or "multiple" in answers[30].message
    assert all(one.upsert.points == 10 for i, one in enumerate(answers) if i != 30)
    assert client.count(name) == 590
    client.drop(name)


def test_scroll_pages_in_id_order_while_points_change(client, name):
    client.create(name, dim=1, shards=3)
    client.upsert(name, range(0, 2000, 2), np.zeros((1000, 1)))
    client.delete(name, range(0, 400, 4))
    seen = [one.id.number for one in client.scroll(name, limit=37)]
    assert seen == [i for i in range(0, 2000, 2) if i >= 400 or i % 4]
    client.drop(name)


def test_writes_are_seen_by_the_next_search(client, name):
    client.create(name, dim=2, shards=2)
    for i in range(50):
        client.upsert(name, [i], [[i, i]])
        assert client.search(name, [[i, i]], 1)[0][0] == [i]
        if i % 3 == 0:
            client.delete(name, [i])
            assert i not in client.search(name, [[i, i]], 60)[0][0]
    client.drop(name)


def test_many_clients_at_once(server, client, name):
    client.create(name, dim=16, shards=2)
    base = random_matrix(5, 1600, 16)
    errors = []

    def work(part):
        try:
            with Client(server.address) as own:
                for first in range(part * 200, part * 200 + 200, 20):
                    own.upsert(name, range(first, first + 20), base[first:first + 20])
                    ids, scores = own.search(name, base[first:first + 1], 1)[0]
                    assert ids == [first] and scores[0] == 0
        except Exception as error:  # noqa: BLE001: carried to the main thread
            errors.append(error)
    threads = [threading.Thread(target=work, args=(part,)) for part in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    assert_exact(client.search(name, base[:20], 10), "l2", np.arange(1600), base, base[:20], 10)
    client.drop(name)


def test_health_check_and_watch(server, client):
    stub = health_pb2_grpc.HealthStub(client.channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    for service in ("", "kith.v1.Points", "kith.v1.Collections", "kith.v1.Cluster"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status == serving
    with pytest.raises(grpc.RpcError) as refusal:
        stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=5)
    assert refusal.value.code() == grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
    assert next(watch).status == serving
    watch.cancel()


def test_watch_sees_the_server_stop(kithd):
    own = kithd().start()
    with Client(own.address) as client:
        watch = health_pb2_grpc.HealthStub(client.channel).Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        assert own.stop() == 0
        last = None
        try:
            for answer in watch:
                last = answer.status
        except grpc.RpcError:
            pass
        assert last in (None, health_pb2.HealthCheckResponse.NOT_SERVING)


def test_reflection_lists_the_services(client):
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    ask = reflection_pb2.ServerReflectionRequest
    requests = [ask(list_services=""), ask(file_containing_symbol="kith.v1.Points"), ask(file_by_filename="nothing")]
    listed, described, missing = stub.ServerReflectionInfo(iter(requests), timeout=10)
    names = {one.name for one in listed.list_services_response.service}
    assert {"kith.v1.Points", "kith.v1.Collections", "kith.v1.Cluster", "grpc.health.v1.Health"} <= names
    files = [descriptor_pb2.FileDescriptorProto.FromString(one)
             for one in described.file_descriptor_response.file_descriptor_proto]
    services = {f"{one.package}.{service.name}": [method.name for method in service.method]
                for one in files for service in one.service}
    assert services["kith.v1.Points"] == ["Upsert", "UpsertStream", "Delete", "Get", "Search", "Count", "Scroll"]
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_the_cluster_of_one_answers(client, name):
    stub = kith_client.cluster_grpc.ClusterStub(client.channel)
    client.create(name, dim=2)
    status = stub.Status(kith_client.cluster.ClusterStatusRequest(), timeout=5)
    assert status.standalone and len(status.nodes) == 1
    assert status.nodes[0].up and status.nodes[0].role == kith_client.cluster.NODE_ROLE_STANDALONE
    shards = stub.Shards(kith_client.cluster.ClusterShardsRequest(collection=name), timeout=5)
    assert [place.index for place in shards.collections[0].shards] == [0]
    assert shards.collections[0].shards[0].replicas[0].node_id == status.nodes[0].id
    for refused, code in ((lambda: stub.Drain(kith_client.cluster.ClusterDrainRequest(node="x", draining=True)),
                           grpc.StatusCode.FAILED_PRECONDITION),
                          (lambda: stub.AcceptLoss(kith_client.cluster.ClusterAcceptLossRequest(
                              collection=name, shard=0, node=status.nodes[0].id)),
                           grpc.StatusCode.FAILED_PRECONDITION),
                          (lambda: stub.Shards(kith_client.cluster.ClusterShardsRequest(collection="nothing")),
                           grpc.StatusCode.NOT_FOUND),
                          (lambda: stub.Shards(kith_client.cluster.ClusterShardsRequest(collection="x" * 1000)),
                           grpc.StatusCode.INVALID_ARGUMENT)):
        with pytest.raises(grpc.RpcError) as refusal:
            refused()
        assert refusal.value.code() == code
    client.drop(name)


def test_large_batches_pass(client, name):
    client.create(name, dim=64)
    base = random_matrix(7, 65536, 64)
    client.upsert(name, range(65536), base)
    assert client.count(name) == 65536
    answer = client.search_raw(name, base[:1000], 1)
    assert ids_of(answer.ids) == list(range(1000))
    client.drop(name)


def test_metrics_and_health_pages(server):
    for path in ("/healthz", "/livez", "/readyz"):
        assert server.http(path)[0] == 200
    status, text = server.http("/metrics")
    assert status == 200 and "kith_" in text
    assert server.http("/no/such/page")[0] == 404
