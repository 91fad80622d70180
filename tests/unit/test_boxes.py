"""Which files are sent tail first."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detections.boxes import tail_bytes


def box(type_: str, payload: int) -> bytes:
    return (payload + 8).to_bytes(4, "big") + type_.encode() + bytes(payload)


def large_box(type_: str, payload: int) -> bytes:
    return (1).to_bytes(4, "big") + type_.encode() + (payload + 16).to_bytes(8, "big") + bytes(payload)


def to_the_end(type_: str, payload: int) -> bytes:
    return bytes(4) + type_.encode() + bytes(payload)


def tail_of(*parts: bytes) -> int | None:
    return tail_bytes(io.BytesIO(b"".join(parts)))


FTYP = box("ftyp", 16)
MOOV = box("moov", 300)


def test_an_index_after_the_media_goes_first() -> None:
    assert tail_of(FTYP, box("free", 0), box("mdat", 5000), MOOV) == len(MOOV)


def test_everything_after_the_media_belongs_to_the_tail() -> None:
    assert tail_of(FTYP, box("mdat", 5000), box("free", 40), MOOV, box("udta", 20)) == 48 + len(MOOV) + 28


def test_the_tail_starts_after_the_last_of_several_media_boxes() -> None:
    assert tail_of(FTYP, box("mdat", 0), box("mdat", 5000), MOOV) == len(MOOV)


def test_a_media_box_of_64_bits_is_understood() -> None:
    assert tail_of(FTYP, box("wide", 0), large_box("mdat", 5000), MOOV) == len(MOOV)


def test_old_quicktime_without_a_brand_is_understood() -> None:
    assert tail_of(box("wide", 0), box("mdat", 50), MOOV) == len(MOOV)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((FTYP, MOOV, box("mdat", 5000)), id="index first"),
        pytest.param((FTYP, MOOV, box("moof", 90), box("mdat", 50), box("moof", 90)), id="fragmented"),
        pytest.param((FTYP, box("mdat", 5000)), id="no index"),
        pytest.param((FTYP, to_the_end("mdat", 5000)), id="media up to the end"),
        pytest.param((FTYP, box("mdat", 5000)[:2000]), id="cut in the media"),
        pytest.param((FTYP, box("mdat", 50), MOOV[:100]), id="cut in the index"),
        pytest.param((FTYP, box("mdat", 50), MOOV[:5]), id="cut in a header"),
        pytest.param((FTYP, (3).to_bytes(4, "big") + b"mdat", MOOV), id="a box smaller than its header"),
        pytest.param((FTYP, (1).to_bytes(4, "big") + b"mdat" + (9).to_bytes(8, "big"), MOOV), id="the same, 64 bits"),
        pytest.param((FTYP, (1).to_bytes(4, "big") + b"mdat" + b"\0\0"), id="cut in a 64-bit header"),
        pytest.param((b"\x1aE\xdf\xa3" + bytes(200),), id="Matroska"),
        pytest.param((box("mooo", 20), box("mdat", 50), MOOV), id="starts with an unknown box"),
        pytest.param((b"",), id="empty"),
        pytest.param((b"abc",), id="three bytes"),
    ],
)
def test_other_files_are_sent_in_their_own_order(parts: tuple[bytes, ...]) -> None:
    assert tail_of(*parts) is None


def test_a_tail_above_the_bound_is_not_sent_first() -> None:
    file = io.BytesIO(FTYP + box("mdat", 50) + MOOV)

    assert tail_bytes(file, tail_bytes_max=len(MOOV)) == len(MOOV)
    assert tail_bytes(file, tail_bytes_max=len(MOOV) - 1) is None


def test_a_file_of_countless_boxes_is_given_up() -> None:
    assert tail_of(FTYP, *[box("free", 0)] * 2000, box("mdat", 50), MOOV) is None


@given(content=st.binary(max_size=400))
def test_random_bytes_never_confuse_it(content: bytes) -> None:
    tail = tail_bytes(io.BytesIO(b"\0\0\0\x10ftypisom\0\0\0\0" + content))

    assert tail is None or 0 < tail <= len(content)
