"""Where a medium lies that the Annotations service names: below a root that the operator allows, and nowhere else.

All of it blocks.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from contracts.failures import Failure, FailureCode
from contracts.media import Medium, MediumKind, kind_by_extension
from contracts.storage import Layout, MediaRecord, read_record
from edge.settings import EdgeSettings
from edge.sniffing import SNIFFED_BYTES, kind_by_content


class MediaRoots:
    """The roots `videos` and `images` of the settings, and the media that came in here."""

    def __init__(self, settings: EdgeSettings) -> None:
        named = {"videos": settings.videos_dir, "images": settings.images_dir}
        self._named = {name: Path(path).absolute() for name, path in named.items() if path}
        self._roots = {name: Path(os.path.realpath(path)) for name, path in self._named.items()}
        self._layout = Layout(Path(os.path.realpath(settings.storage)))

    def stored_path(self, media_id: str) -> str:
        """What the Annotations service is told of a medium that came in here; `medium` finds it again by that."""
        return str(self._layout.source(media_id))

    def medium(self, media_id: str, path: str) -> Medium:
        """The medium at a path, absolute or relative to one of the roots, as a command names it.

        Raises `Failure`: `forbidden_path` for what lies elsewhere, goes over a link or is no regular file,
        `medium_missing`, `unsupported_media`.
        """
        parts = PurePosixPath(path).parts
        if not parts or "\0" in path or ".." in parts:
            raise Failure(FailureCode.FORBIDDEN_PATH, "the Annotations service names a path that leaves its root")
        stored = self._layout.source(media_id)
        record = read_record(self._layout.media_record(media_id), MediaRecord)
        if record is not None and Path(path) == stored:
            relative = stored.relative_to(self._layout.root).as_posix()
            return Medium(root="storage", path=relative, kind=record.kind, media_id=media_id, name=record.name)
        places = list(self._places(PurePosixPath(path)))
        if not places:
            raise Failure(FailureCode.FORBIDDEN_PATH, "the Annotations service names a path outside the media roots")
        root, found = next((place for place in places if os.path.lexists(place[1])), places[0])
        return self._checked(root, found, media_id)

    def _places(self, path: PurePosixPath) -> Iterator[tuple[str, Path]]:
        """Where below the roots the path may lie, by the name of the root; a relative one first below that of its kind."""
        first = "images" if kind_by_extension(path.name) is MediumKind.IMAGE else "videos"
        for name in sorted(self._roots, key=lambda name: name != first):
            if not path.is_absolute():
                yield name, self._roots[name] / path
            for root in {self._named[name], self._roots[name]}:
                if path != PurePosixPath(root) and path.is_relative_to(root):
                    yield name, self._roots[name] / path.relative_to(root)

    def _checked(self, root: str, path: Path, media_id: str) -> Medium:
        if Path(os.path.realpath(path)) != path:
            raise Failure(FailureCode.FORBIDDEN_PATH, "the path of the medium goes over a symbolic link")
        try:
            is_regular = stat.S_ISREG(path.lstat().st_mode)
        except OSError as error:
            raise Failure(FailureCode.MEDIUM_MISSING, f"the file of medium {media_id} is not there") from error
        if not is_regular:
            raise Failure(FailureCode.FORBIDDEN_PATH, f"the file of medium {media_id} is no regular file")
        return Medium(
            root=root,
            path=path.relative_to(self._roots[root]).as_posix(),
            kind=_kind(path),
            media_id=media_id,
            name=path.name,
        )


def _kind(path: Path) -> MediumKind:
    kind = kind_by_extension(path.name)
    if kind is None:
        with path.open("rb") as file:
            kind = kind_by_content(file.read(SNIFFED_BYTES))
    if kind is None:
        raise Failure(FailureCode.UNSUPPORTED_MEDIA, f"{path.name} is neither an image nor a video that is known")
    return kind
