"""Where a medium may lie."""

import os
from pathlib import Path

import pytest

from consumers import roots as roots_module
from consumers.roots import Roots, roots_of
from consumers.settings import ConsumerSettings
from contracts.failures import Failure, FailureCode
from contracts.media import Medium, MediumKind


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots_module, "LATE_FILE_S", 0.0)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    (tmp_path / "storage" / "media").mkdir(parents=True)
    (tmp_path / "storage" / "media" / "source").write_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"s")
    return tmp_path / "storage"


def refusal(roots: Roots, path: str, *, root: str = "storage") -> FailureCode:
    with pytest.raises(Failure) as refused:
        roots.resolve(Medium(root=root, path=path, kind=MediumKind.VIDEO))
    return refused.value.code


def test_a_regular_file_below_its_root_is_found(storage: Path) -> None:
    medium = Medium(root="storage", path="media/source", kind=MediumKind.VIDEO)

    assert Roots({"storage": storage}).resolve(medium) == storage / "media" / "source"


@pytest.mark.parametrize(
    "path",
    ["../secret", "media/../../secret", "media/..", "", ".", "/etc/passwd", "media/so\0urce", "media"],
)
def test_what_leaves_its_root_or_is_no_file_is_forbidden(storage: Path, path: str) -> None:
    assert refusal(Roots({"storage": storage}), path) is FailureCode.FORBIDDEN_PATH


def test_a_symbolic_link_is_forbidden_wherever_it_leads(storage: Path) -> None:
    (storage / "out").symlink_to(storage.parent / "secret")
    (storage / "inside").symlink_to(storage / "media" / "source")
    (storage / "folder").symlink_to(storage / "media")
    roots = Roots({"storage": storage})

    assert {refusal(roots, path) for path in ("out", "inside", "folder/source")} == {FailureCode.FORBIDDEN_PATH}


def test_a_pipe_is_refused_without_being_opened(storage: Path) -> None:
    os.mkfifo(storage / "pipe")

    assert refusal(Roots({"storage": storage}), "pipe") is FailureCode.FORBIDDEN_PATH


def test_an_unknown_root_is_forbidden(storage: Path) -> None:
    assert refusal(Roots({"storage": storage}), "media/source", root="videos") is FailureCode.FORBIDDEN_PATH


def test_a_file_that_is_not_there_is_missing(storage: Path) -> None:
    assert refusal(Roots({"storage": storage}), "media/gone") is FailureCode.MEDIUM_MISSING
    assert refusal(Roots({"storage": storage}), "media/source/below") is FailureCode.MEDIUM_MISSING


def test_a_name_that_no_file_system_takes_is_refused(storage: Path) -> None:
    assert refusal(Roots({"storage": storage}), "x" * 5000) is FailureCode.FORBIDDEN_PATH


def test_a_root_that_is_itself_a_link_is_the_operators_business(storage: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(storage)
    medium = Medium(root="storage", path="media/source", kind=MediumKind.VIDEO)

    assert Roots({"storage": tmp_path / "link"}).resolve(medium) == storage / "media" / "source"


def test_roots_that_are_not_set_do_not_exist(storage: Path) -> None:
    roots = roots_of(ConsumerSettings(storage_dir=str(storage), videos_dir=str(storage / "media")))

    assert roots.resolve(Medium(root="videos", path="source", kind=MediumKind.VIDEO)).name == "source"
    assert refusal(roots, "source", root="images") is FailureCode.FORBIDDEN_PATH
