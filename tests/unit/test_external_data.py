"""Weights beside an ONNX file are found wherever the file may name them, and nothing else is touched."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from contracts.failures import Failure, FailureCode
from engine.checksums import sha256_of
from engine.external_data import digest_of_model, external_files, external_names
from engine.models import open_model
from engine.precision import as_it_is
from tests.tiny_models import put_weights_beside, write_colour_model


def tensor_in(location: str) -> TensorProto:
    tensor = TensorProto(name=location, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in (("offset", "0"), ("location", location), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def write(path: Path, *nodes: onnx.NodeProto, **graph: object) -> Path:
    made = helper.make_graph(list(nodes), "g", [], [], **graph)  # type: ignore[arg-type]
    path.write_bytes(helper.make_model(made).SerializeToString())
    return path


def test_a_model_that_holds_its_weights_has_none_beside_it(tmp_path: Path) -> None:
    model = write_colour_model(tmp_path / "a.onnx")

    assert external_names(model) == ()
    assert digest_of_model(model) == sha256_of(model)


def test_every_place_that_may_name_a_file_is_looked_at(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=tensor_in("constant"))
    branch = helper.make_graph([constant], "b", [], [], initializer=[tensor_in("inner")])
    loop = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    model = write(tmp_path / "a.onnx", loop, initializer=[tensor_in("outer"), tensor_in("outer")])

    assert sorted(external_names(model)) == ["constant", "inner", "outer"]


@pytest.mark.parametrize("name", ["../a.bin", "/etc/passwd", "sub/a.bin", "..", ".", "a\\b", "a\nb", ""])
def test_a_file_that_does_not_lie_beside_the_model_is_refused_before_it_is_opened(tmp_path: Path, name: str) -> None:
    model = write(tmp_path / "a.onnx", initializer=[tensor_in(name)])

    with pytest.raises(Failure) as caught:
        open_model(model)
    assert caught.value.code is FailureCode.FORBIDDEN_PATH


KEY, VALUE = b"\x0a\x08location", b"\x12\x05a.bin"
GROUP = b"\xfb\x06%b\xfc\x06"
"""Field 111, which no message of ONNX has."""


@pytest.mark.parametrize(
    ("entry", "before"),
    [
        (VALUE + KEY, b""),
        (b"\x0a\x01x" + VALUE + KEY, b""),
        (KEY + VALUE, GROUP % b""),
        (KEY + VALUE, GROUP % b"\x3a\x01\xff"),
        (KEY + VALUE, GROUP % GROUP % b"\x08\x01"),
    ],
    ids=["value first", "two keys", "empty group", "a graph in a group that is none", "group in group"],
)
def test_a_file_that_onnxruntime_finds_is_found_however_it_is_written(
    tmp_path: Path, entry: bytes, before: bytes
) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    model = write(tmp_path / "a.onnx", helper.make_node("Identity", ["w"], ["output"]))
    with_weights = tensor.SerializeToString() + b"\x6a" + varint(len(entry)) + entry
    graph = b"\x2a" + varint(len(with_weights)) + with_weights
    model.write_bytes(before + model.read_bytes() + b"\x3a" + varint(len(graph)) + graph)

    assert onnx.load(model, load_external_data=False).graph.initializer[0].external_data[0].value == "a.bin"
    assert external_names(model) == ("a.bin",)


def test_a_file_in_which_anything_could_be_hidden_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.external_data.FIELDS_MAX", 100)
    model = write(tmp_path / "a.onnx", initializer=[tensor_in("../a.bin")])
    model.write_bytes(b"\xd0\x0f\x00" * 100 + model.read_bytes())

    with pytest.raises(Failure, match="more than 100 fields") as caught:
        open_model(model)
    assert caught.value.code is FailureCode.MODEL_CORRUPT


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    model = put_weights_beside(write_colour_model(tmp_path / "a.onnx"), location="a.bin")
    assert external_files(model) == [tmp_path / "a.bin"]
    (tmp_path / "a.bin").unlink()

    with pytest.raises(Failure, match=r"a\.bin") as caught:
        open_model(model)
    assert caught.value.code is FailureCode.MODEL_MISSING


def test_the_digest_is_of_the_weights_too(tmp_path: Path) -> None:
    model = put_weights_beside(write_colour_model(tmp_path / "a.onnx"), location="a.bin")
    before = digest_of_model(model)
    assert digest_of_model(model, sha256=sha256_of(model)) == before
    (tmp_path / "a.bin").write_bytes(b"\0" * (tmp_path / "a.bin").stat().st_size)

    assert digest_of_model(model) != before


def test_a_builder_is_given_the_weights_in_the_model(tmp_path: Path) -> None:
    inside = write_colour_model(tmp_path / "a.onnx")
    content = inside.read_bytes()
    assert as_it_is(inside) == content

    whole = onnx.load_from_string(as_it_is(put_weights_beside(inside)))

    (weights,) = (tensor for tensor in whole.graph.initializer if tensor.name == "weights")
    assert numpy_helper.to_array(weights)[0, 2] == 60


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 40, b"\x3a\xff\x01", b"\x3a", b"\x3a\x7f" + b"\x0a" * 20, b"{}", b"\x0b\x0c", b"\x3a\x02\x0a"],
)
def test_what_is_no_onnx_file_names_nothing(tmp_path: Path, content: bytes) -> None:
    model = tmp_path / "a.onnx"
    model.write_bytes(content)

    assert external_names(model) == ()


def test_a_file_that_nests_for_ever_is_left_to_onnxruntime(tmp_path: Path) -> None:
    content = b""
    for _ in range(2_000):  # graph in attribute in node in graph
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            content = tag + varint(len(content)) + content
    model = tmp_path / "a.onnx"
    model.write_bytes(b"\x3a" + varint(len(content)) + content)

    assert external_names(model) == ()


def varint(number: int) -> bytes:
    digits = bytearray()
    while number >= 128:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])
