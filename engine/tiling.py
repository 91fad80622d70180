"""Large pictures are looked at in parts: where the parts lie, and how what was seen in them becomes one list."""

import math
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.options import CameraConfig, DetectionOptions
from engine.heads import InputSize
from engine.picture import Crop
from engine.postprocess import Boxes, Flags, Floats, Indices, most_confident, no_boxes

ONE_FRAME_FACTOR = 1.5
"""A picture of up to this times the model's size is one frame."""
TILE_M = 25.0
"""What a tile covers on the ground where metres per pixel are known."""
TILES_MAX = 1024
"""Tiles of one picture. Beyond it they overlap less, then they grow: 100 megapixels at 416 px and 20 % need 900."""
SAME_WITHIN = 0.01
"""Boxes of different tiles whose coordinates all differ by less than this share of the picture are one."""
HALVES_IOU_MIN = 0.5
"""Two boxes of different tiles are parts of one object if they agree this well where both tiles look."""
CUT_WITHIN_PX = 3.0
"""A box that ends this close to its tile's inner border, or beyond it, is cut by it (pixels of the picture)."""

BOXES_MAX = 8192
"""Boxes of all tiles of a picture that are merged; the least confident beyond it go (300 are reported)."""

_COVERED_PX_MAX = 1_000_000
_BLOCK = 256
"""Boxes compared with all others at once: it bounds the memory."""

Pairs = tuple[Indices, Indices]
"""Numbers of boxes: each of the first with the one at the same place of the second."""


