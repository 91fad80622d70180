"""Which of the frames that show something are reported: the rule of CONTRACT section 2, state in, state out."""

import math
from collections import Counter
from collections.abc import Iterable

from contracts.detections import Detection
from contracts.options import DetectionOptions
from contracts.results import LastReport
from engine.orientation import Size

TIME_ERROR_S = 1e-6
"""3.84 - 1.84 is a little less than 2: times of frames are compared to the microsecond."""


def report(
    detections: list[Detection],
    *,
    at_s: float,
    last: LastReport | None,
    options: DetectionOptions,
    size: Size,
) -> LastReport | None:
    """What to remember if the frame is reported, None if it is not.

    size: of the displayed frame; distances are fractions of its longer side, which is what fills the model's width.
    """
    if not detections or not _is_due(at_s, last, options):
        return None
    if last is None or options.frame_recognition_seconds == 0 or _is_news(detections, last.annotations, options, size):
        return LastReport(at_s=at_s, annotations=detections)
    return None


def _is_due(at_s: float, last: LastReport | None, options: DetectionOptions) -> bool:
    return last is None or at_s - last.at_s >= options.frame_recognition_seconds - TIME_ERROR_S


def _is_news(detections: list[Detection], before: list[Detection], options: DetectionOptions, size: Size) -> bool:
    """True if there are more of a class, or one has moved or gained confidence more than the options allow."""
    if _has_more_of_a_class(detections, before):
        return True
    for detection in detections:
        nearest, distance = _nearest(detection, before, size)
        if distance > options.tracking_distance_confidence:
            return True
        if detection.confidence - nearest.confidence > options.tracking_probability_increase:
            return True
    return False


def _has_more_of_a_class(detections: Iterable[Detection], before: Iterable[Detection]) -> bool:
    """Without it, every detection has one of its class in `before`."""
    return bool(Counter(each.class_num for each in detections) - Counter(each.class_num for each in before))


def _nearest(detection: Detection, before: list[Detection], size: Size) -> tuple[Detection, float]:
    same_class = [each for each in before if each.class_num == detection.class_num]
    confidence = detection.confidence
    nearest = min(same_class, key=lambda each: (_distance(detection, each, size), abs(confidence - each.confidence)))
    return nearest, _distance(detection, nearest, size)


def _distance(one: Detection, other: Detection, size: Size) -> float:
    """Between their centres, as a fraction of the frame's longer side."""
    x = (one.center_x - other.center_x) * size.width
    y = (one.center_y - other.center_y) * size.height
    return math.hypot(x, y) / max(size.width, size.height)
