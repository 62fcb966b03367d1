"""kith cluster: a cluster of processes on this machine from start to stop, and what operators see and change of it."""

import contextlib
import json
import os
import pathlib
import pty
import signal
import subprocess
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from conftest import make_folder
from kithd import Kithd, free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_SECONDS, STOP_SECONDS = 60, 40
NODE_KEYS = {"id", "name", "role", "address", "grpc_address", "http_address", "zone", "weight", "up", "draining",
             "shards", "silent_ms", "points", "vector_bytes", "disk_free_bytes", "map_version", "health",
             "started_unix_ms"}


def until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def is_running(pid):
    """A child of a process that is gone may be a zombie for whoever adopts it."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


class Up:
    """`kith cluster up`, from its ready line to its end. Whatever happens, none of its processes is left."""

    def __init__(self, bin_dir, folder, *arguments, stderr=None):
        self.bin_dir, self.dir = bin_dir, folder / "cluster"
        self.errors = folder / "up.err"
        environment = {**os.environ, "KITH_HTTP_PORT": "1"}  # no key of the environment is the nodes' business
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                [bin_dir / "kith", "cluster", "up", "--dir", self.dir, "--json", *map(str, arguments)],
                stdout=subprocess.PIPE, stderr=errors if stderr is None else stderr, stdin=subprocess.DEVNULL,
                env=environment, start_new_session=True)
        line = self.process.stdout.readline()
        self.ready = json.loads(line) if line else None
        assert self.ready, self.errors.read_text()
        self.nodes = {node["name"]: node for node in self.ready["nodes"]}

    def kith_any(self, *arguments):
        environment = {**os.environ, "KITH_SERVER": self.ready["grpc_address"]}
        return subprocess.run([self.bin_dir / "kith", *map(str, arguments)], capture_output=True, text=True,
                              timeout=120, env=environment)

    def kith(self, *arguments, expect=0):
        result = self.kith_any(*arguments)
        assert result.returncode == expect, f"{arguments}: {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    def json(self, *arguments, expect=0):
        return json.loads(self.kith(*arguments, "--json", expect=expect).stdout)

    def rest(self, path, body=None):
        """(code, answer) of REST."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.ready['http_address']}/v1/cluster/{path}", data=data,
                                         headers={"Content-Type": "application/json"} if data else {})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def node(self, name):
        return next(node for node in self.json("cluster", "nodes")["nodes"] if node["name"] == name)

    def running(self):
        return [name for name, node in self.nodes.items() if is_running(node["pid"])]

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        status = self.process.wait(STOP_SECONDS)
        assert self.running() == []
        return status

    def close(self):
        if self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.send_signal(signal.SIGTERM)
                self.process.wait(STOP_SECONDS)
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        for node in self.nodes.values():
            if is_running(node["pid"]):
                os.kill(node["pid"], signal.SIGKILL)


@pytest.fixture
def up(bin_dir, folder):
    """A factory of starts on one folder."""
    with contextlib.ExitStack() as stack:
        def start(*arguments, **options):
            return stack.enter_context(contextlib.closing(Up(bin_dir, folder, *arguments, **options)))
        yield start


@pytest.fixture(scope="module")
def cluster(request, bin_dir):
    """Two data nodes, for the tests that leave it as it was."""
    with contextlib.closing(Up(bin_dir, make_folder(request), "--nodes", 2)) as made:
        yield made


def fill(cluster, name, folder, rows=300, dim=8):
    matrix = np.random.default_rng(rows).standard_normal((rows, dim)).astype("<f4")
    np.save(folder / "points.npy", matrix)
    cluster.kith("create", name, "--dim", dim, "--metric", "l2", "--shards", 4)
    cluster.kith("load", name, folder / "points.npy")
    return matrix


# --- what it shows ----------------------------------------------------------------------------------------------------


