"""What the stated lengths and the order of boxes say."""

import struct

import pytest

from engine.containers import Family, ReadAt, family, is_cut, is_fragmented, is_index_last
from tests.media import Container, write_video

FAMILIES = {
    "mp4": Family.MP4,
    "mov": Family.MP4,
    "3gp": Family.MP4,
    "m4v": Family.MP4,
    "mkv": Family.MATROSKA,
    "webm": Family.MATROSKA,
    "ts": Family.TS,
    "avi": Family.AVI,
    "flv": Family.FLV,
    "mpg": Family.PS,
    "wmv": Family.ASF,
}


def _reader(content: bytes) -> ReadAt:
    return lambda offset, count: content[offset : offset + count]


def _is_cut(content: bytes) -> bool:
    return is_cut(family(content[:1024]), _reader(content), size_bytes=len(content))


def _box(name: bytes, length: int, *, wide: bool = False) -> bytes:
    if wide:
        return struct.pack(">I4sQ", 1, name, length) + bytes(length - 16)
    return struct.pack(">I4s", length, name) + bytes(length - 8)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[Container, bytes]:
    folder = tmp_path_factory.mktemp("clips")
    return {
        each: write_video(folder / each.name, container=each, frames=30, noise=4).read_bytes() for each in Container
    }


@pytest.mark.parametrize("container", Container, ids=lambda each: each.name)
def test_a_container_is_known_by_its_first_bytes(clips: dict[Container, bytes], container: Container) -> None:
    assert family(clips[container][:1024]) is FAMILIES[container.value.suffix]


@pytest.mark.parametrize(
    "content", [b"", b"\x47", b"#EXTM3U", b"RIFF....WAVE", b"\x89PNG\r\n", bytes(1024), b"G" + bytes(400)]
)
def test_anything_else_is_no_container(content: bytes) -> None:
    assert family(content) is None


def test_a_transport_stream_with_times_before_its_packets_is_one() -> None:
    packet = b"\0\0\0\0\x47" + bytes(187)
    assert family(packet * 6) is Family.TS


CANNOT_TELL = {Container.MPG}
"""A program stream states no length."""


@pytest.mark.parametrize("container", Container, ids=lambda each: each.name)
def test_a_whole_file_is_not_cut(clips: dict[Container, bytes], container: Container) -> None:
    assert not _is_cut(clips[container])


@pytest.mark.parametrize("share", [0.3, 0.61, 0.97])
@pytest.mark.parametrize(
    "container", [each for each in Container if each not in CANNOT_TELL], ids=lambda each: each.name
)
def test_a_cut_file_is_cut(clips: dict[Container, bytes], container: Container, share: float) -> None:
    content = clips[container]
    length = int(len(content) * share)
    length += length % 188 == 0  # a transport stream cut between two packets looks whole
    assert _is_cut(content[:length])


def test_a_transport_stream_cut_between_two_packets_looks_whole(clips: dict[Container, bytes]) -> None:
    assert not _is_cut(clips[Container.TS][: 188 * 20])


def test_a_matroska_of_unknown_length_looks_whole(clips: dict[Container, bytes]) -> None:
    content = bytearray(clips[Container.MKV])
    at = content.index(b"\x18\x53\x80\x67") + 4
    content[at : at + 8] = b"\x01" + b"\xff" * 7
    assert not _is_cut(bytes(content[:5000]))


def test_an_avi_whose_length_was_never_written_looks_whole(clips: dict[Container, bytes]) -> None:
    content = bytearray(clips[Container.AVI_MJPEG])
    content[4:8] = bytes(4)
    assert not _is_cut(bytes(content[:5000]))


def test_an_avi_in_several_parts_is_cut_where_its_last_one_is(clips: dict[Container, bytes]) -> None:
    first = clips[Container.AVI_MJPEG]
    second = b"RIFF" + struct.pack("<I", 16) + b"AVIX" + bytes(12)

    assert not _is_cut(first + second)
    assert _is_cut(first + second[:-1])


def test_what_others_append_to_an_avi_is_no_part_of_it(clips: dict[Container, bytes]) -> None:
    assert not _is_cut(clips[Container.AVI_MJPEG] + b"\xff" * 64)


def test_padding_behind_the_last_box_is_not_missing(clips: dict[Container, bytes]) -> None:
    content = clips[Container.MP4_FRONT]
    assert not _is_cut(content + bytes(500))
    assert not _is_cut(content + b"some text that is no box at all")


def test_wide_and_endless_boxes_are_understood() -> None:
    head = _box(b"ftyp", 16)
    assert is_index_last(_reader(head + _box(b"free", 32, wide=True) + _box(b"mdat", 64)))
    assert not _is_cut(head + _box(b"mdat", 100, wide=True))
    assert _is_cut((head + _box(b"mdat", 100, wide=True))[:-1])
    assert not _is_cut(head + struct.pack(">I4s", 0, b"mdat") + bytes(10))


@pytest.mark.parametrize(
    ("names", "is_last", "has_fragments"),
    [
        ((b"ftyp", b"moov", b"mdat"), False, False),
        ((b"ftyp", b"free", b"mdat", b"moov"), True, False),
        ((b"wide", b"mdat", b"moov"), True, False),
        ((b"styp", b"sidx", b"moof", b"mdat"), False, True),
        ((b"ftyp", b"moov", b"moof", b"mdat"), False, True),
        ((b"ftyp",), False, False),
    ],
)
def test_the_order_of_boxes_decides(names: tuple[bytes, ...], is_last: bool, has_fragments: bool) -> None:
    content = b"".join(_box(name, 40) for name in names)
    assert is_index_last(_reader(content)) == is_last
    assert is_fragmented(_reader(content)) == has_fragments


def test_boxes_that_lead_nowhere_end_the_search() -> None:
    assert not is_index_last(_reader(_box(b"free", 8) * 1000))
    assert not is_index_last(_reader(struct.pack(">I4s", 4, b"ftyp") + bytes(20)))
    assert not is_index_last(_reader(b"\0\0\0\x01mdat"))
