"""Which head a model has is read from its file, never from its name."""

import pytest

from contracts.failures import Failure, FailureCode
from engine.heads import AnyHead, DetrHead, EndToEndHead, FlatHead, InputSize, YoloV8Head, YoloxHead
from engine.recognition import class_count, head_of, image_input, input_rule
from engine.runtime import TensorSpec
from engine.side_files import InputStatement, SideFile, Thresholds

Shape = tuple[int | None, ...]


def spec(shape: Shape, *, name: str = "output", dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, shape=shape, dtype=dtype)


def recognised(
    *outputs: TensorSpec, side_px: int = 640, side: SideFile | None = None, **metadata: str
) -> AnyHead | None:
    size = InputSize(width=side_px, height=side_px)
    return head_of(outputs, size=size, metadata=metadata, side=side or SideFile())


@pytest.mark.parametrize(
    ("shape", "side_px", "head"),
    [
        ((1, 3549, 85), 416, YoloxHead),
        ((1, 8400, 6), 640, YoloxHead),  # one class: the number of rows tells it from an end-to-end output
        ((1, 25200, 85), 640, None),  # three boxes per cell: YOLOv5, which is not known yet
        ((1, 84, 8400), 640, YoloV8Head),
        ((1, 5, 8400), 640, YoloV8Head),
        ((1, 84, 8000), 640, None),
        ((1, 300, 6), 640, EndToEndHead),
        ((1, 100, 6), 640, EndToEndHead),
        ((0, 7), 416, FlatHead),
        ((1, 1000), 224, None),
        ((1, 100, 27, 48), 416, None),
        ((1, 4, 8400), 640, None),  # boxes without a class
    ],
)
def test_the_shape_of_a_single_output_tells_the_head(shape: Shape, side_px: int, head: type | None) -> None:
    found = recognised(spec(shape), side_px=side_px)

    assert (None if found is None else type(found)) is head


def test_metadata_decides_where_the_number_of_anchors_is_unusual() -> None:
    assert recognised(spec((1, 5, 5000))) is None
    assert isinstance(recognised(spec((1, 5, 5000)), task="detect"), YoloV8Head)
    assert isinstance(recognised(spec((1, 8400, 6)), end2end="True"), EndToEndHead)


def test_labels_boxes_and_scores_are_a_detr_head_in_any_order() -> None:
    boxes, scores = spec((1, 300, 4), name="b"), spec((1, 300), name="s")
    labels = spec((1, 300), name="l", dtype="int64")

    assert recognised(scores, labels, boxes) == DetrHead(scores_at=0, labels_at=1, boxes_at=2)
    assert recognised(scores, scores, boxes) is None
    assert recognised(labels, boxes) is None


def test_a_classifier_with_integer_output_is_no_detector() -> None:
    assert recognised(spec((1, 300, 6), dtype="int64")) is None


def test_the_side_file_names_the_head_but_cannot_make_one_of_other_outputs() -> None:
    stated = SideFile(head="yolov8", thresholds=Thresholds(nms=0.4))

    assert recognised(spec((1, 5, 5000)), side=stated) == YoloV8Head(nms_iou=0.4)
    assert recognised(spec((1, 5)), side=stated) is None
    assert recognised(spec((1, 8400, 85)), side=SideFile(head="end_to_end")) is None
    assert recognised(spec((1, 5000, 85)), side=SideFile(head="yolox")) is None
    assert isinstance(recognised(spec((1, 8400, 6)), side=SideFile(head="end_to_end")), EndToEndHead)
    assert isinstance(recognised(spec((1, 8400, 85)), side=SideFile(head="yolox")), YoloxHead)
    assert isinstance(recognised(spec((3, 7)), side=SideFile(head="flat")), FlatHead)


def test_the_outputs_tell_how_many_classes_there_are() -> None:
    assert class_count(YoloxHead(), [spec((1, 8400, 85))]) == 80
    assert class_count(YoloV8Head(), [spec((1, 84, 8400))]) == 80
    assert class_count(EndToEndHead(), [spec((1, 300, 6))]) is None


# -- inputs --


def image(shape: Shape, *more: TensorSpec, dtype: str = "float32", side: SideFile | None = None):
    return image_input([spec(shape, name="images", dtype=dtype), *more], [spec((1, 300, 6))], side or SideFile())


