#!/usr/bin/env python3
"""Exact search on a GPU, side by side with PyTorch on the same card in one run: bench/run.sh gpu.

kith searches one resident segment through its CUDA plugin, queries from host memory and answers back in it. PyTorch is a
matmul and a topk over vectors and queries that are on the device already, in f32, TF32 and bf16; of the low precisions the
share of the true neighbours that they find is printed, because kith's answers have all of them. Searches alternate and a
ratio is that of the medians. kith's answers to some queries are compared, bit for bit, with those of the CPU's f32 scan.

The rows are made: normal, with the mean and covariance of the SIFT descriptors (bench/datasets/make_sift.py), or, where
those are not, with a covariance whose eigenvalues fall as 1 / (1 + i / 8); the output says which. Shares are of what the
card reaches in the same run: a device-to-device copy (batch 1, counted on bytes of codes), an int8 matmul (large batches,
counted on two products a level); both need PyTorch. cublaslt_int8, for batches from 32 on, is what the scan alone would
cost with cuBLASLt: the products of all codes with both planes of the queries, written to memory and read by a filter, in
tiles of up to 65,536 rows (made-up codes of as many components; no scores, no selection, nothing moved to or from the
host).

    bench/run.sh gpu                         1M and 10M rows, 128-d: some ten minutes, 12 GB of memory
    bench/run.sh gpu --rows 100000 --seconds 0.2

With --json the file has every row measured so far, also when the run is ended early.

exit codes: 0 done, 1 there is no GPU or something else is missing (said in one sentence), 2 wrong command line, 3 an answer
differs
"""

import argparse
import concurrent.futures
import ctypes
import datetime
import json
import os
import pathlib
import platform
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BATCHES = (1, 32, 1024, 10000)
KS = (10, 100)
PEERS = ("f32", "tf32", "bf16")
METRICS = {"l2": 1, "ip": 2, "cosine": 3}
ERROR_BYTES = 512
CHECKED = 4                  # queries of each shape that the CPU answers, too
TORCH_SCORE_BYTES = 8 << 30  # of one matrix of scores; larger batches are cut
MATRIX_SIDE = 8192           # of the int8 matmul
CUBLASLT_LEAST = 32          # queries of a batch that is compared with cuBLASLt
SEED = 20261121


class BenchError(Exception):
    """One sentence for the user."""


# ---- kith -----------------------------------------------------------------------------------------------------------

class Kith:
    """libbench_gpu.so, which loads the plugin."""

    def __init__(self, build, scratch_mib):
        library = build / "bin" / "libbench_gpu.so"
        plugin = build / "bin" / "libkith_cuda.so"
        for path in (library, plugin):
            if not path.exists():
                raise BenchError(f"{path} is not there: build with nvcc on the path (cmake --preset release && cmake --build "
                                 "--preset release), or name the folder with --build")
        self.library = ctypes.CDLL(str(library))
        self.vectors = None  # the library borrows them
        self.library.bench_gpu_code_bytes.restype = ctypes.c_uint64
        self.library.bench_gpu_code_dim.restype = ctypes.c_uint32
        self.handle = ctypes.c_void_p()
        self.call("bench_gpu_open", str(plugin).encode(), ctypes.c_uint64(scratch_mib << 20), ctypes.byref(self.handle))

    def call(self, name, *arguments):
        error = ctypes.create_string_buffer(ERROR_BYTES)
        if getattr(self.library, name)(*arguments, error) != 0:
            raise BenchError(error.value.decode())

    def load(self, vectors, metric):
        began = time.monotonic()
        rows, dim = vectors.shape
        self.vectors = vectors
        self.call("bench_gpu_load", self.handle, vectors.ctypes.data_as(ctypes.c_void_p), rows, dim, METRICS[metric])
        blocks = (rows + 31) // 32
        part = max(1, blocks // (8 * os.cpu_count()))
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda begin: self.call("bench_gpu_encode", self.handle, begin, min(begin + part, blocks)),
                          range(0, blocks, part)))
        encoded = time.monotonic()
        self.call("bench_gpu_upload", self.handle)
        return {"encode_s": encoded - began, "upload_s": time.monotonic() - encoded,
                "code_dim": self.library.bench_gpu_code_dim(self.handle),
                "code_bytes": self.library.bench_gpu_code_bytes(self.handle)}

    def search(self, queries, k, on_device=True):
        import numpy
        rows = numpy.empty((len(queries), k), numpy.uint32)
        closeness = numpy.empty((len(queries), k), numpy.float64)
        totals = (ctypes.c_uint64 * 3)()
        self.call("bench_gpu_search", self.handle, queries.ctypes.data_as(ctypes.c_void_p), len(queries), k, int(on_device),
                  rows.ctypes.data_as(ctypes.c_void_p), closeness.ctypes.data_as(ctypes.c_void_p), totals)
        return rows, closeness, list(totals)

    def close(self):
        self.library.bench_gpu_close(self.handle)


