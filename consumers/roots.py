"""Where a medium lies: a path below one of the configured roots, and nowhere else."""

import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from consumers.settings import ConsumerSettings
from contracts.failures import Failure, FailureCode
from contracts.media import Medium

LATE_FILE_S = 0.2
"""A shared disk may show a new file a moment after its command."""


class Roots:
    """The media roots of the settings by name."""

    def __init__(self, roots: Mapping[str, Path]) -> None:
        self._roots = {name: Path(os.path.realpath(path)) for name, path in roots.items()}

    def resolve(self, medium: Medium) -> Path:
        """The absolute path of a medium.

        Raises `Failure`: `forbidden_path` for what leaves its root (`..`, absolute, a symbolic link on the way) or is no
        regular file, `medium_missing`.
        """
        root = self._roots.get(medium.root)
        if root is None:
            raise Failure(FailureCode.FORBIDDEN_PATH, f"no media root {medium.root!r} here")
        parts = PurePosixPath(medium.path).parts
        if not parts or "\0" in medium.path or ".." in parts or parts[0].startswith("/"):
            raise Failure(FailureCode.FORBIDDEN_PATH, f"{medium.path!r} leaves its root")
        path = root.joinpath(*parts)
        if Path(os.path.realpath(path)) != path:
            raise Failure(FailureCode.FORBIDDEN_PATH, f"{medium.path!r} goes over a symbolic link")
        if not stat.S_ISREG(_mode(path, medium.path)):
            raise Failure(FailureCode.FORBIDDEN_PATH, f"{medium.path!r} is no regular file")
        return path


def roots_of(settings: ConsumerSettings) -> Roots:
    """The roots that the settings name."""
    named = {"storage": settings.storage_dir, "videos": settings.videos_dir, "images": settings.images_dir}
    return Roots({name: Path(path) for name, path in named.items() if path})


def _mode(path: Path, shown: str) -> int:
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        time.sleep(LATE_FILE_S)
    except (OSError, ValueError) as error:
        raise Failure(FailureCode.FORBIDDEN_PATH, f"{shown!r}: {error}") from error
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Failure(FailureCode.MEDIUM_MISSING, f"{shown!r} is not there") from error
