"""A model in eight bits: a smaller file that a CPU with VNNI runs about twice as fast, if it still sees what it saw.

Static, QDQ, unsigned activations and signed weights (U8S8; S8S8 is slower than float on a CPU), weights per channel,
activations up to a percentile of what the calibration pictures show. What comes after the last convolutions, where scores
and coordinates share tensors, stays in float: in eight bits a score has no room beside a coordinate of 640.
"""

import contextlib
import io
import logging
import tempfile
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from contracts.failures import Failure, FailureCode
from engine.agreement import Agreement, compare
from engine.detector import Detector
from engine.graphs import OPSET_OF_INT8, of_opset, shown, with_names
from engine.loading import load_detector
from engine.picture import Picture
from engine.runtime import Tensor
from engine.side_files import read_side_file, side_file_of
from engine.telemetry import silence

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime.quantization import CalibrationDataReader

PICTURES_MAX = 64
"""Half of them calibrate, the others show what was lost; calibration keeps every tensor of every picture."""
_EIGHT_BIT_OPERATORS = frozenset(
    ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger")
)
_SUPPRESSION = "NonMaxSuppression"
_ERRORS_ONLY = 3


def quantise(model: Path, target: Path, pictures: Sequence[Picture], *, is_forced: bool = False) -> Agreement:
    """Write the model in eight bits to `target`, with its side file, and return how far both see the same.

    Raises `Failure`: `model_corrupt` for one that cannot be quantised, and, unless forced, for one that lost its detections or
    never had any in these pictures; `unsupported_media` for fewer than two pictures; and as `load_detector`.
    """
    if len(pictures) < 2:  # noqa: PLR2004 - one to calibrate, one to compare
        raise Failure(FailureCode.UNSUPPORTED_MEDIA, f"{len(pictures)} pictures, at least 2 are needed")
    pictures = pictures[:PICTURES_MAX]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".quantising-") as folder:
        made = Path(folder) / target.name
        reference = load_detector(model, provider="cpu")
        try:
            _write(model, made, reference, pictures[::2])
            _copy_side_file(model, made)
            candidate = load_detector(made, provider="cpu")
            try:
                agreement = compare(reference, candidate, pictures[1::2])
            finally:
                candidate.close()
        finally:
            reference.close()
        if not agreement.is_enough and not is_forced:
            raise Failure(FailureCode.MODEL_CORRUPT, f"{model.name} lost its detections in eight bits: {agreement}")
        for file in (side_file_of(made), made):  # the model last: whoever finds it finds its side file, too
            if file.exists():
                file.replace(target.with_name(file.name))
    return agreement


def _write(model: Path, target: Path, reference: Detector, pictures: Iterable[Picture]) -> None:
    silence()
    try:
        import onnx
        import onnxruntime
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"the extra `quantise` is not installed: {error}") from error
    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
    prepared = target.with_suffix(".prepared")
    try:
        onnx.save(of_opset(_quantisable(onnx.load(model)), OPSET_OF_INT8), prepared)
        with _quiet():
            quant_pre_process(prepared, prepared, skip_symbolic_shape=True)
            graph = with_names(onnx.load(prepared))
            quantization.quantize_static(
                graph,
                target,
                cast("CalibrationDataReader", _Calibration(reference, pictures)),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.Percentile,
                nodes_to_exclude=_head(graph),
            )
    except Failure:
        raise
    except Exception as error:  # onnx and its tools raise anything for a graph that they do not understand
        raise Failure(FailureCode.MODEL_CORRUPT, f"{model.name} cannot be quantised: {error}") from error
    finally:
        prepared.unlink(missing_ok=True)


def _quantisable(model: "ModelProto") -> "ModelProto":
    """The same model. Raises `Failure(model_corrupt)` for what onnxruntime's quantiser never ends with or breaks at."""
    operators = {node.op_type for node in model.graph.node}
    if found := sorted(operators & _EIGHT_BIT_OPERATORS):
        raise Failure(FailureCode.MODEL_CORRUPT, f"it is quantised already: {', '.join(found)}")
    if _SUPPRESSION in operators:  # calibration wants tensors of one size for all pictures
        raise Failure(FailureCode.MODEL_CORRUPT, f"its graph ends with {_SUPPRESSION}: export the model without it")
    return model


def _head(model: "ModelProto") -> list[str]:
    """The nodes behind the last convolutions. One that a softmax leads to is part of the head: it weighs distances."""
    nodes = list(model.graph.node)
    makers = {output: at for at, node in enumerate(nodes) for output in node.output}
    sources = [[makers[name] for name in node.input if name in makers] for node in nodes]
    is_behind_softmax = [False] * len(nodes)
    for at, node in enumerate(nodes):  # a graph's nodes are sorted: sources come first
        is_behind_softmax[at] = node.op_type == "Softmax" or any(is_behind_softmax[source] for source in sources[at])
    is_body = [node.op_type == "Conv" and not behind for node, behind in zip(nodes, is_behind_softmax, strict=True)]
    for at in reversed(range(len(nodes))):
        if is_body[at]:
            for source in sources[at]:
                is_body[source] = True
    return [node.name for node, body in zip(nodes, is_body, strict=True) if not body]


class _Calibration:
    """Pictures as the calibrator reads them: tensors by name, one batch at a time, None at the end; it keeps none of them."""

    def __init__(self, reference: Detector, pictures: Iterable[Picture]) -> None:
        self._shown = shown(reference.model.input, pictures)

    def get_next(self) -> dict[str, Tensor] | None:
        return next(self._shown, None)


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Without the advice that the quantiser prints and logs at the root logger."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(before)


def _copy_side_file(model: Path, target: Path) -> None:
    """What is said of the model is true of the quantised one, but for the checksum."""
    if side_file_of(model).exists():
        said = msgspec.structs.replace(read_side_file(model), sha256=None)
        side_file_of(target).write_bytes(msgspec.json.encode(said))
