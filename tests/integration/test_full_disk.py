"""A disk that is full: writes are refused with RESOURCE_EXHAUSTED, searches go on, nothing acknowledged is lost, and
writes resume by themselves when there is space again. On a small tmpfs, which needs the right to mount."""

import os
import subprocess
import time

import grpc
import numpy as np
import pytest

from kith_client import Client, assert_exact

DIM = 64
MIB = 1 << 20


@pytest.fixture
def small_disk(folder):
    point = folder / "disk"
    point.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(point)], capture_output=True)
    if made.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.decode().strip()}")
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


def fill(path, leave):
    """A file that leaves `leave` bytes free."""
    free = os.statvfs(path).f_bavail * os.statvfs(path).f_frsize
    filler = path / "filler"
    with open(filler, "wb") as file:
        block = b"\1" * MIB
        left = max(0, free - leave)
        while left > 0:
            left -= file.write(block[:min(left, MIB)])
    return filler


def write_until_full(client, matrix, first):
    """(ids acknowledged, the refusal)."""
    done = []
    for i in range(first, len(matrix), 100):
        try:
            client.upsert_patiently("c", range(i, i + 100), matrix[i:i + 100], timeout=20)
        except grpc.RpcError as error:
            return done, error
        done.extend(range(i, i + 100))
    raise AssertionError("the disk never filled")


# Below the reserve writes are refused before the disk is full; with none, the disk itself refuses.
@pytest.mark.parametrize("reserve", [8 * MIB, 0])
def test_writes_stop_and_resume(kithd, small_disk, reserve):
    server = kithd(data_dir=small_disk / "data", config={
        "disk_reserve_bytes": reserve, "log_file_bytes": MIB, "log_retain_bytes": 0, "segment_seal_rows": 2000,
        "segment_seal_idle_ms": 300, "store_memory_bytes": 8 * MIB})
    server.start()
    matrix = np.random.default_rng(4).standard_normal((100000, DIM)).astype("<f4")
    with Client(server.address) as client:
        client.create("c", dim=DIM)
        client.upsert("c", range(500), matrix[:500])
        filler = fill(small_disk, reserve + 6 * MIB)
        done, error = write_until_full(client, matrix, 500)
        ids = list(range(500)) + done
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, f"{error.code()}: {error.details()}"
        assert "space" in error.details() or "bytes are free" in error.details(), error.details()
        # Nothing that was refused is there; searches and reads go on.
        there = {point.id.number for point in client.scroll("c", limit=5000)}
        assert set(ids) <= there <= set(ids) | set(range(len(ids), len(ids) + 100))
        assert_exact(client.search("c", matrix[:3], 10), "l2", sorted(there), matrix[sorted(there)], matrix[:3], 10)
        filler.unlink()
        wait_writable(client, matrix)
        client.upsert_patiently("c", range(50000, 51000), matrix[50000:51000])
    server.kill()
    server.start()
    with Client(server.address) as client:
        there = {point.id.number for point in client.scroll("c", limit=5000)}
        assert set(ids) <= there and set(range(50000, 51000)) <= there
    assert server.stop() == 0


def wait_writable(client, matrix, seconds=20):
    deadline = time.monotonic() + seconds
    while True:
        try:
            client.upsert("c", [99999], matrix[99999:100000], timeout=5)
            return
        except grpc.RpcError as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"writes do not resume: {error.code()} {error.details()}") from None
            time.sleep(0.1)
