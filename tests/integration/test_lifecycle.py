"""Starting, stopping, reloading; what an operator gets wrong."""

import signal
import socket
import subprocess
import threading
import time

import grpc
import numpy as np
import pytest

from kith_client import Client, assert_exact, points
from kithd import free_port

DIM = 8


def run_kithd(bin_dir, *arguments, **options):
    return subprocess.run([bin_dir / "kithd", *map(str, arguments)], capture_output=True, text=True, timeout=30, **options)


def test_sigterm_under_load_loses_nothing_acknowledged(kithd, seed):
    server = kithd(config={"segment_seal_rows": 300})
    server.start()
    acknowledged = [[] for _ in range(3)]
    errors = []

    def write(number):
        rng = np.random.default_rng(seed + number)
        with Client(server.address) as client:
            for i in range(100000):
                ids = [number * 1_000_000 + i * 5 + j for j in range(5)]
                try:
                    client.upsert("c", ids, rng.standard_normal((5, DIM)), timeout=20)
                except grpc.RpcError as error:
                    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                        errors.append(error)
                    return
                acknowledged[number].extend(ids)

    with Client(server.address) as client:
        client.create("c", dim=DIM)
    for _ in range(3):
        threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.6)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10, "clients that go on asking must not hold up a stop"
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert not errors, errors
        server.start()
        with Client(server.address) as client:
            there = {point.id.number for point in client.scroll("c", limit=10000)}
            assert set(sum(acknowledged, [])) <= there
    assert all(acknowledged)


def test_a_stopped_server_needs_no_repair(kithd):
    server = kithd().start()
    matrix = np.random.default_rng(1).standard_normal((5000, DIM)).astype("<f4")
    with Client(server.address) as client:
        client.create("c", dim=DIM, shards=4)
        client.upsert("c", range(5000), matrix)
    for _ in range(3):
        assert server.stop() == 0
        began = time.monotonic()
        server.start()
        assert time.monotonic() - began < 10
    with Client(server.address) as client:
        assert_exact(client.search("c", matrix[:10], 10), "l2", range(5000), matrix, matrix[:10], 10)


def test_the_log_of_one_collection_does_not_grow_for_ever(kithd):
    """Its creation lies in the first log file and must not keep all later ones."""
    server = kithd(config={"segment_seal_rows": 1000, "segment_seal_bytes": 1 << 20, "segment_seal_idle_ms": 200,
                           "log_file_bytes": 1 << 20, "log_retain_bytes": 0}).start()
    with Client(server.address) as client:
        client.create("c", dim=128)
        for _ in range(40):  # 20 MiB of the same points
            client.upsert_patiently("c", range(1000), np.random.rand(1000, 128))
    deadline = time.monotonic() + 30
    while len(list((server.data_dir / "log").iterdir())) > 3:
        assert time.monotonic() < deadline, sorted((server.data_dir / "log").iterdir())
        time.sleep(0.1)


def test_idle_clients_do_not_delay_a_stop(kithd):
    server = kithd().start()
    clients = [Client(server.address) for _ in range(4)]
    clients[0].create("c", dim=DIM)
    for client in clients:
        client.count("c")
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 10  # the drain allowed for calls in flight is 20 s
    for client in clients:
        client.close()


def test_streams_end_when_the_server_stops(kithd):
    """An open UpsertStream does not hold up a stop, and what it acknowledged is there."""
    server = kithd().start()
    done = threading.Event()
    with Client(server.address) as client:
        client.create("c", dim=DIM)

        def feed():
            i = 0
            while not done.is_set():
                yield client.upsert_request("c", range(i, i + 10), np.ones((10, DIM)))
                i += 10
                time.sleep(0.005)

        answered = 0
        stream = client.points.UpsertStream(feed(), timeout=60)
        began = time.monotonic()
        stopper = threading.Timer(0.5, server.process.send_signal, [signal.SIGTERM])
        stopper.start()
        try:
            for answer in stream:
                if answer.code == 0:
                    answered += answer.upsert.points
        except grpc.RpcError as error:
            assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), error
        done.set()
        assert server.process.wait(25) == 0
        assert time.monotonic() - began < 10, "an open stream must not hold up a stop"
    server.process = None
    server.start()
    with Client(server.address) as client:
        assert client.count("c") >= answered > 0


