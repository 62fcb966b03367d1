"""Bytes that changed on the disk are found and named, and never served as if they were data."""

import pathlib
import random
import shutil
import struct
import time

import grpc
import numpy as np
import pytest

from kith_client import Client, assert_exact
from kithd import Kithd

DIM = 32
ROWS = 4200  # enough for codes (host/index/segment_codes.h)


def matrix_of(rows):
    return np.random.default_rng(9).standard_normal((rows, DIM)).astype("<f4")


@pytest.fixture(scope="module")
def pristine(request, bin_dir, tmp_path_factory):
    """A data folder with one collection in one sealed segment, and another collection beside it."""
    server = Kithd(bin_dir, tmp_path_factory.mktemp("pristine"),
                   config={"segment_seal_rows": ROWS, "segment_seal_idle_ms": 50, "log_retain_bytes": 0})
    request.addfinalizer(server.kill)
    server.start()
    matrix = matrix_of(ROWS)
    with Client(server.address) as client:
        client.create("c", dim=DIM)
        client.upsert("c", range(ROWS), matrix, payloads=[b'{"row": %d}' % i for i in range(ROWS)])
        client.create("other", dim=2)
        client.upsert("other", [1], [[1, 2]])
        wait_sealed(client)
    assert server.stop() == 0
    return server.data_dir


def wait_sealed(client):
    deadline = time.monotonic() + 20
    while True:
        info = client.describe("c")
        if info.segments_sealed >= 1 and info.segments_sealed == info.segments or time.monotonic() > deadline:
            assert info.segments_sealed >= 1, info
            return
        time.sleep(0.05)


@pytest.fixture
def damaged(kithd, pristine):
    """A server over a copy of the folder, not started."""
    server = kithd(config={"segment_seal_idle_ms": 60000})
    shutil.copytree(pristine, server.data_dir)
    return server


def segment_of(server):
    """The largest one: the collection with thousands of points."""
    return max(server.data_dir.rglob("*.seg"), key=lambda path: path.stat().st_size)


def log_of(server):
    return sorted(server.data_dir.rglob("log-*.kith"))[-1]


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def is_named(server, path):
    """Either kithd refuses to start and names the file, or it starts, says DATA_LOSS with the file's name, shows it in
    health, and serves the other collection."""
    server.spawn()
    try:
        server.wait_ready()
    except AssertionError:
        assert server.process.poll() not in (None, 0), f"neither ready nor ended:\n{server.log_tail()}"
        server.process = None
        assert path.name in server.log(), server.log_tail()
        return
    with Client(server.address) as client:
        matrix = matrix_of(ROWS)
        with pytest.raises(grpc.RpcError) as refusal:
            for _ in range(3):
                assert_exact(client.search("c", matrix[:50], 10, strict=True), "l2", range(ROWS), matrix, matrix[:50], 10)
            for point in client.scroll("c", payload=True, vectors=True):
                assert point.payload == b'{"row": %d}' % point.id.number
                assert point.vectors[0].values == matrix[point.id.number].tobytes()
            raise AssertionError(f"a flipped byte of {path.name} was not found")
        assert refusal.value.code() == grpc.StatusCode.DATA_LOSS, refusal.value
        assert path.name in refusal.value.details(), refusal.value.details()
        assert client.describe("c").health != "ok"
        assert client.search("other", [[1, 2]], 1)[0][0] == [1]
    assert path.name in server.log()


def sections_of(data):
    """{what: (offset, bytes)} of a segment file: header, each section, table and trailer (segment_file.h)."""
    table, count = struct.unpack_from("<QI", data, len(data) - 32)
    places = {"header": (0, 64), "table": (table, count * 32), "trailer": (len(data) - 32, 32)}
    for i in range(count):
        kind, field, offset, size = struct.unpack_from("<IIQQ", data, table + i * 32)
        places[f"section {kind}/{field}"] = (offset, size)
        places[f"padding behind {kind}/{field}"] = (offset + size, -(offset + size) % 64)
    return places


