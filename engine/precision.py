"""The same model in fewer bits: the precision is in the ONNX file, since TensorRT 11 takes it from nowhere else."""

import contextlib
import tempfile
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

from contracts.failures import Failure, FailureCode
from engine.external_data import external_names
from engine.graphs import OPSET_OF_INT8, of_opset, shown, with_names
from engine.models import ModelCard
from engine.picture import Picture
from engine.telemetry import silence

CONVOLUTIONS = ("Conv", "ConvTranspose")
PRODUCTS = ("MatMul", "Gemm")
PICTURES_MAX = 24
"""Of a calibration: as many were enough (ENGINE 1), and the quantiser holds every activation of all of them."""


def as_it_is(path: Path) -> bytes:
    """The model with all of its weights in it."""
    if not external_names(path):
        return path.read_bytes()
    import onnx

    return onnx.load(path).SerializeToString()


def in_half(path: Path) -> bytes:
    """The model in FP16, with inputs and outputs as they were. Raises `Failure(engine_unavailable)`.

    What follows the last layer with weights stays FP32: a coordinate of 640 px is only good for half a pixel in 16 bits. So do
    Resize, whose scales are no weights, and the converter's own exceptions (Range, TopK, ...).
    """
    silence()
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    model = with_names(onnx.load(path))
    try:
        half = convert_float_to_float16(
            model,
            keep_io_types=True,
            op_block_list=[*DEFAULT_OP_BLOCK_LIST, "Resize"],
            node_block_list=head_of(model.graph, (*CONVOLUTIONS, *PRODUCTS)),
        )
    except (ValueError, RuntimeError, KeyError, AttributeError) as error:
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"no FP16 of {path.name}: {error}") from error
    _drop_repeated(half.graph)
    _drop_detours(half.graph)
    return half.SerializeToString()


def in_eighth(path: Path, card: ModelCard, pictures: Iterable[Picture], folder: Path) -> bytes:
    """The model in INT8 as QuantizeLinear and DequantizeLinear nodes, symmetric as TensorRT wants it.

    What follows the last convolutions stays as it was: scores that share the scale of coordinates are lost (ENGINE 1).
    folder: for what the quantiser writes. Raises `Failure(engine_unavailable)`.
    """
    silence()
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod

    calibrating = shown(card.input, pictures)

    class Reader(CalibrationDataReader):
        def get_next(self) -> Any:  # its annotation forgets the None at the end
            return next(calibrating, None)

    source, target = folder / "named.onnx", folder / "quantised.onnx"
    loaded = onnx.load(path)
    try:
        model = with_names(of_opset(loaded, OPSET_OF_INT8))
    except (RuntimeError, ValueError) as error:
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"opset {OPSET_OF_INT8} is needed for INT8: {error}") from error
    onnx.save(model, source)
    with _temporary_files_in(folder):
        quantize_static(
            str(source),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.Percentile,
            nodes_to_exclude=head_of(model.graph, CONVOLUTIONS),
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
        )
    return target.read_bytes()


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Generator[None]:
    """The quantiser writes the whole model into a folder that only `tempfile` chooses."""
    usual, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = usual


def _drop_repeated(graph: Any) -> None:
    """Keep one of each cast: the converter writes one for each user of a tensor, all with one name and one output."""
    once = {node.name: node for node in graph.node}
    if len(once) < len(graph.node):
        kept = [node for node in graph.node if once.pop(node.name, None) is not None]
        del graph.node[:]
        graph.node.extend(kept)


def _drop_detours(graph: Any) -> None:
    """Join nodes that are both FP32: the converter leads every edge between them through FP16 and back."""
    makers = {name: node for node in graph.node for name in node.output}
    direct: dict[str, str] = {}
    for node in graph.node:
        maker = makers.get(node.input[0]) if node.name.endswith("_cast_to_fp32_node") else None
        if maker is not None and maker.name.endswith("_cast_to_fp16_node"):
            direct[node.output[0]] = maker.input[0]
    for node in graph.node:
        for at, name in enumerate(node.input):
            node.input[at] = direct.get(name, name)
    used = {name for node in graph.node for name in node.input} | {entry.name for entry in graph.output}
    kept = [node for node in graph.node if used.intersection(node.output)]
    used = {name for node in kept for name in node.input} | {entry.name for entry in graph.output}
    kept = [node for node in kept if used.intersection(node.output)]  # what only those dropped before had used
    del graph.node[:]
    graph.node.extend(kept)


def head_of(graph: Any, last: tuple[str, ...]) -> list[str]:
    """Names of the nodes that lead to none of those kinds: what a detector does with its last features."""
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    leads: dict[str, bool] = {}
    for node in reversed(graph.node):  # a graph is sorted: users come behind
        leads[node.name] = node.op_type in last or any(
            leads[user.name] for name in node.output for user in users.get(name, [])
        )
    return [name for name, does in leads.items() if not does]
