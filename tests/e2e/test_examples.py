"""Every example runs, as its first lines say, against a live system."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from detections.local import LocalStack
from tests.conftest import REPOSITORY
from tests.media import GREEN, RED, Square, write_image, write_video

pytestmark = pytest.mark.e2e

FOUND = {path.stem for path in (REPOSITORY / "examples").glob("*.py")}
SQUARES = (Square(rgb=RED, x=8, dx=1), Square(rgb=GREEN, x=100))


def example(name: str, *arguments: object) -> list[str]:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "examples" / f"{name}.py", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_example_is_run_here() -> None:
    assert sorted(FOUND) == ["count_by_label", "engine_alone", "while_uploading"]


def test_while_uploading(stack: LocalStack, tmp_path: Path) -> None:
    said = example("while_uploading", write_video(tmp_path / "clip.mp4", squares=SQUARES), stack.url)

    assert "00:00:00.000  red, green" in said
    assert "uploaded" in said
    assert said[-1].startswith("AIProcessed: 13 frames looked at, ")


def test_count_by_label_of_a_picture(stack: LocalStack, tmp_path: Path) -> None:
    said = example("count_by_label", write_image(tmp_path / "a.png", squares=SQUARES), stack.url)

    assert sorted(said) == ["     1 green", "     1 red"]


def test_count_by_label_of_a_video(stack: LocalStack, tmp_path: Path) -> None:
    said = example("count_by_label", write_video(tmp_path / "clip.mp4", squares=SQUARES), stack.url)

    assert {line.split()[1] for line in said} == {"red", "green"}


def test_engine_alone(scripted_model: Path, tmp_path: Path) -> None:
    picture = write_image(tmp_path / "a.png", squares=SQUARES)

    said = example("engine_alone", picture, scripted_model)

    assert [line.split()[0] for line in said] == ["red", "green"]
