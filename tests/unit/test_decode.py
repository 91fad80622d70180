"""Frames as pictures, and what a video may not do."""

import gc
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from contracts.failures import Failure, FailureCode
from engine.decode import PROBE_BYTES, must_wait_for_index, open_video
from engine.growing_file import GrowingFile, MediumFile
from engine.picture import Crop, Rgb
from engine.video import VideoLimits
from engine.video_frame import DecodedFrame
from tests.media import BLUE, GREEN, INDEX_LAST, RED, Container, Square, draw, write_video
from tests.uploads import Upload, VirtualTime

CORNERS = (
    Square(rgb=RED, x=0, y=0, side=40),
    Square(rgb=GREEN, x=120, y=0, side=40),
    Square(rgb=BLUE, x=0, y=88, side=40),
)


def _frames(path: Path, limits: VideoLimits | None = None) -> list[DecodedFrame]:
    with GrowingFile(MediumFile(path=path)) as source, open_video(source, limits=limits or VideoLimits()) as video:
        return list(video.frames())


def _first(path: Path) -> DecodedFrame:
    return _frames(path)[0]


def _is_like(picture: Rgb, expected: Rgb) -> bool:
    return picture.shape == expected.shape and float(np.abs(picture.astype(int) - expected).mean()) < 6


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
@pytest.mark.parametrize("hflip", [False, True])
def test_a_frame_is_shown_as_a_player_turns_it(tmp_path: Path, rotation: int, hflip: bool) -> None:
    clip = write_video(tmp_path / "clip", frames=2, squares=CORNERS, rotation=rotation, hflip=hflip)
    stored = draw((160, 128), CORNERS)
    expected = np.rot90(stored, k=rotation // 90)
    expected = expected[:, ::-1] if hflip else expected
    frame = _first(clip)
    height, width = expected.shape[:2]
    assert (frame.width, frame.height) == (width, height)
    shown = frame.scaled(width=width, height=height)
    assert _is_like(shown, expected)
    assert shown.dtype == np.uint8
    assert shown.flags.c_contiguous


@pytest.mark.parametrize("rotation", [0, 90])
def test_a_crop_is_a_part_of_what_is_shown(tmp_path: Path, rotation: int) -> None:
    frame = _first(write_video(tmp_path / "clip", frames=2, squares=CORNERS, rotation=rotation))
    whole = frame.scaled(width=frame.width, height=frame.height)
    crop = Crop(x=16, y=8, width=80, height=64)
    assert _is_like(frame.scaled(width=80, height=64, crop=crop), whole[8:72, 16:96])
    half = frame.scaled(width=40, height=32, crop=crop)
    assert _is_like(half, whole[8:72:2, 16:96:2])


def test_the_whole_as_a_crop_is_the_whole(tmp_path: Path) -> None:
    frame = _first(write_video(tmp_path / "clip", frames=2, squares=CORNERS))
    crop = Crop(x=0, y=0, width=160, height=128)
    assert _is_like(frame.scaled(width=64, height=64, crop=crop), frame.scaled(width=64, height=64))


def test_pixels_stay_when_the_frame_is_gone(tmp_path: Path) -> None:
    pixels = _first(write_video(tmp_path / "clip", frames=2, squares=CORNERS)).scaled(width=160, height=128)
    _frames(write_video(tmp_path / "other", frames=30, squares=()))
    assert _is_like(pixels, draw((160, 128), CORNERS))


def test_frames_may_be_scaled_by_many_threads(tmp_path: Path) -> None:
    frames = _frames(write_video(tmp_path / "clip", frames=24, squares=CORNERS))
    shown: list[bool] = []

    def look(part: list[DecodedFrame]) -> None:
        shown.extend(_is_like(each.scaled(width=160, height=128), draw((160, 128), CORNERS)) for each in part)

    threads = [threading.Thread(target=look, args=(frames[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shown == [True] * 24


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=5, fps=10, container=Container.TS)
    assert [frame.at_s for frame in _frames(clip)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_frames_come_in_the_order_in_which_they_are_shown(tmp_path: Path) -> None:
    squares = tuple(Square(x=4 * index, y=0, side=128, from_frame=index, until_frame=index + 1) for index in range(20))
    frames = _frames(write_video(tmp_path / "clip", frames=20, squares=squares, b_frames=3, container=Container.MPG))
    assert [frame.index for frame in frames] == list(range(20))
    times = [frame.at_s for frame in frames]
    assert times == sorted(times)
    lefts = [int(np.argmax(frame.scaled(width=160, height=128)[64, :, 0] > 190)) for frame in frames]
    assert lefts == sorted(lefts)


@pytest.mark.parametrize("codec", ["libx264", "mpeg1video", "mpeg4"])
def test_frames_of_an_avi_that_are_stored_in_another_order_have_their_own_times(tmp_path: Path, codec: str) -> None:
    shown_at = [*range(20), *range(25, 45)]  # five frames were dropped
    with av.open(str(tmp_path / "clip"), "w", format="avi") as out:
        stream = out.add_stream(codec, rate=25, options={"bf": "3", "g": "20"})
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        for period in shown_at:
            square = Square(rgb=RED, x=2 * period, y=0, side=40)
            frame = av.VideoFrame.from_ndarray(draw((160, 128), [square]), format="rgb24")
            frame.pts, frame.time_base = period, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    times = [frame.at_s for frame in _frames(tmp_path / "clip")]
    assert times == pytest.approx([period / 25 for period in shown_at])


def test_frames_without_times_get_some(tmp_path: Path) -> None:
    """An elementary stream inside an AVI: no pts, only a rate."""
    with av.open(str(tmp_path / "clip"), "w", format="avi") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(6):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode(None))
    times = [frame.at_s for frame in _frames(tmp_path / "clip")]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(0.5)


@pytest.mark.parametrize("second_edit_s", [1, 0], ids=["shown twice", "shown in another order"])
def test_frames_that_are_shown_out_of_the_order_in_which_they_lie_are_seen_when_the_file_is_whole(
    tmp_path: Path, second_edit_s: int
) -> None:
    clip = _write_with_edits(tmp_path / "clip", starts_s=(1, second_edit_s))
    upload = Upload(tmp_path, clip.read_bytes())
    time = VirtualTime(upload.step)
    with (
        GrowingFile(upload.medium, passing=time.passing()) as source,
        open_video(source, limits=VideoLimits()) as video,
    ):
        has_begun_early = not source.is_complete
        frames = [(frame.at_s, frame.scaled(width=8, height=8).tobytes()) for frame in video.frames()]
        assert (has_begun_early, video.is_partial()) == (True, False)
    assert frames == [(frame.at_s, frame.scaled(width=8, height=8).tobytes()) for frame in _frames(clip)]
    assert len(frames) == 50


def test_a_file_that_lacks_some_bytes_has_the_frames_while_it_arrives_that_it_has_when_it_is_there(
    tmp_path: Path,
) -> None:
    clip = write_video(tmp_path / "clip", frames=60, gop=30, b_frames=3, noise=8)
    content = clip.read_bytes()
    middle = len(content) * 6 // 10
    clip.write_bytes(content[:middle] + content[middle + 500 :])
    upload = Upload(tmp_path, clip.read_bytes())
    passing = VirtualTime(upload.step).passing()
    with (
        GrowingFile(upload.medium, passing=passing) as source,
        open_video(source, limits=VideoLimits()) as video,
    ):
        times = [frame.at_s for frame in video.frames()]
    assert times == [frame.at_s for frame in _frames(clip)]


def _write_with_edits(path: Path, *, starts_s: Sequence[int]) -> Path:
    """A clip of 3 s whose index comes first, and whose edit list shows one second from each of these on."""
    with av.open(str(path), "w", format="mp4", options={"moov_size": "8192"}) as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "tune": "zerolatency", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        for index in range(75):
            picture = draw((160, 128), [Square(rgb=RED, x=index, y=0, side=40)])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
        units = stream.time_base.denominator
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") - 4
    edits = b"".join(struct.pack(">IiI", 1000, start_s * units, 1 << 16) for start_s in starts_s)
    before_bytes = int.from_bytes(content[at : at + 4], "big")
    content[at + 12 : at + before_bytes] = struct.pack(">I", len(starts_s)) + edits
    added_bytes = 16 + len(edits) - before_bytes
    for name in (b"elst", b"edts", b"trak", b"moov"):
        _resize(content, name, added_bytes)
    filler = content.index(b"free", content.index(b"moov")) + 4  # behind the index, so that no frame moves
    del content[filler : filler + added_bytes]
    _resize(content, b"free", -added_bytes)
    path.write_bytes(content)
    return path


def _resize(content: bytearray, box: bytes, added_bytes: int) -> None:
    at = content.index(box, content.index(b"moov")) - 4
    content[at : at + 4] = (int.from_bytes(content[at : at + 4], "big") + added_bytes).to_bytes(4, "big")


def test_a_recording_that_starts_anew_goes_on_in_time(tmp_path: Path) -> None:
    part = write_video(tmp_path / "part", frames=50, container=Container.TS).read_bytes()
    (tmp_path / "clip").write_bytes(part * 2)
    times = [frame.at_s for frame in _frames(tmp_path / "clip")]
    assert times == pytest.approx([index / 25 for index in range(100)], abs=0.05)
    assert times == sorted(times)


@pytest.mark.parametrize("container", [Container.TS, Container.MPG])
def test_a_recording_whose_clock_was_set_back_by_an_hour_goes_on_in_time(tmp_path: Path, container: Container) -> None:
    parts = [
        write_video(
            tmp_path / "part", frames=20, pts=partial(int.__add__, hour * 90_000), container=container
        ).read_bytes()
        for hour in (1, 0)
    ]
    (tmp_path / "clip").write_bytes(b"".join(parts))
    times = [frame.at_s for frame in _frames(tmp_path / "clip")]
    assert times == pytest.approx([index / 25 for index in range(40)], abs=0.05)


@pytest.mark.parametrize("container", [Container.MKV, Container.WMV, Container.FLV, Container.MP4_FRONT])
def test_a_recording_is_as_long_as_it_is_whatever_its_clock_said_when_it_began(
    tmp_path: Path, container: Container
) -> None:
    day = 24 * 3600 * 25
    clip = write_video(tmp_path / "clip", frames=20, pts=partial(int.__add__, day), container=container)
    times = [frame.at_s for frame in _frames(clip)]
    assert times == pytest.approx([index / 25 for index in range(20)], abs=0.002)


@pytest.mark.parametrize("before", range(6))
def test_a_clock_that_runs_over_goes_on_in_time(tmp_path: Path, before: int) -> None:
    begins = (1 << 33) * 25 // 90_000 - 45 - before  # the muxer adds 35
    clip = write_video(
        tmp_path / "clip", frames=30, b_frames=2, pts=lambda index: index + begins, container=Container.TS
    )
    assert [frame.at_s for frame in _frames(clip)] == pytest.approx([index / 25 for index in range(30)], abs=0.001)


def test_times_that_fall_a_little_stand_still(tmp_path: Path) -> None:
    part = write_video(tmp_path / "part", frames=10, container=Container.TS).read_bytes()
    (tmp_path / "clip").write_bytes(part * 2)
    times = [frame.at_s for frame in _frames(tmp_path / "clip")]
    assert len(times) == 20
    assert times == sorted(times)
    assert times[10] == times[9]


def test_a_title_that_is_no_utf_8_does_not_matter(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "clip"), "w", format="avi") as out:
        out.metadata["title"] = "XXXXX"
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode(None))
    content = (tmp_path / "clip").read_bytes()
    assert b"XXXXX" in content
    (tmp_path / "clip").write_bytes(content.replace(b"XXXXX", b"\xff\xfe\xe4\xf6\xfc"))
    assert len(_frames(tmp_path / "clip")) == 1


@pytest.mark.parametrize("container", Container, ids=lambda each: each.name)
def test_the_index_is_waited_for_only_where_it_is_last(tmp_path: Path, container: Container) -> None:
    clip = write_video(tmp_path / "clip", frames=4, container=container)
    with GrowingFile(MediumFile(path=clip)) as source:
        assert must_wait_for_index(source) == (container in INDEX_LAST)


def test_a_picture_larger_than_allowed_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=1, size=(640, 480), squares=())
    with pytest.raises(Failure, match="640 x 480") as failure:
        _frames(clip, VideoLimits(pixels_max=640 * 480 - 1))
    assert failure.value.code is FailureCode.TOO_MANY_PIXELS
    assert len(_frames(clip, VideoLimits(pixels_max=640 * 480))) == 1
    with pytest.raises(Failure, match="639 a side"):
        _frames(clip, VideoLimits(side_px_max=639))
    assert len(_frames(clip, VideoLimits(side_px_max=640))) == 1


def test_a_later_picture_larger_than_allowed_is_damage(tmp_path: Path) -> None:
    small = write_video(tmp_path / "a", frames=10, size=(96, 64), container=Container.TS).read_bytes()
    large = write_video(tmp_path / "b", frames=3, size=(2560, 1920), container=Container.TS).read_bytes()
    (tmp_path / "clip").write_bytes(small + large)
    limits = VideoLimits(pixels_max=100_000)
    with GrowingFile(MediumFile(path=tmp_path / "clip")) as source, open_video(source, limits=limits) as video:
        assert {frame.width for frame in video.frames()} == {96}
        assert video.damaged > 0
        assert video.is_partial()


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "song"), "w", format="mp4") as out:
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        out.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        out.mux(cover.encode(None))
    with pytest.raises(Failure) as failure:
        _frames(tmp_path / "song")
    assert failure.value.code is FailureCode.NO_VIDEO_STREAM


