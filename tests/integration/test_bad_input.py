"""What a client may get wrong. Each case says which code it gets and what the message must name: the field, the value,
what is allowed. After each the server must still serve, and nothing of a refused write may be there."""

import json
import struct
import threading
import time

import grpc
import numpy as np
import pytest

from kith_client import Client, collections, floats, id_list, point_id, points, types

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED
INTERNAL = grpc.StatusCode.INTERNAL
DEADLINE = grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.fixture(scope="module")
def client(server):
    with Client(server.address) as made:
        made.create("plain", dim=4)
        made.create("angle", dim=4, metric="cosine")
        made.create("half", dim=4, type="f16")
        made.create("byte", dim=4, type="i8")
        made.create("two", fields={"": (4, "l2", "f32"), "title": (2, "ip", "f32")})
        made.upsert("plain", [1], [[1, 2, 3, 4]])
        yield made


@pytest.fixture(autouse=True)
def still_serves(client):
    before = client.count("plain")
    yield
    assert client.count("plain") == before
    assert client.search("plain", [[1, 2, 3, 4]], 1)[0][0] == [1]


def refused(call, codes, *words):
    with pytest.raises(grpc.RpcError) as refusal:
        call()
    codes = codes if isinstance(codes, tuple) else (codes,)
    assert refusal.value.code() in codes, f"{refusal.value.code()}: {refusal.value.details()}"
    message = refusal.value.details()
    for word in words:
        assert word in message, f"'{word}' is not in '{message}'"
    return message


def upsert(client, name="plain", ids=(100,), matrix=None, **parts):
    """An Upsert whose parts may be wrong: ids, matrix, fields, payloads, request_id."""
    return client.upsert(name, list(ids), matrix, **parts)


def rows(client, *given, request_id=None):
    request = points.UpsertRequest(collection="plain", request_id=request_id or client.request_id())
    request.rows.points.extend(given)
    return client.points.Upsert(request, timeout=10)


def column(client, name="plain", ids=None, field="", values=b"", present=b"", payloads=(), more=()):
    """An Upsert by one raw column."""
    request = points.UpsertRequest(collection=name, request_id=client.request_id())
    request.columns.ids.CopyFrom(id_list([100]) if ids is None else ids)
    request.columns.vectors.add(field=field, values=values, present=present)
    request.columns.vectors.extend(more)
    request.columns.payloads.extend(payloads)
    return client.points.Upsert(request, timeout=10)


def create(client, name="new", fields=None, shards=0):
    request = collections.CreateCollectionRequest(name=name, shard_count=shards)
    request.fields.extend([types.VectorField(dim=4, metric=1)] if fields is None else fields)
    return client.collections.Create(request, timeout=10)


def search(client, name="plain", queries=b"\0" * 16, k=1, field=""):
    return client.points.Search(points.SearchRequest(collection=name, queries=queries, k=k, field=field), timeout=10)


def field(**parts):
    return types.VectorField(**parts)


def raw_ids(numbers=b"", ids=()):
    return types.IdList(numbers=numbers, ids=ids)


NAN, INF = float("nan"), float("inf")
GOOD = floats([1, 2, 3, 4])

