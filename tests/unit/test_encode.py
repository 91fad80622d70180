"""A video with its detections drawn."""

import threading
from pathlib import Path

import numpy as np

from contracts.options import DetectionOptions
from engine.batching import Workers
from engine.decode import VideoLimits, open_video
from engine.encode import write_annotated_video
from engine.growing_file import GrowingFile, MediumFile
from engine.picture import Rgb
from engine.watching import FrameReport, watch_video
from tests.finders import RedFinder
from tests.media import MOVING, Container, write_video


def _pictures(path: Path) -> list[tuple[float, Rgb]]:
    with GrowingFile(MediumFile(path=path)) as source, open_video(source, limits=VideoLimits()) as video:
        return [(each.at_s, each.scaled(width=each.width, height=each.height)) for each in video.frames()]


def _reports(clip: Path, options: DetectionOptions) -> list[FrameReport]:
    workers = Workers(RedFinder(), count=1)
    seen = list(watch_video(MediumFile(path=clip), workers=workers, options=options, stop=threading.Event()))
    workers.close()
    return [each for each in seen if isinstance(each, FrameReport)]


def _changed_pixels(one: Rgb, other: Rgb) -> int:
    return int((np.abs(one.astype(int) - other).max(axis=2) > 60).sum())


def test_boxes_are_drawn_into_the_frames_of_their_reports_and_the_times_stay(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=20, fps=10, squares=MOVING)
    options = DetectionOptions(frame_period_recognition=10, frame_recognition_seconds=0)
    reports = _reports(clip, options)
    assert [each.frame_index for each in reports] == [0, 10]
    assert write_annotated_video(MediumFile(path=clip), tmp_path / "out.mp4", reports) == 20
    before, after = _pictures(clip), _pictures(tmp_path / "out.mp4")
    assert [round(at_s, 2) for at_s, _ in after] == [round(at_s, 2) for at_s, _ in before]
    changed = [_changed_pixels(one, other) > 40 for (_, one), (_, other) in zip(before, after, strict=True)]
    assert changed == [index % 10 <= 5 for index in range(20)]


def test_a_turned_clip_of_odd_size_comes_out_upright_and_even(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=4, size=(162, 98), rotation=90, container=Container.MOV_END)
    write_annotated_video(MediumFile(path=clip), tmp_path / "out.mp4", [])
    ((_, first), *_) = _pictures(tmp_path / "out.mp4")
    assert first.shape == (162, 98, 3)
