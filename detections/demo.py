"""`make demo`: a clip streamed through the whole system at the pace of a slow line, and what came of it.

Without a file the clip is the rendered street, of which every car's place is known, so that what was found can be held
against what was drawn. `out/` gets the clip, the clip with the boxes drawn, and one picture of it.
"""

import asyncio
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from contracts.events import DetectionEvent
from contracts.failures import Failure
from contracts.media import MediumKind, kind_by_extension
from contracts.options import DetectionOptions
from detections.annotate import annotate
from detections.answers import ClientError
from detections.client import Client
from detections.exits import EXIT_FAILED, ended_by_exit_code, take_signals_as_ctrl_c
from detections.frames import first_frame_bytes, save_frame
from detections.local import LocalStack, StackError
from detections.looks import Looks
from detections.model_files import DEFAULT_MODEL, find_model
from detections.score import IOU_MIN, Score, score
from detections.streaming import Course, Heard, Streaming, stream
from detections.street import SECONDS, Street, write_clip
from detections.uploading import check_regular
from engine.drawing import draw_boxes, write_picture
from engine.images import read_picture
from engine.sources import ModelSource

OUT = Path("out")
UPLOAD_S = 15.0
"""How long the upload takes, by throttling it."""
BYTES_PER_S_MIN = 200_000
OPTIONS = DetectionOptions(frame_period_recognition=4, frame_recognition_seconds=0, probability_threshold=0.4)
"""Every 4th frame is looked at, and every look that saw something is reported."""
FIRST_BYTES_MIN = 64 * 1024
"""The clock of the first detection starts here, or at the end of the first frame if that is later."""
LINE_EVERY_S = 0.5
WARM_UP_TIMEOUT_S = 60.0


def demo(
    file: Annotated[Path | None, typer.Argument(help="A video or an image; else a street is rendered.")] = None,
    model: Annotated[str, typer.Option(help="An ONNX file, or a name in the models folder.")] = DEFAULT_MODEL,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Length of the rendered street.")] = SECONDS,
) -> None:
    """Stream a clip through the whole system and show what was found."""
    take_signals_as_ctrl_c()  # the folder of its storage goes in any case
    try:
        OUT.mkdir(exist_ok=True)
        if file is not None:
            check_regular(file)
        if file is None:
            _show_street(find_model(model), seconds)
        elif kind_by_extension(file.name) is MediumKind.IMAGE:
            _show_image(file, find_model(model))
        else:
            _show_video(file, find_model(model))
    except (Failure, StackError, ClientError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED) from None


def _show_street(model: ModelSource, seconds: float) -> None:
    clip = OUT / "street.mp4"
    print("rendering a street seen from above, and starting the broker, the edge and a consumer ...", flush=True)
    with ThreadPoolExecutor(1) as renderer:
        rendered = renderer.submit(write_clip, clip, seconds=seconds)
        with _stack(model) as url:
            street = rendered.result()
            course = _streamed(url, clip)
    _say_when(course, first_frame_bytes(clip))
    _say_score(course, street)
    _leave_behind(course, clip)


def _show_video(file: Path, model: ModelSource) -> None:
    first_bytes = first_frame_bytes(file)  # a file that cannot be shown is refused before anything starts
    print("starting the broker, the edge and a consumer ...", flush=True)
    with _stack(model) as url:
        course = _streamed(url, file)
    _say_when(course, first_bytes)
    _leave_behind(course, file)


def _show_image(file: Path, model: ModelSource) -> None:
    picture = read_picture(file)
    print("starting the broker, the edge and a consumer ...", flush=True)
    with _stack(model) as url, Client(url) as client:
        started_s = time.monotonic()
        detections = client.detect(file, config=OPTIONS)
        took_s = time.monotonic() - started_s
    for seen in detections:
        print(f"  {seen.label:<16} {seen.confidence:.2f}  at {seen.center_x:.3f}, {seen.center_y:.3f}")
    annotated = OUT / "annotated.png"
    write_picture(annotated, draw_boxes(picture.rgb, detections))
    print(f"{len(detections)} detections in {took_s * 1000:.0f} ms; look at {annotated}")


@contextmanager
def _stack(model: ModelSource) -> Generator[str]:
    """The address of a whole system whose engine is warm; it is gone afterwards, its storage too."""
    with tempfile.TemporaryDirectory(prefix="detections-demo-") as storage:
        stack = LocalStack(Path(storage), model=model, environ={"CONSUMER_WARM_UP": "true"})
        try:
            stack.start()
            _wait_until_warm(stack.url)
            yield stack.url
        finally:
            stack.kill()  # nothing of it is kept, so nothing waits for a good order


