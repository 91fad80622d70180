"""A model file is opened, tried and described; what cannot be used is refused with a code and a reason."""

import json
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from contracts.failures import Failure, FailureCode
from engine.models import describe, open_model
from engine.side_files import CLASS_NAME_CHARACTERS_MAX
from tests.tiny_models import write_colour_model, write_constant_model, write_script

NO_ROWS = {"output": np.zeros((1, 300, 6), np.float32)}
YOLOV8_OF_80 = {"output0": np.zeros((1, 84, 336), np.float32)}
SIDES_OF_336_CELLS = ("N", 3, 128, 128)  # in grids of 8, 16 and 32 px


def refused(path: Path) -> Failure:
    with pytest.raises(Failure) as caught:
        open_model(path)
    return caught.value


def test_a_model_is_described_without_its_name_being_read(tmp_path: Path) -> None:
    card = describe(write_constant_model(tmp_path / "yolox_resnet_detr.onnx", NO_ROWS, shape=(1, 3, 64, 96)))

    assert (card.name, card.head, card.engine_type) == ("yolox_resnet_detr", "end_to_end", "onnx")
    assert (card.input.width, card.input.height, card.input.batch) == (96, 64, 1)
    assert (card.inputs[0].shape, card.outputs[0].shape) == ((1, 3, 64, 96), (1, 300, 6))
    assert card.warnings == ()


def test_a_script_is_a_model_like_any_other(tmp_path: Path) -> None:
    card = describe(write_script(tmp_path / "colours.json"))

    assert (card.engine_type, card.head, card.input.width) == ("scripted", "end_to_end", 128)
    assert [card.label(number) for number in range(4)] == ["red", "green", "blue", "class_3"]


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.onnx").code is FailureCode.MODEL_MISSING
    assert refused(tmp_path / "none.json").code is FailureCode.MODEL_MISSING
    assert refused(tmp_path).code is FailureCode.MODEL_MISSING


@pytest.mark.parametrize("content", [b"", b"\0" * 1000, b"not a model", bytes(range(256)) * 64, b"\x08\x08\x12\x04"])
def test_bytes_that_are_no_model_are_corrupt(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)

    assert refused(path).code is FailureCode.MODEL_CORRUPT


def test_a_model_cut_anywhere_is_refused_and_never_crashes(tmp_path: Path) -> None:
    content = write_colour_model(tmp_path / "whole.onnx").read_bytes()
    path = tmp_path / "cut.onnx"

    for length in range(1, len(content), 7):
        path.write_bytes(content[:length])
        assert refused(path).code in (FailureCode.MODEL_CORRUPT, FailureCode.MODEL_NOT_A_DETECTOR)


def test_a_model_with_a_flipped_byte_is_refused_or_runs_but_never_crashes(tmp_path: Path) -> None:
    content = bytearray(write_colour_model(tmp_path / "whole.onnx").read_bytes())
    path = tmp_path / "flipped.onnx"

    codes: set[FailureCode] = set()
    for at in range(0, len(content), 3):
        flipped = content.copy()
        flipped[at] ^= 0xFF
        path.write_bytes(flipped)
        try:
            open_model(path).runtime.close()
        except Failure as failure:
            codes.add(failure.code)

    assert codes == {FailureCode.MODEL_CORRUPT, FailureCode.MODEL_NOT_A_DETECTOR}


def test_a_model_that_does_not_run_is_corrupt(tmp_path: Path) -> None:
    failure = refused(write_colour_model(tmp_path / "model.onnx", real_channels=4))

    assert failure.code is FailureCode.MODEL_CORRUPT
    assert failure.detail.startswith("it does not run:")


def test_an_output_that_is_no_tensor_is_named(tmp_path: Path) -> None:
    path = write_constant_model(tmp_path / "model.onnx", NO_ROWS)
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("SequenceConstruct", ["output", "images"], ["parts"]))
    model.graph.output.append(helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None))
    onnx.save(model, path)

    assert refused(path).detail == "it does not run: output parts is a list and no tensor"


