"""A server and the GPU's plugin, on a machine with or without a GPU."""

import shutil

import pytest


@pytest.mark.parametrize("folder_of", ["build", "another"])
def test_the_plugin_beside_the_server_is_loaded(kithd, bin_dir, tmp_path, folder_of):
    if not (bin_dir / "libkith_cuda.so").exists():
        pytest.skip("libkith_cuda.so was not built: no nvcc")
    folder = bin_dir
    if folder_of == "another":  # as a package puts them
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in ("kithd", "libkith_cuda.so"):
            shutil.copy(bin_dir / name, folder / name)
    server = kithd(config={"compute_backend": "auto"})
    server.bin_dir = folder
    server.start()
    line = next(line for line in server.log().splitlines() if "event=compute_backend " in line)
    assert "no cuda device: " in line or "a GPU is there" in line, line
