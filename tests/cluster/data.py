"""Real vectors (bench/datasets) and how they are loaded."""

import os
import pathlib

import numpy as np

from cluster import retrying

DATASETS = pathlib.Path(__file__).resolve().parents[2] / "bench" / "datasets"
CACHE = pathlib.Path(os.environ.get("KITH_DATASETS_DIR", pathlib.Path.home() / ".cache" / "kith-datasets"))
BATCH = 1000


def fvecs(path):
    raw = np.memmap(path, dtype="<f4", mode="r")
    dim = int(raw[:1].view("<i4")[0])
    return raw.reshape(-1, dim + 1)[:, 1:]


def small():
    """(metric, base, queries): 6,500 texts of 384 dimensions."""
    folder = DATASETS / "debian-packages"
    return "cosine", np.load(folder / "vectors.npy").astype("<f4"), np.load(folder / "queries.npy").astype("<f4")


def million():
    """(metric, base, queries): SIFT."""
    return "l2", fvecs(CACHE / "sift-1m" / "base.fvecs"), fvecs(CACHE / "sift-1m" / "queries.fvecs")[:100]


def load(client, name, base, metric, shards):
    retrying(lambda: client.create(name, dim=base.shape[1], metric=metric, shards=shards))
    for first in range(0, len(base), BATCH):
        ids = range(first, min(first + BATCH, len(base)))
        request_id = client.request_id()
        retrying(lambda: client.upsert(name, ids, base[first:first + BATCH], request_id=request_id), seconds=120)