CASES = {
    # --- collections
    "name_empty": (lambda c: create(c, ""), INVALID, "name", "1..255"),
    "name_too_long": (lambda c: create(c, "n" * 256), INVALID, "name", "256", "255"),
    "name_with_space": (lambda c: create(c, "a b"), INVALID, "name", "letters"),
    "name_with_slash": (lambda c: create(c, "../etc"), INVALID, "name"),
    "name_begins_with_dot": (lambda c: create(c, ".hidden"), INVALID, "name", "'.'"),
    "name_begins_with_dash": (lambda c: create(c, "-x"), INVALID, "name", "'-'"),
    "name_not_ascii": (lambda c: create(c, "é"), INVALID, "name"),
    "no_fields": (lambda c: create(c, fields=[]), INVALID, "fields", "1..16"),
    "too_many_fields": (lambda c: create(c, fields=[field(name=f"f{i}", dim=1, metric=1) for i in range(17)]),
                        INVALID, "17", "16"),
    "field_twice": (lambda c: create(c, fields=[field(name="a", dim=1, metric=1)] * 2), INVALID, "a", "twice"),
    "field_name_bad": (lambda c: create(c, fields=[field(name="a/b", dim=1, metric=1)]), INVALID, "field"),
    "dim_zero": (lambda c: create(c, fields=[field(dim=0, metric=1)]), INVALID, "dim", "0", "1..16384"),
    "dim_too_large": (lambda c: create(c, fields=[field(dim=16385, metric=1)]), INVALID, "dim", "16385", "1..16384"),
    "metric_missing": (lambda c: create(c, fields=[field(dim=4)]), INVALID, "metric"),
    "metric_unknown": (lambda c: create(c, fields=[field(dim=4, metric=99)]), INVALID, "metric", "99"),
    "type_unknown": (lambda c: create(c, fields=[field(dim=4, metric=1, type=77)]), INVALID, "type", "77"),
    "durability_unknown": (lambda c: c.create("new", dim=4, durability=7), INVALID, "durability", "7", "DURABILITY_SYNC"),
    "durability_async": (lambda c: c.create("new", dim=4, durability=2), INVALID, "durability async", "standalone"),
    "too_many_shards": (lambda c: create(c, shards=4097), INVALID, "shard_count", "4097", "4096"),
    "describe_unknown": (lambda c: c.describe("nobody"), NOT_FOUND, "nobody"),
    "drop_unknown": (lambda c: c.drop("nobody"), NOT_FOUND, "nobody"),
    "schema_differs": (lambda c: c.create("plain", dim=5), grpc.StatusCode.ALREADY_EXISTS, "plain"),
    # --- writes
    "upsert_unknown_collection": (lambda c: upsert(c, "nobody", matrix=[[1, 2, 3, 4]]), NOT_FOUND, "nobody"),
    "upsert_nothing": (lambda c: upsert(c, ids=[], matrix=np.zeros((0, 4))), INVALID, "1..65536"),
    "upsert_no_data": (lambda c: c.points.Upsert(points.UpsertRequest(collection="plain"), timeout=10), INVALID,
                       "rows", "columns"),
    "dim_wrong": (lambda c: upsert(c, matrix=[[1, 2, 3]]), INVALID, "dim 4", "12 bytes"),
    "rows_too_few": (lambda c: upsert(c, ids=[100, 101], matrix=[[1, 2, 3, 4]]), INVALID, "2"),
    "rows_too_many": (lambda c: upsert(c, matrix=[[1, 2, 3, 4]] * 2), INVALID, "1"),
    "values_cut": (lambda c: column(c, values=GOOD[:-1]), INVALID, "15 bytes"),
    "nan": (lambda c: upsert(c, matrix=[[1, NAN, 3, 4]]), INVALID, "component 1", "nan"),
    "infinity": (lambda c: upsert(c, matrix=[[1, 2, -INF, 4]]), INVALID, "component 2", "inf"),
    "zero_under_cosine": (lambda c: upsert(c, "angle", matrix=[[0, 0, 0, 0]]), INVALID, "zero", "cosine"),
    "negative_zero_under_cosine": (lambda c: upsert(c, "angle", matrix=[[-0.0, 0, 0, 0]]), INVALID, "zero"),
    "f16_overflow": (lambda c: upsert(c, "half", matrix=[[1, 70000, 3, 4]]), INVALID, "component 1", "70000"),
    "i8_overflow": (lambda c: upsert(c, "byte", matrix=[[1, 2, 3, 128]]), INVALID, "component 3", "128"),
    "i8_underflow": (lambda c: upsert(c, "byte", matrix=[[-129, 2, 3, 4]]), INVALID, "component 0", "-129"),
    "id_twice": (lambda c: upsert(c, ids=[100, 101, 100], matrix=[[1, 2, 3, 4]] * 3), INVALID, "100"),
    "uuid_twice_in_two_forms": (
        lambda c: upsert(c, ids=["9b2e1e5c-0a55-4c0e-a3d1-0c8f2f9a7b11", "9B2E1E5C0A554C0EA3D10C8F2F9A7B11"],
                         matrix=[[1, 2, 3, 4]] * 2), INVALID, "9b2e1e5c-0a55-4c0e-a3d1-0c8f2f9a7b11"),
    "id_empty": (lambda c: upsert(c, ids=[""], matrix=[[1, 2, 3, 4]]), INVALID, "id"),
    "id_too_long": (lambda c: upsert(c, ids=["x" * 256], matrix=[[1, 2, 3, 4]]), INVALID, "256", "255"),
    "id_without_value": (lambda c: column(c, ids=raw_ids(ids=[types.PointId()]), values=GOOD), INVALID, "id",
                         "exactly one"),
    "ids_both_ways": (lambda c: column(c, ids=raw_ids(struct.pack("<Q", 100), [point_id(5)]), values=GOOD), INVALID,
                      "numbers", "ids"),
    "ids_cut": (lambda c: column(c, ids=raw_ids(b"1234567"), values=GOOD), INVALID, "7 bytes", "8"),
    "field_unknown": (lambda c: column(c, field="nobody", values=GOOD), INVALID, "nobody"),
    "column_twice": (lambda c: column(c, values=GOOD, more=[types.VectorColumn(values=GOOD)]), INVALID, "vectors[1]"),
    "present_wrong_length": (lambda c: column(c, values=GOOD, present=b"\1\1"), INVALID, "present", "2"),
    "present_wrong_value": (lambda c: column(c, values=GOOD, present=b"\2"), INVALID, "present", "2"),
    "payload_not_json": (lambda c: upsert(c, matrix=[[1, 2, 3, 4]], payloads=[b"{a: 1}"]), INVALID, "payload"),
    "payload_not_object": (lambda c: upsert(c, matrix=[[1, 2, 3, 4]], payloads=[b"[1]"]), INVALID, "object"),
    "payload_trailing": (lambda c: upsert(c, matrix=[[1, 2, 3, 4]], payloads=[b"{} x"]), INVALID, "payload"),
    "payload_bad_utf8": (lambda c: upsert(c, matrix=[[1, 2, 3, 4]], payloads=[b'{"a": "\xff"}']), INVALID, "payload"),
    "payload_too_deep": (
        lambda c: upsert(c, matrix=[[1, 2, 3, 4]], payloads=[b'{"a":' * 65 + b"1" + b"}" * 65]), INVALID, "64"),
    "payload_too_large": (
        lambda c: upsert(c, matrix=[[1, 2, 3, 4]], payloads=[json.dumps({"a": "x" * (1 << 20)}).encode()]),
        INVALID, "1048576"),
    "payloads_too_few": (lambda c: column(c, ids=id_list([100, 101]), values=GOOD * 2, payloads=[b"{}"]), INVALID,
                         "payloads"),
    "request_id_short": (
        lambda c: upsert(c, matrix=[[1, 2, 3, 4]], request_id=types.RequestId(client=b"short", number=1)), INVALID,
        "request_id.client", "5 bytes", "16"),
    "request_id_zero": (
        lambda c: upsert(c, matrix=[[1, 2, 3, 4]], request_id=types.RequestId(client=b"\0" * 16, number=1)), INVALID,
        "request_id.client"),
    "too_many_points": (lambda c: upsert(c, ids=range(65537), matrix=np.zeros((65537, 4))), INVALID, "65537", "65536"),
    "row_field_twice": (
        lambda c: rows(c, types.Point(id=point_id(100), vectors=[types.NamedVector(values=GOOD)] * 2)), INVALID,
        "twice"),
    "row_dim_wrong": (
        lambda c: rows(c, types.Point(id=point_id(100), vectors=[types.NamedVector(values=GOOD[:8])])), INVALID,
        "8 bytes"),
    "row_without_id": (lambda c: rows(c, types.Point(vectors=[types.NamedVector(values=GOOD)])), INVALID, "id"),
    "delete_nothing": (lambda c: c.delete("plain", []), INVALID, "ids", "1..65536"),
    "delete_unknown_collection": (lambda c: c.delete("nobody", [1]), NOT_FOUND, "nobody"),
    # --- reads
    "get_nothing": (lambda c: c.get("plain", []), INVALID, "ids", "1..65536"),
    "get_too_many": (lambda c: c.get("plain", range(65537)), INVALID, "65537", "65536"),
    "get_unknown_collection": (lambda c: c.get("nobody", [1]), NOT_FOUND, "nobody"),
    "search_unknown_collection": (lambda c: search(c, "nobody"), NOT_FOUND, "nobody"),
    "search_unknown_field": (lambda c: search(c, field="nobody"), INVALID, "nobody"),
    "search_field_of_other_dim": (lambda c: search(c, "two", queries=b"\0" * 12, field="title"), INVALID, "dim 2"),
    "search_no_queries": (lambda c: search(c, queries=b""), INVALID, "queries", "1..16384"),
    "search_too_many_queries": (lambda c: search(c, queries=b"\0" * 16 * 16385), INVALID, "16385", "16384"),
    "search_dim_wrong": (lambda c: search(c, queries=b"\0" * 20), INVALID, "queries", "20 bytes", "dim 4"),
    "search_k_zero": (lambda c: search(c, k=0), INVALID, "k", "0", "1..16384"),
    "search_k_too_large": (lambda c: search(c, k=16385), INVALID, "k", "16385", "16384"),
    "search_too_many_hits": (lambda c: search(c, queries=b"\0" * 16 * 16384, k=257), INVALID, "4194304"),
    "search_nan": (lambda c: search(c, queries=floats([1, 2, NAN, 4])), INVALID, "component 2", "nan"),
    "search_infinity": (lambda c: search(c, queries=floats([[1, 2, 3, 4], [INF, 2, 3, 4]])), INVALID, "component 0"),
    "search_zero_under_cosine": (lambda c: search(c, "angle"), INVALID, "zero", "cosine"),
    "count_unknown_collection": (
        lambda c: c.points.Count(points.CountRequest(collection="nobody"), timeout=10), NOT_FOUND, "nobody"),
    "scroll_limit_too_large": (
        lambda c: c.points.Scroll(points.ScrollRequest(collection="plain", limit=16385), timeout=10), INVALID,
        "16385", "16384"),
    "scroll_unknown_collection": (
        lambda c: c.points.Scroll(points.ScrollRequest(collection="nobody"), timeout=10), NOT_FOUND, "nobody"),
    "scroll_from_without_value": (
        lambda c: c.points.Scroll(points.ScrollRequest(collection="plain", **{"from": types.PointId()}), timeout=10),
        INVALID, "id"),
}