class CublasLt:
    """libbench_gpu_lt.so: an int8 product and a filter, by time alone."""

    def __init__(self, build):
        path = build / "bin" / "libbench_gpu_lt.so"
        if not path.exists():
            raise BenchError(f"{path} is not there: cuBLAS' headers were missing when it was to be built")
        try:
            self.library = ctypes.CDLL(str(path))
        except OSError as error:
            raise BenchError(f"{path} cannot be loaded: {error}") from None

    def call(self, name, *arguments):
        error = ctypes.create_string_buffer(ERROR_BYTES)
        if getattr(self.library, name)(*arguments, error) != 0:
            raise BenchError(error.value.decode(errors="replace"))

    def rate(self, rows, dim, batch, repeat=5):
        """Queries a second; the median of `repeat` batches after one."""
        handle, took = ctypes.c_void_p(), ctypes.c_double()
        self.call("bench_gpu_lt_open", ctypes.c_uint64(rows), dim, batch, ctypes.byref(handle))
        try:
            seconds = []
            for _ in range(repeat + 1):
                self.call("bench_gpu_lt_run", handle, ctypes.byref(took))
                seconds.append(took.value)
            return batch / statistics.median(seconds[1:])
        finally:
            self.library.bench_gpu_lt_close(handle)


def cublaslt_measure(build, loaded, batch, kith_qps):
    """The row's entry; with the reason in the place of figures where there are none."""
    try:
        rate = CublasLt(build).rate(loaded["rows"], loaded["code_dim"], batch)
    except BenchError as error:
        return {"why_not": str(error)}
    return {"qps": rate, "ratio": kith_qps / rate}


# ---- PyTorch --------------------------------------------------------------------------------------------------------

def torch_find():
    """The module, or None and why not."""
    try:
        import torch
    except ImportError as error:
        return None, f"torch cannot be imported ({error})"
    if not torch.cuda.is_available():
        return None, "torch sees no CUDA device"
    return torch, ""


