"""What holds of the reporting rule whatever is seen."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from contracts.detections import Detection
from contracts.options import DetectionOptions
from contracts.results import LastReport
from engine.orientation import Size
from engine.reporting import report

SIZE = Size(320, 240)

detections = st.builds(
    Detection,
    center_x=st.floats(0, 1),
    center_y=st.floats(0, 1),
    width=st.just(0.1),
    height=st.just(0.1),
    class_num=st.integers(0, 2),
    label=st.just("thing"),
    confidence=st.floats(0, 1),
)
videos = st.lists(st.lists(detections, max_size=3), max_size=60)


def _reported_at(frames: list[list[Detection]], options: DetectionOptions) -> list[float]:
    last: LastReport | None = None
    times: list[float] = []
    for index, seen in enumerate(frames):
        remembered = report(seen, at_s=index / 10, last=last, options=options, size=SIZE)
        if remembered is not None:
            last = remembered
            times.append(remembered.at_s)
    return times


@given(videos, st.sampled_from([0.1, 0.5, 2.0]))
def test_reports_are_never_closer_than_asked(frames: list[list[Detection]], seconds: float) -> None:
    times = _reported_at(frames, DetectionOptions(frame_recognition_seconds=seconds))
    assert all(later - earlier >= seconds - 1e-6 for earlier, later in itertools.pairwise(times))


@given(videos)
def test_with_zero_seconds_every_frame_with_detections_is_reported(frames: list[list[Detection]]) -> None:
    times = _reported_at(frames, DetectionOptions(frame_recognition_seconds=0))
    assert times == [index / 10 for index, seen in enumerate(frames) if seen]


@given(st.lists(detections, min_size=1, max_size=3), st.integers(1, 50))
def test_what_does_not_change_is_reported_once(seen: list[Detection], count: int) -> None:
    assert len(_reported_at([seen] * count, DetectionOptions(frame_recognition_seconds=0.1))) == 1
