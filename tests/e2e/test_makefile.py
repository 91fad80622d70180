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


WRITES_ITS_ENVIRONMENT = "#!/bin/sh\nenv >>asked\n"
ALONE = "mkdir one-at-a-time && sleep 0.3 && rmdir one-at-a-time\n"
"""Fails beside another one, as apt-get does."""


def make(folder: Path, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    shutil.copy(REPOSITORY / "Makefile", folder)
    environ = {**os.environ, **environ}
    environ.pop("MAKEFLAGS", None)
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def test_names_that_run_nothing_are_passed_over(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    put(tools, "python3", BROKEN)
    put(tools, "python3.13", OLD)
    put(tools, "python3.12", SOUND)

    done = make(tmp_path, ".venv/.venv", "PYTHON=", PATH=f"{tools}:/usr/bin:/bin")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".venv" / "bin" / "python").exists()
    assert done.stderr == ""


def test_what_the_caller_set_for_another_python_is_not_heard(tmp_path: Path) -> None:
    """With it pip finds libraries elsewhere, or puts them there, and the environment stays empty."""
    (tmp_path / ".venv").mkdir()
    put(tmp_path / ".venv" / "bin", "python", WRITES_ITS_ENVIRONMENT)
    for name in (".venv/.venv", "requirements.lock", "compose/requirements-build.lock", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    elsewhere = {name: str(tmp_path) for name in ("PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")}

    done = make(tmp_path, ".venv/.product", PIP_USER="1", PIP_TIMEOUT="7", **elsewhere)

    assert done.returncode == 0, done.stderr
    asked = {line.partition("=")[0] for line in (tmp_path / "asked").read_text().splitlines()}
    assert asked & {"PIP_USER", "PIP_TIMEOUT", *elsewhere} == {"PIP_TIMEOUT"}


def test_system_packages_are_installed_one_after_the_other(tmp_path: Path) -> None:
    for name in ("rabbitmq", "chromium"):
        put(tmp_path / "compose", f"install-{name}.sh", ALONE)

    done = make(tmp_path, "-j2", "rabbitmq", "chromium")

    assert (done.returncode, done.stderr) == (0, "")
