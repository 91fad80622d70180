"""A path that the Annotations service names leads below a media root or nowhere."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts.failures import Failure, FailureCode
from contracts.media import MediumKind
from contracts.storage import Layout, MediaRecord, create_record
from edge.media_roots import MediaRoots
from edge.settings import EdgeSettings


@pytest.fixture
def roots(tmp_path: Path) -> MediaRoots:
    for name in ("videos/2026", "images", "other", "storage"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("videos/2026/a.mp4", "images/b.jpg", "other/c.mp4", "images/film.mp4"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "videos/link.mp4").symlink_to(tmp_path / "other/c.mp4")
    (tmp_path / "videos/out").symlink_to(tmp_path / "other")
    (tmp_path / "linked").symlink_to(tmp_path / "videos")
    return MediaRoots(
        EdgeSettings(
            storage_dir=str(tmp_path / "storage"),
            videos_dir=str(tmp_path / "linked"),
            images_dir=str(tmp_path / "images"),
        )
    )


@pytest.mark.parametrize(
    ("path", "root", "relative", "kind"),
    [
        ("2026/a.mp4", "videos", "2026/a.mp4", MediumKind.VIDEO),
        ("{root}/videos/2026/a.mp4", "videos", "2026/a.mp4", MediumKind.VIDEO),
        ("{root}/linked/2026/a.mp4", "videos", "2026/a.mp4", MediumKind.VIDEO),
        ("b.jpg", "images", "b.jpg", MediumKind.IMAGE),
        ("{root}/images/b.jpg", "images", "b.jpg", MediumKind.IMAGE),
        ("film.mp4", "images", "film.mp4", MediumKind.VIDEO),
    ],
)
def test_a_medium_below_a_root_is_named_by_it(
    roots: MediaRoots, tmp_path: Path, *, path: str, root: str, relative: str, kind: MediumKind
) -> None:
    medium = roots.medium("m", path.format(root=tmp_path))

    assert (medium.root, medium.path, medium.kind, medium.media_id) == (root, relative, kind, "m")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", FailureCode.FORBIDDEN_PATH),
        ("..", FailureCode.FORBIDDEN_PATH),
        ("2026/../../other/c.mp4", FailureCode.FORBIDDEN_PATH),
        ("{root}/other/c.mp4", FailureCode.FORBIDDEN_PATH),
        ("{root}/videos", FailureCode.FORBIDDEN_PATH),
        ("{root}/videosX/c.mp4", FailureCode.FORBIDDEN_PATH),
        ("/etc/passwd", FailureCode.FORBIDDEN_PATH),
        ("link.mp4", FailureCode.FORBIDDEN_PATH),
        ("out/c.mp4", FailureCode.FORBIDDEN_PATH),
        ("2026", FailureCode.FORBIDDEN_PATH),
        ("a\0.mp4", FailureCode.FORBIDDEN_PATH),
        ("{root}/storage/seal.key", FailureCode.FORBIDDEN_PATH),
        ("absent.mp4", FailureCode.MEDIUM_MISSING),
    ],
)
def test_everything_else_is_refused(roots: MediaRoots, tmp_path: Path, path: str, code: FailureCode) -> None:
    with pytest.raises(Failure) as caught:
        roots.medium("m", path.format(root=tmp_path))

    assert caught.value.code is code


def test_a_file_without_an_extension_is_known_by_its_content(roots: MediaRoots, tmp_path: Path) -> None:
    (tmp_path / "images/raw").write_bytes(b"\xff\xd8\xff" + b"\0" * 2000)
    (tmp_path / "images/text").write_bytes(b"hello")

    assert roots.medium("m", "raw").kind is MediumKind.IMAGE
    with pytest.raises(Failure) as caught:
        roots.medium("m", "text")
    assert caught.value.code is FailureCode.UNSUPPORTED_MEDIA


def test_what_came_in_here_is_found_again_by_the_path_that_the_service_was_told(
    roots: MediaRoots, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "storage")
    record = MediaRecord(
        media_id="m", name="x.mp4", kind=MediumKind.VIDEO, size_bytes=1, digest="d", created_at=datetime.now(UTC)
    )
    create_record(layout.media_record("m"), record)
    layout.source("m").write_bytes(b"x")
    medium = roots.medium("m", roots.stored_path("m"))

    assert (medium.root, medium.path, medium.kind, medium.name) == (
        "storage",
        "media/m/source",
        MediumKind.VIDEO,
        "x.mp4",
    )
    with pytest.raises(Failure):
        roots.medium("n", roots.stored_path("m"))