@pytest.mark.parametrize("case", CASES)
def test_is_refused(client, case):
    call, codes, *words = CASES[case]
    refused(lambda: call(client), codes, *words)
    assert "new" not in client.list()


# --- bytes that no generated client sends -----------------------------------------------------------------------------


def raw_call(client, method, data, timeout=10):
    call = client.channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
    return call(data, timeout=timeout)


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff", b"\x0a\x05abc", b"\x12" + b"\xff" * 9, b"\x1a\x80\x80\x80\x80\x10",
                                  b"\x0b" * 1000, bytes(range(256))], ids=range(7))
def test_malformed_protobuf_is_refused(client, data):
    for method in ("Upsert", "Delete", "Get", "Search", "Count", "Scroll"):
        refused(lambda: raw_call(client, f"/kith.v1.Points/{method}", data), (INVALID, INTERNAL, NOT_FOUND))
    refused(lambda: raw_call(client, "/kith.v1.Collections/Create", data), (INVALID, INTERNAL))


def test_names_that_are_not_utf8_are_refused(client):
    for text in (b"pl\xffain", b"\xc0\xaf", b"\xed\xa0\x80", b"plain\0x"):
        data = b"\x0a" + bytes([len(text)]) + text
        refused(lambda: raw_call(client, "/kith.v1.Points/Count", data), (INVALID, NOT_FOUND))
        refused(lambda: raw_call(client, "/kith.v1.Collections/Create", data), INVALID)


