"""The shots of a video as the shipped model finds them in this process, undisturbed."""

import threading
from contextlib import closing
from pathlib import Path

from contracts.options import DetectionOptions
from engine.decode_thread import Terms
from engine.growing_file import MediumFile
from engine.shot_model import open_shot_model, shot_model_file
from engine.shot_workers import ShotWorkers
from engine.watching import FrameReport, watch_video
from tests.conftest import REPOSITORY


def shots_here(video: Path) -> list[tuple[int, int]]:
    """First and last frame of each shot of a whole video."""
    with closing(ShotWorkers(open_shot_model(shot_model_file([REPOSITORY / "models"])), count=2)) as workers:
        seen = watch_video(
            MediumFile(path=video),
            workers=None,
            options=DetectionOptions(),
            stop=threading.Event(),
            terms=Terms(shots=workers),
        )
        reports = [report for report in seen if isinstance(report, FrameReport)]
    return [(shot.start_frame, shot.end_frame) for report in reports for shot in report.shots]
