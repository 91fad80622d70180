"""Real clips and pictures, good and bad."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.decode import open_video
from engine.growing_file import GrowingFile, MediumFile
from engine.images import read_picture
from engine.video import VideoLimits
from tests.uploads import Upload, VirtualTime

pytestmark = pytest.mark.real_media

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
MANIFEST = SHARED_DATA / "MANIFEST.md"
BAD_MEMORY_MAX_MB = 900
"""Of one process that reads every bad file: the largest is a JPEG of 99 megapixels, which is let in."""


def _stated_frames() -> dict[str, int]:
    """Clips of the manifest and how many frames each has."""
    if not MANIFEST.is_file():
        return {}
    row = re.compile(r"\| ((?:clips|codecs)/\S+) \|(?:[^|]*\|){5} (\d+)/\d+ \|")
    return {match[1]: int(match[2]) for match in map(row.match, MANIFEST.read_text().splitlines()) if match}


CLIPS = _stated_frames()


def test_the_manifest_states_the_frames_of_every_clip(shared_data: Path) -> None:
    folders = (shared_data / "videos" / name for name in ("clips", "codecs"))
    files = {f"{each.parent.name}/{each.name}" for folder in folders for each in folder.iterdir()}
    assert {name for name in files if not name.endswith(".json")} == set(CLIPS)


@pytest.mark.parametrize("name", CLIPS)
def test_a_finished_clip_has_its_frames(shared_data: Path, name: str) -> None:
    medium = MediumFile(path=shared_data / "videos" / name)
    with GrowingFile(medium) as source, open_video(source, limits=VideoLimits()) as video:
        times = [frame.at_s for frame in video.frames()]
        assert video.decoded == CLIPS[name]
        assert video.damaged == 0
        assert not video.is_partial()
    assert times == sorted(times)
    assert times[0] == 0


@pytest.mark.parametrize("name", CLIPS)
def test_a_growing_clip_has_its_frames(shared_data: Path, tmp_path: Path, name: str) -> None:
    upload = Upload(tmp_path, (shared_data / "videos" / name).read_bytes(), chunks=(16_384, 3_001))
    time = VirtualTime(upload.step)
    with (
        GrowingFile(upload.medium, passing=time.passing()) as source,
        open_video(source, limits=VideoLimits()) as video,
    ):
        assert sum(1 for _ in video.frames()) == CLIPS[name]
        assert video.damaged == 0
        assert not video.is_partial()


def test_a_rotated_phone_clip_is_upright(shared_data: Path) -> None:
    medium = MediumFile(path=shared_data / "videos/codecs/car_phone_rot90_moov_end.mov")
    with GrowingFile(medium) as source, open_video(source, limits=VideoLimits()) as video:
        frame = next(video.frames())
        assert (frame.width, frame.height) == (432, 768)
        assert frame.scaled(width=43, height=77).shape == (77, 43, 3)


_LOOK_AT_ALL = """
import json, pathlib, sys, threading, time
from contracts.failures import Failure
from contracts.options import DetectionOptions
from engine.batching import Workers
from engine.growing_file import MediumFile
from engine.images import read_picture
from engine.watching import Finished, watch_video
from tests.finders import RedFinder

workers = Workers(RedFinder(), count=2)

def look(path, is_video):
    if not is_video:
        return list(read_picture(path).rgb.shape)
    stop = threading.Event()
    *_, end = watch_video(MediumFile(path=path), workers=workers, options=DetectionOptions(), stop=stop)
    assert isinstance(end, Finished)
    counts = end.counts
    assert counts.decoded >= counts.sampled == counts.inferred + counts.failed
    return [counts.decoded, end.failure.code if end.failure else ("partial" if end.is_partial else "whole")]

seen = {}
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    started = time.monotonic()
    try:
        said = look(path, sys.argv[2] == "video")
    except Failure as failure:
        said = [failure.code]
    status = pathlib.Path("/proc/self/status").read_text()  # not ru_maxrss, which is inherited of who started us
    megabytes = int(status.split("VmHWM:")[1].split()[0]) // 1024
    seen[path.name] = {"said": said, "seconds": time.monotonic() - started, "megabytes": megabytes}
