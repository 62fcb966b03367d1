#!/usr/bin/env python3
"""Writes the seeds of fuzz_codec: one valid message of each kind, led by the byte that names the kind.

    tests/fuzz/make_codec_corpus.py [FOLDER]
"""
import pathlib
import struct
import sys


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def num(field, value):
    return varint(field << 3) + varint(value)


def raw(field, data):
    data = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(data)) + data


def u64(*values):
    return struct.pack(f"<{len(values)}Q", *values)


def f32(*values):
    return struct.pack(f"<{len(values)}f", *values)


CLIENT = bytes(range(1, 17))
REQUEST_ID = raw(2, raw(1, CLIENT) + num(2, 5))
NUMBERS = raw(1, u64(1, 2, 3))
TEXTS = (raw(2, num(1, 7)) + raw(2, raw(2, "936da01f-9abd-4d9d-80c7-02af85c822a8")) + raw(2, raw(2, "na\u00efve")))
COLUMNS = (raw(1, NUMBERS) + raw(2, raw(2, f32(1, 2, 3, 4, 5, 6))) +
           raw(2, raw(1, "title") + raw(2, f32(1, 2)) + raw(3, b"\1\0\1")) + raw(3, "{}") + raw(3, "") + raw(3, '{"a":1}'))
ROW = raw(1, raw(1, num(1, 1)) + raw(2, raw(2, f32(1, 2))) + raw(2, raw(1, "b") + raw(2, f32(3))) + raw(3, "{}"))
ROW2 = raw(1, raw(1, raw(2, "x")) + raw(2, raw(1, "b") + raw(2, f32(4))))
FIELD = raw(1, "title") + num(2, 4) + num(3, 1) + num(4, 2)
INFO = raw(1, "c") + num(2, 3) + raw(3, FIELD) + num(4, 2) + num(5, 99) + num(6, 5) + raw(10, "ok")
STATUS = num(1, 7) + num(2, 41) + raw(3, "segment 3 is corrupt")
CANONICAL = b"\x08\x01" + u64(1) + b"\x10\x02" + CLIENT + b"\x03\x03abc"
NODE_ID = bytes(range(16, 32))
SAID = raw(3, "data-1") + num(4, 2) + raw(5, "10.0.0.1:7442") + raw(6, "10.0.0.1:7441") + raw(8, "north") + num(9, 100)
NODE = num(1, 3) + raw(2, NODE_ID) + SAID + num(11, 1) + num(12, 7)
HEARTBEAT = (raw(1, NODE_ID) + raw(2, "data-1") + num(3, 2) + raw(4, "10.0.0.1:7442") + raw(6, "10.0.0.1:7440") +
             raw(7, "north") + num(8, 100) + num(9, 1700000000000) + num(10, 9) +
             raw(11, num(1, 5) + num(2, 1) + num(3, 60) + num(4, 1 << 40) + raw(5, "ok")))
PLACES = num(7, 2) + raw(8, u64(1, 2, 3)) + raw(9, struct.pack("<6I", 3, 4, 4, 0, 3, 4))
MOVING = (num(7, 2) + raw(8, u64(1, 2, 3)) + raw(9, struct.pack("<9I", 3, 4, 0, 4, 5, 0, 3, 4, 5)) + num(10, 2) +
          num(11, 3) + raw(12, b"\3\1\5"))
META = (num(1, 12) + raw(2, "books") + raw(3, FIELD) + num(4, 3) + num(5, 77) + num(6, 1700000000000))
UUID = "936da01f-9abd-4d9d-80c7-02af85c822a8"
MEMBER = raw(1, UUID) + raw(2, "a:1") + num(3, 1) + num(4, 1)
CLUSTER_NODE = (raw(1, UUID) + raw(2, 'data "1"') + num(3, 2) + raw(4, "a:1") + raw(6, "a:3") + raw(7, "north") +
                num(8, 100) + num(9, 1) + num(11, 4) + num(12, 217) + num(13, 1000) + raw(17, "ok"))

