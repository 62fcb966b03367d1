"""A real kithd process: started on free ports with a data folder, killed, stopped, restarted; its log kept.

Nothing is left running: every process started here is ended when its Kithd is closed.
"""

import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

START_SECONDS = 30
STOP_SECONDS = 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Kithd:
    """`config` are keys of kith.conf; `env` is added to the environment; `wrap` is put before the command."""

    own_session = True  # an interrupt of the caller's terminal does not reach it

    def __init__(self, bin_dir, work_dir, config=None, env=None, data_dir=None, role="standalone", host="127.0.0.1",
                 wrap=()):
        self.bin_dir = pathlib.Path(bin_dir)
        self.work_dir = pathlib.Path(work_dir)
        self.work_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir = pathlib.Path(data_dir) if data_dir else self.work_dir / "data"
        self.log_path = self.work_dir / "kithd.log"
        self.config_path = self.work_dir / "kith.conf"
        self.config = dict(config or {})
        self.env = dict(env or {})
        self.role, self.host, self.wrap = role, host, list(wrap)
        self.process = None
        self.grpc_port = self.http_port = self.node_port = 0

    @property
    def address(self):
        return f"{self.host}:{self.grpc_port}"

    def write_config(self, **changes):
        self.config.update(changes)
        lines = []
        for key, value in self.config.items():
            if isinstance(value, bool):
                text = "true" if value else "false"
            elif isinstance(value, str):
                text = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
            else:
                text = f"{value}L" if value > 2**31 - 1 else str(value)
            lines.append(f"{key} = {text};\n")
        self.config_path.write_text("".join(lines))

    def command(self):
        return [*self.wrap, str(self.bin_dir / "kithd"), "--config", str(self.config_path), "--role", self.role,
                "--data-dir", str(self.data_dir), "--http-port", str(self.http_port),
                "--grpc-port", str(self.grpc_port), "--node-port", str(self.node_port)]

    def spawn(self):
        """Starts the process without waiting for it."""
        assert self.process is None, "already running"
        if not self.grpc_port:
            self.grpc_port, self.http_port = free_port(), free_port()
        self.write_config()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KITH_")}
        environment.update(self.env)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            env=environment, start_new_session=self.own_session)
        return self

    def start(self):
        self.spawn()
        self.wait_ready()
        return self

    def http(self, path, timeout=5):
        """(status, text) of a GET."""
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.http_port}{path}", timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def wait_ready(self, seconds=START_SECONDS):
        deadline = time.monotonic() + seconds
        while True:
            if self.process.poll() is not None:
                raise AssertionError(f"kithd ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                status, text = self.http("/readyz", timeout=1)
                if status == 200:
                    return
            except OSError as error:
                status, text = None, str(error)
            if time.monotonic() > deadline:
                raise AssertionError(f"kithd is not ready after {seconds} s ({status} {text}):\n{self.log_tail()}")
            time.sleep(0.01)

    def kill(self):
        """As power loss to the process: nothing of it runs on."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self):
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            tail = self.log_tail()
            self.kill()
            raise AssertionError(f"kithd did not stop within {STOP_SECONDS} s:\n{tail}") from None
        self.process = None
        return status

    def restart(self):
        if self.process:
            self.stop()
        return self.start()

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def wait_exit(self, seconds=START_SECONDS):
        """For one that should refuse to start: its exit status."""
        status = self.process.wait(seconds)
        self.process = None
        return status

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines=40):
        return "\n".join(self.log().splitlines()[-lines:])

    def wait_log(self, text, seconds=10, count=1):
        deadline = time.monotonic() + seconds
        while self.log().count(text) < count:
            assert time.monotonic() < deadline, f"'{text}' is not in the log:\n{self.log_tail()}"
            time.sleep(0.02)

    def metric(self, name):
        """The sum of its series; 0 where there is none."""
        lines = self.http("/metrics")[1].splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def rss(self, name="Pss"):
        """Bytes of a line of smaps_rollup."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(name)