def test_status_nodes_and_shards(cluster, folder, name):
    matrix = fill(cluster, name, folder)
    status = cluster.json("cluster", "status")
    assert set(status) == {"standalone", "map_version", "term", "leader_id", "leader_address", "problem",
                           "coordinators", "nodes", "copies_behind", "copies_moving", "copies_waiting",
                           "shards_short"}
    assert status["shards_short"] == status["copies_behind"] == status["copies_moving"] == 0
    assert not status["standalone"] and status["problem"] == "" and status["term"] > 0
    assert {node["name"]: node["role"] for node in status["nodes"]} == {
        "coordinator-1": "coordinator", "coordinator-2": "coordinator", "coordinator-3": "coordinator",
        "data-1": "data", "data-2": "data", "query-1": "query"}
    assert all(set(node) == NODE_KEYS and node["up"] and node["health"] == "ok" for node in status["nodes"])
    leaders = [one for one in status["coordinators"] if one["leader"]]
    assert len(status["coordinators"]) == 3 and all(one["voter"] for one in status["coordinators"])
    assert [one["id"] for one in leaders] == [status["leader_id"]]
    assert leaders[0]["address"] == status["leader_address"]
    shards = cluster.json("cluster", "shards", name)
    (collection,) = shards["collections"]
    assert collection["collection"] == name
    assert [shard["index"] for shard in collection["shards"]] == [0, 1, 2, 3]
    ids = {node["name"]: node["id"] for node in status["nodes"]}
    for shard in collection["shards"]:
        assert shard["up"] and shard["epoch"] >= 1
        assert shard["replicas"] == [{"node_id": ids[shard["primary"]], "node": shard["primary"], "up": True,
                                       "in_sync": True}]
    assert sorted(shard["primary"] for shard in collection["shards"]) == ["data-1"] * 2 + ["data-2"] * 2
    held = until(lambda: sum(cluster.node(one)["points"] for one in ("data-1", "data-2")) == len(matrix), 10,
                 "heartbeats with the points")
    assert held and cluster.node("data-1")["shards"] >= 2
    cluster.kith("drop", name)


def test_rest_says_the_same(cluster, folder, name):
    fill(cluster, name, folder)
    code, status = cluster.rest("status")
    assert code == 200 and set(status) == set(cluster.json("cluster", "status"))
    code, nodes = cluster.rest("nodes")
    assert code == 200 and [node["id"] for node in nodes["nodes"]] == [node["id"] for node in status["nodes"]]
    assert cluster.rest(f"shards?collection={name}") == (200, cluster.json("cluster", "shards", name))
    assert cluster.rest("shards")[1]["collections"][0]["collection"] == name
    code, refusal = cluster.rest("shards?collection=nothing")
    assert code == 404 and refusal == {"status": "NOT_FOUND", "error": 'collection "nothing" does not exist'}
    code, drained = cluster.rest("drain", {"node": "data-1"})
    assert code == 200 and drained["draining"] and drained["shards"] == 2
    code, drained = cluster.rest("drain", {"node": "data-1", "draining": False})
    assert code == 200 and not drained["draining"]
    code, refusal = cluster.rest("leave", {"node": "data-1"})
    assert code == 412 and "still holds 2 shards" in refusal["error"]
    cluster.kith("drop", name)


def test_tables_for_people(cluster, folder, name):
    fill(cluster, name, folder)
    text = cluster.kith("cluster", "status").stdout
    assert text.startswith("3 coordinators, 2 data nodes, 1 query node; coordinator-")
    assert text.count("follower") == 2 and text.count("leader") == 1
    lines = cluster.kith("cluster", "nodes").stdout.splitlines()
    assert len(lines) == 7 and lines[0].split()[:4] == ["NAME", "ID", "ROLE", "STATE"]
    lines = cluster.kith("cluster", "shards", name).stdout.splitlines()
    assert len(lines) == 5 and all(line.split()[0] == name for line in lines[1:])
    cluster.kith("drop", name)
    assert "no collections" in cluster.kith("cluster", "shards").stdout


# --- searches ---------------------------------------------------------------------------------------------------------