def test_a_video_of_a_codec_that_nobody_knows_is_unreadable(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=3)
    clip.write_bytes(clip.read_bytes().replace(b"avc1", b"zzz1"))
    with pytest.raises(Failure) as failure:
        _frames(clip)
    assert failure.value.code is FailureCode.UNREADABLE_MEDIA


@pytest.mark.parametrize("lost_bytes", [0, 77])
def test_a_recording_that_begins_in_mid_broadcast_is_seen_from_its_first_whole_picture_on(
    tmp_path: Path, lost_bytes: int
) -> None:
    clip = write_video(
        tmp_path / "clip", frames=12, gop=4, size=(480, 320), noise=60, audio=True, container=Container.TS
    )
    packets = [clip.read_bytes()[at : at + 188] for at in range(0, clip.stat().st_size, 188)]
    lists = [at for at, packet in enumerate(packets) if packet[1] & 0x1F == 0 and packet[2] == 0]  # of programs
    begins = next(at + 10 for at, following in pairwise(lists) if (following - at) * 188 > 2 * PROBE_BYTES)
    clip.write_bytes(b"".join(packets[begins:])[lost_bytes:])

    assert _frames(clip)


def test_a_picture_that_comes_after_much_sound_is_waited_for_while_the_file_arrives(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "clip"), "w", format="mpeg") as out:
        picture, sound = out.add_stream("mpeg2video", rate=25), out.add_stream("mp2", rate=48000, layout="mono")
        picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        sound.bit_rate = 192_000
        for start in range(0, 8 * 48000, 1152):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16", layout="mono")
            silence.sample_rate, silence.pts = 48000, start
            out.mux(sound.encode(silence))
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        frame.pts = 8 * 25
        out.mux([*picture.encode(frame), *picture.encode(None)])
    time = VirtualTime()
    upload = Upload(tmp_path, (tmp_path / "clip").read_bytes(), chunks=(20_000,))
    time.on_sleep = upload.step

    with (
        GrowingFile(upload.medium, passing=time.passing()) as source,
        open_video(source, limits=VideoLimits()) as video,
    ):
        assert sum(1 for _ in video.frames()) == 1