class Torch:
    """Brute force over rows that lie on the device, in one precision."""

    def __init__(self, torch, name, vectors, metric):
        self.torch, self.name, self.metric = torch, name, metric
        self.type = torch.bfloat16 if name == "bf16" else torch.float32
        rows = torch.from_numpy(vectors).cuda()
        if metric == "cosine":
            rows = torch.nn.functional.normalize(rows)
        self.squares = (rows * rows).sum(1) if metric == "l2" else None
        self.rows = rows.to(self.type)

    def search(self, queries, k):
        torch = self.torch
        torch.backends.cuda.matmul.allow_tf32 = self.name == "tf32"
        part = max(1, TORCH_SCORE_BYTES // (4 * len(self.rows)))
        found = []
        for begin in range(0, len(queries), part):
            scores = (queries[begin:begin + part] @ self.rows.T).float()
            if self.metric == "l2":
                scores.mul_(2).sub_(self.squares)
            found.append(torch.topk(scores, k, dim=1).indices)
        torch.cuda.synchronize()
        return torch.cat(found)

    def queries(self, queries):
        return self.torch.from_numpy(queries).cuda().to(self.type)


def seconds_of(torch, work, repeat=10):
    work()
    torch.cuda.synchronize()
    took = []
    for _ in range(repeat):
        began = time.monotonic()
        work()
        torch.cuda.synchronize()
        took.append(time.monotonic() - began)
    return min(took)


def said(error):
    """The first line of what PyTorch says: of memory, of an operation that this version does not have."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def peers_make(torch, vectors, metric):
    """Those that fit on the device."""
    peers = []
    for name in PEERS:
        try:
            peers.append(Torch(torch, name, vectors, metric))
        except RuntimeError as error:
            print(f"torch {name} is not measured: {said(error)}", flush=True)
    return peers


def ceilings_find(torch):
    try:
        return ceilings_measure(torch)
    except (RuntimeError, AttributeError) as error:
        print(f"shares are not measured: {said(error)}", flush=True)
        return None


def ceilings_measure(torch):
    """Bytes a second that a copy reads and writes; int8 multiply-adds a second."""
    source = torch.zeros(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copied = 2 * source.numel() / seconds_of(torch, lambda: target.copy_(source))
    a = torch.ones((MATRIX_SIDE, MATRIX_SIDE), dtype=torch.int8, device="cuda")
    b = torch.ones((MATRIX_SIDE, MATRIX_SIDE), dtype=torch.int8, device="cuda").t()
    products = MATRIX_SIDE ** 3 / seconds_of(torch, lambda: torch._int_mm(a, b))
    return {"copy_bytes_per_s": copied, "int8_products_per_s": products}


# ---- rows -----------------------------------------------------------------------------------------------------------

def statistics_find(dim):
    """Mean, a square root of the covariance, and what they are from."""
    import numpy
    path = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "kith-datasets/sift-1m/base.fvecs"
    if dim == 128 and path.exists():
        real = numpy.memmap(path, numpy.float32, "r").reshape(-1, 129)[:, 1:]
        real = numpy.asarray(real[:: max(1, len(real) // 100000)], numpy.float64)
        values, vectors = numpy.linalg.eigh(numpy.cov(real.T))
        return real.mean(0), (vectors * numpy.sqrt(values.clip(0))).T, "normal, mean and covariance of sift-1m"
    values = 1 / (1 + numpy.arange(dim) / 8)
    rotation = numpy.linalg.qr(numpy.random.default_rng(SEED).standard_normal((dim, dim)))[0]
    return numpy.zeros(dim), numpy.sqrt(values)[:, None] * rotation, "normal, eigenvalues 1 / (1 + i / 8)"


def rows_make(count, mean, root, seed):
    import numpy
    rows = numpy.empty((count, len(mean)), numpy.float32)
    part, dim = 1 << 16, len(mean)

    def fill(begin):
        generator = numpy.random.default_rng([seed, begin])
        end = min(begin + part, count)
        rows[begin:end] = generator.standard_normal((end - begin, dim), numpy.float32) @ root.astype(numpy.float32) + mean
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, range(0, count, part)))
    return rows


# ---- measuring ------------------------------------------------------------------------------------------------------

def rate_of(works, batch, seconds):
    """Queries a second of each, by the median of searches that take turns."""
    took = [[] for _ in works]
    for work in works:
        work()
    began = time.monotonic()
    while time.monotonic() - began < seconds * len(works) or len(took[0]) < 3:
        for times, work in zip(took, works):
            start = time.monotonic()
            work()
            times.append(time.monotonic() - start)
    return [batch / statistics.median(times) for times in took]


def identical(kith, queries, k, answer):
    """Whether the CPU's f32 scan gives the same bits for the first queries."""
    count = min(CHECKED, len(queries))
    rows, closeness, _ = kith.search(queries[:count], k, on_device=False)
    return bool((rows == answer[0][:count]).all() and (closeness.view("u8") == answer[1][:count].view("u8")).all())


def recall(answer, found):
    count = min(64, len(answer))
    return sum(len(set(map(int, answer[i])) & set(found[i])) for i in range(count)) / (count * answer.shape[1])


def measure(kith, torch, peers, queries, k, loaded, ceilings, options):
    batch = len(queries)
    answer = kith.search(queries, k)
    works, measured = [lambda: kith.search(queries, k)], []
    row = {"batch": batch, "k": k, "identical": identical(kith, queries, k, answer),
           "survivors": answer[2][0] / batch, "rescored": answer[2][1] / batch, "wide": answer[2][2], "peers": []}
    for peer in peers:
        entry = {"peer": f"torch {peer.name}"}
        row["peers"].append(entry)
        try:
            on_device = peer.queries(queries)
            entry["recall"] = recall(answer[0], peer.search(on_device, k).tolist())
        except RuntimeError as error:
            entry["why_not"] = said(error)
            continue
        works.append(lambda peer=peer, on_device=on_device: peer.search(on_device, k))
        measured.append(entry)
    rates = rate_of(works, batch, options.seconds)
    row["kith_qps"] = rates[0]
    for entry, rate in zip(measured, rates[1:]):
        entry.update(peer_qps=rate, ratio=rates[0] / rate)
    if batch >= CUBLASLT_LEAST:
        row["cublaslt_int8"] = cublaslt_measure(options.build, loaded, batch, rates[0])
    if ceilings and batch == 1:
        row["copy_share"] = rates[0] * loaded["code_bytes"] / ceilings["copy_bytes_per_s"]
    elif ceilings:
        row["int8_share"] = rates[0] * 2 * loaded["rows"] * loaded["code_dim"] / ceilings["int8_products_per_s"]
    return row


def row_print(row):
    peers = "".join(f"{peer['peer_qps']:>11,.0f} {peer['ratio']:>6.2f} {peer['recall']:>6.3f}" if "recall" in peer
                    else f" {peer['peer']}: {peer['why_not']};" for peer in row["peers"])
    share = row.get("copy_share", row.get("int8_share"))
    print(f"{row['rows']:>10,} {row['batch']:>6} {row['k']:>4} {row['kith_qps']:>11,.0f} {row['survivors']:>9.1f} "
          f"{'-' if share is None else format(share, '.0%'):>6} {'yes' if row['identical'] else 'NO':>4}{peers}", flush=True)
    scan = row.get("cublaslt_int8")
    if scan:
        print("           cublaslt_int8: " + (scan.get("why_not") or f"{scan['qps']:,.0f} q/s, ratio {scan['ratio']:.2f}"),
              flush=True)


def measure_rows(kith, torch, count, ceilings, options, result):
    mean, root, source = statistics_find(options.dim)
    print(f"{count:,} rows of {options.dim} dimensions, made: {source}", flush=True)
    vectors = rows_make(count, mean, root, SEED)
    queries = rows_make(max(options.batches), mean, root, SEED + 1)
    loaded = {"rows": count, "source": source, **kith.load(vectors, options.metric)}
    result["segments"].append(loaded)
    print(f"code_dim {loaded['code_dim']}, {loaded['code_bytes'] / 1e6:,.0f} MB of codes; coded in {loaded['encode_s']:.1f} s, "
          f"on the device {loaded['upload_s']:.1f} s later", flush=True)
    peers = peers_make(torch, vectors, options.metric) if torch else []
    for batch in options.batches:
        for k in options.ks:
            row = measure(kith, torch, peers, queries[:batch], k, loaded, ceilings, options)
            row = {"dataset": source, "metric": options.metric, "rows": count, "dim": options.dim, **row}
            result["rows"].append(row)
            row_print(row)
            result_write(result, options.json)


def result_write(result, path):
    if not path:
        return
    try:
        path.write_text(json.dumps(result, indent=1) + "\n")
    except OSError as error:
        raise BenchError(f"--json: {error}") from None


def whole(most):
    """A whole number in 1..most, for argparse."""
    def parse(text):
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number in 1..{most}")
        return int(text)
    return parse


def wholes(most):
    return lambda text: tuple(map(whole(most), text.split(",")))


def seconds_parse(text):
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds in 0..3600")
    return seconds


def options_parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=wholes(2**31 - 1), default=(1000000, 10000000), help="of each segment, comma-separated")
    parser.add_argument("--dim", type=whole(16384), default=128)
    parser.add_argument("--metric", choices=METRICS, default="l2")
    parser.add_argument("--batches", type=wholes(16384), default=BATCHES)
    parser.add_argument("--ks", type=wholes(16384), default=KS)
    parser.add_argument("--seconds", type=seconds_parse, default=2, help="for each of kith and its peers, a shape (default 2)")
    parser.add_argument("--scratch-mib", type=whole(1 << 20), default=1024,
                        help="of the device, for rows that survive (default 1024)")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--json", type=pathlib.Path, help="where the result goes (default: printed last, on one line)")
    options = parser.parse_args()
    if max(options.ks) > min(options.rows):
        parser.error(f"--ks: {max(options.ks)} is more than the {min(options.rows)} of --rows")
    return options


