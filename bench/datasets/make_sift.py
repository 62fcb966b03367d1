#!/usr/bin/env python3
"""Makes one million real SIFT descriptors (128-d) and their exact nearest neighbours.

The photographs are those in five of Debian's wallpaper packages, fetched with `apt-get download` and
unpacked in the cache; nothing is installed on the system. Drawings, renderings and paintings in these
packages are left out: the table PHOTOGRAPHS below was made by looking at every image. OpenCV finds SIFT
features at full size on the grey image. Base and query rows come from different photographs.

Written to $KITH_DATASETS_DIR/sift-1m (default ~/.cache/kith-datasets/sift-1m):

  base.fvecs         1,000,000 x 128 float32, each value a whole number in 0..255, no two rows equal
  queries.fvecs      10,000 x 128, from photographs that gave no base row
  groundtruth.ivecs  10,000 x 100 row numbers in base.fvecs, nearest first by L2, equal distances by lower row
  meta.json          packages, photographs, settings, seconds for each stage, sha256 of the outputs

The base is shuffled with a fixed seed, so its first N rows are a fair smaller set (whose ground truth is
another one). A run whose outputs are there does nothing. An interrupted run goes on where it was.
It takes about 5 minutes, 5 GB of memory for the largest photograph, and 1.5 GB of disk.

exit codes: 0 done, 1 something is missing (said in one sentence), 2 wrong command line, 3 --verify found a difference
"""

import argparse
import os
import pathlib
import platform
import shutil
import time

import datasets_common as common

REQUIREMENTS = ("numpy==2.2.6", "opencv-python-headless==4.12.0.88")

LOMIRI = "usr/share/backgrounds/"
LXQT = "usr/share/lxqt/wallpapers/"
MATE = "usr/share/backgrounds/mate/nature/"
PLASMA = "usr/share/wallpapers/{}/contents/images/2560x1600.jpg"

# package -> (photographs for the base, photographs for the queries)
PHOTOGRAPHS = {
    "lomiri-wallpapers-16.04": (
        [LOMIRI + name for name in (
            "Dragonfly_by_Bolly.jpg", "Picture_0B_by_freespace.jpg", "Picture_1A_by_freespace.jpg",
            "aitzgorri_by_Aitzol_Berasategi.jpg", "free_by_Peter_Nerlich.jpg", "greentock_by_Peter_Nerlich.jpg",
            "life_by_Aitzol_Berasategi.jpg", "picosdeeuropa_by_Aitzol_Berasategi.jpg",
            "seeding_by_Clements_Engelhardt.jpg", "sunset_by_Aitzol_Berasategi.jpg")],
        [LOMIRI + name for name in (
            "Bridge_by_Sander_Klootwijk.jpg", "Wine_by_Jakkub_Mede.jpg", "friends_by_Aitzol_Berasategi.jpg")]),
    "lomiri-wallpapers-20.04": ([], [LOMIRI + "Kleiber_by_Lukas_Baubkus.jpg"]),
    "lxqt-themes": (
        [LXQT + name for name in (
            "Valendas.png", "after-the-rain.jpg", "appleflower.png", "beam.png", "cloud.png", "drop.png", "flowers.png", "fog.jpg")],
        [LXQT + name for name in ("butterfly.png", "this-is-not-windows.jpg")]),
    "mate-backgrounds": (
        [MATE + name for name in (
            "Aqua.jpg", "Blinds.jpg", "Garden.jpg", "GreenMeadow.jpg", "LadyBird.jpg", "RainDrops.jpg", "Storm.jpg",
            "TwoWings.jpg", "Wood.jpg", "YellowFlower.jpg")],
        [MATE + "Dune.jpg"]),
    "plasma-workspace-wallpapers": (
        [PLASMA.format(name) for name in (
            "BytheWater", "ColorfulCups", "DarkestHour", "EveningGlow", "Grey", "Kite", "OneStandsOut", "Path", "summer_1am")],
        [PLASMA.format(name) for name in ("ColdRipple", "FallenLeaf")]),
}

BASE_COUNT = 1_000_000
QUERY_COUNT = 10_000
DIM = 128
NEIGHBOURS = 100
SEED = 20240607