MESSAGES = [
    ("upsert_columns", 0, raw(1, "c") + REQUEST_ID + raw(4, COLUMNS)),
    ("upsert_rows", 0, raw(1, "c") + raw(3, ROW + ROW2)),
    ("delete", 1, raw(1, "c") + REQUEST_ID + raw(3, NUMBERS)),
    ("get", 2, raw(1, "c") + raw(2, TEXTS) + num(3, 1) + num(4, 1)),
    ("scroll", 3, raw(1, "c") + raw(2, raw(2, "from")) + num(3, 10) + num(4, 1)),
    ("search", 4, raw(1, "c") + raw(2, "title") + raw(3, f32(1, 2, 3, 4)) + num(4, 10) + raw(5, num(1, 1)) + num(6, 1)),
    ("count", 5, raw(1, "c")),
    ("create", 6, raw(1, "c") + raw(2, FIELD) + raw(2, num(2, 3) + num(3, 4)) + num(3, 8)),
    ("create_async", 6, raw(1, "c") + raw(2, FIELD) + num(4, 3) + num(5, 2) + num(6, 2)),
    ("named", 7, raw(1, "c") + num(2, 1)),
    ("health", 8, raw(1, "kith.v1.Points")),
    ("reflection_list", 9, raw(7, "")),
    ("reflection_symbol", 9, raw(1, "host") + raw(4, "kith.v1.Points.Search")),
    ("reflection_file", 9, raw(3, "kith/v1/points.proto")),
    ("client_hits", 10, raw(1, b"\2\1") + raw(2, NUMBERS) + raw(3, f32(1, 2, 3)) + raw(5, num(1, 2) + num(2, 1) +
        raw(3, num(1, 3) + raw(2, "n") + raw(3, "r")))),
    ("client_points", 11, ROW + ROW2 + raw(2, num(1, 9))),
    ("client_collections", 12, raw(1, INFO)),
    ("shard_search_request", 13, num(1, 3) + raw(2, u64(7, 8)) + num(3, 1) + num(4, 10) + num(5, 2) +
        raw(6, f32(1, 2, 3, 4)) + num(7, 1)),
    ("shard_search_numbers", 14, raw(1, struct.pack("<3I", 2, 0, 1)) + raw(2, struct.pack("<3d", -1, -2, 5)) +
        raw(3, NUMBERS) + raw(4, num(1, 8)) + raw(4, STATUS)),
    ("shard_search_canonical", 14, raw(1, struct.pack("<1I", 3)) + raw(2, struct.pack("<3d", -1, -2, -5)) +
        raw(3, raw(2, CANONICAL))),
    ("shard_write_request", 15, num(1, 1) + num(2, 2) + raw(3, CLIENT) + num(4, 9) + raw(5, "operation")),
    ("shard_write_response", 16, num(1, 1) + num(2, 2) + num(3, 3) + num(4, 4) + num(5, 1)),
    ("shard_read_get", 17, num(1, 1) + num(2, 2) + num(3, 1) + raw(4, raw(2, CANONICAL)) + num(7, 1) + num(9, 1000)),
    ("shard_read_scroll", 17, num(1, 1) + num(2, 2) + num(3, 2) + raw(5, b"\x03abc") + num(6, 10) + num(8, 1)),
    ("shard_read_response", 18, raw(1, raw(1, b"\x01" + u64(4)) + num(2, 5) + raw(3, "{}") + num(4, 3) + num(5, 3) +
        raw(6, bytes(32))) + raw(3, b"\x01" + u64(5))),
    ("shard_count_request", 19, num(1, 1) + raw(2, u64(7, 8))),
    ("shard_count_response", 20, raw(1, raw(1, STATUS) + num(2, 5) + num(3, 1) + num(8, 9))),
    ("meta_create", 21, num(1, 1) + raw(2, CLIENT) + num(3, 7) + raw(4, META)),
    ("meta_drop", 21, num(1, 1) + raw(5, num(1, 12) + raw(2, "books"))),
    ("meta_snapshot", 22, num(1, 1) + num(2, 9) + num(3, 11) + num(4, 13) + num(5, 80) + raw(6, META)),
    ("meta_create_assigned", 21, num(1, 2) + raw(2, CLIENT) + num(3, 7) + raw(4, META + PLACES)),
    ("meta_register", 21, num(1, 2) + raw(6, raw(2, NODE_ID) + SAID)),
    ("meta_node_down", 21, num(1, 2) + raw(7, raw(1, NODE_ID) + num(2, 9))),
    ("meta_drain_node", 21, num(1, 2) + raw(8, raw(1, NODE_ID) + num(2, 1))),
    ("meta_remove_node", 21, num(1, 2) + raw(9, raw(1, NODE_ID))),
    ("meta_snapshot_nodes", 22, num(1, 2) + num(2, 9) + num(3, 11) + num(4, 13) + num(5, 80) + raw(6, META + PLACES) +
        raw(7, NODE) + num(8, 5) + raw(9, raw(1, CLIENT) + num(2, 7) + num(5, 1) + raw(6, META)) +
        raw(9, raw(1, CLIENT) + num(2, 8) + num(3, 2) + raw(4, "no such collection"))),
    ("meta_change_shards", 21, num(1, 3) + raw(2, CLIENT) + num(3, 7) + raw(10, raw(1, num(1, 77) + num(2, 5) +
        raw(3, b"\3\4\5") + num(4, 5)) + raw(1, num(1, 78) + num(2, 9) + num(3, 4) + num(3, 3) + num(4, 1)))),
    ("meta_accept_loss", 21, num(1, 5) + raw(12, num(1, 12) + raw(2, "books") + num(3, 1) + raw(4, NODE_ID))),
    ("meta_snapshot_loss", 22, num(1, 5) + num(2, 9) + num(3, 11) + num(4, 13) + num(5, 80) +
        raw(6, META + MOVING + raw(14, u64(0, 2, 0))) + raw(7, NODE) + num(8, 6)),
    ("meta_update_collection", 21, num(1, 3) + raw(11, num(1, 12) + raw(2, "books") + num(7, 3) + num(10, 2))),
    ("meta_update_durability", 21, num(1, 4) + raw(11, num(1, 12) + raw(2, "books") + num(13, 2))),
    ("meta_snapshot_durability", 22, num(1, 4) + num(2, 9) + num(3, 11) + num(4, 13) + num(5, 80) +
        raw(6, META + MOVING + num(13, 2)) + raw(7, NODE) + num(8, 6)),
    ("meta_snapshot_replicas", 22, num(1, 3) + num(2, 9) + num(3, 11) + num(4, 13) + num(5, 80) +
        raw(6, META + MOVING) + raw(7, NODE) + num(8, 6)),
    ("heartbeat", 23, HEARTBEAT),
    ("heartbeat_reply", 24, num(1, 1) + num(2, 3) + raw(3, NODE_ID) + raw(4, "a:1") + num(5, 9) + raw(6, "a:1") +
        raw(6, "b:2")),
    ("propose_reply", 25, num(3, 1) + num(4, 9) + raw(5, META)),
    ("propose_reply_refused", 25, num(1, 3) + raw(2, "already exists")),
    ("coordinator_join", 26, num(1, 2) + raw(2, NODE_ID) + raw(3, "c:3")),
    ("coordinator_reply", 27, num(1, 3) + num(2, 9) + num(3, 11) + raw(4, NODE_ID) + raw(5, "a:1") +
        raw(6, raw(1, NODE_ID) + raw(2, "a:1") + num(3, 1) + num(4, 1)) +
        raw(7, raw(1, HEARTBEAT) + num(2, 2500) + num(3, 1) + num(4, 1)) + raw(8, NODE_ID) + num(9, 1)),
    ("map_version", 28, num(1, 9)),
    ("cluster_request", 29, raw(1, "data-1") + num(2, 1)),
    *[(f"cluster_{name}{suffix}", kind, message) for name, kinds, message in (
        ("status", (30, 34), num(2, 9) + num(3, 3) + raw(4, UUID) + raw(5, "a:1") + raw(6, "why") + raw(7, MEMBER) +
         raw(8, CLUSTER_NODE)),
        ("shards", (31, 35), num(1, 9) + raw(2, raw(1, "photos") + raw(2, num(1, 7) + num(2, 1) + num(3, 5) +
         raw(4, raw(1, UUID) + raw(2, "data-1") + num(3, 1)) + raw(4, raw(2, "nobody"))))),
        ("join", (32, 36), raw(1, UUID) + num(2, 1) + raw(3, MEMBER))) for kind, suffix in zip(kinds, ("", "_json"))],
    ("cluster_node", 33, raw(1, CLUSTER_NODE)),
    ("append_request", 37, num(1, 7) + num(2, 5) + num(3, 4) + num(4, 9) + num(5, 8) + num(6, 1000) +
        raw(7, u64(4, 10, 3, 5, 11, 0, 5, 12, 2)) + raw(8, "abcde")),
    ("append_request_empty", 37, num(1, 7) + num(2, 5) + num(4, 9) + num(9, 1)),
    ("append_reply", 38, num(1, 2) + num(2, 5) + num(3, 9) + num(4, 8) + num(5, 1000) + num(6, 7)),
    ("fetch_request", 39, num(1, 7) + num(2, 5) + num(3, 1) + num(4, 4096) + num(5, 4096)),
    ("fetch_reply", 40, num(1, 1) + num(2, 100) + num(3, 5) + num(4, 9) + num(5, 10) + raw(6, "123456789") +
        num(7, 0xE3069283)),
    ("digest_request", 41, num(1, 7) + num(2, 5) + num(3, 9) + num(4, 16) + num(5, 16)),
    ("shard_search_token", 13, num(1, 3) + raw(2, u64(7, 8)) + num(4, 10) + num(5, 1) + raw(6, f32(1)) + num(9, 3) +
        raw(10, u64(5, 6))),
    ("shard_read_token", 17, num(2, 2) + num(3, 2) + num(6, 10) + num(11, 3) + num(12, 9)),
    ("shard_count_token", 19, num(1, 1) + raw(2, u64(7, 8)) + num(4, 3) + raw(5, u64(5, 6))),
    ("digest_reply", 42, num(1, 9) + raw(2, u64(1, 2, 3))),
    ("cluster_loss_request", 43, raw(1, "photos") + num(2, 3) + raw(3, "data-1")),
    *[(f"cluster_shard{suffix}", kind, raw(1, num(1, 7) + num(2, 1) + num(3, 5) + raw(4, raw(1, UUID) + raw(2, "data-1") +
        num(3, 1) + num(4, 1)))) for kind, suffix in ((44, ""), (45, "_json"))],
]


def main():
    default = pathlib.Path(__file__).parent / "corpus" / "fuzz_codec"
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    folder.mkdir(parents=True, exist_ok=True)
    for name, kind, message in MESSAGES:
        (folder / name).write_bytes(bytes([kind]) + message)


if __name__ == "__main__":
    main()
