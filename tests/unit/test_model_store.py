"""Where a consumer's models come from."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from consumers.model_folder import staging_in
from consumers.model_store import KEPT_MAX, SHIPPED_MODEL, ModelStore
from contracts.events import ActiveModel
from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from engine.loading import load_detector
from engine.plans import read_plan, write_plan
from engine.trial import TrialLimits, Trials
from tests.pictures import GREY, drawn
from tests.tiny_models import put_weights_beside, write_colour_model, write_script
from tests.unit.small_disk import small_disk
from tests.unit.test_plans import CONTENT, RECORD

__all__ = ["small_disk"]

UNTRIED = TrialLimits(memory_bytes=1 << 20, cpu_s=1, wall_s=0.001)
"""An ONNX file that is tried with these fails."""


def store_in(folder: Path, *, default: str | None = None, limits: TrialLimits | None = None) -> ModelStore:
    return ModelStore(folder, trials=Trials(folder / "tried", limits=limits), default=default)


async def path_of(store: ModelStore, active: ActiveModel | None = None) -> Path:
    return (await store.find(active)).source


async def refusal(store: ModelStore, active: ActiveModel | None) -> Failure:
    with pytest.raises(Failure) as failed:
        await store.find(active)
    return failed.value


# Which model


async def test_the_shipped_model_serves_where_none_is_named_and_is_not_tried(tmp_path: Path) -> None:
    assert await path_of(store_in(tmp_path, limits=UNTRIED)) == SHIPPED_MODEL
    assert await path_of(store_in(tmp_path, limits=UNTRIED, default=str(SHIPPED_MODEL))) == SHIPPED_MODEL


async def test_the_default_is_a_file_or_a_name_in_the_folder(tmp_path: Path) -> None:
    script = write_script(tmp_path / "b.json")

    assert await path_of(store_in(tmp_path, default=str(script))) == script
    assert await path_of(store_in(tmp_path, default="b")) == script
    assert await path_of(store_in(tmp_path, default="b.json")) == script
    missing = await refusal(store_in(tmp_path, default="gone"), None)
    assert missing.code is FailureCode.MODEL_MISSING
    assert "gone.onnx" in missing.detail
    elsewhere = await refusal(store_in(tmp_path, default="no/such/b.json"), None)
    assert (elsewhere.code, elsewhere.detail) == (FailureCode.MODEL_MISSING, "no file b.json in no/such")


async def test_a_side_file_whose_model_is_gone_is_not_taken_for_the_model(tmp_path: Path) -> None:
    (tmp_path / "street.json").write_text('{"input": {"colour": "BGR"}}')

    missing = await refusal(store_in(tmp_path, default="street"), None)

    assert (missing.code, missing.detail) == (FailureCode.MODEL_MISSING, f"no file street.onnx in {tmp_path}")


async def test_nothing_is_active_until_something_was_chosen(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    assert store.active() is None
    store.activate(ActiveModel(file="a.onnx"))

    assert store.active() == ActiveModel(file="a.onnx")
    assert json.loads((tmp_path / "active.json").read_bytes()) == {"file": "a.onnx"}


@pytest.mark.parametrize("content", ["{", "[]", '{"file": 3}', '{"file": "a.onnx", "sha256": "short"}', "\xff"])
def test_an_unreadable_choice_is_a_failure_with_a_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "active.json").write_bytes(content.encode("latin-1"))

    with pytest.raises(Failure, match=r"active\.json is unreadable") as failed:
        store_in(tmp_path).active()
    assert failed.value.code is FailureCode.MODEL_MISSING


@pytest.mark.parametrize("file", ["../a.json", "/etc/passwd", "a/../../b.json", "", ".", ".."])
async def test_a_choice_stays_in_the_folder(tmp_path: Path, file: str) -> None:
    write_script(tmp_path / "a.json")
    folder = tmp_path / "models"
    folder.mkdir()

    assert (await refusal(store_in(folder), ActiveModel(file=file))).code is FailureCode.FORBIDDEN_PATH


async def test_a_choice_with_another_checksum_is_refused(tmp_path: Path) -> None:
    write_script(tmp_path / "a.json")

    failure = await refusal(store_in(tmp_path), ActiveModel(file="a.json", sha256="0" * 64))
    assert failure.code is FailureCode.MODEL_CORRUPT
    assert "0" * 64 in failure.detail


async def test_an_onnx_file_leaves_the_store_tried(tmp_path: Path) -> None:
    write_colour_model(tmp_path / "a.onnx")

    assert (await refusal(store_in(tmp_path, limits=UNTRIED), ActiveModel(file="a.onnx"))).code is (
        FailureCode.MODEL_CORRUPT
    )


# What `models use` puts there


async def test_a_model_is_put_into_a_folder_of_its_own_with_what_belongs_to_it(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = write_script(elsewhere / "colours.json")
    (elsewhere / "classes.json").write_text('[{"Id": 0, "Name": "Red"}]')
    (elsewhere / "notes.txt").write_text("not a model")
    store = store_in(tmp_path / "models")
    active = store.put(script)
    path = await path_of(store, active)

    assert path.read_bytes() == script.read_bytes()
    assert {entry.name for entry in path.parent.iterdir()} == {"colours.json", "classes.json"}
    assert active.beside == ("classes.json",)
    assert store.active() is None, "it is not chosen yet"


async def test_the_side_file_of_an_onnx_model_comes_with_it(tmp_path: Path) -> None:
    model = write_colour_model(tmp_path / "a.onnx")
    (tmp_path / "a.json").write_text('{"classes": ["blue"]}')
    store = store_in(tmp_path / "models")
    active = store.put(model)

    assert active.beside == ("a.json",)
    assert await path_of(store, active) == tmp_path / "models" / active.file


async def test_weights_that_lie_beside_an_onnx_model_come_with_it(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    model = put_weights_beside(write_colour_model(elsewhere / "a.onnx"))
    (elsewhere / "other.bin").write_bytes(b"not its own")
    store = store_in(tmp_path / "models")
    active = store.put(model)
    shutil.rmtree(elsewhere)
    path = await path_of(store, active)

    assert active.data == ("weights.bin",)
    assert {entry.name for entry in path.parent.iterdir()} == {"a.onnx", "weights.bin"}
    (seen,) = load_detector(path).detect(drawn(64, 64), DetectionOptions())
    assert seen.confidence == pytest.approx(GREY[2] / 255, abs=0.02)


def test_an_engine_comes_with_what_vouches_for_it(tmp_path: Path) -> None:
    built, given = tmp_path / "street.cc_8.9_sm_128.engine", tmp_path / "yolo11n.engine"
    write_plan(built, CONTENT, RECORD)
    given.write_bytes(CONTENT)
    given.with_suffix(".json").write_text(json.dumps({"sha256": RECORD.plan_sha256}))
    store = store_in(tmp_path / "models")

    for plan, vouching in ((built, f"{built.name}.record"), (given, "yolo11n.json")):
        active = store.put(plan)
        assert active.beside == (vouching,)
        assert read_plan(tmp_path / "models" / active.file).content == CONTENT


def test_a_model_whose_weights_are_missing_or_lie_elsewhere_is_not_put_there(tmp_path: Path) -> None:
    store = store_in(tmp_path / "models")
    model = put_weights_beside(write_colour_model(tmp_path / "a.onnx"))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(Failure, match=r"weights\.bin") as missing:
        store.put(model)
    stray = put_weights_beside(write_colour_model(tmp_path / "b.onnx"))
    renamed(stray, b"weights.bin", b"../ights.bi")
    with pytest.raises(Failure) as outside:
        store.put(stray)

    assert missing.value.code is FailureCode.MODEL_MISSING
    assert outside.value.code is FailureCode.FORBIDDEN_PATH
    assert [entry.name for entry in (tmp_path / "models").iterdir() if not entry.name.startswith("tried")] == []


def test_other_weights_are_another_model(tmp_path: Path) -> None:
    model = put_weights_beside(write_colour_model(tmp_path / "a.onnx"))
    store = store_in(tmp_path / "models")
    first = store.put(model)
    weights = np.fromfile(tmp_path / "weights.bin", np.float32)
    (weights / 2).tofile(tmp_path / "weights.bin")
    second = store.put(model)

    assert first.sha256 == second.sha256
    assert first.file != second.file


def renamed(model: Path, name: bytes, other: bytes) -> None:
    """The model refers to another file, with a name as long."""
    content = model.read_bytes()
    assert name in content
    assert len(name) == len(other)
    model.write_bytes(content.replace(name, other))


def test_the_same_files_are_put_once_and_others_never_over_them(tmp_path: Path) -> None:
    script = write_script(tmp_path / "a.json")
    store = store_in(tmp_path / "models")
    first, again = store.put(script), store.put(script)
    write_script(script, tolerance=3)
    other = store.put(script)

    assert first.file == again.file
    assert first.revision != again.revision
    assert other.file != first.file
    assert (tmp_path / "models" / first.file).read_bytes() != script.read_bytes()


def test_a_model_that_is_put_again_mends_the_files_that_were_put_before(tmp_path: Path) -> None:
    model = write_colour_model(tmp_path / "a.onnx")
    store = store_in(tmp_path / "models")
    first = tmp_path / "models" / store.put(model).file
    first.write_bytes(model.read_bytes()[:100])
    first.with_name("a.cc_9.0_sm_132.engine").write_bytes(b"made of it")
    again = tmp_path / "models" / store.put(model).file

    assert again == first
    assert again.read_bytes() == model.read_bytes()
    assert again.with_name("a.cc_9.0_sm_132.engine").exists()


def test_a_folder_that_takes_no_files_is_a_failure_with_a_name(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("no folder")
    store = store_in(tmp_path / "models")

    with pytest.raises(Failure, match=r"a\.json cannot be kept here: ") as put:
        store.put(write_script(tmp_path / "a.json"))
    with pytest.raises(Failure, match=r"active\.json cannot be kept here: ") as activated:
        store.activate(ActiveModel(file="a.json"))

    assert {put.value.code, activated.value.code} == {FailureCode.ENGINE_UNAVAILABLE}


def test_a_folder_without_room_for_a_model_is_at_fault_and_not_the_model(small_disk: Path) -> None:
    store = store_in(small_disk)

    with pytest.raises(Failure, match=r"aerial-vehicle\.onnx cannot be kept here: No space left") as failed:
        store.put(SHIPPED_MODEL)

    assert failed.value.code is FailureCode.ENGINE_UNAVAILABLE
    assert list(small_disk.iterdir()) == []


def test_a_choice_remembers_the_one_before_and_only_that(tmp_path: Path) -> None:
    store = store_in(tmp_path / "models")
    chosen: list[ActiveModel] = []
    for tolerance in range(3):
        chosen.append(store.put(write_script(tmp_path / "a.json", tolerance=tolerance)))
        store.activate(chosen[-1])

    assert chosen[0].previous is None
    assert chosen[2].previous is not None
    assert (chosen[2].previous.file, chosen[2].previous.previous) == (chosen[1].file, None)


def test_a_file_that_is_no_model_is_not_put_there(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    store = store_in(tmp_path / "models")

    with pytest.raises(Failure, match="no script"):
        store.put(tmp_path / "a.json")
    assert list((tmp_path / "models").iterdir()) == []


def test_old_folders_go_but_not_what_serves(tmp_path: Path) -> None:
    store = store_in(tmp_path / "models")
    first = store.put(write_script(tmp_path / "a.json", tolerance=0))
    store.activate(first)
    os.utime((tmp_path / "models" / first.file).parent, (0, 0))
    own = write_script(folder_of(tmp_path / "models" / "harbour-vehicles") / "a.json")
    os.utime(own.parent, (0, 0))
    for tolerance in range(1, KEPT_MAX + 3):
        last = store.put(write_script(tmp_path / "a.json", tolerance=tolerance))

    kept = {path.name for path in (tmp_path / "models").glob("a-*")}
    assert len(kept) == KEPT_MAX
    assert own.exists(), "its name is like one of those that were put, and it was not"
    assert {first.file.split("/")[0], last.file.split("/")[0]} <= kept


def folder_of(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def test_what_somebody_who_died_left_behind_goes_after_a_day(tmp_path: Path) -> None:
    old, new = tmp_path / "models" / ".incoming.1", tmp_path / "models" / ".incoming.2"
    for leftover in (old, new):
        leftover.mkdir(parents=True)
        (leftover / "a.onnx").write_bytes(b"half")
    os.utime(old, (0, 0))
    store_in(tmp_path / "models").put(write_script(tmp_path / "a.json"))

    assert (old.exists(), new.exists()) == (False, True)


def test_consumers_that_share_a_folder_do_not_trip_over_each_others_arriving_files(tmp_path: Path) -> None:
    """A folder of arriving files goes between the moment when it is listed and the one when it is looked at."""

    def come_and_go(_: int) -> None:
        for _ in range(300):
            with staging_in(tmp_path):
                pass

    with ThreadPoolExecutor(3) as consumers:
        list(consumers.map(come_and_go, range(3)))

    assert list(tmp_path.iterdir()) == []


def test_a_choice_of_another_folder_is_kept_here_and_one_of_this_folder_stays_as_it_is(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    first = ActiveModel(file="a.json", revision="1")
    again = ActiveModel(file="a.json", revision="3", previous=ActiveModel(file="b.json", revision="2"))
    other = ActiveModel(file="b.json", revision="2", previous=first)

    for kept in (first, first, other):
        assert store.keep(kept) == store.active() == kept
    assert store.keep(first) == store.active() == other, "it was chosen after the first"
    assert store.keep(again) == store.active() == again
