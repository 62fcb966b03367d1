import pytest

from cluster import Cluster
from kith_fixtures import *  # noqa: F403: pytest looks for fixtures and hooks by name here
from kith_fixtures import make_folder, pytest_addoption as shared_options
from network import Network


def pytest_addoption(parser):
    shared_options(parser)
    parser.addoption("--record", action="store_true",
                     help="as for the record: the SIFT million instead of the small set, 100 leaders killed")


@pytest.fixture(scope="session")
def record(request):
    return request.config.getoption("--record")


@pytest.fixture(scope="session")
def network_of_all():
    made = Network()
    yield made
    made.delete()


def make_cluster(request, bin_dir, folder):
    def make(**options):
        cluster = Cluster(bin_dir, folder, **options)
        request.addfinalizer(cluster.end)
        return cluster.start()
    return make


@pytest.fixture
def cluster(request, bin_dir, folder):
    """A factory of clusters that belong to this test."""
    return make_cluster(request, bin_dir, folder)


@pytest.fixture(scope="module")
def shared_folder(request):
    return make_folder(request)


@pytest.fixture(scope="module")
def shared_cluster(request, bin_dir, shared_folder):
    """The same for a file."""
    return make_cluster(request, bin_dir, shared_folder)
