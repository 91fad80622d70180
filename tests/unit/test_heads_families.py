"""A tiny model of every family is recognised from its file, sees its known box, and sees it in a batch as alone."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from contracts.options import DetectionOptions
from engine.detector import Detector
from engine.loading import load_detector
from engine.models import open_model
from engine.picture import Crop
from engine.runtime import Runtime, Tensor
from tests.families import BRIGHT, DARK, FAMILIES, SIDE, Family, Known
from tests.pictures import ArrayPicture, corners
from tests.tiny_models import write_two_faced_model


class Lending:
    """A runtime whose outputs mean nothing any more once they are given back."""

    engine_type, gathers = "lending", False

    def __init__(self, inner: Runtime) -> None:
        self._inner = inner

    @contextmanager
    def lend(self, tensors: Mapping[str, Tensor]) -> Generator[tuple[Tensor, ...]]:
        outputs = tuple(output.copy() for output in self._inner.infer(tensors))
        yield outputs
        for output in outputs:
            output.view(np.uint8)[...] = 0xFF


DARK_PICTURE = ArrayPicture(np.full((SIDE, SIDE, 3), 20, np.uint8))
BRIGHT_PICTURE = ArrayPicture(np.full((SIDE, SIDE, 3), 235, np.uint8))
WHOLE = Crop(x=0, y=0, width=SIDE, height=SIDE)


def written(path: Path, family: Family, *, mixes: bool = False) -> Path:
    return write_two_faced_model(
        path,
        family.outputs(DARK),
        family.outputs(BRIGHT),
        level=family.level,
        metadata=family.metadata,
        size_tensor=family.size_tensor,
        mixes=mixes,
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_of_the_family_is_recognised_and_sees_its_box(name: str, tmp_path: Path) -> None:
    detector = load_detector(written(tmp_path / "model.onnx", FAMILIES[name]))

    for picture, known in ((DARK_PICTURE, DARK), (BRIGHT_PICTURE, BRIGHT)):
        [found] = detector.detect(picture, DetectionOptions())
        assert corners(found, picture) == pytest.approx(known.corners, abs=0.05)
        assert found.class_num == known.class_num
        assert found.confidence == pytest.approx(known.score, abs=1e-3)
    assert detector.model.head == FAMILIES[name].head


@pytest.mark.parametrize("name", FAMILIES)
def test_the_pictures_of_a_batch_are_seen_as_each_alone(name: str, tmp_path: Path) -> None:
    detector = load_detector(written(tmp_path / "model.onnx", FAMILIES[name]))
    views = [detector.view(picture, WHOLE) for picture in (BRIGHT_PICTURE, DARK_PICTURE, BRIGHT_PICTURE)]

    seen = detector.look(views, score_min=0.25)

    def is_of(known: Known, at: int) -> bool:
        return seen[at].classes.tolist() == [known.class_num] and bool(
            np.allclose(seen[at].corners[0], known.corners, atol=0.05)
        )

    assert [is_of(known, at) for at, known in enumerate((BRIGHT, DARK, BRIGHT))] == [True, True, True]


@pytest.mark.parametrize("name", FAMILIES)
def test_what_was_seen_stays_when_the_memory_of_the_outputs_is_used_again(name: str, tmp_path: Path) -> None:
    opened = open_model(written(tmp_path / "model.onnx", FAMILIES[name]))
    detector = Detector(msgspec.structs.replace(opened, runtime=Lending(opened.runtime)))

    [found] = detector.detect(DARK_PICTURE, DetectionOptions())

    assert corners(found, DARK_PICTURE) == pytest.approx(DARK.corners, abs=0.05)
    assert (found.class_num, found.confidence) == (DARK.class_num, pytest.approx(DARK.score, abs=1e-3))