class TileBoxes(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen in one tile, in pixels of the whole picture."""

    tile: Crop
    boxes: Boxes


def ground_m_per_px(camera: CameraConfig | None, *, image_width_px: int) -> float | None:
    """Metres on the ground per pixel, None without a height."""
    if camera is None or camera.current_height is None:
        return None
    sine = math.sin(math.radians(camera.current_angle))
    width_px = camera.focal_length * camera.current_zoom * image_width_px * sine
    if width_px <= 0:  # the product of tiny values
        return None
    metres = camera.sensor_width * camera.current_height / width_px
    return metres if 0 < metres < math.inf else None


def plan(width: int, height: int, *, size: InputSize, options: DetectionOptions) -> tuple[Crop, ...]:
    """The parts in which a picture is looked at: one if it is small or tiling is off, else tiles that overlap as asked."""
    whole = Crop(x=0, y=0, width=width, height=height)
    is_small = width <= ONE_FRAME_FACTOR * size.width and height <= ONE_FRAME_FACTOR * size.height
    if options.tiling == "off" or is_small:
        return (whole,)
    metres = ground_m_per_px(options.camera(), image_width_px=width)
    covered = 0 if metres is None else round(min(TILE_M / metres, _COVERED_PX_MAX))
    tile_width, tile_height = max(size.width, covered), max(size.height, covered)
    overlap = options.big_image_tile_overlap_percent / 100
    while True:
        columns = _starts(width, tile_width, overlap)
        rows = _starts(height, tile_height, overlap)
        if len(columns) * len(rows) <= TILES_MAX:
            break
        tile_width, tile_height = (tile_width, tile_height) if overlap else (2 * tile_width, 2 * tile_height)
        overlap = max(0.0, overlap - 0.1)
    return tuple(
        Crop(x=x, y=y, width=min(tile_width, width), height=min(tile_height, height)) for y in rows for x in columns
    )


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin so that they cover the length, evenly spread, overlapping at least as asked."""
    if tile >= length:
        return [0]
    steps = math.ceil((length - tile) / max(1.0, tile * (1 - overlap)))
    return [round(at * (length - tile) / steps) for at in range(steps + 1)]


def merged(parts: list[TileBoxes], *, width: int, height: int) -> Boxes:
    """One list of boxes of the picture: halves joined at the borders of tiles, repeats from other tiles gone. Best first."""
    seen = [part for part in parts if len(part.boxes)]
    if not seen:
        return no_boxes()
    if len(parts) == 1:
        return seen[0].boxes
    gathered = _Gathered(seen, width=width, height=height)
    return _once(gathered.with_halves_joined(), width=width, height=height)


class _Tiled(msgspec.Struct, frozen=True, kw_only=True):
    """Boxes, and the tile in which each was seen; -1 for one that was joined from several."""

    boxes: Boxes
    tiles: NDArray[np.intp]


class _Gathered:
    """The boxes of all tiles, with what is needed to find the halves of an object that a border cut."""

    def __init__(self, parts: list[TileBoxes], *, width: int, height: int) -> None:
        all_boxes = Boxes(
            corners=np.concatenate([part.boxes.corners for part in parts]),
            scores=np.concatenate([part.boxes.scores for part in parts]),
            classes=np.concatenate([part.boxes.classes for part in parts]),
        )
        order = np.argsort(-all_boxes.scores, kind="stable")[:BOXES_MAX]
        tiles = np.repeat(np.arange(len(parts)), [len(part.boxes) for part in parts])
        borders = np.array(
            [(p.tile.x, p.tile.y, p.tile.x + p.tile.width, p.tile.y + p.tile.height) for p in parts], np.float32
        )
        self._boxes = all_boxes.take(order)
        self._tiles = tiles[order]
        self._borders: Floats = borders[self._tiles]
        """float32[N, 4]: the tile of each box."""
        is_inner = self._borders != np.array([0, 0, width, height], np.float32)
        inside = (self._boxes.corners - self._borders) * np.array([1, 1, -1, -1], np.float32)
        self._is_cut = ((inside <= CUT_WITHIN_PX) & is_inner).any(axis=1)  # models guess beyond what they are shown

    def with_halves_joined(self) -> _Tiled:
        """Each group of agreeing boxes, of which one at least is cut, becomes the box round them all."""
        group = list(range(len(self._boxes)))
        for cut, other in zip(*(side.tolist() for side in self._halves()), strict=True):
            first, second = _root(group, cut), _root(group, other)
            group[max(first, second)] = min(first, second)  # the more confident one leads its group
        roots = np.array([_root(group, at) for at in range(len(group))])
        leaders, members = np.unique(roots, return_inverse=True)
        corners = self._boxes.corners[leaders].copy()
        np.minimum.at(corners[:, :2], members, self._boxes.corners[:, :2])
        np.maximum.at(corners[:, 2:], members, self._boxes.corners[:, 2:])
        is_joined = np.bincount(members) > 1
        boxes = Boxes(corners=corners, scores=self._boxes.scores[leaders], classes=self._boxes.classes[leaders])
        return _Tiled(boxes=boxes, tiles=np.where(is_joined, -1, self._tiles[leaders]))

    def _halves(self) -> Pairs:
        """Each cut box with each box of another tile that shows the same object."""
        grown = _grown(self._boxes.corners)
        x1, y1, x2, y2 = np.ascontiguousarray(grown.T)
        cut, other = _pairs(
            np.flatnonzero(self._is_cut),
            lambda rows: (x1[rows, None] < x2) & (x2[rows, None] > x1) & (y1[rows, None] < y2) & (y2[rows, None] > y1),
        )
        may_be_one = (self._boxes.classes[cut] == self._boxes.classes[other]) & (self._tiles[cut] != self._tiles[other])
        cut, other = cut[may_be_one], other[may_be_one]
        # where both tiles look, widened so that two halves that only meet at a border share something there
        low = np.maximum(self._borders[cut, :2], self._borders[other, :2]) - CUT_WITHIN_PX
        high = np.minimum(self._borders[cut, 2:], self._borders[other, 2:]) + CUT_WITHIN_PX
        zones = np.concatenate([low, high], axis=1).astype(np.float32)
        agrees = _iou(_within(grown[cut], zones), _within(grown[other], zones)) >= HALVES_IOU_MIN
        is_half = agrees & np.all(high > low, axis=1)
        return cut[is_half], other[is_half]


def _pairs(rows: Indices, belongs: Callable[[Indices], Flags]) -> Pairs:
    """Each of the rows with each box that belongs to it, in the order of the rows. belongs: rows -> bool[R, N]."""
    firsts: list[Indices] = [np.empty(0, np.intp)]
    seconds: list[Indices] = [np.empty(0, np.intp)]
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        first, second = np.nonzero(belongs(block))
        firsts.append(block[first])
        seconds.append(second)
    return np.concatenate(firsts), np.concatenate(seconds)


def _grown(corners: Floats) -> Floats:
    """Boxes grown by what a cut may miss of the border."""
    return corners + np.array([-1, -1, 1, 1], np.float32) * CUT_WITHIN_PX


def _within(corners: Floats, zones: Floats) -> Floats:
    """The part of each box inside its zone; float32[N, 4], possibly empty."""
    low = np.maximum(corners[:, :2], zones[:, :2])
    return np.concatenate([low, np.maximum(np.minimum(corners[:, 2:], zones[:, 2:]), low)], axis=1)


def _iou(one: Floats, other: Floats) -> Floats:
    """float32[N]: of pairs of boxes; 0 where both are empty."""
    shared_sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    shared = np.maximum(shared_sides, 0).prod(axis=1)
    union = (one[:, 2:] - one[:, :2]).prod(axis=1) + (other[:, 2:] - other[:, :2]).prod(axis=1) - shared
    return (shared / np.maximum(union, 1e-9)).astype(np.float32)


def _root(group: list[int], at: int) -> int:
    while group[at] != at:
        at = group[at]
    return at


def _once(tiled: _Tiled, *, width: int, height: int) -> Boxes:
    """The boxes without those that repeat a more confident one of another tile."""
    boxes = most_confident(tiled.boxes, at_most=len(tiled.boxes))
    tiles = tiled.tiles[np.argsort(-tiled.boxes.scores, kind="stable")]
    corners = boxes.corners / np.array([width, height, width, height], np.float32)
    centers, sizes = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    shapes = np.concatenate([centers, sizes], axis=1)
    x = np.ascontiguousarray(shapes[:, 0])
    one, other = _pairs(np.arange(len(boxes)), lambda rows: np.abs(x[rows, None] - x) < SAME_WITHIN)
    is_same = (one < other) & (boxes.classes[one] == boxes.classes[other])
    is_same &= (tiles[one] != tiles[other]) | (tiles[other] < 0)
    one, other = one[is_same], other[is_same]
    is_same = (np.abs(shapes[other] - shapes[one]) < SAME_WITHIN).all(axis=1)
    is_left = np.ones(len(boxes), np.bool_)
    for kept, repeat in zip(one[is_same].tolist(), other[is_same].tolist(), strict=True):
        if is_left[kept]:  # settled: those before it had their turn
            is_left[repeat] = False
    return boxes.take(is_left)
