"""Seen from outside, by strace: whatever a list of other files says, no decoder opens one or calls anybody."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.hostile_media import lists_of_other_files
from tests.media import Container, write_video

FORMS_MIN = 40
DECODES = """
import pathlib, sys
from contracts.failures import Failure
from engine.growing_file import GrowingFile, MediumFile
from engine.sandbox import Sandbox
from engine.video import VideoLimits
sandbox, refused = Sandbox(), 0
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        with GrowingFile(MediumFile(path=path)) as source, sandbox.open_video(source, limits=VideoLimits()):
            pass
    except Failure as failure:
        refused += failure.code.value in ("unsupported_media", "unreadable_media")
sandbox.close()
print("refused", refused)
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_decoder_opens_another_file_or_calls_anybody(tmp_path: Path) -> None:
    neighbour = write_video(tmp_path / "neighbour.ts", frames=3, container=Container.TS)
    (folder := tmp_path / "lists").mkdir()
    forms = list(lists_of_other_files(neighbour, port=9))
    for form in forms:
        (folder / form.name).write_bytes(form.content)
    seen = tmp_path / "seen"
    command = ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2,socket,connect,sendto,sendmsg", "-o", str(seen)]
    done = subprocess.run(
        [*command, sys.executable, "-c", DECODES, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        timeout=300,
    )

    calls = seen.read_text().splitlines()
    assert f"refused {len(forms)}" in done.stdout
    assert len(forms) >= FORMS_MIN
    assert sum(f'"{folder}/' in call for call in calls) == len(forms), "each of them once"
    assert [call for call in calls if "neighbour" in call and f'"{folder}/' not in call] == []
    called = [call for call in calls if "AF_INET" in call or "connect(" in call]
    assert [call for call in called if "nscd" not in call] == [], "who is asked for the name of our user"
