"""No type of ours crashes the decoder.

msgspec 0.22 is written in C, and a union with a fixed tuple (`int | tuple[int, int]`) ends the process at the next garbage
collection. So a decoder is built for every struct of the product with the collector running at each allocation, in a process
of its own.
"""

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

BUILD_DECODERS = """
import contextlib, gc, importlib, pkgutil, sys
import msgspec
package = sys.argv[1]
for module in pkgutil.walk_packages([package], prefix=package + "."):
    if module.name.endswith("__main__"):
        continue
    for member in list(vars(importlib.import_module(module.name)).values()):
        if isinstance(member, type) and issubclass(member, msgspec.Struct):
            gc.set_threshold(1)
            with contextlib.suppress(TypeError):  # a type that is never decoded
                msgspec.json.Decoder(member)
            gc.set_threshold(700)
            print(member.__name__)
"""


@pytest.mark.parametrize("package", ["contracts", "edge", "consumers", "engine", "detections"])
def test_no_struct_crashes_the_decoder(package: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUILD_DECODERS, package], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, f"after {done.stdout.splitlines()[-1:]}: {done.stderr[-2000:]}"