@pytest.mark.parametrize("shape", [(1, 3, 70_000, 70_000), (10**6, 3, 64, 64), (1, 1 << 31, 1 << 31, 3)])
def test_an_input_that_nobody_has_memory_for_is_refused_before_it_is_filled(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    failure = refused(write_constant_model(tmp_path / "model.onnx", NO_ROWS, shape=shape))

    assert failure.code is FailureCode.MODEL_CORRUPT
    assert f"images float32{list(shape)} has " in failure.detail


def test_a_classifier_is_no_detector_and_the_refusal_says_what_was_seen(tmp_path: Path) -> None:
    failure = refused(write_constant_model(tmp_path / "detector.onnx", {"logits": np.zeros((1, 1000), np.float32)}))

    assert failure.code is FailureCode.MODEL_NOT_A_DETECTOR
    assert "images float32[?, 3, 64, 64]" in failure.detail
    assert "logits float32[1, 1000]" in failure.detail


def test_outputs_of_one_picture_only_are_asked_for_one(tmp_path: Path) -> None:
    outputs = {"boxes": np.ones((2, 4), np.float32), "labels": np.ones(2, np.int64), "scores": np.ones(2, np.float32)}

    card = describe(write_constant_model(tmp_path / "model.onnx", outputs))

    assert (card.head, card.batch_max, card.input.batch) == ("detr", 1, None)


# -- the side file --


def test_the_side_file_says_what_the_model_does_not(tmp_path: Path) -> None:
    path = write_constant_model(tmp_path / "model.onnx", NO_ROWS, shape=("N", 3, "height", "width"))
    side = {"input": {"size": [96, 64], "resize": "native", "colour": "BGR"}, "classes": ["boat"]}
    path.with_suffix(".json").write_text(json.dumps(side))

    card = describe(path)

    assert (card.input.width, card.input.height, card.input.multiple) == (96, 64, 32)
    assert (card.input.resize, card.input.colour) == ("native", "BGR")
    assert card.label(0) == "boat"


@pytest.mark.parametrize(
    ("stated", "side_px"),
    [
        ({"resize": "native"}, 128),
        ({"resize": "native", "multiple": 64}, 128),
        ({"multiple": 32}, 128),
        ({"multiple": 10}, 100),
        ({}, 100),
    ],
)
def test_free_sides_are_padded_to_their_multiple_before_the_head_is_told(
    tmp_path: Path, stated: dict[str, object], side_px: int
) -> None:
    cells = sum((-(-side_px // stride)) ** 2 for stride in (8, 16, 32))
    outputs = {"output0": np.zeros((1, 4 + 3, cells), np.float32)}
    path = write_constant_model(tmp_path / "model.onnx", outputs, shape=("N", 3, "height", "width"))
    path.with_suffix(".json").write_text(json.dumps({"input": {"size": [100, 100], **stated}}))

    card = describe(path)

    assert (card.head, card.input.width, card.input.height) == ("yolov8", side_px, side_px)


def test_free_sides_without_a_side_file_are_640_with_a_warning(tmp_path: Path) -> None:
    card = describe(write_constant_model(tmp_path / "model.onnx", NO_ROWS, shape=("N", 3, "height", "width")))

    assert card.input.width == 640
    assert "640 px" in card.warnings[0]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "model.json"),
        ("[]", "model.json"),
        ('{"hed": "yolox"}', "hed"),
        ('{"head": "yolo"}', "head"),
        ('{"input": {"size": [7, 64]}}', "size"),
        ('{"input": {"size": [64, 100000]}}', "size"),
        ('{"input": {"resize": "crop"}}', "resize"),
        ('{"input": {"std": [1, 0, 1]}}', "std"),
        ('{"thresholds": {"nms": 3}}', "nms"),
        ('{"output": {"columns": ["x1", "y1", "x2", "y2", "score", "score"]}}', "columns"),
        ('{"output": {"columns": ["x1", "y1", "w", "h", "score", "class"]}}', "columns"),
        ('{"head": "flat", "output": {"columns": ["x1", "y1", "x2", "y2", "score", "batch", "batch"]}}', "columns"),
        ('{"description": "' + "x" * 2_000_000 + '"}', "larger than"),
        ("\udcff", "model.json"),
    ],
)
def test_a_wrong_side_file_is_refused_naming_the_field(tmp_path: Path, text: str, named: str) -> None:
    path = write_constant_model(tmp_path / "model.onnx", NO_ROWS)
    path.with_suffix(".json").write_text(text, errors="surrogateescape")

    failure = refused(path)

    assert failure.code is FailureCode.MODEL_CORRUPT
    assert named in failure.detail


@pytest.mark.parametrize("stated", [{"mean": [1, 2, 3]}, {"std": [2, 2, 2]}, {"scale": "0..1"}])
def test_bytes_are_not_normalised(tmp_path: Path, stated: dict[str, object]) -> None:
    path = write_constant_model(tmp_path / "model.onnx", NO_ROWS, dtype="uint8")
    path.with_suffix(".json").write_text(json.dumps({"input": {"scale": "0..255"}}))
    assert describe(path).input.scale == "0..255"

    path.with_suffix(".json").write_text(json.dumps({"input": stated}))
    failure = refused(path)

    assert failure.code is FailureCode.MODEL_CORRUPT
    assert "this one takes bytes" in failure.detail


def test_a_checksum_in_the_side_file_must_be_the_files(tmp_path: Path) -> None:
    path = write_constant_model(tmp_path / "model.onnx", NO_ROWS)
    digest = describe(path).sha256
    path.with_suffix(".json").write_text(json.dumps({"sha256": digest}))
    assert describe(path).sha256 == digest

    path.with_suffix(".json").write_text(json.dumps({"sha256": "0" * 64}))
    failure = refused(path)

    assert failure.code is FailureCode.MODEL_CORRUPT
    assert digest in failure.detail


def test_a_head_that_the_outputs_cannot_be_is_refused(tmp_path: Path) -> None:
    path = write_constant_model(tmp_path / "model.onnx", NO_ROWS)
    path.with_suffix(".json").write_text('{"head": "yolox"}')

    assert "not of head yolox" in refused(path).detail


# -- names of classes --


def test_classes_json_is_above_the_names_in_the_model(tmp_path: Path) -> None:
    path = write_constant_model(tmp_path / "model.onnx", NO_ROWS, metadata={"names": "{0: 'inside'}"})
    assert describe(path).label(0) == "inside"

    (tmp_path / "classes.json").write_text('[{"Id": 0, "Name": "Truck", "Color": "#ff0000", "MaxSizeM": 12.5}]')
    card = describe(path)

    assert (card.label(0), card.max_size_m(0), card.max_size_m(1)) == ("Truck", 12.5, None)


def test_colours_are_those_of_the_class_list_that_css_can_read(tmp_path: Path) -> None:
    path = write_constant_model(tmp_path / "model.onnx", NO_ROWS)
    stated = ("#FF0000", "#0af", None, "red", "#ff00000", "#ff0000;x:url(http://elsewhere)", "")
    listed = [{"Id": number, "Name": "a", "Color": colour} for number, colour in enumerate(stated)]
    (tmp_path / "classes.json").write_text(json.dumps(listed))

    assert describe(path).colours == {0: "#ff0000", 1: "#00aaff"}


def test_variants_of_a_class_have_its_colour(tmp_path: Path) -> None:
    path = write_constant_model(tmp_path / "model.onnx", NO_ROWS)
    path.with_suffix(".json").write_text('{"class_variants": true}')
    (tmp_path / "classes.json").write_text('[{"Id": 3, "Name": "Truck", "Color": "#123456"}]')

    assert describe(path).colours == dict.fromkeys((3, 23, 43), "#123456")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '[{"Id": 0}]',
        '[{"Id": -1, "Name": "a"}]',
        '[{"Id": 0, "Name": "a"}, {"Id": 0, "Name": "b"}]',
        '[{"Id": 0, "Name": "a", "MaxSizeM": 0}]',
        "\udcff\udcfe",
    ],
)
def test_a_broken_classes_json_is_a_warning_and_the_model_serves(tmp_path: Path, text: str) -> None:
    path = write_constant_model(tmp_path / "model.onnx", NO_ROWS, metadata={"names": "{0: 'inside'}"})
    (tmp_path / "classes.json").write_text(text, errors="surrogateescape")

    card = describe(path)

    assert card.label(0) == "inside"
    assert card.warnings[0].startswith("classes.json is not used:")