# OpenCV's defaults, except the contrast threshold: at its default 0.04 the base photographs give
# 419,691 features, so fainter ones are let in too.
CONTRAST_THRESHOLD = 0.01
EDGE_THRESHOLD = 10
OCTAVE_LAYERS = 3
SIGMA = 1.6

# The squared length of a row, and so every dot product, is at most 128 * 255^2 = 8,323,200; a sum of two squared
# lengths is at most 16,646,400 < 2^24. Every value on the way to a distance is a whole number below 2^24, which
# float32 holds exactly whatever the order of the additions.
assert 2 * DIM * 255 ** 2 < 1 << 24

QUERY_BLOCK = 500
BASE_BLOCK = 50_000
BYTES_NEEDED = 2_000_000_000


def recipe(query_count):
    return {"base": BASE_COUNT, "queries": query_count, "neighbours": NEIGHBOURS, "seed": SEED, "requirements": list(REQUIREMENTS),
            "contrast_threshold": CONTRAST_THRESHOLD, "edge_threshold": EDGE_THRESHOLD, "octave_layers": OCTAVE_LAYERS,
            "sigma": SIGMA, "duplicates": "removed", "photographs": {name: list(roles) for name, roles in PHOTOGRAPHS.items()}}


def fetch_package(package, cache):
    """Returns (version, folder the package is unpacked in)."""
    common.require_tools("apt-get", "apt-cache", "dpkg-deb")
    shown = common.command_output(["apt-cache", "show", "--no-all-versions", package],
                                  f"cannot find {package} (run apt-get update; it is in Debian 12's main)")
    version = next((line.split(None, 1)[1] for line in shown.splitlines() if line.startswith("Version: ")), None)
    if version is None:
        raise common.DatasetError(f"apt-cache shows no version of {package}: run apt-get update")
    folder = cache / f"{package}_{version.replace(':', '%3a')}"
    if not folder.exists():
        downloads = cache / "downloads"
        downloads.mkdir(parents=True, exist_ok=True)
        common.command_output(["apt-get", "download", "--quiet", f"{package}={version}"],
                              f"cannot download {package} (is there a network?)", cwd=downloads)
        archive = next(downloads.glob(f"{package}_*.deb"))
        unpacked = cache / "unpacking"
        shutil.rmtree(unpacked, ignore_errors=True)
        common.command_output(["dpkg-deb", "-x", str(archive), str(unpacked)], f"cannot unpack {archive}")
        unpacked.rename(folder)
        archive.unlink()
    return version, folder


def find_photographs(cache):
    """Returns ([{package, path, role, sha256, file}], {package: version})."""
    photographs, versions = [], {}
    bar = common.Progress("packages", len(PHOTOGRAPHS))
    for number, (package, roles) in enumerate(sorted(PHOTOGRAPHS.items()), 1):
        versions[package], folder = fetch_package(package, cache)
        for role, paths in zip(("base", "query"), roles):
            for path in paths:
                file = folder / path
                if not file.exists():
                    raise common.DatasetError(f"{package} {versions[package]} has no {path}: this script knows Debian 12's version")
                photographs.append({"package": package, "path": path, "role": role, "sha256": common.file_sha256(file), "file": file})
        bar.update(number, package)
    if len({photograph["sha256"] for photograph in photographs}) != len(photographs):
        raise common.DatasetError("two of the photographs are the same file")
    return photographs, versions


