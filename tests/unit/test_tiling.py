"""Metres per pixel, where tiles lie, and how their boxes become one list (CONTRACT section 2)."""

import numpy as np
import pytest

from contracts.options import CameraConfig, DetectionOptions
from engine.heads import InputSize
from engine.picture import Crop
from engine.postprocess import Boxes
from engine.tiling import BOXES_MAX, TILES_MAX, TileBoxes, ground_m_per_px, merged, plan

SIZE = InputSize(width=640, height=640)


def camera(**fields: float) -> CameraConfig:
    return CameraConfig(**({"current_height": 400.0} | fields))


@pytest.mark.parametrize(
    ("config", "width_px", "metres"),
    [
        (camera(), 4000, 0.097917),
        (camera(), 6252, 0.062647),
        (camera(current_zoom=2), 4000, 0.097917 / 2),
        (camera(current_angle=45), 4000, 0.097917 * 1.41421),
    ],
)
def test_metres_per_pixel_are_those_of_the_contract(config: CameraConfig, width_px: int, metres: float) -> None:
    assert ground_m_per_px(config, image_width_px=width_px) == pytest.approx(metres, abs=2e-6)


def test_without_a_height_nothing_is_known_of_the_ground() -> None:
    assert ground_m_per_px(None, image_width_px=4000) is None
    assert ground_m_per_px(CameraConfig(focal_length=50), image_width_px=4000) is None


def test_absurd_cameras_give_no_metres_instead_of_an_error() -> None:
    tiny = CameraConfig(focal_length=1e-300, current_zoom=1e-300, current_height=1)
    flat = CameraConfig(sensor_width=1e-300, current_height=1e-300)

    assert ground_m_per_px(tiny, image_width_px=4000) is None
    assert ground_m_per_px(flat, image_width_px=4000) is None
    almost = CameraConfig(sensor_width=1e-150, current_height=1e-150)
    assert len(plan(4000, 3000, size=SIZE, options=DetectionOptions(camera_config=almost))) == 1


@pytest.mark.parametrize(
    ("width", "height", "tiles"), [(960, 960, 1), (640, 960, 1), (961, 640, 2), (960, 961, 2 * 2), (100, 100, 1)]
)
def test_a_picture_up_to_one_and_a_half_times_the_models_size_is_one_frame(width: int, height: int, tiles: int) -> None:
    assert len(plan(width, height, size=SIZE, options=DetectionOptions())) == tiles


def test_tiling_can_be_switched_off() -> None:
    assert plan(6252, 4168, size=SIZE, options=DetectionOptions(tiling="off")) == (
        Crop(x=0, y=0, width=6252, height=4168),
    )


def test_a_tile_covers_25_m_but_never_fewer_pixels_than_the_model_takes() -> None:
    low = DetectionOptions(camera_config=camera(current_height=40.0))  # 0.0097917 m/px: 25 m are 2553 px
    high = DetectionOptions(camera_config=camera())  # 25 m are 255 px

    assert {tile.width for tile in plan(6252, 4168, size=SIZE, options=low)} == {round(25 / (0.0626468 / 10))}
    assert {tile.width for tile in plan(6252, 4168, size=SIZE, options=high)} == {640}


@pytest.mark.parametrize("percent", [0, 20, 90])
@pytest.mark.parametrize(("width", "height"), [(1000, 1000), (6252, 4168), (4000, 641), (4000, 500), (970, 5000)])
def test_tiles_cover_the_picture_and_overlap_as_asked(width: int, height: int, percent: int) -> None:
    options = DetectionOptions(big_image_tile_overlap_percent=percent)

    tiles = plan(width, height, size=SIZE, options=options)

    columns, rows = sorted({tile.x for tile in tiles}), sorted({tile.y for tile in tiles})
    assert len(tiles) == len(columns) * len(rows) <= TILES_MAX
    for starts, length in ((columns, width), (rows, height)):
        side = min(640, length)
        assert starts[0] == 0
        assert starts[-1] + side == length
        steps = np.diff(starts)
        assert (steps <= side).all()
        if len(tiles) < TILES_MAX / 4:  # fewer than the bound: nothing was given up
            assert (steps <= side * (1 - percent / 100) + 1).all()


def test_the_number_of_tiles_is_bounded_for_the_largest_pictures() -> None:
    options = DetectionOptions(big_image_tile_overlap_percent=90)
    small = InputSize(width=64, height=64)

    for width, height in ((10_000, 10_000), (100_000, 1000), (65_000, 65_000)):
        tiles = plan(width, height, size=small, options=options)
        assert 1 < len(tiles) <= TILES_MAX


# -- merging --