def test_a_search_over_the_nodes_is_exact_and_covers_all(cluster, folder, name):
    matrix = fill(cluster, name, folder)
    np.save(folder / "queries.npy", matrix[:20])
    lines = cluster.kith("search", name, "--file", folder / "queries.npy", "--k", 5, "--json",
                         "--strict").stdout.splitlines()
    assert len(lines) == 20
    distances = ((matrix[:20, None].astype("f8") - matrix[None].astype("f8")) ** 2).sum(axis=2)
    for query, line in enumerate(lines):
        answer = json.loads(line)
        assert [hit["id"] for hit in answer["hits"]] == list(np.argsort(distances[query], kind="stable")[:5])
        assert answer["coverage"] == {"shards_total": 4, "shards_answered": 4, "missing": []}
    assert cluster.json("count", name) == {
        "count": 300, "coverage": {"shards_total": 4, "shards_answered": 4, "missing": []}}
    cluster.kith("drop", name)


def test_a_lost_node_is_named_in_answers(up, bin_dir, folder, name):
    cluster = up("--nodes", 2)
    matrix = fill(cluster, name, folder)
    np.save(folder / "queries.npy", matrix[:3])
    lost = cluster.nodes["data-1"]
    missing = {shard["id"] for shard in cluster.json("cluster", "shards", name)["collections"][0]["shards"]
               if shard["primary"] == "data-1"}
    os.kill(lost["pid"], signal.SIGKILL)
    result = cluster.kith("search", name, "--file", folder / "queries.npy", "--json", expect=4)
    assert "only 2 of 4 shards answered; shard " in result.stderr and " on data-1 did not: " in result.stderr
    for line in result.stdout.splitlines():
        answer = json.loads(line)
        assert answer["coverage"]["shards_answered"] == 2 and answer["coverage"]["shards_total"] == 4
        assert {one["shard"] for one in answer["coverage"]["missing"]} == missing
        assert all(one["node"] == "data-1" and one["reason"] for one in answer["coverage"]["missing"])
        assert answer["hits"]
    assert cluster.json("count", name, expect=4)["coverage"]["shards_answered"] == 2
    strict = cluster.kith("search", name, "--file", folder / "queries.npy", "--strict", expect=1)
    assert strict.stdout == "" and "shard" in strict.stderr
    until(lambda: not cluster.node("data-1")["up"], 10, "data-1 is taken for down")
    status = cluster.kith("cluster", "status", expect=4)
    assert "data-1 is DOWN" in status.stdout and "2 shards" in status.stdout
    places = cluster.json("cluster", "shards", name)["collections"][0]["shards"]
    assert {shard["id"] for shard in places if not shard["up"]} == missing
    until(lambda: "data-1 was ended by signal 9" in cluster.errors.read_text(), 10, "up tells of it")
    # Started again by hand, as `up` says, it has what it had.
    with open(folder / "again.log", "wb") as log:
        again = subprocess.Popen([bin_dir / "kithd", "--config", lost["config"]], stdout=log, stderr=log)
    try:
        until(lambda: cluster.node("data-1")["up"] and cluster.node("data-1")["health"] == "ok", 20, "data-1 is back")
        assert cluster.json("count", name)["count"] == 300
    finally:
        again.terminate()
        again.wait(STOP_SECONDS)


# --- changes ----------------------------------------------------------------------------------------------------------


def test_a_drained_node_is_emptied_and_gets_no_new_shards(cluster, folder, name):
    fill(cluster, name, folder)
    text = cluster.kith("cluster", "drain", "data-2").stdout
    assert text == "data-2 gets no new shards; 2 shards are left on it and move to other nodes\n"
    assert cluster.node("data-2")["draining"]
    until(lambda: cluster.node("data-2")["shards"] == 0, 60, "data-2 is empty")
    assert cluster.json("count", name)["count"] == 300
    assert "0 shards are left on it\n" in cluster.kith("cluster", "drain", "data-2").stdout
    cluster.kith("create", name + ".b", "--dim", 2, "--metric", "l2", "--shards", 3)
    places = cluster.json("cluster", "shards", name + ".b")["collections"][0]["shards"]
    assert [shard["primary"] for shard in places] == ["data-1"] * 3
    prefix = cluster.node("data-2")["id"][:13]
    assert not cluster.json("cluster", "drain", prefix, "--off")["draining"]
    for one in (name, name + ".b"):
        cluster.kith("drop", one)


