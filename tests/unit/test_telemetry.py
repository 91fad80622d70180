"""Nobody is told what the engine does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from detections.model_files import SHIPPED_MODELS
from engine.telemetry import silence
from tests.conftest import REPOSITORY

RUNS = f"from engine.models import open_model; open_model(__import__('pathlib').Path({str(SHIPPED_MODELS)!r}, 'aerial-vehicle.onnx'))"
CONVERTS = "from pathlib import Path; from engine.precision import in_half; in_half(Path({!r}))"


@pytest.mark.parametrize("code", [RUNS, CONVERTS.format(str(SHIPPED_MODELS / "aerial-vehicle.onnx"))])
def test_onnxruntime_writes_no_id_and_queues_nothing_for_its_makers(tmp_path: Path, code: str) -> None:
    said = ("ORT_", "CI", "GITHUB_", "BUILD_", "TF_")  # it keeps quiet where it finds itself tested
    environ = {name: value for name, value in os.environ.items() if not name.startswith(said)}
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(tmp_path))
    nowhere = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}  # should it speak all the same

    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=environ | places | nowhere, check=True)

    assert [str(path) for path in tmp_path.rglob("*")] == []


def test_whoever_wants_to_be_heard_is() -> None:
    environ = {"ORT_DISABLE_TELEMETRY": "0"}
    silence(environ)

    assert environ == {"ORT_DISABLE_TELEMETRY": "0"}
