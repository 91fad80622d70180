"""The type of a side file survives the garbage collector: a crash there would take the whole consumer with it."""

import subprocess
import sys

from tests.conftest import REPOSITORY


def test_a_collection_after_reading_a_side_file_does_not_crash() -> None:
    code = (
        "import gc; from pathlib import Path; from engine.side_files import read_side_file;"
        "read_side_file(Path('models/aerial-vehicle.onnx')); gc.collect()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False, capture_output=True)

    assert done.returncode == 0