def test_an_id_with_a_zero_byte_is_not_another_id(client):
    client.upsert("two", ["a", "a\0b", "a\0"], [[1, 0, 0, 0], [2, 0, 0, 0], [3, 0, 0, 0]])
    assert client.count("two") == 3
    assert client.search("two", [[2, 0, 0, 0]], 1)[0][0] == ["a\0b"]
    assert client.delete("two", ["a\0b"]) == 1
    assert [point.id.text for point in client.scroll("two")] == ["a", "a\0"]
    client.delete("two", ["a", "a\0"])


def test_unknown_fields_are_ignored(client):
    data = points.CountRequest(collection="plain").SerializeToString() + b"\xf8\x07\x01"
    assert raw_call(client, "/kith.v1.Points/Count", data)


@pytest.mark.parametrize("method", ["/kith.v1.Points/Nothing", "/kith.v1.Nobody/Get", "/x", "/kith.v1.Points/",
                                    "/kith.v1.Points/search"])
def test_unknown_methods_are_refused(client, method):
    refused(lambda: raw_call(client, method, b""), UNIMPLEMENTED)


def test_a_message_over_the_limit_is_refused(client):
    request = client.upsert_request("plain", [100], np.zeros((1, 4)))
    request.columns.payloads.append(b"x" * (65 << 20))
    refused(lambda: client.points.Upsert(request, timeout=60), (EXHAUSTED, INVALID))


