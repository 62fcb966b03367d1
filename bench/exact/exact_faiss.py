"""FAISS's exact search as a process that answers commands: one line of JSON in, one out.

Started by exact_bench.py with the environment that decides threads and BLAS kernels, which are read once, at import.

  exact_faiss.py BASE ROWS QUERIES QUERY_COUNT DIM METRIC    files as FILE:OFFSET:STRIDE; METRIC: l2 or ip
  {"do": "search", "first", "batch", "k", "count", "threads", "blas_from"}  -> {"seconds", "cpu_seconds"}
  {"do": "hits", ..., "file"}                    the same; ids [count * batch][k] are written to `file` (npy)
  {"do": "about"}                                -> {"version", "options", "blas", "blas_threshold"}

blas_from: batches of at least so many queries go through BLAS; null: as FAISS decides by itself. Since pull request 5022
(2026) faiss.cvar.distance_compute_blas_threshold counts queries x dim, 128,000 as it comes; before, queries, 20. A small
number would now send even single queries through BLAS, at a third of the speed.
"""

import ctypes
import json
import pathlib
import sys
import time

import faiss
import numpy

import exact_data


def blas_core():
    """The processor that FAISS's OpenBLAS takes this one for, or None when it is another BLAS."""
    folder = pathlib.Path(faiss.__file__).resolve().parent.parent / "faiss_cpu.libs"
    for path in sorted(folder.glob("libopenblas*")):
        library = ctypes.CDLL(str(path))
        for name in ("openblas_get_corename", "openblas_get_corename64_"):
            if hasattr(library, name):
                function = getattr(library, name)
                function.restype = ctypes.c_char_p
                return function().decode()
    return None


QUERIES_MAX = 16384
BLAS_THRESHOLD = faiss.cvar.distance_compute_blas_threshold  # as it comes
BLAS_THRESHOLD_OF_QUERIES_MAX = 1000                         # a larger one counts queries x dim


class Searcher:
    def __init__(self, base, queries, metric):
        self.query_count = len(queries)
        # The first ones again at the end: a batch may begin at any query.
        self.queries = queries[numpy.arange(self.query_count + QUERIES_MAX) % self.query_count]
        self.index = {"l2": faiss.IndexFlatL2, "ip": faiss.IndexFlatIP}[metric](base.shape[1])
        for first in range(0, len(base), 65536):
            self.index.add(numpy.ascontiguousarray(base[first:first + 65536]))

    def blas_threshold(self, blas_from):
        if blas_from is None:
            return BLAS_THRESHOLD
        return blas_from * (self.index.d if BLAS_THRESHOLD > BLAS_THRESHOLD_OF_QUERIES_MAX else 1)

    def search(self, command, found=None):
        faiss.omp_set_num_threads(command["threads"])
        faiss.cvar.distance_compute_blas_threshold = self.blas_threshold(command["blas_from"])
        seconds = cpu_seconds = 0.0
        for number in range(command["count"]):
            first = (command["first"] + number * command["batch"]) % self.query_count
            queries = self.queries[first:first + command["batch"]]
            cpu_started, started = time.process_time(), time.perf_counter()
            _, ids = self.index.search(queries, command["k"])
            seconds += time.perf_counter() - started
            cpu_seconds += time.process_time() - cpu_started
            if found is not None:
                found.append(ids)
        return {"seconds": seconds, "cpu_seconds": cpu_seconds}

    def answer(self, command):
        if command["do"] == "about":
            return {"version": faiss.__version__, "options": faiss.get_compile_options().strip(), "blas": blas_core(),
                    "blas_threshold": BLAS_THRESHOLD}
        if command["do"] == "search":
            return self.search(command)
        found = []
        result = self.search(command, found)
        with open(command["file"], "wb") as file:
            numpy.save(file, numpy.concatenate(found))
        return result


def main():
    base, rows, queries, query_count, dim, metric = sys.argv[1:]
    searcher = Searcher(exact_data.strided(base, int(rows), int(dim)), exact_data.strided(queries, int(query_count), int(dim)), metric)
    for line in sys.stdin:
        print(json.dumps(searcher.answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
