"""Models that harm whoever loads them: a few nodes, valid ONNX, written in code."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.tiny_models import IR_VERSION, OPSET


def write_hungry_model(path: Path) -> Path:
    """It wants 32 GB, in 200 bytes."""
    nodes = [
        helper.make_node("ConstantOfShape", ["count"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0),
        helper.make_node("Add", ["images", "most"], ["output"]),
    ]
    return _write(path, nodes, [numpy_helper.from_array(np.array([1 << 33]), "count")])


def write_endless_model(path: Path) -> Path:
    """It computes a sine four billion billion times."""
    nodes = [helper.make_node("Identity", ["on"], ["on_out"]), helper.make_node("Sin", ["value"], ["value_out"])]
    body = helper.make_graph(
        nodes,
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_out", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["turns", "true", "images"], ["output"], body=body)
    constants = [
        numpy_helper.from_array(np.array(1 << 62), "turns"),
        numpy_helper.from_array(np.array(True), "true"),
    ]
    return _write(path, [loop], constants)


def _write(path: Path, nodes: list[Any], constants: list[Any]) -> Path:
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 64, 64])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "hostile", [images], [output], initializer=constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.save(model, path)
    return path
