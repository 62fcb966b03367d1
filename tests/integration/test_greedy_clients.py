"""Clients that take and do not give back: answers they never read, requests they never finish. Memory stays bounded and
others are served."""

import struct
import time

import grpc
import pytest

from kith_client import Client, points
from raw_http2 import RawConnection, wait_until

MIB = 1 << 20
BUDGET = 512 * MIB  # KITH_GRPC_REQUEST_BYTES_MAX
SLACK = 256 * MIB  # what the allocator keeps, connections, the api at work
SCROLL = "/kith.v1.Points/Scroll"
SCROLL_MIB = 8


def still_served(client):
    """Near its quota gRPC closes idle connections; the next try is on a new one."""
    for _ in range(10):
        try:
            assert client.search("big", [[1, 2, 3, 4]], 1)[0][0] == [4]
            return
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error
    raise AssertionError("ten tries found no connection")


@pytest.fixture
def served(kithd):
    """A server whose page of `big` is 8 MiB long, and a client of it."""
    server = kithd(config={"answer_timeout_ms": 5000}).start()
    with Client(server.address) as client:
        client.create("big", dim=4)
        payload = b'{"x":"' + b"x" * (MIB - 8) + b'"}'
        for number in range(SCROLL_MIB):
            client.upsert("big", [number], [[1, 2, 3, number]], payloads=[payload])
        yield server, client


def page_comes(client):
    """False when it was refused for want of room, or waited too long behind others."""
    try:
        request = points.ScrollRequest(collection="big", with_payload=True)
        return len(client.points.Scroll(request, timeout=10).points) > 0
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED), error
        return False


def test_unread_answers_are_bounded_and_given_up(served):
    server, client = served
    before = server.rss()
    request = points.ScrollRequest(collection="big", with_payload=True).SerializeToString()
    connections = [RawConnection(server.grpc_port) for _ in range(4)]
    for connection in connections:
        for _ in range(100):
            connection.call(SCROLL, request)
    most = 0
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        most = max(most, server.rss() - before)
        assert client.search("big", [[1, 2, 3, 4]], 1)[0][0] == [4]
    print(f"400 unread pages of {SCROLL_MIB} MiB: {most / MIB:.0f} MiB")
    assert most < BUDGET + SLACK
    server.wait_log("grpc_answer_not_read", seconds=20)
    wait_until(lambda: page_comes(client), 60, "pages are refused for ever")
    for connection in connections:
        connection.socket.close()


def test_unfinished_requests_are_bounded(served):
    server, client = served
    before = server.rss()
    connections = [RawConnection(server.grpc_port) for _ in range(32)]
    head = b"\0" + struct.pack(">I", 48 * MIB)
    streams = [(connection, connection.begin("/kith.v1.Points/Upsert")) for connection in connections]
    for connection, stream in streams:
        assert connection.push(stream, head) == len(head)
    left = [40 * MIB] * len(streams)
    content = b"\0" * 16384
    most, sent_all = 0, sum(left)
    deadline = time.monotonic() + 15
    next_look = 0
    while time.monotonic() < deadline and any(left):
        for index, (connection, stream) in enumerate(streams):
            connection.pump()
            if connection.resets or connection.is_closed:
                left[index] = 0
            for _ in range(8):
                left[index] -= connection.push(stream, content[:left[index]])
        if time.monotonic() > next_look:
            most = max(most, server.rss() - before)
            still_served(client)
            next_look = time.monotonic() + 0.5
    most = max(most, server.rss() - before)
    resets = sum(connection.resets > 0 or connection.is_closed for connection in connections)
    print(f"{sent_all / MIB:.0f} MiB of unfinished requests, {sum(left) / MIB:.0f} not sent, "
          f"{resets} given up: {most / MIB:.0f} MiB")
    assert most < BUDGET + SLACK
    still_served(client)
    for connection in connections:
        connection.socket.close()
