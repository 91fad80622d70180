"""Boxes with their labels, painted on pictures for people."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from contracts.detections import Detection
from engine.picture import Rgb

_COLOURS = ((255, 200, 0), (60, 220, 60), (90, 160, 255), (255, 110, 80), (230, 110, 230), (0, 220, 220))
_INK = (20, 20, 20)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TEXT_SHARE = 1 / 1400
"""Scale of the text per pixel of the picture's height."""
_TEXT_SCALE_MIN = 0.35


def draw_boxes(rgb: Rgb, detections: Iterable[Detection]) -> Rgb:
    """uint8[H, W, 3]: a copy of the picture with a box and a label for each detection, the most confident on top."""
    drawn = rgb.copy()
    for seen in sorted(detections, key=lambda each: each.confidence):
        _draw_box(drawn, seen)
    return drawn


def write_picture(path: Path, rgb: Rgb) -> None:
    """Write uint8[H, W, 3] in the format of the path's suffix. Raises `OSError` if it cannot be written."""
    _, encoded = cv2.imencode(path.suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    path.write_bytes(np.asarray(encoded, np.uint8).tobytes())  # `imwrite` would say nothing of a full disk


def _draw_box(drawn: Rgb, seen: Detection) -> None:
    height, width = drawn.shape[:2]
    left, right = (round((seen.center_x + side * seen.width) * width) for side in (-0.5, 0.5))
    top, bottom = (round((seen.center_y + side * seen.height) * height) for side in (-0.5, 0.5))
    colour = _COLOURS[seen.class_num % len(_COLOURS)]
    scale = max(_TEXT_SCALE_MIN, height * _TEXT_SHARE)
    cv2.rectangle(drawn, (left, top), (right, bottom), colour, max(1, round(scale * 2)))
    text = f"{_printable(seen.label)} {seen.confidence:.2f}"
    text_width, text_height = cv2.getTextSize(text, _FONT, scale, 1)[0]
    base = top if top > text_height + 4 else bottom + text_height + 4  # above the box, below where there is no room
    cv2.rectangle(drawn, (left, base - text_height - 4), (left + text_width + 4, base), colour, -1)
    cv2.putText(drawn, text, (left + 2, base - 3), _FONT, scale, _INK, 1, cv2.LINE_AA)


def _printable(label: str) -> str:
    """The font knows ASCII."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in label)