@pytest.mark.parametrize(
    ("shape", "layout", "width", "height"),
    [
        ((None, 3, 416, 608), "NCHW", 608, 416),
        ((1, 416, 608, 3), "NHWC", 608, 416),
        ((1, 3, None, None), "NCHW", 640, 640),
    ],
)
def test_the_place_of_the_three_colours_tells_the_layout(shape: Shape, layout: str, width: int, height: int) -> None:
    found = image(shape)

    assert (found.layout, found.size.width, found.size.height) == (layout, width, height)


def test_the_side_file_gives_free_sides_their_size() -> None:
    found = image((None, 3, None, None), side=SideFile(input=InputStatement(size=(960, 544))))

    assert (found.size.width, found.size.height, found.has_free_sides, found.is_size_stated) == (960, 544, True, True)
    assert not image((None, 3, None, None)).is_size_stated


def test_a_side_file_that_contradicts_the_model_is_refused() -> None:
    with pytest.raises(Failure, match="size 960 x 960, but the model takes 640 x 640") as caught:
        image((1, 3, 640, 640), side=SideFile(input=InputStatement(size=(960, 960))))
    assert caught.value.code is FailureCode.MODEL_CORRUPT


def test_an_input_that_asks_for_the_original_size_is_known() -> None:
    sizes = spec((None, 2), name="orig_target_sizes", dtype="int64")

    assert image((None, 3, 320, 320), sizes).size_tensor == "orig_target_sizes"


@pytest.mark.parametrize(
    "inputs",
    [
        [spec((None, 100, 27, 48, 3), name="frames", dtype="uint8")],
        [spec((1, 1, 640, 640), name="grey")],
        [spec((1, 3, 64, 64), name="a"), spec((1, 3, 64, 64), name="b")],
        [spec((1, 3, 64, 64), name="a"), spec((1, 77), name="tokens", dtype="int64")],
        [],
    ],
)
def test_a_model_that_looks_at_no_single_picture_is_refused_with_what_was_seen(inputs: list[TensorSpec]) -> None:
    with pytest.raises(Failure) as caught:
        image_input(inputs, [spec((1, 100), name="shots")], SideFile())

    assert caught.value.code is FailureCode.MODEL_NOT_A_DETECTOR
    assert "shots float32[1, 100]" in caught.value.detail
    assert all(entry.name in caught.value.detail for entry in inputs)
    assert "<model>.json" in caught.value.detail


# -- conventions --


@pytest.mark.parametrize(
    ("head", "colour", "scale", "resize"),
    [
        (YoloxHead(), "BGR", "0..255", "letterbox_top_left"),
        (FlatHead(), "BGR", "0..255", "letterbox_top_left"),
        (YoloV8Head(), "RGB", "0..1", "letterbox"),
        (EndToEndHead(), "RGB", "0..1", "letterbox"),
        (DetrHead(labels_at=0, boxes_at=1, scores_at=2), "RGB", "0..1", "stretch"),
    ],
)
def test_each_family_has_its_convention(head: AnyHead, colour: str, scale: str, resize: str) -> None:
    rule = input_rule(image((1, 3, 640, 640)), head, SideFile())

    assert (rule.colour, rule.scale, rule.resize, rule.batch, rule.pad) == (colour, scale, resize, 1, 114)


def test_the_side_files_word_is_above_the_familys() -> None:
    stated = InputStatement(colour="RGB", scale="0..1", resize="stretch", pad=0, mean=(0.5, 0.5, 0.5))

    rule = input_rule(image((1, 3, 640, 640)), YoloxHead(), SideFile(input=stated))

    assert (rule.colour, rule.scale, rule.resize, rule.pad, rule.mean) == ("RGB", "0..1", "stretch", 0, (0.5, 0.5, 0.5))


def test_a_model_that_takes_bytes_is_given_bytes() -> None:
    assert input_rule(image((1, 640, 640, 3), dtype="uint8"), EndToEndHead(), SideFile()).scale == "0..255"


def test_a_model_with_fixed_sides_cannot_be_shown_pictures_unscaled() -> None:
    with pytest.raises(Failure, match="native"):
        input_rule(image((1, 3, 640, 640)), YoloV8Head(), SideFile(input=InputStatement(resize="native")))
