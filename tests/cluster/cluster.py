"""A cluster of real processes: coordinators, data and query nodes, each a Kithd; and clients that retry as documented."""

import os
import pathlib
import re
import signal
import socket
import threading
import time

import grpc

from kith_client import Client
from kithd import Kithd

PORTS_FIRST, PORTS_END, PORTS_BLOCK = 10000, 32000, 200
# CANCELLED, of what was not cancelled: gRPC says so of calls that come in while the server stops.
RETRY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED)
NOTICE_SECONDS = 3  # within which a failure is noticed at the default settings
LEADERSHIP = re.compile(r"event=leadership leader=(\S*) term=(\d+) here=(yes|no)")


def ports_of_blocks():
    """Ports below those that the kernel gives to connections, which could take that of a node while it is down. The first of
    a block stays bound while this process lives, so that runs side by side take different ones."""
    guards = []
    for first in range(PORTS_FIRST, PORTS_END, PORTS_BLOCK):
        guard = socket.socket()
        try:
            guard.bind(("127.0.0.1", first))
        except OSError:
            guard.close()
            continue
        guards.append(guard)
        yield from range(first + 1, first + PORTS_BLOCK)


PORTS = ports_of_blocks()


def until(condition, seconds, what):
    """The first true value of `condition()`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what() if callable(what) else what}"
        time.sleep(0.01)


def retrying(call, seconds=30):
    """As the .proto files say, with back-off; nothing else is repeated."""
    deadline = time.monotonic() + seconds
    pause = 0.02
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() not in RETRY or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 0.5)


class Node(Kithd):
    """One process of a cluster; on a host of its own when `machine` is given."""

    def __init__(self, bin_dir, work_dir, role, name, machine=None, config=None):
        given = {"node_name": name, "bind_address": machine.address if machine else "127.0.0.1"}
        if machine and "node_ca_file" not in (config or {}):
            given["node_insecure"] = True
        super().__init__(bin_dir, work_dir, config={**given, **(config or {})}, role=role,
                         host=given["bind_address"], wrap=machine.wrap if machine else ())
        self.name, self.machine = name, machine
        self.grpc_port, self.http_port, self.node_port = next(PORTS), next(PORTS), next(PORTS)
        self.stopped = False

    @property
    def node_address(self):
        return f"{self.host}:{self.node_port}"

    def freeze(self):
        os.kill(self.process.pid, signal.SIGSTOP)
        self.stopped = True
        until(self.all_threads_stand, 5, f"{self.name} stands still")

    def all_threads_stand(self):
        states = []
        for path in pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/stat"):
            states.append(path.read_text().rpartition(")")[2].split()[0])
        return all(state == "T" for state in states)

    def thaw(self):
        os.kill(self.process.pid, signal.SIGCONT)
        self.stopped = False

    def leaderships(self):
        """(term, address of the leader, whether it is this one), oldest first."""
        return [(int(term), leader.strip('"'), here == "yes") for leader, term, here in LEADERSHIP.findall(self.log())]

    def client(self, timeout=30):
        return Client(self.address, timeout=timeout)


class Cluster:
    """`network`: every node on a host of its own; else all on loopback."""

    def __init__(self, bin_dir, folder, coordinators=3, data=4, query=2, network=None, config=None):
        self.bin_dir, self.folder, self.network, self.config = bin_dir, folder, network, dict(config or {})
        self.nodes = []
        self.coordinators = [self.add("coordinator", f"c{i}") for i in range(coordinators)]
        self.data = [self.add("data", f"d{i}") for i in range(data)]
        self.query = [self.add("query", f"q{i}") for i in range(query)]
        addresses = ",".join(node.node_address for node in self.coordinators)
        for node in self.nodes:
            node.config["coordinators"] = addresses

    def add(self, role, name, **config):
        machine = self.network.host() if self.network else None
        node = Node(self.bin_dir, self.folder / name, role, name, machine, {**self.config, **config})
        if self.nodes:
            node.config["coordinators"] = self.nodes[0].config.get("coordinators", "")
        self.nodes.append(node)
        return node

    def start(self):
        for node in self.nodes:
            node.spawn()
        for node in self.nodes:
            node.wait_ready(60)
        return self

    def end(self):
        """Kills all; fails when one had ended by itself."""
        dead = [node for node in self.nodes if node.process is not None and node.process.poll() is not None]
        for node in self.nodes:
            node.kill()
        for node in dead:
            raise AssertionError(f"{node.name} ended by itself:\n{node.log_tail()}")

    def leader(self, seconds=10, after_term=0):
        """The coordinator that leads in the newest term that a running one knows."""
        def find():
            best = None
            for node in self.coordinators:
                if node.process is None or node.stopped:
                    continue
                said = node.leaderships()
                if said and said[-1][2] and said[-1][0] > max(after_term, best[0] if best else 0):
                    best = (said[-1][0], node)
            return best
        term, node = until(find, seconds, lambda: "no coordinator leads:\n" + "\n".join(
            f"{node.name}: {node.leaderships()[-3:]}" for node in self.coordinators))
        self.term = term
        return node

    def holder(self, name):
        """The data node of that name."""
        return next(node for node in self.data if node.name == name)


class Loop:
    """Calls `step` again and again on a thread until it is left; what it raises fails the test. `laps` are seconds."""

    def __init__(self, step):
        self.step, self.laps, self.error = step, [], None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.is_set():
            began = time.monotonic()
            try:
                self.step()
            except BaseException as error:  # told by __exit__, in the test's own thread
                self.error = error
                return
            self.laps.append(time.monotonic() - began)

    def wait_laps(self, count, seconds=60):
        """Until so many more calls have been answered."""
        before = len(self.laps)
        until(lambda: len(self.laps) >= before + count or self.error, seconds, f"{count} more calls")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.over.set()
        self.thread.join(120)
        assert not self.thread.is_alive()
        if self.error is not None and kind is None:
            raise self.error
