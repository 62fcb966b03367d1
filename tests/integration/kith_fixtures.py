"""What the suites of real processes share: options, seed, scale, a folder a test; kept when it failed. A conftest.py takes
all of it."""

import os
import pathlib
import random
import re
import shutil
import tempfile

import pytest


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


@pytest.fixture
def name(request):
    """A collection name of this test's own."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", request.node.name)[:200]