def run(options):
    try:
        import numpy  # noqa: F401
    except ImportError:
        raise BenchError("numpy cannot be imported: python3 -m pip install numpy, in a venv if you like") from None
    kith = Kith(options.build, options.scratch_mib)
    torch, why_not = torch_find()
    if not torch:
        print(f"PyTorch is not measured: {why_not}")
    ceilings = ceilings_find(torch) if torch else None
    result = {"date": datetime.date.today().isoformat(), "machine": platform.platform(),
              "device": torch.cuda.get_device_name() if torch else None, "torch": torch.__version__ if torch else None,
              "ceilings": ceilings, "segments": [], "rows": []}
    print(f"{'rows':>10} {'batch':>6} {'k':>4} {'kith q/s':>11} {'survivors':>9} {'share':>6} {'same':>4}" +
          "".join(f"{name + ' q/s':>11} {'ratio':>6} {'recall':>6}" for name in PEERS if torch))
    result_write(result, options.json)
    for count in options.rows:
        measure_rows(kith, torch, count, ceilings, options, result)
        if torch:
            torch.cuda.empty_cache()  # of the next segment, kith's part is not torch's to keep
    kith.close()
    return result


def main():
    options = options_parse()
    try:
        result = run(options)
    except BenchError as error:
        print(f"gpu_bench.py: {error}", file=sys.stderr)
        return 1
    if not options.json:
        print(json.dumps(result))
    return 0 if all(row["identical"] for row in result["rows"]) else 3


if __name__ == "__main__":
    sys.exit(main())