def test_refusals_say_why(cluster, folder, name):
    fill(cluster, name, folder)
    for arguments, says in ((("leave", "data-1"), "still holds 2 shards"),
                            (("leave", "nobody"), 'there is none called "nobody"'),
                            (("drain", "nobody"), 'there is none called "nobody"'),
                            (("drain", "nobody"), "kith cluster nodes shows them"),
                            (("drain", "query-1"), "data nodes can be drained"),
                            (("join", "127.0.0.1"), "is not HOST:PORT"),
                            (("join", f"127.0.0.1:{free_port()}"), "no coordinator answers at 127.0.0.1:"),
                            (("join", f"127.0.0.1:{cluster.nodes['data-1']['node_port']}"), "is no coordinator"),
                            (("accept-loss", "nothing", 0, "--node", "data-1", "--yes"), "does not exist"),
                            (("accept-loss", name, 9, "--node", "data-1", "--yes"), "has no shard 9; it has 0..3"),
                            (("accept-loss", name, 9, "--node", "data-1"), "has no shard 9"),
                            (("accept-loss", name, 0, "--node", "query-1", "--yes"), '"query-1" has no copy of shard 0'),
                            (("accept-loss", name, 0, "--node", "query-1"), '"query-1" has no copy of shard 0'),
                            (("shards", "nothing"), 'collection "nothing" does not exist')):
        assert says in cluster.kith("cluster", *arguments, expect=1).stderr
    assert "did you mean 'cluster drain'" in cluster.kith("cluster", "drian", "a", expect=2).stderr
    cluster.kith("drop", name)


def test_loss_is_not_accepted_by_accident(cluster, folder, name):
    """Where all is well it is said what would be lost; only --yes, or a request that spells all of it out, does it."""
    fill(cluster, name, folder)
    place = cluster.json("cluster", "shards", name)["collections"][0]["shards"][1]
    holder, other = (("data-1", "data-2") if place["primary"] == "data-1" else ("data-2", "data-1"))
    assert "needs --node" in cluster.kith("cluster", "accept-loss", name, 1, expect=2).stderr
    assert "is not a whole number" in cluster.kith("cluster", "accept-loss", name, "x", "--node", holder, expect=2).stderr
    said = cluster.kith("cluster", "accept-loss", name, 1, "--node", holder, expect=2)
    assert f"{holder} would be its primary" in said.stdout and "nothing was done; --yes does it" in said.stderr
    assert cluster.rest("accept-loss", {"collection": name, "node": holder})[0] == 400
    code, refusal = cluster.rest("accept-loss", {"collection": name, "shard": 1, "node": other})
    assert code == 412 and f'there is one on "{holder}"' in refusal["error"]
    assert cluster.json("cluster", "shards", name)["collections"][0]["shards"][1] == place
    assert "IN SYNC" not in cluster.kith("cluster", "shards", name).stdout
    for times in range(2):  # the second time nothing changes
        code, now = cluster.rest("accept-loss", {"collection": name, "shard": 1, "node": holder})
        assert code == 200 and now == {**place, "epoch": place["epoch"] + 1}, times
    assert cluster.json("count", name)["count"] == 300
    cluster.kith("drop", name)


@contextlib.contextmanager
def coordinator(bin_dir, folder, name, coordinators=None, **config):
    """One more, on its own; `coordinators` None: it alone."""
    own = Kithd(bin_dir, folder / name, role="coordinator")
    own.grpc_port, own.http_port, own.node_port = free_port(), free_port(), free_port()
    own.node_address = f"127.0.0.1:{own.node_port}"
    own.config = {"node_name": name, "cluster_name": "local", "coordinators": coordinators or own.node_address,
                  **config}
    try:
        yield own.spawn()
    finally:
        own.kill()


