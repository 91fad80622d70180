"""Plan files: named by the contract, vouched for before they are loaded, recognised when they no longer fit."""

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from consumers.model_folder import with_suffix
from contracts.failures import Failure, FailureCode
from detections.model_files import find_model
from engine.loading import load_detector
from engine.plans import (
    Plan,
    PlanRecord,
    drop_plan,
    model_of,
    move_plan,
    plan_path,
    read_plan,
    read_record,
    record_path,
    staleness,
    write_plan,
)
from tests.fake_gpu import FACTS
from tests.unit.small_disk import small_disk

__all__ = ["small_disk"]

CONTENT = b"ftrt and so on"
RECORD = PlanRecord(
    plan_sha256=hashlib.sha256(CONTENT).hexdigest(),
    model_sha256="a" * 64,
    precision="fp16",
    library="tensorrt_rtx",
    library_version="1.7.1.116",
    capability=(8, 9),
    sm_count=128,
    gpu="Fake 4090",
    metadata={"names": "{0: 'car'}"},
)


def written(folder: Path, name: str = "street.cc_8.9_sm_128.engine") -> Path:
    write_plan(folder / name, CONTENT, RECORD)
    return folder / name


def vouched_for(plan: Path) -> Path:
    """By the operator, in the model's side file."""
    digest = hashlib.sha256(plan.read_bytes()).hexdigest()
    model_of(plan).with_suffix(".json").write_text(json.dumps({"sha256": digest}))
    return plan


@pytest.mark.parametrize(
    ("precision", "name"),
    [("fp16", "street.v2.cc_8.9_sm_128.engine"), ("int8", "street.v2.cc_8.9_sm_128.int8.engine")],
)
def test_a_plan_has_the_name_of_the_contract_and_knows_its_model(precision: str, name: str) -> None:
    model = Path("models/street.v2.onnx")

    plan = plan_path(model, FACTS, precision)  # type: ignore[arg-type]

    assert plan == Path("models") / name
    assert model_of(plan) == model


def test_a_plan_of_any_name_belongs_to_the_model_of_that_name() -> None:
    assert model_of(Path("a/yolo11n.engine")) == Path("a/yolo11n.onnx")
    assert model_of(Path("a/yolo11n.onnx")) == Path("a/yolo11n.onnx")


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_plan(written(tmp_path)) == Plan(
        name="street.cc_8.9_sm_128.engine", content=CONTENT, library="tensorrt_rtx", metadata=RECORD.metadata
    )


def test_a_plan_that_nobody_vouches_for_is_not_loaded(tmp_path: Path) -> None:
    plan = written(tmp_path)
    record_path(plan).unlink()

    with pytest.raises(Failure, match="nobody vouches for this one") as refused:
        read_plan(plan)
    assert refused.value.code == FailureCode.MODEL_CORRUPT


def test_a_plan_whose_bytes_changed_is_not_loaded(tmp_path: Path) -> None:
    plan = written(tmp_path)
    plan.write_bytes(CONTENT + b".")

    with pytest.raises(Failure, match=f"{RECORD.plan_sha256} is stated"):
        read_plan(plan)


def test_an_operator_can_vouch_for_a_plan(tmp_path: Path) -> None:
    plan = tmp_path / "yolo.engine"
    plan.write_bytes(CONTENT)

    assert read_plan(vouched_for(plan)).content == CONTENT


def test_the_metadata_that_ultralytics_writes_before_a_plan_is_taken_off(tmp_path: Path) -> None:
    metadata = json.dumps({"stride": 32, "names": {"0": "person", "1": "car"}, "imgsz": [640, 640]}).encode()
    plan = tmp_path / "yolo11n.engine"
    plan.write_bytes(len(metadata).to_bytes(4, "little") + metadata + CONTENT)

    read = read_plan(vouched_for(plan))

    assert read.content == CONTENT
    assert read.metadata == {"stride": "32", "names": "{0: 'person', 1: 'car'}", "imgsz": "[640, 640]"}


def test_a_plan_given_by_hand_is_found_by_its_path_and_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELS_DIR", str(tmp_path))
    plan = tmp_path / "yolo11n.engine"
    plan.write_bytes(CONTENT)
    vouched_for(plan)

    assert [find_model(str(plan)), find_model(plan.name), find_model("yolo11n")] == [plan] * 3
    assert [with_suffix(plan), with_suffix(tmp_path / "yolo11n")] == [plan] * 2


@pytest.mark.parametrize("content", [b"", b"\x02", b"\x05\0\0\0[1,2]rest", b"\x40\0\0\0{not json", b"\xff\xff\x0f\0{}"])
def test_what_only_looks_like_a_prefix_is_the_plan(tmp_path: Path, content: bytes) -> None:
    plan = tmp_path / "m.engine"
    plan.write_bytes(content)

    assert read_plan(vouched_for(plan)).content == content


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"model_sha256": "b" * 64}, "the model is another one"),
        ({"library_version": "11.4.0"}, "it is of TensorRT 11.4.0, this is 1.7.1.116"),
        ({"sm_count": 76}, "it is for Fake 4090, this is Fake 4090"),
        ({"capability": (12, 0), "gpu": "Other"}, "it is for Other, this is Fake 4090"),
    ],
)
def test_a_plan_fits_one_model_one_version_and_one_kind_of_gpu(changes: dict[str, object], why: str | None) -> None:
    record = msgspec.structs.replace(RECORD, **changes)

    assert staleness(record, model_sha256="a" * 64, gpu=FACTS, library_version="1.7.1.116") == why


def test_a_broken_record_is_none(tmp_path: Path) -> None:
    plan = written(tmp_path)
    record_path(plan).write_text("{")

    assert read_record(plan) is None


def test_a_plan_is_moved_and_dropped_with_its_record(tmp_path: Path) -> None:
    (tmp_path / "incoming").mkdir()
    plan = tmp_path / "street.cc_8.9_sm_128.engine"
    move_plan(written(tmp_path / "incoming"), plan)
    assert read_record(plan) == RECORD

    drop_plan(plan)
    assert [path.name for path in tmp_path.iterdir()] == ["incoming"]


def test_a_plan_that_does_not_fit_on_the_disk_leaves_no_part_of_itself(small_disk: Path) -> None:
    content = b"x" * (1 << 20)

    with pytest.raises(OSError, match="No space left"):
        write_plan(small_disk / "street.cc_8.9_sm_128.engine", content, RECORD)
    assert list(small_disk.iterdir()) == []


def test_a_plan_without_a_gpu_is_no_detector_but_a_clear_word(tmp_path: Path) -> None:
    with pytest.raises(Failure) as refused:
        load_detector(written(tmp_path))
    assert refused.value.code == FailureCode.ENGINE_UNAVAILABLE
