"""ONNX graphs on their way to fewer bits: what every quantiser and converter wants done to them first."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from engine.picture import Picture
from engine.preprocess import InputRule, Preprocessor, inputs_of, whole_view
from engine.runtime import Tensor

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET_OF_INT8 = 13
"""Before it there are no scales per channel, and the quantised model does not load."""


def with_names(model: "ModelProto") -> "ModelProto":
    """The model, every node of which has a name of its own: by these it is told what to leave alone."""
    for at, node in enumerate(model.graph.node):
        node.name = f"{at} {node.name}"
    return model


def of_opset(model: "ModelProto", least: int) -> "ModelProto":
    """The model in that version of the operators at least. Raises what onnx raises."""
    from onnx import version_converter

    stated = max((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), default=0)
    return model if stated >= least else version_converter.convert_version(model, least)


def shown(rule: InputRule, pictures: Iterable[Picture]) -> Iterator[dict[str, Tensor]]:
    """What a model is shown of each picture, whole, by the names of its inputs; a batch of 1, and one at a time."""
    preprocessor = Preprocessor(rule)
    for picture in pictures:
        view = whole_view(rule, picture)
        yield inputs_of(rule, preprocessor.batch([view]).copy(), view.placement)