def test_a_flipped_byte_in_any_part_of_a_segment_is_found(damaged, seed):
    segment = segment_of(damaged)
    pristine = segment.read_bytes()
    rng = random.Random(seed)
    places = sections_of(pristine)
    assert sum(1 for what in places if what.startswith("section")) >= 4, places
    assert {"section 19/0", "section 20/0"} <= places.keys(), "the field has codes"
    for what, (offset, size) in places.items():
        if size == 0:
            continue
        for at in {offset, offset + size - 1, offset + rng.randrange(size)}:
            segment.write_bytes(pristine)
            flip(segment, at)
            print(f"{what}, byte {at}")
            is_named(damaged, segment)
            damaged.kill()
            damaged.log_path.unlink()


@pytest.mark.parametrize("keep", [0, 1, 100, 0.3, 0.99, -1])
def test_a_cut_segment_is_found(damaged, keep):
    segment = segment_of(damaged)
    data = segment.read_bytes()
    cut = keep if isinstance(keep, int) and keep >= 0 else len(data) + keep if isinstance(keep, int) else int(len(data) * keep)
    segment.write_bytes(data[:cut])
    is_named(damaged, segment)


def test_a_missing_segment_is_found(damaged):
    segment = segment_of(damaged)
    segment.unlink()
    is_named(damaged, segment)


@pytest.fixture
def with_log(kithd):
    """A folder whose log holds three hundred acknowledged writes that are sealed nowhere."""
    server = kithd(config={"segment_seal_idle_ms": 60000, "log_retain_bytes": 1 << 30})
    server.start()
    with Client(server.address) as client:
        client.create("c", dim=DIM)
        for i in range(0, 300):
            client.upsert("c", [i], matrix_of(300)[i:i + 1])
    server.kill()
    return server


@pytest.mark.parametrize("place", [0.1, 0.4, 0.7])
def test_a_flipped_byte_of_the_log_is_found_and_not_cut_away(with_log, place):
    log = log_of(with_log)
    data = log.read_bytes()
    used = len(data.rstrip(b"\0"))
    flip(log, int(used * place))
    with_log.spawn()
    with pytest.raises(AssertionError):
        with_log.wait_ready()
    assert with_log.process.poll() not in (None, 0), "it must not serve without what it acknowledged"
    with_log.process = None
    assert log.name in with_log.log()
    # The file is as it was: an operator can still save it.
    assert len(log.read_bytes().rstrip(b"\0")) == used


def test_a_torn_last_write_is_dropped_and_the_rest_is_there(with_log):
    log = log_of(with_log)
    used = len(log.read_bytes().rstrip(b"\0"))
    with open(log, "ab") as file:
        file.truncate(used)
        file.seek(used)
        file.write(b"\0" * 2048)
    with_log.start()
    with Client(with_log.address) as client:
        assert client.count("c") == 300


def test_a_missing_log_file_is_found(kithd):
    """The oldest file goes while what it holds is sealed nowhere."""
    server = kithd(config={"segment_seal_idle_ms": 60000, "log_file_bytes": 65536, "log_retain_bytes": 1 << 30})
    server.start()
    with Client(server.address) as client:
        client.create("c", dim=DIM)
        for i in range(0, 3000, 50):
            client.upsert("c", range(i, i + 50), np.ones((50, DIM)))
    server.kill()
    logs = sorted(server.data_dir.rglob("log-*.kith"))
    assert len(logs) >= 3
    logs[1].unlink()
    server.spawn()
    with pytest.raises(AssertionError):
        server.wait_ready()
    assert server.process.poll() not in (None, 0)
    server.process = None
    assert "log file 2 is missing" in server.log()


def test_other_files_in_the_folder_do_no_harm(damaged):
    (damaged.data_dir / "README").write_text("someone's note")
    for folder in [path for path in damaged.data_dir.rglob("*") if path.is_dir()]:
        (pathlib.Path(folder) / "lost+found").mkdir(exist_ok=True)
    damaged.start()
    with Client(damaged.address) as client:
        assert client.count("c") == ROWS