def test_a_coordinator_joins_and_leaves(cluster, bin_dir, folder):
    known = ", ".join(one["address"] for one in cluster.json("cluster", "status")["coordinators"])
    with coordinator(bin_dir, folder, "coordinator-4", known) as own:
        address = own.node_address
        until(lambda: "coordinator-4" in [node["name"] for node in cluster.json("cluster", "nodes")["nodes"]], 20,
              "it has reported")
        text = cluster.kith("cluster", "join", address).stdout
        assert f"{address} has joined; 4 coordinators" in text and "an even number" in text
        assert len(cluster.json("cluster", "status")["coordinators"]) == 4
        assert "was in it already" in cluster.kith("cluster", "join", address).stdout
        own.wait_ready()
        own.stop()
        until(lambda: not cluster.node("coordinator-4")["up"], 10, "it is taken for down")
        assert cluster.kith("cluster", "leave", "coordinator-4").stdout == "coordinator-4 (coordinator) has left\n"
    status = cluster.json("cluster", "status")
    assert len(status["coordinators"]) == 3
    assert "coordinator-4" not in [node["name"] for node in status["nodes"]]


def test_a_coordinator_of_another_cluster_is_refused(cluster, bin_dir, folder):
    with coordinator(bin_dir, folder, "alone") as own:
        own.wait_ready()
        assert "is of another cluster" in cluster.kith("cluster", "join", own.node_address, expect=1).stderr


def test_without_a_majority_status_says_so_and_changes_are_refused(up):
    cluster = up("--nodes", 1)
    paused = [cluster.nodes[f"coordinator-{i}"]["pid"] for i in (1, 2)]
    for pid in paused:
        os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: cluster.kith_any("cluster", "status").returncode == 1, 20, "nobody leads")
        status = cluster.kith("cluster", "status", expect=1)
        assert "PROBLEM: " in status.stdout
        status = cluster.json("cluster", "status", expect=1)
        assert status["problem"] and {node["name"] for node in status["nodes"]} >= {"data-1", "query-1"}
        refusal = cluster.kith("cluster", "drain", "data-1", "--timeout", 3, expect=1)
        assert "leader" in refusal.stderr
    finally:
        for pid in paused:
            os.kill(pid, signal.SIGCONT)
    until(lambda: cluster.kith_any("cluster", "status").returncode == 0, 20, "all is well again")


# --- its life ---------------------------------------------------------------------------------------------------------


def places(shards):
    """Which node has which shard; whoever leads one begins an epoch as it starts."""
    return [[(shard["id"], sorted(replica["node"] for replica in shard["replicas"])) for shard in each["shards"]]
            for each in shards["collections"]]


def test_a_second_start_goes_on_with_the_same_data(up, folder, name):
    first = up("--nodes", 2)
    fill(first, name, folder)
    before = first.json("cluster", "shards", name)
    assert first.stop(signal.SIGINT) == 0
    terminal, end = pty.openpty()
    second = up(stderr=end)
    os.close(end)
    assert second.json("count", name)["count"] == 300
    assert places(second.json("cluster", "shards", name)) == places(before)
    assert {name: node["node_port"] for name, node in first.nodes.items()} == {
        name: node["node_port"] for name, node in second.nodes.items()}
    assert second.stop() == 0
    assert b"of 6 nodes are ready" in os.read(terminal, 65536)
    os.close(terminal)
    for node in second.nodes.values():  # a stop in good order warns of nothing
        assert "accept() failed" not in pathlib.Path(node["log"]).read_text()


def test_a_start_does_not_wait_for_a_coordinator_that_left(up):
    first = up("--nodes", 1)
    first.kith("cluster", "leave", "coordinator-3")
    assert first.stop() == 0
    second = up()
    assert len(second.json("cluster", "status")["coordinators"]) == 2
    assert second.stop() == 0


def test_one_folder_is_one_cluster(cluster, bin_dir):
    result = subprocess.run([bin_dir / "kith", "cluster", "up", "--dir", cluster.dir], capture_output=True, text=True,
                            timeout=60)
    assert result.returncode == 1 and str(cluster.process.pid) in result.stderr
    assert cluster.running() == list(cluster.nodes)


