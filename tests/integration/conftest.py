import os
import pathlib
import random
import re
import shutil
import tempfile

import pytest

from kithd import Kithd


def pytest_addoption(parser):
    parser.addoption("--bin", required=True, help="folder with kithd and kith")
    parser.addoption("--scale", type=float, default=float(os.environ.get("KITH_TEST_SCALE", 1)),
                     help="random parts this many times as long")
    parser.addoption("--seed", type=int, default=None, help="replays a run")


def pytest_report_header(config):
    return f"seed: {seed_of(config)} (--seed or KITH_TEST_SEED replays)"


def seed_of(config):
    if not hasattr(config, "kith_seed"):
        given = config.getoption("--seed")
        if given is None:
            given = int(os.environ.get("KITH_TEST_SEED", random.SystemRandom().randrange(2**31)))
        config.kith_seed = given
    return config.kith_seed


@pytest.fixture
def seed(request):
    value = seed_of(request.config)
    print(f"seed {value}")
    return value


@pytest.fixture(scope="session")
def scale(request):
    return request.config.getoption("--scale")


@pytest.fixture(scope="session")
def bin_dir(request):
    return pathlib.Path(request.config.getoption("--bin"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for node in item.listchain():
            node.kith_failed = True


def make_folder(request, base=None):
    """Kept, with a line that says where, when something that used it failed."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="kith-it-", dir=base))

    def end():
        if getattr(request.node, "kith_failed", False):
            print(f"\nkept for {request.node.name}: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    request.addfinalizer(end)
    return folder


@pytest.fixture
def folder(request):
    return make_folder(request)


def make_kithd(request, bin_dir, folder):
    made = []

    def make(name="kithd", **options):
        server = Kithd(bin_dir, folder / name, **options)
        made.append(server)
        return server

    def end():
        for server in made:
            if server.process is not None:
                code = server.process.poll()
                server.kill()
                # A crash is a failure even where no assertion looked.
                assert code is None, f"kithd died with {code}:\n{server.log_tail()}"
    request.addfinalizer(end)
    return make


@pytest.fixture
def kithd(request, bin_dir, folder):
    """A factory of servers that belong to this test."""
    return make_kithd(request, bin_dir, folder)


@pytest.fixture(scope="module")
def server(request, bin_dir):
    """One running server for the tests of a file."""
    made = make_kithd(request, bin_dir, make_folder(request))
    return made("shared").start()


@pytest.fixture
def name(request):
    """A collection name of this test's own."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", request.node.name)[:200]
