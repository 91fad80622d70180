"""What ends a command that talks to the service."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.fake_edge import FakeEdge
from tests.media import write_video
from tests.processes import wait_until

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def start(*arguments: object, before: str = "") -> "subprocess.Popen[bytes]":
    """A command; before: what its shell does first."""
    command = ["sh", "-c", f'{before} exec "$@"', "sh", sys.executable, "-m", "detections", *map(str, arguments)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("number", ENDING)
def test_an_upload_that_is_ended_is_cancelled_and_nobody_waits_for_its_rest(
    tmp_path: Path, number: signal.Signals
) -> None:
    file = tmp_path / "long.ts"
    file.write_bytes(bytes(3_000_000))
    with FakeEdge() as edge:
        process = start("submit", file, "--url", edge.url, "--bytes-per-s-max", 100_000)
        wait_until(lambda: edge.uploads)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)

        assert (process.returncode, said) == (130, b"")
        assert edge.cancelled == list(edge.uploads)


@pytest.mark.parametrize("number", ENDING)
def test_a_model_that_is_not_written_to_its_end_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    clip = write_video(tmp_path / "clip.mp4", frames=100, size=(640, 480))
    process = start("models", "quantise", "aerial-vehicle", "--calibration", clip, "-o", tmp_path / "small.onnx")
    wait_until(lambda: list(tmp_path.glob(".quantising-*")))
    process.send_signal(number)
    _, said = process.communicate(timeout=60)

    assert (process.returncode, said) == (130, b"")
    assert list(tmp_path.iterdir()) == [clip]


def test_ctrl_c_that_came_while_a_dataclass_was_made_is_an_exit_code_too(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(
        "from detections.exits import ended_by_exit_code\n"
        "with ended_by_exit_code():\n"
        "    exec('raise KeyboardInterrupt')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, b"")


@pytest.mark.parametrize(("ignored", "sent", "code"), [("HUP", "HUP", None), ("INT", "TERM", 130)])
def test_who_has_a_signal_ignored_is_not_ended_by_it_and_by_others_all_the_same(
    ignored: str, sent: str, code: int | None
) -> None:
    with FakeEdge() as edge:
        process = start("watch", "--url", edge.url, before=f"trap '' {ignored};")
        wait_until(lambda: edge.last_event_ids)
        process.send_signal(getattr(signal, f"SIG{sent}"))
        if code is None:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=1)
            process.kill()
        _, said = process.communicate(timeout=30)

        assert process.returncode == (-signal.SIGKILL if code is None else code)
        assert said == b""
