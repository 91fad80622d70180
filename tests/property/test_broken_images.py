"""No flipped byte makes a picture crash its reader: it is a picture, or a failure with a code."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.failures import Failure
from engine.images import PictureLimits, read_picture
from tests.media import write_image


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tif"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_picture_with_flipped_bytes_is_read_or_refused(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = tmp_path / f"picture.{suffix}"
    content = bytearray(write_image(path, size=(48, 32), orientation=6).read_bytes())
    for at in data.draw(st.lists(st.integers(0, min(len(content), 300) - 1), min_size=1, max_size=6)):
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        rgb = read_picture(path, limits=PictureLimits(pixels_max=1_000_000)).rgb
    except Failure:
        return
    assert rgb.ndim == 3
