"""A process as its container would have it: a folder with what the image holds, its packages, its environment, its user."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from tests.container_files import Image, below, lay_out
from tests.processes import WAIT_S, is_gone

SECRETS = "/run/secrets"
"""Where a container finds the secrets that it is given."""
VERSION = ".".join(map(str, sys.version_info[:2]))
_PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)==(\S+?)(?: ; (.*?))? \\$", re.MULTILINE)


def locked(lock: Path) -> dict[str, str]:
    """The version of every package that a lock file names for this interpreter."""
    return {
        name: version
        for name, version, marker in _PINNED.findall(lock.read_text())
        if not marker or Requirement(f"{name} ; {marker}").marker.evaluate()  # type: ignore[union-attr]
    }


class Bare:
    """The folder, below the root of what the container would see."""

    def __init__(self, root: Path, image: Image, *, lock: Path, context: Path, secrets: Mapping[str, str]) -> None:
        """lock: what is installed in it; taken from the packages of this interpreter. secrets: by their names."""
        self.root = root
        self.image = image
        self.user = int(image.user.partition(":")[0])
        lay_out(image, context=context, root=root)
        for name, secret in secrets.items():
            path = root / SECRETS.lstrip("/") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{secret}\n")
        self._code = sorted(path for path in root.rglob("*"))
        self._python = _environment(root / "venv", interpreter(self.user), packages=locked(lock))
        for path in (root, *root.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o555 if path.is_dir() else 0o444)
        self.writable = tuple(root / folder.lstrip("/") for folder in (*image.volumes, "/tmp"))
        root.chmod(0o755)
        for folder in self.writable:
            folder.mkdir()
            folder.chmod(0o700)
            if os.getuid() == 0:
                os.chown(folder, self.user, self.user)
        root.chmod(0o555)

    @property
    def changes(self) -> list[Path]:
        """What was written where an image can't be written to."""
        roots = (self.root / "venv", *self.writable)
        now = sorted(path for path in self.root.rglob("*") if not any(path.is_relative_to(each) for each in roots))
        return sorted(set(now) ^ set(self._code))

    def environ(self, said: Mapping[str, str]) -> dict[str, str]:
        """The image's, with what its container is told."""
        return below(self.root, self.image.environ | said, ("/app", "/run", "/tmp", "/venv", *self.image.volumes))

    @contextmanager
    def running(self, said: Mapping[str, str], *, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
        """The image's command; killed at the end if it still runs."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._command(self.image.entrypoint), **self._as_the_container(said), stdout=output, stderr=output
            )
        try:
            yield process
        finally:
            if not is_gone(process.pid):
                process.kill()
            process.wait(WAIT_S)

    def run(self, command: tuple[str, ...], said: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
        """Another command beside it, as a health check."""
        return subprocess.run(
            self._command(command),
            **self._as_the_container(said),
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    def _as_the_container(self, said: Mapping[str, str]) -> dict[str, object]:
        user = {"user": self.user, "group": self.user, "extra_groups": []} if may_be(self.user) else {}
        return {"cwd": self.root / self.image.folder.lstrip("/"), "env": self.environ(said), **user}

    def _command(self, command: tuple[str, ...]) -> list[str]:
        assert command[0] == "python"
        return [str(self._python), *command[1:]]


@contextmanager
def folder() -> Iterator[Path]:
    """One that every user can enter, unlike those of pytest."""
    root = Path(tempfile.mkdtemp(prefix="bare-"))
    root.chmod(0o755)
    try:
        yield root
    finally:
        for path in root.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(root, ignore_errors=True)


def interpreter(user: int) -> str:
    """A Python of this version, without packages of ours, that this user may run."""
    ours = sys._base_executable
    found = [path for path in (ours, f"/usr/bin/python{VERSION}") if _can_run(path, user)]
    return found[0] if found else ours


def may_be(user: int) -> bool:
    """Whether a process of ours may be another user's, and that one finds a Python and our packages."""
    if os.getuid() != 0:
        return False
    packages = Path(metadata.distribution("msgspec").locate_file("msgspec"))
    return _can_run(interpreter(user), user, "import os, sys; os.listdir(sys.argv[1])", str(packages))


def _can_run(path: str, user: int, code: str = "", *arguments: str) -> bool:
    as_user = {"user": user, "group": user, "extra_groups": []} if os.getuid() == 0 else {}
    try:
        done = subprocess.run(
            [path, "-c", code, *arguments], capture_output=True, timeout=WAIT_S, check=False, cwd="/", **as_user
        )
    except OSError:
        return False
    return done.returncode == 0


def _environment(folder: Path, python: str, *, packages: Iterable[str]) -> Path:
    """The interpreter of a virtual environment that has these packages, as links to what is installed here."""
    site = folder / "lib" / f"python{VERSION}" / "site-packages"
    site.mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(python)
    (folder / "pyvenv.cfg").write_text(f"home = {Path(python).parent}\ninclude-system-site-packages = false\n")
    for name in packages:
        _link(metadata.distribution(name), site)
    return folder / "bin" / "python"


def _link(distribution: metadata.Distribution, folder: Path) -> None:
    """Show what a package installed, and nothing of the others; a namespace is shared whole."""
    tops = {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}
    for top in tops:
        if not (folder / top).is_symlink():
            (folder / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())