def test_unknown_fields_of_classes_json_are_tolerated(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('[{"Id": 0, "Name": "Car", "ShortName": "C"}]')

    assert describe(write_constant_model(tmp_path / "model.onnx", NO_ROWS)).label(0) == "Car"


def test_80_classes_without_names_are_cocos_and_80_names_of_its_own_are_the_models(tmp_path: Path) -> None:
    nameless = write_constant_model(tmp_path / "a.onnx", YOLOV8_OF_80, shape=SIDES_OF_336_CELLS)
    assert describe(nameless).label(2) == "car"

    names = {"names": "{2: 'drone'}"}
    own = write_constant_model(tmp_path / "b.onnx", YOLOV8_OF_80, shape=SIDES_OF_336_CELLS, metadata=names)

    assert (describe(own).label(2), describe(own).label(3)) == ("drone", "class_3")


def test_a_side_file_may_say_coco_where_the_outputs_do_not_count_classes(tmp_path: Path) -> None:
    path = write_constant_model(tmp_path / "model.onnx", NO_ROWS)
    assert describe(path).label(2) == "class_2"

    path.with_suffix(".json").write_text('{"classes": "coco"}')

    assert describe(path).label(2) == "car"


@pytest.mark.parametrize(
    "names", ["__import__('os')", "{0: 1}", "[", "'vehicle'", "((((", "{'a': 'b'}", "{-1: 'a'}", "{[]: 'a'}"]
)
def test_names_that_are_no_names_are_ignored_and_nothing_in_them_is_run(tmp_path: Path, names: str) -> None:
    card = describe(write_constant_model(tmp_path / "model.onnx", NO_ROWS, metadata={"names": names}))

    assert card.label(0) == "class_0"


@pytest.mark.parametrize("name", ["half a character: \\ud83d", "x" * 100_000])
def test_any_name_that_a_model_brings_fits_into_a_message(tmp_path: Path, name: str) -> None:
    names = f"{{0: '{name}'}}"
    card = describe(write_constant_model(tmp_path / "model.onnx", NO_ROWS, metadata={"names": names}))

    assert name[:10] in card.label(0)
    assert len(msgspec.json.encode(card.label(0))) <= CLASS_NAME_CHARACTERS_MAX + len('""')


def test_names_may_be_written_as_json_with_texts_for_numbers(tmp_path: Path) -> None:
    names = json.dumps({"0": "a", "2": "b"})
    card = describe(write_constant_model(tmp_path / "model.onnx", NO_ROWS, metadata={"names": names}))

    assert [card.label(number) for number in range(3)] == ["a", "class_1", "b"]


def test_a_list_of_names_counts_from_zero(tmp_path: Path) -> None:
    card = describe(write_constant_model(tmp_path / "model.onnx", NO_ROWS, metadata={"names": "['a', 'b']"}))

    assert card.label(1) == "b"


@pytest.mark.parametrize(
    ("number", "label"),
    [(3, "Tank"), (23, "Tank(Wint)"), (43, "Tank(Night)"), (4, "class_4"), (24, "class_24"), (63, "class_63")],
)
def test_variants_of_a_class_have_its_name_and_their_season(tmp_path: Path, number: int, label: str) -> None:
    path = write_constant_model(tmp_path / "model.onnx", NO_ROWS)
    path.with_suffix(".json").write_text('{"class_variants": true}')
    (tmp_path / "classes.json").write_text('[{"Id": 3, "Name": "Tank", "MaxSizeM": 9}]')

    card = describe(path)

    assert card.label(number) == label
    assert card.max_size_m(number) == (9 if label.startswith("Tank") else None)


def test_without_variants_a_number_above_twenty_is_a_class_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('[{"Id": 3, "Name": "Tank"}]')

    assert describe(write_constant_model(tmp_path / "model.onnx", NO_ROWS)).label(23) == "class_23"


# -- shared models --


@pytest.mark.real_media
@pytest.mark.parametrize(
    ("name", "head", "side_px"),
    [
        ("yolox_nano_dynbatch", "yolox", 416),
        ("yolox_nano_e2e_dynbatch", "flat", 416),
        ("deimv2_atto", "detr", 320),
        ("deimv2_femto", "detr", 416),
        ("agpl_yolov8n_int8", "yolov8", 640),
        ("agpl_yolov8n_f32_dynbatch", "yolov8", 640),
        ("agpl_yolo26n_e2e_f32_dynbatch", "end_to_end", 640),
        ("agpl_NEGATIVE_dead_scores_qdq", "yolov8", 640),
        ("aerial_vehicle_tiny_dyn", "yolov8", 640),
    ],
)
def test_every_shared_detector_is_recognised_under_any_name(
    shared_data: Path, tmp_path: Path, name: str, head: str, side_px: int
) -> None:
    path = tmp_path / "x.onnx"
    path.symlink_to(shared_data / "models" / f"{name}.onnx")

    card = describe(path)

    assert (card.head, card.input.width) == (head, side_px)


@pytest.mark.real_media
def test_a_shot_model_is_no_detector(shared_data: Path) -> None:
    failure = refused(shared_data / "models" / "transnetv2_small_standin.onnx")

    assert failure.code is FailureCode.MODEL_NOT_A_DETECTOR
    assert "frames uint8[?, 100, 27, 48, 3]" in failure.detail
