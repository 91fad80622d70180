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
_TYPES = {
    "float32": TensorProto.FLOAT,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}


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
    nodes = [_constant(name, array) for name, array in outputs.items()]
    results = [
        helper.make_tensor_value_info(name, _TYPES[str(array.dtype)], array.shape) for name, array in outputs.items()
    ]
    return _write(path, nodes, inputs, results, metadata)


def write_colour_model(
    path: Path,
    *,
    batch: int | str = "N",
    real_channels: int = 3,
    runs_with: int = 0,
    mixes: bool = False,
    repeats_first: bool = False,
) -> Path:
    """An end-to-end model that sees one box in every picture: as wide as red, as high as green, as sure as blue (mean, 0..1).

    output float32[N, 1, 6]: 0, 0, 60 * red, 60 * green, blue, 0. Other than 3 real channels: a model that does not run.
    runs_with: the only number of pictures it runs with, whatever it declares. mixes: every picture counts as the mean
    of all; repeats_first: as the first.
    """
    to_row = np.zeros((real_channels, 6), np.float32)
    to_row[0, 2], to_row[1, 3], to_row[2, 4] = 60, 60, 1
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        _constant("shape", np.array([runs_with, 1, real_channels])),
        helper.make_node("Reshape", ["mean", "shape"], ["row"]),
        _constant("weights", to_row),
        *(_mixing(repeats_first=repeats_first) if mixes or repeats_first else ()),
        helper.make_node("MatMul", ["mixed" if mixes or repeats_first else "row", "weights"], ["output"]),
    ]
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, 64, 64])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, 1, 6])
    return _write(path, nodes, [image], [output], {"end2end": "True"})


def _mixing(*, repeats_first: bool) -> list[Any]:
    """Nodes that give every row of `row` the numbers of the first, or the mean of all, as `mixed`."""
    return [
        _constant("nothing", np.array(0, np.float32)),
        helper.make_node("Mul", ["row", "nothing"], ["zeros"]),
        _constant("first", np.array([0])),
        helper.make_node("Gather", ["row", "first"], ["one"], axis=0)
        if repeats_first
        else helper.make_node("ReduceMean", ["row"], ["one"], axes=[0], keepdims=1),
        helper.make_node("Add", ["zeros", "one"], ["mixed"]),
    ]


def write_two_faced_model(
    path: Path,
    dark: Mapping[str, NDArray[Any]],
    bright: Mapping[str, NDArray[Any]],
    *,
    shape: tuple[int | str, ...] = ("N", 3, 128, 128),
    level: float = 0.5,
    metadata: Mapping[str, str] | None = None,
    size_tensor: str | None = None,
    mixes: bool = False,
) -> Path:
    """A model that gives `dark` for each picture whose mean is at most `level`, else `bright`; arrays without N.

    mixes: it judges all pictures of a batch by their common mean.
    """
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)]
    if size_tensor is not None:
        inputs.append(helper.make_tensor_value_info(size_tensor, TensorProto.INT64, [shape[0], 2]))
    axes = [0, 1, 2, 3] if mixes else [1, 2, 3]
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["own_mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=axes, keepdims=1),
        _constant("level", np.array(level, np.float32)),
        _constant("nothing", np.array(0, np.float32)),
        helper.make_node("Mul", ["own_mean", "nothing"], ["zeros"]),
        helper.make_node("Add", ["mean", "zeros"], ["judged"]),  # one number per picture, whatever was averaged
        helper.make_node("Greater", ["judged", "level"], ["is_bright"]),
    ]
    results = []
    for name, array in dark.items():
        sides = np.array([-1] + [1] * array.ndim, np.int64)
        nodes += [
            _constant(f"{name}/dark", array[None]),
            _constant(f"{name}/bright", bright[name][None]),
            _constant(f"{name}/sides", sides),
            helper.make_node("Reshape", ["is_bright", f"{name}/sides"], [f"{name}/is_bright"]),
            helper.make_node("Where", [f"{name}/is_bright", f"{name}/bright", f"{name}/dark"], [name]),
        ]
        results.append(helper.make_tensor_value_info(name, _TYPES[str(array.dtype)], [shape[0], *array.shape]))
    return _write(path, nodes, inputs, results, metadata)


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


def put_weights_beside(path: Path, *, location: str = "weights.bin") -> Path:
    """Write the model again with its weights in the file `location`, as exporters do with large ones."""
    model = onnx.load(path)
    constants = [node for node in model.graph.node if node.output[0] == "weights"]
    for node in constants:
        tensor = node.attribute[0].t
        tensor.name = node.output[0]
        model.graph.initializer.append(tensor)
        model.graph.node.remove(node)
    options = {"all_tensors_to_one_file": True, "size_threshold": 0, "location": location}
    onnx.save(model, path, save_as_external_data=True, **options)
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


def _constant(name: str, array: NDArray[Any]) -> Any:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(array), name))


def _write(
    path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], metadata: Mapping[str, str] | None
) -> Path:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, path)
    return path
