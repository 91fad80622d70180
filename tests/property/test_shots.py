"""Shots found while frames come are those of the plain algorithm that has the whole video in memory."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.shot_finder import FoundShot, FrameOdds, ShotFinder, ShotRule
from engine.shot_windows import HEIGHT, STEP, WIDTH, WINDOW, Windows

FPS = 25
odds = st.sampled_from([0.0, 0.2, 0.5, 0.51, 0.9, 1.0])


def whole_video_windows(frames: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """All windows of a video that is in memory: padded at both ends, one every 50 frames."""
    behind = 25 + 50 - (len(frames) % 50 or 50)
    padded = np.concatenate([frames[:1].repeat(25, axis=0), frames, frames[-1:].repeat(behind, axis=0)])
    for start in range(0, len(padded) - WINDOW + 1, STEP):
        yield padded[start : start + WINDOW]


def whole_video_scenes(boundaries: list[float], *, threshold: float) -> list[tuple[int, int]]:
    """First and last frame of each scene, of all predictions at once."""
    is_over = [value > threshold for value in boundaries]
    scenes: list[tuple[int, int]] = []
    start, before = 0, False
    for at, now in enumerate(is_over):
        if before and not now:
            start = at
        if now and not before and at > 0:
            scenes.append((start, at))
        before = now
    if not before:
        scenes.append((start, len(is_over) - 1))
    return scenes or [(0, len(is_over) - 1)]


def found_in(boundaries: list[float], transitions: list[float] | None = None, *, rule: ShotRule) -> list[FoundShot]:
    finder = ShotFinder(rule)
    found: list[FoundShot] = []
    for at, (boundary, transition) in enumerate(zip(boundaries, transitions or boundaries, strict=True)):
        found += finder.add(FrameOdds(at_s=at / FPS, boundary=boundary, transition=transition))
    return found + finder.end()


@settings(max_examples=40)
@given(count=st.integers(1, 320))
def test_windows_of_a_stream_are_those_of_the_whole_video(count: int) -> None:
    numbers = np.arange(count, dtype=np.uint32)
    frames = np.broadcast_to(
        np.stack([numbers // 256, numbers % 256, numbers * 0], axis=1)[:, None, None], (count, 1, 1, 3)
    )
    frames = np.broadcast_to(frames, (count, HEIGHT, WIDTH, 3)).astype(np.uint8)
    windows = Windows()
    streamed = [window for frame in frames if (window := windows.add(frame)) is not None]
    streamed += windows.end()
    expected = list(whole_video_windows(frames))
    assert len(streamed) == len(expected) == -(-count // STEP)
    for one, other in zip(streamed, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@given(boundaries=st.lists(odds, min_size=1, max_size=80), threshold=st.sampled_from([0.1, 0.5, 0.95]))
def test_shots_of_a_stream_are_those_of_the_whole_video(boundaries: list[float], threshold: float) -> None:
    found = found_in(boundaries, rule=ShotRule(threshold=threshold))
    assert [(shot.start_frame, shot.end_frame) for shot in found] == whole_video_scenes(boundaries, threshold=threshold)
    for shot in found:
        assert (shot.start_s, shot.end_s) == (shot.start_frame / FPS, _end_s(shot, count=len(boundaries)))


def _end_s(shot: FoundShot, *, count: int) -> float:
    """When the frame behind it begins; nobody knows how long the frame of a video of one frame lasts."""
    return pytest.approx((shot.end_frame + 1) / FPS if count > 1 else 0.0)


@given(
    frames=st.lists(st.tuples(odds, odds), min_size=1, max_size=80),
    frames_min=st.integers(1, 30),
)
def test_transitions_change_no_boundary_and_splinters_belong_to_the_next_shot(
    frames: list[tuple[float, float]], frames_min: int
) -> None:
    boundaries, transitions = [one for one, _ in frames], [other for _, other in frames]
    plain = found_in(boundaries, rule=ShotRule())
    told = found_in(boundaries, transitions, rule=ShotRule())
    assert [(shot.start_frame, shot.end_frame) for shot in told] == [
        (shot.start_frame, shot.end_frame) for shot in plain
    ]
    longer = found_in(boundaries, transitions, rule=ShotRule(frames_min=frames_min))
    assert all(shot.end_frame - shot.start_frame + 1 >= frames_min for shot in longer[:-1])
    assert longer, "a video has at least one shot"
    assert {shot.end_frame for shot in longer} <= {shot.end_frame for shot in plain} | {len(frames) - 1}


def test_cuts_that_touch_are_each_a_cut() -> None:
    """A flash: of the two frames of each cut, the last of one lies beside the first of the other."""
    boundaries = [0.0, 0.0, 0.9, 0.0, 0.9, 0.0, 0.9, 0.0, 0.0]
    transitions = [0.0, 0.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.0]
    found = found_in(boundaries, transitions, rule=ShotRule())
    assert [(shot.end_frame, shot.transition) for shot in found] == [(2, "cut"), (4, "cut"), (6, "cut"), (8, None)]


def test_a_dissolve_that_begins_before_its_boundary_is_gradual() -> None:
    found = found_in([0.0, 0.0, 0.0, 0.9, 0.0], [0.0, 0.9, 0.9, 0.9, 0.0], rule=ShotRule())
    assert [shot.transition for shot in found] == ["gradual", None]