def test_one_field_of_the_whole_message_is_refused_cheaply(client):
    """Millions of empty sub-messages in 20 MB: no gigabytes of structs for them."""
    data = b"\x0a\x05plain" + b"\x1a" + varint(20_000_000) + b"\x0a\x00" * 10_000_000
    refused(lambda: raw_call(client, "/kith.v1.Points/Upsert", data, timeout=60), (INVALID, EXHAUSTED))


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


# --- clients that behave badly in time --------------------------------------------------------------------------------


def test_an_expired_call_ends_by_its_deadline(client):
    big = np.random.default_rng(1).standard_normal((4096, 4))
    began = time.monotonic()
    for timeout in (0.000001, 0.0001, 0.001):
        try:
            client.points.Search(points.SearchRequest(collection="plain", queries=floats(big), k=1000), timeout=timeout)
        except grpc.RpcError as error:
            assert error.code() == DEADLINE
    assert time.monotonic() - began < 5


def test_cancelled_calls_leave_nothing_behind(client):
    request = points.SearchRequest(collection="plain", queries=floats(np.ones((4096, 4))), k=100)
    for pause in (0, 0.0005, 0.002) * 20:
        call = client.points.Search.future(request)
        time.sleep(pause)
        call.cancel()
    request = client.upsert_request("two", range(1000, 2000), np.ones((1000, 4)))
    for _ in range(30):
        client.points.Upsert.future(request).cancel()
    assert client.count("two") in (0, 1000)
    client.delete("two", range(1000, 2000))


def test_a_stream_that_is_cut_leaves_whole_batches(client):
    client.create("cut", dim=4)

    def feed():
        for i in range(20):
            yield client.upsert_request("cut", range(i * 10, i * 10 + 10), np.ones((10, 4)))
        stop.wait(10)

    stop = threading.Event()
    stream = client.points.UpsertStream(feed())
    for _ in range(3):
        assert next(stream).code == 0
    stream.cancel()
    stop.set()
    time.sleep(0.2)
    assert client.count("cut") % 10 == 0
    client.drop("cut")


def test_a_reader_that_never_reads_is_held_back(client):
    """The server stops reading when its answers are not taken; it does not pile them up, and others are served."""
    client.create("slow", dim=4)
    sent = []

    def feed():
        for i in range(100000):
            if stop.is_set():
                return
            sent.append(i)
            yield client.upsert_request("slow", range(i * 256 % 4096, i * 256 % 4096 + 256), np.ones((256, 4)))

    stop = threading.Event()
    stream = client.points.UpsertStream(feed())
    time.sleep(1.0)
    assert client.count("plain") == 1
    stop.set()
    stream.cancel()
    client.drop("slow")


def test_connections_that_say_nothing_or_nonsense_do_no_harm(server, client):
    import socket
    silent = [socket.create_connection(("127.0.0.1", server.grpc_port)) for _ in range(50)]
    for i, one in enumerate(silent):
        if i % 2:
            one.sendall(bytes(np.random.default_rng(i).integers(0, 256, 500, dtype=np.uint8)))
    assert client.count("plain") == 1
    for one in silent:
        one.close()
    page = [socket.create_connection(("127.0.0.1", server.http_port)) for _ in range(20)]
    page[0].sendall(b"GET /readyz HTTP/1.1\r\n")
    page[1].sendall(b"\x00\xff" * 300)
    page[2].sendall(b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n")
    assert server.http("/readyz")[0] == 200
    for one in page:
        one.close()


def test_refused_batches_of_a_stream_name_their_fault(client):
    bad = [client.upsert_request("plain", [100], [[1, 2, NAN, 4]]),
           client.upsert_request("nobody", [100], [[1, 2, 3, 4]]),
           client.upsert_request("plain", [100, 100], [[1, 2, 3, 4]] * 2)]
    answers = list(client.points.UpsertStream(iter(bad), timeout=10))
    assert [one.code for one in answers] == [3, 5, 3]
    for answer, word in zip(answers, ("component 2", "nobody", "100")):
        assert word in answer.message
