"""What the data set scripts share: the cache folder, their virtual environment, progress and errors.

Only the standard library is imported at the top, so that a script can print its --help, and say in one
sentence what is missing, on a machine that has nothing but python3.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import time

EXIT_FAILED = 1    # something on this machine or on the network is missing
EXIT_USAGE = 2     # argparse's own code: the command line is wrong
EXIT_MISMATCH = 3  # --verify found outputs that are not what meta.json says

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


class DatasetError(Exception):
    """One sentence for the person who ran the script."""

    def __init__(self, message, exit_code=EXIT_FAILED):
        super().__init__(message)
        self.exit_code = exit_code


def run_main(main):
    """Runs main(), turning what it raises into one line on stderr and an exit code."""
    try:
        main()
    except DatasetError as error:
        sys.stdout.flush()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("\ninterrupted: nothing half-written counts as done, run the same command to go on", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        print(f"error: {error.filename or 'write'}: {error.strerror}", file=sys.stderr)
        sys.exit(EXIT_FAILED)


def data_dir():
    """KITH_DATASETS_DIR, or ~/.cache/kith-datasets."""
    named = os.environ.get("KITH_DATASETS_DIR")
    return pathlib.Path(named).expanduser().absolute() if named else pathlib.Path.home() / ".cache" / "kith-datasets"


def require_tools(*tools):
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        raise DatasetError(f"{', '.join(missing)} not found: this script reads Debian packages, run it on Debian or Ubuntu")


def require_space(path, bytes_needed):
    path.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path).free
    if free < bytes_needed:
        raise DatasetError(f"{path} has {free / 1e9:.1f} GB free and this needs {bytes_needed / 1e9:.1f} GB; "
                           "set KITH_DATASETS_DIR to a larger disk")


def command_output(arguments, what, cwd=None):
    """stdout of a command; in the error when it fails, the first line that it marks as one, or else its last."""
    done = subprocess.run(arguments, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                          env={**os.environ, "LC_ALL": "C.UTF-8"})
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()] or ["no message"]
        marked = [line for line in lines if line.startswith(("E: ", "ERROR: "))]
        raise DatasetError(f"{what}: {arguments[0]} exited {done.returncode}: {(marked or lines[-1:])[0]}")
    return done.stdout


def enter_venv(requirements, threads):
    """Goes on inside the cache's virtual environment, made and filled first when it has to be.

    Returns in the process that has the packages; the first call replaces the process with it. `requirements` are
    exact pins and are installed without their dependencies, so that the list is the whole list.
    """
    venv = data_dir() / "venv"
    python = venv / "bin" / "python"
    venv.parent.mkdir(parents=True, exist_ok=True)
    stamp = venv / ("installed-" + hashlib.sha256("\n".join(requirements).encode()).hexdigest()[:16])
    with open(venv.parent / "venv.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # A venv outlives the python it was made with when the system moves to another one.
        if not python.exists() or subprocess.run([python, "-c", ""], stderr=subprocess.DEVNULL).returncode != 0:
            shutil.rmtree(venv, ignore_errors=True)
            print(f"making a virtual environment in {venv}", flush=True)
            command_output([sys.executable, "-m", "venv", str(venv)],
                           "cannot make a virtual environment (on Debian: apt-get install python3-venv)")
        if not stamp.exists():
            print(f"installing {' '.join(requirements)}", flush=True)
            command_output([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                            *requirements], "cannot install from PyPI (is there a network?)")
            stamp.touch()
    wanted = {variable: str(threads) for variable in THREAD_VARIABLES}
    if pathlib.Path(sys.prefix).resolve() == venv.resolve() and wanted.items() <= os.environ.items():
        return
    sys.stdout.flush()
    os.execve(python, [str(python), *sys.argv], {**os.environ, **wanted})


class Progress:
    """A progress bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, title, total):
        self.title, self.total = title, max(total, 1)
        self.started = self.shown = time.monotonic()
        self.tty = sys.stdout.isatty()
        self.update(0)

    def update(self, done, note=""):
        now = time.monotonic()
        last = done >= self.total
        if not last and done > 0 and now - self.shown < (0.2 if self.tty else 10):
            return
        self.shown = now
        seconds = now - self.started
        left = f", {seconds / done * (self.total - done):.0f} s left" if 0 < done < self.total else ""
        if self.tty:
            width = 30
            bar = ("#" * (width * done // self.total)).ljust(width, ".")
            print(f"\r\033[K{self.title} [{bar}] {done}/{self.total} {seconds:.0f} s{left} {note}", end="\n" if last else "", flush=True)
        elif done > 0:
            print(f"{self.title}: {done}/{self.total}, {seconds:.0f} s{left} {note}".rstrip(), flush=True)

    def seconds(self):
        return round(time.monotonic() - self.started, 1)


def file_sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def finished_file(path):
    """A file that bears its name only once it is whole: written beside it, synced, renamed."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def write_json(path, value):
    with finished_file(path) as file:
        file.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def write_vecs(path, rows):
    """fvecs or ivecs: each row is its length as int32 and then its float32 or int32 values, little-endian."""
    import numpy
    count, dim = rows.shape
    value = {"f": "<f4", "i": "<i4"}[rows.dtype.kind]
    with finished_file(path) as file:
        for first in range(0, count, 65536):
            block = rows[first:first + 65536]
            record = numpy.empty((len(block), dim + 1), dtype="<i4")
            record[:, 0] = dim
            record[:, 1:] = numpy.ascontiguousarray(block, dtype=value).view("<i4")
            file.write(record.tobytes())


def read_vecs(path, value):
    """A view of an fvecs ('<f4') or ivecs ('<i4') file, without the lengths."""
    import numpy
    with open(path, "rb") as file:
        dim = struct.unpack("<i", file.read(4))[0]
    return numpy.memmap(path, dtype=value, mode="r").reshape(-1, dim + 1)[:, 1:]


def describe_outputs(folder, names):
    return {name: {"bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)} for name in names}


def outputs_complete(folder, recipe):
    """True when meta.json is there, was made by this recipe and every output has the size it names."""
    meta = read_meta(folder)
    return (meta is not None and meta.get("recipe") == recipe and
            all((folder / name).exists() and (folder / name).stat().st_size == output["bytes"]
                for name, output in meta["outputs"].items()))


def read_meta(folder):
    try:
        return json.loads((folder / "meta.json").read_text())
    except FileNotFoundError:
        return None


def verify_outputs(folder):
    """Compares the outputs with meta.json's checksums."""
    meta = read_meta(folder)
    if meta is None:
        raise DatasetError(f"{folder} has no meta.json: run without --verify first", EXIT_MISMATCH)
    for name, output in meta["outputs"].items():
        path = folder / name
        if not path.exists():
            raise DatasetError(f"{path} is missing: delete {folder / 'meta.json'} and run again", EXIT_MISMATCH)
        found = file_sha256(path)
        if found != output["sha256"]:
            raise DatasetError(f"{path} has sha256 {found}, meta.json says {output['sha256']}", EXIT_MISMATCH)
        print(f"{path}: sha256 ok")
    return meta
