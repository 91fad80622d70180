"""Reports as the bytes of an answer, in pieces, however many there are."""

from collections.abc import Iterable, Iterator

import msgspec

from contracts.detections import TimedDetection
from contracts.events import FrameDetected

PIECE_BYTES = 64 * 1024
"""A piece of an answer: each costs a turn of a worker thread."""


def pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of about `PIECE_BYTES`."""
    piece = bytearray()
    for part in parts:
        piece += part
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def timed_detections(reports: Iterable[FrameDetected]) -> Iterator[bytes]:
    """One JSON array of every reported frame's detections, each with its time."""
    separator = b"["
    for report in reports:
        for seen in report.annotations:
            timed = TimedDetection(
                center_x=seen.center_x,
                center_y=seen.center_y,
                width=seen.width,
                height=seen.height,
                class_num=seen.class_num,
                label=seen.label,
                confidence=seen.confidence,
                video_time=report.video_time or "",
            )
            yield separator + msgspec.json.encode(timed)
            separator = b",\n"
    yield b"[]" if separator == b"[" else b"]"
