"""A sync that fails is not retried into a lie: writes stop, searches go on, /readyz says why, and after a restart all
that was acknowledged is there. The failure comes from a small library (faultfs.c) that is preloaded into kithd."""

import pathlib
import subprocess

import grpc
import numpy as np
import pytest

from kith_client import Client, assert_exact

DIM = 8


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    made = tmp_path_factory.mktemp("faultfs") / "faultfs.so"
    source = pathlib.Path(__file__).with_name("faultfs.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", made, source, "-ldl"], check=True)
    return made


@pytest.fixture
def faulty(kithd, library, folder):
    """(server, the control file): write a part of a path to it and syncs of such files fail."""
    if b"libasan" in subprocess.run(["ldd", kithd("probe").bin_dir / "kithd"], capture_output=True).stdout:
        pytest.skip("a preloaded library and AddressSanitizer do not go together")
    control = folder / "fault"
    server = kithd(env={"LD_PRELOAD": str(library), "KITH_FAULT_FILE": str(control)},
                   config={"segment_seal_idle_ms": 60000})
    return server.start(), control


def base(rows):
    return np.random.default_rng(rows).standard_normal((rows, DIM)).astype("<f4")


def write_until_refused(client, name, first):
    """Upserts one batch after another; returns (acknowledged ids, the refusal)."""
    matrix = base(3000)
    done = []
    for i in range(first, 3000, 10):
        try:
            client.upsert(name, range(i, i + 10), matrix[i:i + 10], timeout=10)
        except grpc.RpcError as error:
            return done, error
        done.extend(range(i, i + 10))
    raise AssertionError("no write was refused though every sync fails")


def test_a_failed_sync_of_the_log_stops_writes(faulty):
    server, control = faulty
    matrix = base(3000)
    with Client(server.address) as client:
        client.create("c", dim=DIM)
        client.upsert("c", range(100), matrix[:100])
        control.write_text("log-\n")
        done, error = write_until_refused(client, "c", 100)
        assert done == [], "acknowledged though its sync failed"
        assert error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE), error.details()
        # The disk is well again, but what it lost is not known: writes stay stopped.
        control.unlink()
        for call in (lambda: client.upsert("c", [500], matrix[:1], timeout=5),
                     lambda: client.delete("c", [1], timeout=5), lambda: client.create("d", dim=2)):
            with pytest.raises(grpc.RpcError):
                call()
        # Searches go on.
        assert_exact(client.search("c", matrix[:5], 10), "l2", range(100), matrix[:100], matrix[:5], 10)
        assert client.get("c", [7], vectors=True)[0].vectors[0].values == matrix[7].tobytes()
        status, text = server.http("/readyz")
        assert status == 503 and ("sync" in text or "log" in text), text
        assert server.http("/livez")[0] == 200
    server.stop()
    server.start()
    with Client(server.address) as client:
        there = {point.id.number for point in client.scroll("c")}
        assert set(range(100)) <= there
        assert there <= set(range(110)), "more than the one batch whose outcome was unknown"
        client.upsert("c", [2000], matrix[:1])
        assert client.count("c") == len(there) + 1


def test_nothing_is_lost_when_the_process_dies_after_a_failed_sync(faulty):
    server, control = faulty
    matrix = base(3000)
    with Client(server.address) as client:
        client.create("c", dim=DIM)
        client.upsert("c", range(300), matrix[:300])
        control.write_text("\n")
        write_until_refused(client, "c", 300)
    server.kill()
    control.unlink()
    server.start()
    with Client(server.address) as client:
        there = {point.id.number for point in client.scroll("c")}
        assert set(range(300)) <= there


def test_a_failed_sync_of_a_segment_loses_nothing(faulty):
    """Sealing fails; the rows stay in the log and in memory, and are there after a kill."""
    server, control = faulty
    server.stop()
    server.write_config(segment_seal_rows=200, segment_seal_idle_ms=100)
    server.start()
    matrix = base(3000)
    with Client(server.address) as client:
        client.create("c", dim=DIM)
        control.write_text(".seg\n")
        acknowledged = []
        for i in range(0, 1000, 50):
            try:
                client.upsert("c", range(i, i + 50), matrix[i:i + 50], timeout=10)
                acknowledged.extend(range(i, i + 50))
            except grpc.RpcError:
                break
        server.wait_log("faultfs: sync of")
        assert len(client.search("c", matrix[:1], 2000)[0][0]) >= len(acknowledged)
    server.kill()
    control.unlink()
    server.start()
    with Client(server.address) as client:
        there = {point.id.number for point in client.scroll("c")}
        assert set(acknowledged) <= there
        ids = sorted(there)
        assert_exact(client.search("c", matrix[:5], 10), "l2", ids, matrix[ids], matrix[:5], 10)