def test_sighup_reloads_and_says_what_needs_a_restart(kithd):
    server = kithd(config={"search_queue_max": 1024, "segment_seal_rows": 5000}).start()
    server.write_config(search_queue_max=77, segment_seal_rows=6000, log_level="debug")
    server.reload()
    server.wait_log("config_reloaded")
    server.wait_log("config_needs_restart")
    assert "segment_seal_rows" in server.log()
    server.config_path.write_text("search_queue_max = 0;\nno_such_key = 1;\n")
    server.reload()
    server.wait_log("config_reload_failed")
    assert "no_such_key" in server.log()
    with Client(server.address) as client:
        client.create("c", dim=2)
        assert client.count("c") == 0
    assert server.stop() == 0


def test_a_port_in_use_is_named(kithd):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for which in ("grpc_port", "http_port"):
            server = kithd(which)
            server.grpc_port, server.http_port = free_port(), free_port()
            setattr(server, which, port)
            server.spawn()
            assert server.wait_exit() == 1
            assert str(port) in server.log(), server.log()


def test_a_data_folder_has_one_process(kithd):
    first = kithd("first").start()
    second = kithd("second", data_dir=first.data_dir)
    second.spawn()
    assert second.wait_exit() == 1
    assert str(first.process.pid) in second.log() and str(first.data_dir) in second.log(), second.log()
    with Client(first.address) as client:
        client.create("c", dim=2)
    first.kill()
    second.start()
    with Client(second.address) as client:
        assert client.list() == ["c"]


def test_all_mistakes_of_a_configuration_are_reported_at_once(bin_dir, folder):
    path = folder / "bad.conf"
    path.write_text('grpc_port = 70000;\nserch_threads = 3;\nlog_level = "loud";\nsearch_timeout_ms = "soon";\n')
    result = run_kithd(bin_dir, "--config", path, "--data-dir", folder / "data")
    assert result.returncode == 2
    for words in (("grpc_port", "70000", "65535"), ("serch_threads", "search_threads"), ("log_level", "loud", "debug"),
                  ("search_timeout_ms",)):
        lines = [line for line in result.stderr.splitlines() if words[0] in line]
        assert lines and all(word in lines[0] for word in words), (words, result.stderr)
    for number in (1, 2, 3, 4):
        assert f"bad.conf:{number}" in result.stderr, result.stderr
    assert not (folder / "data").exists()


@pytest.mark.parametrize("arguments", [["--no-such-flag"], ["--grpc-port"], ["--grpc-port", "x"], ["--config", "/none"]])
def test_a_wrong_command_line_is_status_2(bin_dir, folder, arguments):
    result = run_kithd(bin_dir, "--data-dir", folder / "data", *arguments)
    assert result.returncode == 2, result
    assert result.stderr.strip()


def test_a_data_folder_that_cannot_be_made_is_named(bin_dir, folder):
    (folder / "file").write_text("")
    result = run_kithd(bin_dir, "--data-dir", folder / "file" / "data", "--grpc-port", 0, "--http-port", 0)
    assert result.returncode == 1
    assert str(folder / "file" / "data") in result.stderr


def test_printed_configuration_loads(bin_dir, folder):
    printed = run_kithd(bin_dir, "--print-config", "--http-port", 1234)
    assert printed.returncode == 0 and "http_port = 1234" in printed.stdout
    path = folder / "kith.conf"
    path.write_text(printed.stdout)
    again = run_kithd(bin_dir, "--print-config", "--config", path)
    assert again.stdout == printed.stdout


def test_environment_and_flags_override_the_file(kithd):
    server = kithd(config={"log_level": "error"}, env={"KITH_LOG_LEVEL": "info"}).start()
    server.wait_log("kithd_ready")


def test_versions_and_help_need_no_server(bin_dir):
    assert run_kithd(bin_dir, "--version").stdout.startswith("kithd ")
    text = run_kithd(bin_dir, "--help").stdout
    for flag in ("--config", "--role", "--data-dir", "--http-port", "--grpc-port", "--node-port"):
        assert flag in text


def test_a_full_queue_is_refused_at_once_with_a_hint(kithd):
    server = kithd(config={"search_queue_max": 2, "search_threads": 1}).start()
    rng = np.random.default_rng(1)
    with Client(server.address) as client:
        client.create("c", dim=64)
        for i in range(0, 60000, 10000):
            client.upsert("c", range(i, i + 10000), rng.standard_normal((10000, 64)))
        request = points.SearchRequest(collection="c", queries=rng.standard_normal((512, 64)).astype("<f4").tobytes(), k=100)
        calls = [client.points.Search.future(request, timeout=60) for _ in range(60)]
        codes = {call.code() for call in calls}
        assert codes == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}, codes
        refused = next(call for call in calls if call.code() != grpc.StatusCode.OK)
        assert "retry" in refused.details()
        assert len(client.search("c", rng.standard_normal((1, 64)), 5)[0][0]) == 5