workers.close()
print(json.dumps(seen))
"""


def _look_at_all(folder: Path, kind: str) -> dict[str, dict[str, object]]:
    """What each file of a folder comes to, in a process of its own, so that a crash is seen as one."""
    arguments = [sys.executable, "-c", _LOOK_AT_ALL, str(folder), kind]
    environment = {**os.environ, "PYTHONPATH": "."}
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=110, env=environment, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


@pytest.mark.parametrize("folder", ["images/bad", "videos/bad"])
@pytest.mark.parametrize("kind", ["image", "video"])
def test_no_bad_file_crashes_hangs_or_eats_the_memory(shared_data: Path, folder: str, kind: str) -> None:
    seen = _look_at_all(shared_data / folder, kind)
    assert len(seen) == len(list((shared_data / folder).iterdir()))
    for name, what in seen.items():
        assert float(str(what["seconds"])) < 30, name
        assert int(str(what["megabytes"])) < BAD_MEMORY_MAX_MB, name


EXPECTED_IMAGES = {
    "gen_jpeg_sof_65500x65500.jpg": "too_many_pixels",
    "gen_png_bomb_12000x12000_rgb.png": "too_many_pixels",
    "gen_png_bomb_20000x20000_1bit.png": "too_many_pixels",
    "gen_tiff_g4_30000x20000.tif": "too_many_pixels",
    "gen_webp_16383x16383.webp": "too_many_pixels",
    "gen_jpeg_truncated_half.jpg": "unreadable_media",
    "img_pillow_truncated_jpeg.jpg": "unreadable_media",
    "gen_gif_2000x2000_120frames.gif": "unsupported_media",
    "img_rabbit_nonsense.bin": "unsupported_media",
    "gen_png_named.jpg": [120, 160, 3],
    "img_pillow_tiff_strip_cmyk_jpeg.tif": [100, 100, 3],
    "img_pillow_hopper_orientation_6.jpg": [128, 128, 3],
}


def test_bad_pictures_come_to_what_they_should_and_bombs_cost_nothing(shared_data: Path) -> None:
    seen = _look_at_all(shared_data / "images/bad", "image")
    for name, expected in EXPECTED_IMAGES.items():
        said = seen[name]["said"]
        assert said == (expected if isinstance(expected, list) else [expected]), name
    largest = "img_thumbor_9643x10328_99Mpx.jpg"
    before = [int(str(what["megabytes"])) for name, what in seen.items() if name < largest]
    bombs = max(before) - min(before)
    assert bombs < 50, f"{bombs} MB"


EXPECTED_VIDEOS: dict[str, list[object]] = {
    "gen_audio_only.mp4": [0, "no_video_stream"],
    "gen_exe_header.mp4": [0, "unsupported_media"],
    "gen_html_named.mp4": [0, "unsupported_media"],
    "gen_ftyp_only.mp4": [0, "unreadable_media"],
    "gen_moov_end_truncated_90pct_no_moov.mp4": [0, "unreadable_media"],
    "gen_moov_front_truncated_5pct.mp4": [0, "unreadable_media"],
    "gen_mkv_live_unknown_size.mkv": [50, "whole"],
    "gen_one_byte.mp4": [0, "unsupported_media"],
    "gen_one_frame.mp4": [1, "whole"],
    "gen_tiny_16x16.mp4": [10, "whole"],
    "vid_decord_rot90.mov": [3, "whole"],
    "vid_fuzz_Error_I_P.264": [0, "unsupported_media"],
    "vid_mozilla_0-timescale.mp4": [0, "no_frames"],
    "vid_mozilla_white.mp4": [300, "whole"],
}
PARTIAL = {"gen_bitflips_in_mdat.mp4", "gen_moov_front_zero_filled_tail.mp4", "vid_decord_corrupted.mp4"}


def test_bad_videos_come_to_what_they_should(shared_data: Path) -> None:
    seen = {name: what["said"] for name, what in _look_at_all(shared_data / "videos/bad", "video").items()}
    assert {name: seen[name] for name in EXPECTED_VIDEOS} == EXPECTED_VIDEOS
    for name in PARTIAL:
        said = seen[name]
        assert isinstance(said, list)
        assert said[1] == "partial", name
        assert said[0] > 20, name


def test_every_photo_is_read(shared_data: Path) -> None:
    photos = [*(shared_data / "images/photos").iterdir(), *(shared_data / "images/aerial").glob("*.png")]
    assert len(photos) > 8
    for photo in photos:
        assert read_picture(photo).rgb.ndim == 3
