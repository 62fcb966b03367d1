"""The data sets of bench/run.sh exact: found, or made, and read where they lie."""

import dataclasses
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "datasets"))
import datasets_common as common  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Source:
    maker: tuple       # script and options in bench/datasets
    takes: str
    base: str
    queries: str
    metrics: tuple     # the first is measured unless --metric names others
    whole: bool        # whole numbers: sums of squares are exact in any order


SOURCES = {
    "sift-1m": Source(("make_sift.py",), "5 minutes", "base.fvecs", "queries.fvecs", ("l2",), True),
    "debian-text-384": Source(("make_debian_packages.py", "--all"), "50 minutes", "base.npy", "queries.npy", ("cosine", "ip"), False),
}


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Vector i is the `dim` f32 at offset + i * stride bytes of the file."""
    path: pathlib.Path
    offset: int
    stride: int
    count: int
    dim: int

    def spec(self):
        return f"{self.path}:{self.offset}:{self.stride}"

    def view(self):
        return strided(self.spec(), self.count, self.dim)


def strided(spec, count, dim):
    """[count][dim] f32 of FILE:OFFSET:STRIDE, mapped."""
    import numpy
    path, offset, stride = spec.rsplit(":", 2)
    mapped = numpy.memmap(path, dtype=numpy.uint8, mode="r")
    return numpy.ndarray((count, dim), "<f4", buffer=mapped, offset=int(offset), strides=(int(stride), 4))


def open_vectors(path, rows_most):
    import numpy
    if path.suffix == ".npy":
        array = numpy.load(path, mmap_mode="r")
        if array.dtype != numpy.dtype("<f4") or array.ndim != 2 or not array.flags.c_contiguous:
            raise common.DatasetError(f"{path} is not rows of little-endian float32")
        count, dim = array.shape
        return Vectors(path, array.offset, 4 * dim, min(count, rows_most), dim)
    dim = int(numpy.fromfile(path, "<i4", count=1)[0])
    return Vectors(path, 4, 4 + 4 * dim, min(path.stat().st_size // (4 + 4 * dim), rows_most), dim)


def is_made(name):
    # Its maker writes meta.json last.
    return (common.data_dir() / name / "meta.json").exists()


def make_missing(names):
    for name in names:
        if is_made(name):
            continue
        source = SOURCES[name]
        command = f"bench/datasets/{' '.join(source.maker)}"
        print(f"{common.data_dir() / name} is not there: making it with {command}, about {source.takes} "
              "(goes on where it was when interrupted)", flush=True)
        if subprocess.run([sys.executable, ROOT / "bench" / "datasets" / source.maker[0], *source.maker[1:]]).returncode != 0:
            raise common.DatasetError(f"{command} failed: see above, then run it by itself, or leave the set out with --sets")


def open_set(name, rows_most):
    """(base, queries)"""
    folder, source = common.data_dir() / name, SOURCES[name]
    return open_vectors(folder / source.base, rows_most), open_vectors(folder / source.queries, 1 << 20)
