"""Models of a few nodes, built in code: what they see is what the test says, or the mean colour of their input."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
_TYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "int64": TensorProto.INT64}


def write_constant_model(
    path: Path,
    outputs: Mapping[str, NDArray[Any]],
    *,
    shape: tuple[int | str, ...] = ("N", 3, 64, 64),
    dtype: str = "float32",
    metadata: Mapping[str, str] | None = None,
    size_tensor: str | None = None,
) -> Path:
    """A model whose outputs are these arrays, whatever it is shown; each output's first dimension is the batch of 1."""
    inputs = [helper.make_tensor_value_info("images", _TYPES[dtype], shape)]
    if size_tensor is not None:
        inputs.append(helper.make_tensor_value_info(size_tensor, TensorProto.INT64, ["N", 2]))
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(array), name))
        for name, array in outputs.items()
    ]
    results = [
        helper.make_tensor_value_info(name, _TYPES[str(array.dtype)], array.shape) for name, array in outputs.items()
    ]
    return _write(path, nodes, inputs, results, metadata)


def write_colour_model(path: Path, *, batch: int | str = "N", side: int = 64, real_channels: int = 3) -> Path:
    """An end-to-end model that sees one box in every picture: as wide as red, as high as green, as sure as blue (mean, 0..1).

    output float32[N, 1, 6]: 0, 0, 60 * red, 60 * green, blue, 0. Other than 3 real channels: a model that does not run.
    """
    to_row = np.zeros((real_channels, 6), np.float32)
    to_row[0, 2], to_row[1, 3], to_row[2, 4] = 60, 60, 1
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node(
            "Constant", [], ["shape"], value=numpy_helper.from_array(np.array([0, 1, real_channels]), "shape")
        ),
        helper.make_node("Reshape", ["mean", "shape"], ["row"]),
        helper.make_node("Constant", [], ["weights"], value=numpy_helper.from_array(to_row, "weights")),
        helper.make_node("MatMul", ["row", "weights"], ["output"]),
    ]
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, side, side])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, 1, 6])
    return _write(path, nodes, [image], [output], {"end2end": "True"})


def write_convolved_model(path: Path, *, swing: float = 1.0, opset: int = OPSET) -> Path:
    """The colour model with a convolution in front, whose tensor holds red and green `swing` times as large as blue.

    In eight bits a large swing leaves blue, the confidence, no room.
    """
    kernel = np.diag([swing, swing, 1]).astype(np.float32)[:, :, None, None]
    to_row = np.zeros((3, 6), np.float32)
    to_row[0, 2], to_row[1, 3], to_row[2, 4] = 60 / swing, 60 / swing, 1
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["colours"]),
        helper.make_node("GlobalAveragePool", ["colours"], ["mean"]),
        helper.make_node("Reshape", ["mean", "shape"], ["row"]),
        helper.make_node("MatMul", ["row", "weights"], ["output"]),
    ]
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 64, 64])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 1, 6])
    stated = {"kernel": kernel, "weights": to_row, "shape": np.array([0, 1, 3])}
    initializers = [numpy_helper.from_array(array, name) for name, array in stated.items()]
    graph = helper.make_graph(nodes, "tiny", [image], [output], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
    helper.set_model_props(model, {"end2end": "True"})
    onnx.save(model, path)
    return path


def write_script(path: Path, **fields: Any) -> Path:
    """A scripted model that knows red, green and blue; `fields` replaces what the file says."""
    script = {
        "runtime": "scripted",
        "input": [128, 128],
        "objects": [
            {"class": 0, "name": "red", "rgb": [255, 0, 0], "confidence": 0.9},
            {"class": 1, "name": "green", "rgb": [0, 255, 0], "confidence": 0.8},
            {"class": 2, "name": "blue", "rgb": [0, 0, 255], "confidence": 0.6},
        ],
    }
    path.write_text(json.dumps(script | fields))
    return path


def _write(
    path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], metadata: Mapping[str, str] | None
) -> Path:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, path)
    return path
