"""A client that speaks just enough HTTP/2 (RFC 9113) to misbehave in ways that no gRPC library lets it."""

import select
import socket
import struct
import time

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
FRAME_BYTES = 16384


def frame(kind, flags, stream, content=b""):
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def literal(name, value):
    """A header that enters no table (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


class RawConnection:
    """Reads only in `pump`; lets the server send `window` bytes of each answer."""

    def __init__(self, port, window=0):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.next_stream = 1
        self.resets = 0
        self.is_closed = False
        self.room = {0: 65535}
        self.stream_room = 65535
        self.unread = b""
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, window)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, settings))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def begin(self, method):
        """Starts a call; its number."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        headers = [(":method", "POST"), (":scheme", "http"), (":path", method), (":authority", "x"),
                   ("te", "trailers"), ("content-type", "application/grpc")]
        self.socket.sendall(frame(HEADERS, END_HEADERS, stream, b"".join(literal(*one) for one in headers)))
        self.room[stream] = self.stream_room
        return stream

    def call(self, method, message):
        """A call with one short message, whole."""
        stream = self.begin(method)
        content = b"\0" + struct.pack(">I", len(message)) + message
        self.socket.sendall(frame(DATA, END_STREAM, stream, content))

    def push(self, stream, content):
        """Sends as much of `content` as the server lets it at once; how much that was."""
        count = min(len(content), self.room[0], self.room[stream], FRAME_BYTES)
        if count <= 0 or self.is_closed or not select.select([], [self.socket], [], 0)[1]:
            return 0
        try:
            self.socket.sendall(frame(DATA, 0, stream, content[:count]))
        except OSError:
            self.is_closed = True
            return 0
        self.room[0] -= count
        self.room[stream] -= count
        return count

    def pump(self):
        """Handles what the server sent; does not wait."""
        while not self.is_closed and select.select([self.socket], [], [], 0)[0]:
            try:
                more = self.socket.recv(1 << 16)
            except OSError:
                more = b""
            self.is_closed = not more
            self.unread += more
        while len(self.unread) >= 9 + (bytes_of := int.from_bytes(self.unread[:3], "big")):
            kind, flags, stream = struct.unpack(">BBI", self.unread[3:9])
            content, self.unread = self.unread[9:9 + bytes_of], self.unread[9 + bytes_of:]
            self.handle(kind, flags, stream, content)

    def handle(self, kind, flags, stream, content):
        if kind == WINDOW_UPDATE and stream in self.room:
            self.room[stream] += struct.unpack(">I", content)[0]
        elif kind == RST_STREAM:
            self.resets += 1
        elif kind == SETTINGS and not flags & ACK:
            self.socket.sendall(frame(SETTINGS, ACK, 0))
            for key, value in struct.iter_unpack(">HI", content):
                if key == INITIAL_WINDOW_SIZE:
                    self.widen(value - self.stream_room)

    def widen(self, more):
        self.stream_room += more
        for stream in self.room:
            if stream:
                self.room[stream] += more


def wait_until(true, seconds, what):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
