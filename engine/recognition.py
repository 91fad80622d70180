"""Which head a model has: told from names, shapes, types and metadata of its file, and from what it makes of a picture.

The file's name is never read. What cannot be told is refused with what to write into the side file.
"""

from collections.abc import Callable

from engine.dense_recognition import (
    fastestdet,
    nanodet,
    rtdetr,
    yolov5,
    yolov8,
    yolox,
    yolox_decoded,
)
from engine.heads import BATCH
from engine.pair_recognition import boxes_scores, detr_logits
from engine.refusals import NAME_CHARACTERS_MAX
from engine.row_recognition import detr, end_to_end, flat, padded
from engine.seen import Recognised, Seen
from engine.side_files import HeadName

UNDECODED = 5
"""Dimensions of the grids of YOLOv5 and v7 before their boxes are decoded: [N, 3, rows, columns, 5 + C]."""
RECOGNISERS: dict[HeadName, Callable[[Seen], Recognised | None]] = {
    "padded": padded,
    "detr": detr,
    "flat": flat,
    "end_to_end": end_to_end,
    "rtdetr": rtdetr,
    "fastestdet": fastestdet,
    "nanodet": nanodet,
    "yolov5": yolov5,
    "yolov8": yolov8,
    "yolox_decoded": yolox_decoded,
    "yolox": yolox,
    "detr_logits": detr_logits,
    "boxes_scores": boxes_scores,
}
"""The order in which they are asked: what claims the least comes first."""


MEANINGS: dict[HeadName, str] = {
    "yolov5": "center, size, objectness, class scores of every cell (YOLOv5, v6, v7)",
    "yolov8": "center, size, class scores of every cell (YOLOv8, v9, v11, v12)",
    "yolox": "offsets, logarithms of sizes, objectness, class scores of every cell (YOLOX)",
    "yolox_decoded": "center, size, objectness, class scores of every cell (YOLOX, decoded in the graph)",
    "rtdetr": "center, size, class scores of every query (RT-DETR as Ultralytics exports it)",
    "detr_logits": "class logits and boxes of every query (DETR, RT-DETR, D-FINE as Hugging Face exports them; RF-DETR)",
    "boxes_scores": "boxes and class scores in two tensors (YOLO-NAS, SSD)",
    "nanodet": "class scores and distributions of distances of every cell (NanoDet, NanoDet-Plus)",
    "fastestdet": "one map of cells with objectness, box and classes (FastestDet)",
    "end_to_end": "finished boxes, a fixed number of rows per picture (YOLOv10, YOLO26)",
    "flat": "finished boxes of all pictures, one row after the other (repeats removed in the graph)",
    "detr": "boxes, scores and classes in three tensors (RT-DETR, D-FINE, DEIM, torchvision, MMDeploy)",
    "padded": "a count, boxes, scores and classes (repeats removed in the graph: EfficientNMS, TensorFlow)",
}
"""What each head reads, in a line for people."""


def recognise(seen: Seen) -> Recognised:
    """The head of a model. Raises `Failure(model_not_a_detector)` with what was seen and what would help."""
    if not seen.values:
        raise seen.refused("it has no outputs")
    if any(output.ndim >= BATCH and not len(output) for output in seen.values):
        raise seen.refused("an output has no place for the picture it was shown")
    if seen.side.head is not None:
        found = RECOGNISERS[seen.side.head](seen)
        if found is None:
            raise seen.refused(f"its outputs are not of head {seen.side.head}")
        return found
    for recogniser in RECOGNISERS.values():
        if (found := recogniser(seen)) is not None:
            return found
    raise seen.refused(_why(seen))


def _why(seen: Seen) -> str:
    """What is known of outputs that nobody reads."""
    task = seen.metadata.get("task", "detect")
    if task != "detect":
        return f"its metadata says that it is made for the task {task[:NAME_CHARACTERS_MAX]}, and only boxes are read"
    if any(output.ndim == UNDECODED for output in seen.values):
        return "its boxes are not decoded: export it with its grid, so that it gives one tensor [N, A, 5 + C]"
    return "its outputs are of no known head"
