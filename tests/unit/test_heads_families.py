"""A tiny model of every family is recognised from its file, sees its known box, and sees it in a batch as alone."""

from pathlib import Path

import numpy as np
import pytest

from contracts.options import DetectionOptions
from engine.loading import load_detector
from engine.picture import Crop
from tests.families import BRIGHT, DARK, FAMILIES, SIDE, Family, Known
from tests.pictures import ArrayPicture, corners
from tests.tiny_models import write_two_faced_model

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