LEFT, RIGHT = Crop(x=0, y=0, width=640, height=640), Crop(x=512, y=0, width=640, height=640)
WIDTH, HEIGHT = 1152, 640


def seen(tile: Crop, *rows: tuple[float, ...]) -> TileBoxes:
    """Rows x1, y1, x2, y2 in the picture, score and class."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    boxes = Boxes(corners=table[:, :4], scores=table[:, 4], classes=table[:, 5].astype(np.int32))
    return TileBoxes(tile=tile, boxes=boxes)


def corners_of(*parts: TileBoxes, width: int = WIDTH, height: int = HEIGHT) -> list[list[float]]:
    return merged(list(parts), width=width, height=height).corners.tolist()


def test_two_halves_at_a_border_become_one_box_with_the_better_score() -> None:
    whole = merged(
        [seen(LEFT, (450, 100, 639, 200, 0.7, 0)), seen(RIGHT, (513, 102, 800, 201, 0.8, 0))],
        width=WIDTH,
        height=HEIGHT,
    )

    assert whole.corners.tolist() == [[450, 100, 800, 201]]
    assert whole.scores.tolist() == pytest.approx([0.8])


def test_a_cut_part_disappears_in_the_whole_that_the_other_tile_sees() -> None:
    assert corners_of(seen(LEFT, (600, 100, 640, 150, 0.9, 0)), seen(RIGHT, (600, 100, 700, 150, 0.6, 0))) == [
        [600, 100, 700, 150]
    ]


@pytest.mark.parametrize("beyond_px", [4, 40])
def test_a_box_that_was_guessed_beyond_the_border_of_its_tile_is_cut_too(beyond_px: float) -> None:
    left = seen(LEFT, (560, 100, 640 + beyond_px, 200, 0.9, 0))
    right = seen(RIGHT, (512 - beyond_px, 300, 700, 400, 0.9, 0), (560, 100, 800, 200, 0.8, 0))
    again = seen(LEFT, (400, 300, 640, 400, 0.8, 0))

    joined = corners_of(left, right, again)

    assert sorted(joined) == [[400, 300, 700, 400], [560, 100, 800, 200]]


def test_halves_meet_where_tiles_do_not_overlap() -> None:
    first, second = Crop(x=0, y=0, width=640, height=640), Crop(x=640, y=0, width=640, height=640)

    joined = corners_of(
        seen(first, (500, 100, 639, 200, 0.7, 0)), seen(second, (641, 100, 700, 200, 0.8, 0)), width=1280
    )

    assert joined == [[500, 100, 700, 200]]


def test_neighbours_at_a_border_that_do_not_meet_stay_two() -> None:
    first, second = Crop(x=0, y=0, width=640, height=640), Crop(x=640, y=0, width=640, height=640)

    stay = corners_of(seen(first, (500, 100, 640, 200, 0.7, 0)), seen(second, (640, 190, 700, 290, 0.8, 0)), width=1280)

    assert len(stay) == 2


def test_halves_of_different_classes_stay_two() -> None:
    assert len(corners_of(seen(LEFT, (450, 100, 640, 200, 0.7, 0)), seen(RIGHT, (512, 100, 800, 200, 0.8, 1)))) == 2


def test_a_box_at_the_edge_of_the_picture_is_not_cut() -> None:
    lower = Crop(x=0, y=512, width=640, height=640)

    stay = corners_of(
        seen(LEFT, (0, 100, 50, 500, 0.7, 0)), seen(lower, (0, 520, 50, 700, 0.8, 0)), width=640, height=1152
    )

    assert len(stay) == 2


def test_an_object_larger_than_a_tile_is_put_together_from_all_its_parts() -> None:
    tiles = [Crop(x=512 * at, y=0, width=640, height=640) for at in range(3)]
    parts = [seen(tile, (max(100, tile.x), 200, min(1500, tile.x + 640), 300, 0.5, 0)) for tile in tiles]

    assert corners_of(*parts, width=1664) == [[100, 200, 1500, 300]]


def test_an_object_at_a_corner_of_four_tiles_is_one() -> None:
    tiles = [Crop(x=x, y=y, width=640, height=640) for y in (0, 512) for x in (0, 512)]
    box = (400, 400, 900, 900)
    parts = [
        seen(t, (max(box[0], t.x), max(box[1], t.y), min(box[2], t.x + 640), min(box[3], t.y + 640), 0.5, 0))
        for t in tiles
    ]

    assert corners_of(*parts, width=1152, height=1152) == [[400, 400, 900, 900]]


def test_a_repeat_within_a_hundredth_from_another_tile_goes() -> None:
    left = corners_of(seen(LEFT, (550, 100, 600, 150, 0.9, 0)), seen(RIGHT, (555, 103, 607, 154, 0.8, 0)))

    assert left == [[550, 100, 600, 150]]


@pytest.mark.parametrize(
    "other",
    [
        (562, 100, 612, 150, 0.8, 0),  # center 12 px of 1152 away: more than a hundredth
        (550, 108, 600, 158, 0.8, 0),  # 8 px of 640
        (550, 100, 612, 150, 0.8, 0),  # 12 px wider
        (551, 100, 601, 150, 0.8, 1),  # another class
    ],
)
def test_what_differs_in_one_coordinate_or_in_class_is_no_repeat(other: tuple[float, ...]) -> None:
    assert len(corners_of(seen(LEFT, (550, 100, 600, 150, 0.9, 0)), seen(RIGHT, other))) == 2


def test_neighbours_of_one_tile_are_never_repeats() -> None:
    crowded = seen(LEFT, (100, 100, 104, 104, 0.9, 0), (106, 100, 110, 104, 0.8, 0))

    assert len(corners_of(crowded, seen(RIGHT))) == 2


@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_a_turned_or_mirrored_picture_has_the_same_boxes_turned_or_mirrored(quarters: int, is_mirrored: bool) -> None:
    tiles = [Crop(x=x, y=y, width=640, height=640) for y in (0, 512) for x in (0, 512)]
    rows = (
        [
            (300, 40, 640, 90, 0.9, 0),
            (2, 200, 40, 240, 0.6, 0),
            (560, 560, 600, 600, 0.55, 0),
            (30, 480, 60, 637.5, 0.7, 0),
        ],
        [(512, 41, 700, 91, 0.8, 0), (1100, 2, 1152, 100, 0.5, 0), (700, 450, 760, 640, 0.75, 0)],
        [(30, 512, 60, 900, 0.8, 0), (300, 700, 637.2, 720, 0.85, 0)],
        [(561, 562, 601, 602, 0.6, 0), (700, 514.5, 760, 700, 0.95, 0), (514.8, 700, 900, 720, 0.7, 0)],
    )
    upright = [seen(tile, *some) for tile, some in zip(tiles, rows, strict=True)]
    expected = corners_of(*upright, width=1152, height=1152)

    turned = [_turned(part, quarters=quarters, is_mirrored=is_mirrored, side=1152) for part in upright]
    found = corners_of(*turned, width=1152, height=1152)

    assert len(expected) == 7
    assert found == [_turned_corners(corners, quarters, is_mirrored, 1152) for corners in expected]


def _turned(part: TileBoxes, *, quarters: int, is_mirrored: bool, side: float) -> TileBoxes:
    tile = part.tile
    x1, y1, x2, y2 = _turned_corners(
        [tile.x, tile.y, tile.x + tile.width, tile.y + tile.height], quarters, is_mirrored, side
    )
    corners = [_turned_corners(row, quarters, is_mirrored, side) for row in part.boxes.corners.tolist()]
    boxes = Boxes(corners=np.array(corners, np.float32), scores=part.boxes.scores, classes=part.boxes.classes)
    return TileBoxes(tile=Crop(x=int(x1), y=int(y1), width=int(x2 - x1), height=int(y2 - y1)), boxes=boxes)


def _turned_corners(corners: list[float], quarters: int, is_mirrored: bool, side: float) -> list[float]:
    """Corners in a square picture that was mirrored from left to right, or not, and then turned to the left."""
    x1, y1, x2, y2 = corners
    if is_mirrored:
        x1, x2 = side - x2, side - x1
    for _ in range(quarters):
        x1, y1, x2, y2 = y1, side - x2, y2, side - x1
    return [float(np.float32(each)) for each in (x1, y1, x2, y2)]


def test_nothing_seen_in_any_tile_is_nothing() -> None:
    assert corners_of(seen(LEFT), seen(RIGHT)) == []


def test_of_more_boxes_than_can_be_merged_the_most_confident_are_left() -> None:
    rng = np.random.default_rng(3)
    count = BOXES_MAX // 2 + 100
    parts: list[TileBoxes] = []
    for x in (0, 500):
        low = rng.uniform([x, 0], [x + 490, 490], (count, 2))
        boxes = Boxes(
            corners=np.concatenate([low, low + rng.uniform(0.1, 0.2, (count, 2))], axis=1).astype(np.float32),
            scores=rng.random(count).astype(np.float32),
            classes=np.arange(count, dtype=np.int32),
        )
        parts.append(TileBoxes(tile=Crop(x=x, y=0, width=500, height=500), boxes=boxes))
    best = np.sort(np.concatenate([part.boxes.scores for part in parts]))[::-1][:BOXES_MAX]

    left = merged(parts, width=1000, height=500)

    assert left.scores.tolist() == best.tolist()
