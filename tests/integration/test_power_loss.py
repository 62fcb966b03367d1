"""Power loss, not only the end of a process: what was written but not synced is gone. The data folder is rebuilt from
the content that each file and folder had at its last sync (powerloss.c), and every acknowledged write must be in it."""

import os
import pathlib
import random
import shutil
import subprocess

import pytest

from kith_client import Client
from test_durability import DIM, Writer, run_writers, verify

LOSSES = 12


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    made = tmp_path_factory.mktemp("powerloss") / "powerloss.so"
    source = pathlib.Path(__file__).with_name("powerloss.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", made, source, "-ldl"], check=True)
    return made


def rebuild(root_inode, shadow, target):
    """What the disk has after the power failed: names as of each folder's last sync, content as of each file's."""
    target.mkdir()
    listing = shadow / str(root_inode)
    if not listing.exists():
        return
    for line in listing.read_text().splitlines():
        inode, kind, name = line.split(" ", 2)
        if kind == "d":
            rebuild(inode, shadow, target / name)
        elif (shadow / inode).exists():
            shutil.copy(shadow / inode, target / name)
        else:
            (target / name).touch()


def lose_power(server, shadow):
    """The process is dead; its folder becomes what was synced. Inodes are new afterwards, so is the shadow."""
    rebuilt = server.work_dir / "rebuilt"
    rebuild(server.data_dir.stat().st_ino, shadow, rebuilt)
    shutil.rmtree(server.data_dir)
    rebuilt.rename(server.data_dir)
    shutil.rmtree(shadow)
    shadow.mkdir()
    # What survived is on the disk: it counts as synced.
    for path in [server.data_dir, *server.data_dir.rglob("*")]:
        inode = shadow / str(path.stat().st_ino)
        if path.is_dir():
            inode.write_text("".join(f"{entry.stat().st_ino} {'d' if entry.is_dir() else 'f'} {entry.name}\n"
                                     for entry in path.iterdir()))
        else:
            shutil.copy(path, inode)


def test_every_acknowledged_write_survives_power_loss(kithd, library, folder, seed, scale):
    shadow = folder / "shadow"
    shadow.mkdir()
    probe = kithd("probe")
    if b"libasan" in subprocess.run(["ldd", probe.bin_dir / "kithd"], capture_output=True).stdout:
        pytest.skip("a preloaded library and AddressSanitizer do not go together")
    server = kithd(config={"segment_seal_rows": 150, "segment_seal_idle_ms": 200, "log_file_bytes": 65536,
                           "log_retain_bytes": 0})
    server.env.update(LD_PRELOAD=str(library), KITH_POWER_ROOT=str(server.data_dir), KITH_POWER_SHADOW=str(shadow))
    server.start()
    rng = random.Random(seed)
    writers = [Writer(number, seed, "power") for number in range(3)]
    with Client(server.address) as client:
        client.create("power", dim=DIM)
    losses = max(1, int(LOSSES * scale))
    for _ in range(losses):
        run_writers(server, writers, rng.uniform(0.05, 0.8))
        lose_power(server, shadow)
        server.start()
        with Client(server.address) as client:
            verify(client, "power", writers)
    print(f"{losses} losses of power, {sum(writer.acknowledged for writer in writers)} acknowledged writes")
    server.kill()
    lose_power(server, shadow)
    server.start()
    with Client(server.address) as client:
        verify(client, "power", writers)


def test_the_layer_does_lose_what_is_not_synced(library, folder):
    """The test's own test: a file and a name without a sync are gone."""
    root, shadow = folder / "root", folder / "shadow"
    root.mkdir()
    shadow.mkdir()
    program = """
import os, sys
root = sys.argv[1]
def write(name, data, sync):
    fd = os.open(os.path.join(root, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, data)
    if sync: os.fsync(fd)
    os.close(fd)
write("kept", b"one", True)
write("empty", b"lost", False)
fd = os.open(root, os.O_RDONLY)
os.fsync(fd)
write("kept", b"two", False)
write("nameless", b"lost", True)
"""

    subprocess.run(["python3", "-c", program, root], check=True, env={
        **os.environ, "LD_PRELOAD": str(library), "KITH_POWER_ROOT": str(root), "KITH_POWER_SHADOW": str(shadow)})
    rebuild(root.stat().st_ino, shadow, folder / "after")
    assert {path.name: path.read_bytes() for path in (folder / "after").iterdir()} == {"kept": b"one", "empty": b""}