def _wait_until_warm(url: str) -> None:
    deadline_s = time.monotonic() + WARM_UP_TIMEOUT_S
    with Client(url) as client:
        while (health := client.health()).ai_availability != "Enabled":
            if health.error_message or time.monotonic() > deadline_s:
                raise ClientError(f"the engine does not start: {health.error_message or health.ai_availability}")
            time.sleep(0.1)


def _streamed(url: str, file: Path) -> Course:
    """Send the file as over a slow line, saying what comes back meanwhile."""
    bytes_per_s = max(BYTES_PER_S_MIN, file.stat().st_size / UPLOAD_S)
    print(
        f"streaming {file} ({file.stat().st_size / 1e6:.1f} MB) at {bytes_per_s / 1000:.0f} kB/s to {url}", flush=True
    )
    streaming = Streaming(url=url, file=file, options=OPTIONS, bytes_per_s=bytes_per_s)
    course = asyncio.run(stream(streaming, Teller()))
    if course.end is not None and course.end.error is not None:
        raise Failure(course.end.error.code, course.end.error.detail)
    return course


class Teller:
    """Says what a report saw, twice a second at most."""

    def __init__(self) -> None:
        self._said_at_s = 0.0

    def __call__(self, course: Course, heard: Heard) -> None:
        if heard.at_s - self._said_at_s < LINE_EVERY_S:
            return
        self._said_at_s = heard.at_s
        sent = f"{course.share_sent(heard.at_s):4.0%} sent, {heard.at_s - course.sent[0].at_s:5.1f} s"
        print(
            f"  {sent}   frame {heard.event.frame_index:5}  {heard.event.video_time}   {_seen(heard.event)}", flush=True
        )


def _seen(event: DetectionEvent) -> str:
    counts = Counter(seen.label for seen in event.annotations)
    return ", ".join(f"{count} {label}" for label, count in counts.most_common(3))


def _say_when(course: Course, first_bytes: int) -> None:
    if not course.reports:
        return
    first = course.reports[0]
    needed_bytes = max(FIRST_BYTES_MIN, first_bytes)
    left_at_s = course.left_at_s(needed_bytes)
    if left_at_s is not None:
        delay_ms = (first.at_s - left_at_s) * 1000
        print(
            f"first detection: {delay_ms:.0f} ms after the bytes of its frame had left ({needed_bytes / 1000:.0f} kB), "
            f"with {course.share_sent(first.at_s):.1%} of the file sent"
        )
    before_end = sum(heard.at_s < course.sent[-1].at_s for heard in course.reports)
    print(f"reports: {len(course.reports)}, {before_end} of them before the upload had ended")


def _say_score(course: Course, street: Street) -> None:
    total = _score(course, street)
    print(
        f"found against drawn: {total.found} of {total.drawn} cars (recall {total.recall:.3f}), "
        f"{total.false} false (precision {total.precision:.3f}), IoU >= {IOU_MIN:g}, confidence >= "
        f"{OPTIONS.probability_threshold:g}, every {OPTIONS.frame_period_recognition}th frame"
    )


def _score(course: Course, street: Street) -> Score:
    """Over all frames that were looked at; of one that was not reported, every car was missed."""
    decoded = course.end.counts.decoded if course.end and course.end.counts else 0
    seen = {heard.event.frame_index: heard.event.annotations for heard in course.reports}
    looked_at = range(0, decoded, OPTIONS.frame_period_recognition)
    return sum((score(seen.get(index, []), street.drawn(index)) for index in looked_at), Score())


def _leave_behind(course: Course, file: Path) -> None:
    """The annotated video and a picture of it; the last line says how much was detected."""
    looks = Looks()
    for heard in course.reports:
        looks.add(heard.event.frame_index or 0, heard.event.annotations)
    detections = sum(len(heard.event.annotations) for heard in course.reports)
    video, picture = OUT / "annotated.mp4", OUT / "annotated.png"
    print(f"drawing {video} ...", flush=True)
    annotate(file, video, looks, stop=threading.Event(), preset="ultrafast")
    left = [str(video)]
    if course.reports:
        best = max(course.reports, key=lambda heard: len(heard.event.annotations)).event
        save_frame(file, picture, frame_index=best.frame_index or 0, detections=best.annotations)
        left.append(str(picture))
    print(f"{detections} detections in {len(course.reports)} frames; look at {' and '.join(left)}")


if __name__ == "__main__":
    with ended_by_exit_code():
        typer.run(demo)
