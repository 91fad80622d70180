"""The Makefile's way to an interpreter: a name on the PATH is no proof of one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.e2e

BROKEN = "#!/bin/sh\necho 'version not installed' >&2\nexit 127\n"
OLD = "#!/bin/sh\nexit 1\n"
"""What the question for 3.11 gets from an older one."""
SOUND = f"""#!/bin/sh
case "$*" in "-m venv "*) set -- "$@" --without-pip;; esac  # which takes most of the time, and nothing looks for it
exec "{sys.executable}" "$@"
"""


def put(folder: Path, name: str, content: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(content)
    (folder / name).chmod(0o755)


def make_venv(folder: Path, tools: Path) -> "subprocess.CompletedProcess[str]":
    shutil.copy(REPOSITORY / "Makefile", folder)
    environ = {**os.environ, "PATH": f"{tools}:/usr/bin:/bin"}
    environ.pop("MAKEFLAGS", None)
    command = ["make", ".venv/.venv", "PYTHON="]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def test_names_that_run_nothing_are_passed_over(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    put(tools, "python3", BROKEN)
    put(tools, "python3.13", OLD)
    put(tools, "python3.12", SOUND)

    done = make_venv(tmp_path, tools)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".venv" / "bin" / "python").exists()
    assert done.stderr == ""