def test_wrong_starts_are_refused(up, bin_dir, folder):
    def refused(*arguments, expect):
        result = subprocess.run([bin_dir / "kith", "cluster", "up", *map(str, arguments)], capture_output=True,
                                text=True, timeout=60, cwd=folder)
        assert result.returncode == expect, result.stderr
        return result.stderr
    assert "--nodes 17" in refused("--nodes", 17, expect=2)
    assert "above" in refused("--port", 65500, expect=2)
    assert "cannot be run" in refused("--kithd", folder / "nothing", expect=2)
    first = up("--nodes", 2)
    assert first.stop() == 0
    assert "some of its shards would be missing" in refused("--dir", first.dir, "--nodes", 1, expect=2)
    assert "cannot change that" in refused("--dir", first.dir, "--port", 9000, expect=2)


def test_no_node_outlives_it(up):
    cluster = up("--nodes", 1)
    cluster.process.kill()
    cluster.process.wait()
    until(lambda: cluster.running() == [], STOP_SECONDS, "the nodes have ended")


# --- alone, examples, certificates ------------------------------------------------------------------------------------


def test_a_standalone_server_is_a_cluster_of_one(server, bin_dir):
    def kith(*arguments, expect=0):
        result = subprocess.run([bin_dir / "kith", "cluster", *arguments, "--server", server.address],
                                capture_output=True, text=True, timeout=60)
        assert result.returncode == expect, result.stderr
        return result
    status = json.loads(kith("status", "--json").stdout)
    assert status["standalone"] and status["coordinators"] == [] and status["problem"] == ""
    (node,) = status["nodes"]
    assert set(node) == NODE_KEYS and node["role"] == "standalone" and node["up"] and node["health"] == "ok"
    assert node["grpc_address"] == server.address and node["disk_free_bytes"] > 0 and node["started_unix_ms"] > 0
    assert kith("status").stdout.startswith("a standalone server: a cluster of one; map version ")
    assert "a cluster of one" in kith("drain", node["id"], expect=1).stderr
    code, text = server.http("/v1/cluster/nodes")
    assert code == 200 and json.loads(text)["nodes"][0]["id"] == node["id"]


@pytest.mark.parametrize("role", ["coordinator", "data", "query"])
def test_the_example_of_each_role_is_a_configuration(bin_dir, role):
    printed = subprocess.run([bin_dir / "kithd", "--config", ROOT / "conf" / f"{role}.conf", "--print-config"],
                             capture_output=True, text=True, timeout=30)
    assert printed.returncode == 0, printed.stderr
    assert f'role = "{role}";' in printed.stdout and 'node_ca_file = "/etc/kith/ca.crt";' in printed.stdout


def test_certificates(bin_dir, folder):
    def certs(*arguments, expect=0):
        result = subprocess.run([bin_dir / "kith", "cluster", "certs", "--dir", folder / "certs", *arguments],
                                capture_output=True, text=True, timeout=60)
        assert result.returncode == expect, result.stderr
        return result
    made = json.loads(certs("--cluster", "local", "one", "two", "--json").stdout)
    assert made["ca_made"] and made["nodes"] == ["one", "two"]
    ca = (folder / "certs" / "ca.crt").read_text()
    assert not json.loads(certs("--cluster", "local", "three", "--json").stdout)["ca_made"]
    assert (folder / "certs" / "ca.crt").read_text() == ca
    for name in ("ca", "one", "two", "three"):
        assert (folder / "certs" / f"{name}.key").stat().st_mode & 0o777 == 0o600
    assert "would take the place" in certs("ca", expect=2).stderr
    assert "is not a UUID" in certs("one=two", expect=2).stderr
    assert "node name" in certs("../one", expect=2).stderr
    files = {f"node_{key}_file": str(folder / "certs" / name) for key, name in
             (("ca", "ca.crt"), ("cert", "one.crt"), ("key", "one.key"))}
    with coordinator(bin_dir, folder, "one", **files) as own:
        own.wait_ready()
