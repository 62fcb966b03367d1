import pytest

from kith_fixtures import *  # noqa: F403: pytest looks for fixtures and hooks by name here
from kith_fixtures import make_folder
from kithd import Kithd


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
