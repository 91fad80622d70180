"""A model is tried on a known picture, and its batch on two; what mixes pictures is shown one at a time."""

from pathlib import Path

import numpy as np
import pytest

from contracts.failures import Failure
from engine.known_picture import KnownPicture
from engine.models import OpenModel, open_model
from engine.probing import mixes_pictures
from engine.row_heads import RowsHead
from engine.row_recognition import FLAT_ORDERS
from engine.runtimes.onnx import OnnxRuntime
from tests.families import FAMILIES
from tests.tiny_models import write_colour_model, write_constant_model, write_script
from tests.unit.test_heads_families import written

NO_ROWS = {"output": np.zeros((1, 300, 6), np.float32)}


def checked(path: Path) -> OpenModel:
    opened = open_model(path, checks_batch=True)
    opened.runtime.close()
    return opened


def test_a_model_that_keeps_its_pictures_apart_is_shown_any_number(tmp_path: Path) -> None:
    card = checked(write_colour_model(tmp_path / "model.onnx")).card

    assert (card.batch_max, card.warnings) == (None, ())


@pytest.mark.parametrize("name", FAMILIES)
def test_no_family_is_suspected_without_a_reason(name: str, tmp_path: Path) -> None:
    assert checked(written(tmp_path / "model.onnx", FAMILIES[name])).card.batch_max is None


def test_a_model_that_mixes_its_pictures_is_shown_one_at_a_time_with_a_warning(tmp_path: Path) -> None:
    card = checked(write_colour_model(tmp_path / "model.onnx", mixes=True)).card

    assert card.batch_max == 1
    assert card.input.batch is None
    assert "one picture at a time: what it sees in a picture depends on the other" in card.warnings[0]


def test_a_model_that_gives_every_picture_the_boxes_of_the_first_is_found_out(tmp_path: Path) -> None:
    assert checked(write_colour_model(tmp_path / "model.onnx", repeats_first=True)).card.batch_max == 1


def test_a_model_that_answers_for_one_picture_is_shown_one(tmp_path: Path) -> None:
    card = checked(write_constant_model(tmp_path / "model.onnx", NO_ROWS)).card

    assert card.batch_max == 1
    assert "answers for one" in card.warnings[0]


def test_a_model_that_does_not_run_with_two_pictures_is_shown_one(tmp_path: Path) -> None:
    card = checked(write_colour_model(tmp_path / "model.onnx", runs_with=1)).card

    assert card.batch_max == 1
    assert "does not run with two" in card.warnings[0]


def test_a_fixed_batch_is_its_own_limit_and_is_not_tried(tmp_path: Path) -> None:
    card = checked(write_colour_model(tmp_path / "model.onnx", batch=4)).card

    assert (card.batch_max, card.warnings) == (4, ())


class Rows:
    """A runtime with flat rows: of each picture as many as it is told, whatever the picture shows."""

    engine_type, gathers, metadata = "given", True, {}

    def __init__(self, alone: list[int], together: list[int]) -> None:
        self._turns = [[alone[0]], [alone[1]], together]

    def infer(self, tensors):
        counts = self._turns.pop(0)
        rows = [[at, 1, 2, 30, 40, 0.5, 7] for at, count in enumerate(counts) for _ in range(count)]
        return (np.array(rows, np.float32).reshape(-1, 7),)


@pytest.mark.parametrize(
    ("alone", "together", "is_mixed"),
    [
        ([2, 0], [2, 0], False),
        ([0, 0], [0, 0], False),
        ([1, 3], [1, 3], False),
        ([2, 0], [0, 2], True),
        ([2, 0], [2, 2], True),
        ([0, 0], [0, 1], True),
        ([1, 3], [4, 0], True),
    ],
)
def test_flat_rows_belong_to_the_picture_that_has_them(
    tmp_path: Path, alone: list[int], together: list[int], is_mixed: bool
) -> None:
    rule = checked(write_colour_model(tmp_path / "model.onnx")).card.input

    why = mixes_pictures(Rows(alone, together), rule, RowsHead(name="flat", columns=FLAT_ORDERS[0]))  # pyright: ignore[reportArgumentType]

    assert (why is not None) == is_mixed


class Counting:
    """A runtime that counts its inferences."""

    def __init__(self, inner: OnnxRuntime, *, gathers: bool) -> None:
        self._inner, self.gathers, self.pictures = inner, gathers, list[int]()
        self.engine_type, self.inputs, self.outputs, self.metadata = "onnx", inner.inputs, inner.outputs, inner.metadata

    def infer(self, tensors):
        self.pictures.append(len(tensors["images"]))
        return self._inner.infer(tensors)

    def close(self) -> None:
        self._inner.close()


@pytest.mark.parametrize(("gathers", "pictures"), [(False, [1]), (True, [1, 1, 1, 2])])
def test_the_batch_is_tried_only_where_pictures_are_gathered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gathers: bool, pictures: list[int]
) -> None:
    model = write_colour_model(tmp_path / "model.onnx")
    runtime = Counting(OnnxRuntime(model), gathers=gathers)
    monkeypatch.setattr("engine.models.open_runtime", lambda *_, **__: runtime)

    open_model(model)

    assert runtime.pictures == pictures


def test_a_script_keeps_its_pictures_apart(tmp_path: Path) -> None:
    assert checked(write_script(tmp_path / "colours.json")).card.batch_max is None


# -- the known picture --


def test_the_known_picture_is_the_same_every_time_and_fits_any_size() -> None:
    for width, height in ((640, 640), (64, 32), (32, 320), (1, 1)):
        first = KnownPicture(width=width, height=height).scaled(width=width, height=height)
        second = KnownPicture(width=width, height=height).scaled(width=width, height=height)

        assert (first.shape, first.dtype) == ((height, width, 3), np.uint8)
        assert (first == second).all()


def test_the_other_picture_shares_little_with_it() -> None:
    one, other = (
        KnownPicture(width=64, height=64, is_other=is_other).scaled(width=64, height=64) for is_other in (False, True)
    )

    assert np.abs(one.astype(int) - other).mean() > 30


# -- shared models --


@pytest.mark.real_media
@pytest.mark.parametrize(
    "name", ["yolox_nano_dynbatch", "yolox_nano_e2e_dynbatch", "deimv2_atto", "agpl_yolo26n_e2e_f32_dynbatch"]
)
def test_shared_models_of_a_free_batch_keep_their_pictures_apart(shared_data: Path, name: str) -> None:
    opened = checked(shared_data / "models" / f"{name}.onnx")

    assert (opened.card.batch_max, opened.card.warnings) == (None, ())


@pytest.mark.real_media
def test_the_order_of_flat_columns_is_told_because_the_known_picture_shows_what_everybody_knows(
    shared_data: Path,
) -> None:
    opened = open_model(shared_data / "models" / "yolox_nano_e2e_dynbatch.onnx")

    assert opened.card.input.scale == "0..255"
    assert mixes_pictures(opened.runtime, opened.card.input, opened.head) is None


def test_a_model_that_fails_on_every_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="does not run"):
        checked(write_colour_model(tmp_path / "model.onnx", real_channels=4))