def test_a_stream_that_comes_up_in_mid_file_is_damage_and_not_the_end(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=30, container=Container.TS)
    content = bytearray(clip.read_bytes())
    begun = [at for at in range(0, len(content), 188) if content[at + 1 : at + 3] == b"\x41\x00"]
    content[begun[len(begun) // 2] + 2] = 0x23  # a packet of the video, as one of a stream that nobody announced
    clip.write_bytes(content)

    with GrowingFile(MediumFile(path=clip)) as source, open_video(source, limits=VideoLimits()) as video:
        seen = sum(1 for _ in video.frames())

    assert seen >= 25
    assert video.damaged


PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile '{neighbour}'\n",
    "ffconcat relative": "ffconcat version 1.0\nfile neighbour.ts\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{neighbour}\n#EXT-X-ENDLIST\n",
    "dash": "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>{neighbour}</BaseURL></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "concat": "concat:{neighbour}|{neighbour}",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("name", ["clip.mp4", "clip.m3u8", "clip.ffconcat", "body"])
def test_a_list_of_other_files_is_never_followed(tmp_path: Path, kind: str, name: str) -> None:
    neighbour = write_video(tmp_path / "neighbour.ts", frames=3, container=Container.TS)
    text = PLAYLISTS[kind].format(neighbour=neighbour)
    for padding in ("", "\n" * 4000):
        (tmp_path / name).write_text(text + padding)
        with pytest.raises(Failure) as failure:
            _frames(tmp_path / name)
        assert failure.value.code is FailureCode.UNSUPPORTED_MEDIA


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif"])
def test_a_picture_is_no_video_under_any_name(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(draw((160, 128), CORNERS)).save(tmp_path / f"picture.{suffix}")
    (tmp_path / f"picture.{suffix}").rename(tmp_path / "clip.mp4")
    with pytest.raises(Failure) as failure:
        _frames(tmp_path / "clip.mp4")
    assert failure.value.code is FailureCode.UNSUPPORTED_MEDIA


def test_decoding_opens_the_file_once_and_nothing_else(tmp_path: Path) -> None:
    """Seen from outside: an audit hook counts what Python opens, and FFmpeg is let to open nothing."""
    clip = write_video(tmp_path / "clip", frames=3)
    script = (
        "import sys, pathlib\n"
        "from engine.decode import open_video\n"
        "from engine.video import VideoLimits\n"
        "from engine.growing_file import GrowingFile, MediumFile\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(args[0]) if event == 'open' else None)\n"
        "with GrowingFile(MediumFile(path=pathlib.Path(sys.argv[1]))) as source:\n"
        "    with open_video(source, limits=VideoLimits()) as video:\n"
        "        assert len(list(video.frames())) == 3\n"
        "print([name for name in opened if str(name).startswith(sys.argv[1])])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(clip)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert result.stdout.count(str(clip)) == 1


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=3)
    broken = tmp_path / "broken"
    broken.write_bytes(clip.read_bytes()[:300])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        _frames(clip)
        with pytest.raises(Failure):
            _frames(broken)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_frames_are_let_go_without_the_garbage_collector(tmp_path: Path) -> None:
    """Each holds 3 MB: a cycle through one of them costs gigabytes before the collector comes by."""
    clip = write_video(tmp_path / "clip", frames=60, size=(1920, 1080), squares=(), gop=60)
    gc.collect()
    gc.disable()
    try:
        before_mb = _resident_mb()
        with GrowingFile(MediumFile(path=clip)) as source, open_video(source, limits=VideoLimits()) as video:
            for frame in video.frames():
                frame.scaled(width=64, height=64)
        grown_mb = _resident_mb() - before_mb
    finally:
        gc.enable()
    assert grown_mb < 80


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1_000_000