def find_descriptors(photograph, work):
    """The descriptors of one photograph as uint8 rows, from `work` when an earlier run got that far."""
    import cv2
    import numpy
    kept = work / f"{photograph['sha256'][:16]}-{CONTRAST_THRESHOLD}.npy"
    if kept.exists():
        return numpy.load(kept)
    image = cv2.imread(str(photograph["file"]), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise common.DatasetError(f"OpenCV cannot read {photograph['file']}")
    sift = cv2.SIFT_create(nfeatures=0, nOctaveLayers=OCTAVE_LAYERS, contrastThreshold=CONTRAST_THRESHOLD,
                           edgeThreshold=EDGE_THRESHOLD, sigma=SIGMA)
    _, found = sift.detectAndCompute(image, None)
    found = numpy.empty((0, DIM), numpy.float32) if found is None else found
    rows = found.astype(numpy.uint8)
    if not numpy.array_equal(rows, found):
        raise common.DatasetError(f"a descriptor of {photograph['path']} is not whole numbers in 0..255")
    with common.finished_file(kept) as file:
        numpy.save(file, rows)
    return rows


def sort_out_duplicates(rows):
    """The rows without those equal to an earlier one, order kept."""
    import numpy
    _, first = numpy.unique(numpy.ascontiguousarray(rows).view(f"V{DIM}").ravel(), return_index=True)
    return rows[numpy.sort(first)]


def pick_rows(rows, count, generator, what):
    if len(rows) < count:
        raise common.DatasetError(f"the photographs gave {len(rows)} different {what} descriptors and {count} are needed")
    return rows[generator.permutation(len(rows))[:count]]


def nearest_rows(base, queries, bar=None):
    """Exact k nearest rows of `base` (uint8) for each of `queries` (uint8), ties by lower row; all sums are exact in float32."""
    import numpy
    base_norms = numpy.einsum("ij,ij->i", base, base, dtype=numpy.int64).astype(numpy.float32)
    nearest = numpy.empty((len(queries), NEIGHBOURS), numpy.int32)
    for query_first in range(0, len(queries), QUERY_BLOCK):
        block = queries[query_first:query_first + QUERY_BLOCK].astype(numpy.float32)
        # |q|^2 is the same for all rows of one query: |b|^2 - 2 q.b orders as the distance does, and is exact as well.
        minus_twice = -2 * block
        best_keys = [numpy.empty(0, numpy.int64)] * len(block)
        limits = numpy.full(len(block), numpy.inf, numpy.float32)
        for base_first in range(0, len(base), BASE_BLOCK):
            part = base[base_first:base_first + BASE_BLOCK].astype(numpy.float32)
            scores = minus_twice @ part.T
            scores += base_norms[base_first:base_first + BASE_BLOCK]
            if base_first == 0:
                limits = numpy.nextafter(numpy.partition(scores, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1], numpy.float32(numpy.inf))
            # Rows come in ascending order, so one as far as the present last neighbour loses to it: strictly nearer is enough.
            for index in range(len(block)):
                found = numpy.flatnonzero(scores[index] < limits[index])
                if len(found) == 0:
                    continue
                # One integer per candidate that orders by distance and then by row; scores are above -2^24, rows below 2^31.
                keys = ((scores[index, found].astype(numpy.int64) + (1 << 24)) << 31) | (found + base_first)
                keys = numpy.sort(numpy.concatenate((best_keys[index], keys)))[:NEIGHBOURS]
                best_keys[index] = keys
                if len(keys) == NEIGHBOURS:
                    limits[index] = float((keys[-1] >> 31) - (1 << 24))
        for index, keys in enumerate(best_keys):
            nearest[query_first + index] = keys & ((1 << 31) - 1)
        if bar:
            bar.update(min(query_first + QUERY_BLOCK, len(queries)))
    return nearest


def check_nearest(base, queries, nearest, count):
    """Compares `count` rows of the ground truth with distances summed in int64, the plain way."""
    import numpy
    for index in numpy.linspace(0, len(queries) - 1, count).astype(int):
        distances = numpy.zeros(len(base), numpy.int64)
        query = queries[index].astype(numpy.int64)
        for first in range(0, len(base), 100_000):
            difference = base[first:first + 100_000].astype(numpy.int64) - query
            distances[first:first + 100_000] = (difference * difference).sum(axis=1)
        wanted = numpy.lexsort((numpy.arange(len(base)), distances))[:NEIGHBOURS]
        if not numpy.array_equal(wanted, nearest[index]):
            raise common.DatasetError(f"the ground truth of query {index} is not what int64 arithmetic finds", common.EXIT_MISMATCH)


def make(out, query_count, keep):
    import cv2
    import numpy
    cv2.setNumThreads(1)
    common.require_space(out, BYTES_NEEDED)
    seconds = {}
    started = time.monotonic()

    photographs, versions = find_photographs(common.data_dir() / "packages")
    seconds["packages"] = round(time.monotonic() - started, 1)

    work = out / "work"
    work.mkdir(exist_ok=True)
    bar = common.Progress("SIFT features", len(photographs))
    rows = {"base": [], "query": []}
    for number, photograph in enumerate(photographs, 1):
        found = find_descriptors(photograph, work)
        photograph["descriptors"] = len(found)
        rows[photograph["role"]].append(found)
        bar.update(number, os.path.basename(photograph["path"]))
    seconds["features"] = bar.seconds()

    started = time.monotonic()
    found = {role: numpy.concatenate(parts) for role, parts in rows.items()}
    different = {role: sort_out_duplicates(every) for role, every in found.items()}
    generator = numpy.random.Generator(numpy.random.PCG64(SEED))
    base = pick_rows(different["base"], BASE_COUNT, generator, "base")
    queries = pick_rows(different["query"], query_count, generator, "query")
    common.write_vecs(out / "base.fvecs", base.astype(numpy.float32))
    common.write_vecs(out / "queries.fvecs", queries.astype(numpy.float32))
    seconds["choosing and writing"] = round(time.monotonic() - started, 1)
    for role in found:
        print(f"{role}: {len(found[role])} descriptors, {len(found[role]) - len(different[role])} equal to an earlier one left out")

    bar = common.Progress("ground truth", query_count)
    nearest = nearest_rows(base, queries, bar)
    seconds["ground truth"] = bar.seconds()
    check_nearest(base, queries, nearest, 10)
    common.write_vecs(out / "groundtruth.ivecs", nearest)

    common.write_json(out / "meta.json", {
        "name": "sift-1m", "metric": "l2", "dim": DIM, "recipe": recipe(query_count),
        "outputs": common.describe_outputs(out, ("base.fvecs", "queries.fvecs", "groundtruth.ivecs")),
        "packages": versions,
        "images": {role: sum(photograph["role"] == role for photograph in photographs) for role in rows},
        "descriptors_found": {role: len(every) for role, every in found.items()},
        "duplicates_left_out": {role: len(found[role]) - len(different[role]) for role in found},
        "photographs": [{key: value for key, value in photograph.items() if key != "file"} for photograph in photographs],
        "opencv": cv2.__version__, "numpy": numpy.__version__, "machine": platform.machine(), "seconds": seconds})
    if not keep:
        shutil.rmtree(work)
    for stage, value in seconds.items():
        print(f"{stage}: {value} s")


def verify(out):
    import numpy
    common.verify_outputs(out)
    base = common.read_vecs(out / "base.fvecs", "<f4")
    queries = common.read_vecs(out / "queries.fvecs", "<f4")
    nearest = common.read_vecs(out / "groundtruth.ivecs", "<i4")
    for name, rows in (("base", base), ("queries", queries)):
        if rows.min() < 0 or rows.max() > 255 or not numpy.array_equal(rows, numpy.rint(rows)):
            raise common.DatasetError(f"{name}.fvecs has values that are not whole numbers in 0..255", common.EXIT_MISMATCH)
    check_nearest(base, queries, nearest, 10)
    print("10 rows of the ground truth: as int64 arithmetic finds them")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=QUERY_COUNT, metavar="N",
                        help=f"how many queries, each with its ground truth (1..{QUERY_COUNT}, default {QUERY_COUNT})")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of the matrix products (default 1); SIFT itself uses one")
    parser.add_argument("--keep", action="store_true", help="keep the folder work/ with the descriptors of each photograph")
    parser.add_argument("--force", action="store_true", help="make the outputs again although they are there")
    parser.add_argument("--verify", action="store_true",
                        help="make nothing: check the outputs' sha256 against meta.json and ten rows of the ground truth against int64 arithmetic")
    arguments = parser.parse_args()
    if not 1 <= arguments.queries <= QUERY_COUNT:
        parser.error(f"--queries {arguments.queries} is not in 1..{QUERY_COUNT}")
    if arguments.threads < 1:
        parser.error(f"--threads {arguments.threads} is not at least 1")

    out = common.data_dir() / "sift-1m"
    if not arguments.verify and not arguments.force and common.outputs_complete(out, recipe(arguments.queries)):
        print(f"{out} is complete (--verify checks it, --force makes it again)")
        return
    common.enter_venv(REQUIREMENTS, arguments.threads)
    if arguments.verify:
        verify(out)
    else:
        make(out, arguments.queries, arguments.keep)
        print(f"done: {out}")


if __name__ == "__main__":
    common.run_main(main)
