"""The page's own arithmetic, module by module, in the browser that it is for; no service is behind it."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from contracts.failures import FailureCode
from detections.boxes import tail_bytes
from tests.media import Container, write_video

pytestmark = pytest.mark.browser


def run(modules: Page, module: str, script: str, argument: Any = None) -> Any:
    """What a function body returns that is given a module, as `m`, and an argument, as `a`."""
    code = f"async ([name, a]) => {{ const m = await import('/' + name); {script} }}"
    return modules.evaluate(code, [f"{module}.js", argument])


def box(
    x: float = 0.5, y: float = 0.5, *, side: float = 0.1, class_num: int = 0, confidence: float = 0.9
) -> dict[str, Any]:
    seen = {"centerX": x, "centerY": y, "width": side, "height": side}
    return {**seen, "classNum": class_num, "label": f"class {class_num}", "confidence": confidence}


def report(sequence: int, seconds: float, *annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    time = {"videoTime": f"00:00:{seconds:06.3f}", "frameIndex": round(seconds * 25)}
    return {"sequence": sequence, "mediaStatus": "AIProcessing", "annotations": list(annotations), **time, **more}


def seen_at(modules: Page, events: list[dict[str, Any]], *times: float) -> list[list[dict[str, Any]]]:
    script = "const looks = new m.Looks(); a[0].forEach((event) => looks.add(event)); return a[1].map((time) => looks.at(time));"
    return run(modules, "looks", script, [events, times])


def test_times_are_read_and_written(modules: Page) -> None:
    script = "return [m.secondsOf('01:02:03.250'), m.clockTime(62.34), m.clockTime(3723.25), m.clockTime(59.96), m.sizeText(8942403)]"
    assert run(modules, "times", script) == [3723.25, "1:02.3", "1:02:03.3", "1:00.0", "8.9 MB"]


def test_colours_are_the_models_own_where_it_states_them_and_can_be_written_on(modules: Page) -> None:
    script = "return [m.colourOf(13), m.useColours({13: '#203040'}), m.colourOf(13), m.useColours({13: '#203040'}), m.colourOf(1)]"
    assert run(modules, "colours", script) == ["#3cdc3c", True, "#203040", False, "#3cdc3c"]
    inks = "return ['#203040', '#ffffff', '#ffc800', '#0000ff', '#000000'].map(m.inkOn)"
    assert run(modules, "colours", inks) == ["#ffffff", "#14181c", "#14181c", "#ffffff", "#ffffff"]


def test_boxes_glide_between_two_reports(modules: Page) -> None:
    events = [report(1, 1.0, box(0.2)), report(2, 1.16, box(0.28))]

    (before,), (between,), (at,) = seen_at(modules, events, 1.0, 1.08, 1.16)

    assert [round(seen["centerX"], 3) for seen in (before, between, at)] == [0.2, 0.24, 0.28]


def test_boxes_of_other_classes_or_far_away_are_not_taken_for_one(modules: Page) -> None:
    events = [report(1, 1.0, box(0.2), box(0.5, class_num=1)), report(2, 1.16, box(0.9), box(0.5, class_num=2))]

    early, late = seen_at(modules, events, 1.04, 1.12)

    assert [seen["centerX"] for seen in early] == [0.2, 0.5]
    assert [seen["classNum"] for seen in late] == [0, 2]


def test_each_box_has_one_partner_the_nearest(modules: Page) -> None:
    before, after = [box(0.20), box(0.30)], [box(0.31), box(0.19)]

    assert sorted(run(modules, "looks", "return m.pairUp(a[0], a[1])", [before, after])) == [[0, 1], [1, 0]]


def test_boxes_go_off_when_their_report_is_too_old(modules: Page) -> None:
    events = [report(number, number * 0.16, box()) for number in range(1, 6)] + [report(6, 9.0, box())]

    shown = seen_at(modules, events, 0.1, 0.8, 1.0, 1.3, 5.0, 9.0, 9.2, 9.6)

    assert [len(boxes) for boxes in shown] == [0, 1, 1, 0, 0, 1, 1, 0]


def test_a_report_counts_once_and_a_missing_one_is_noticed(modules: Page) -> None:
    script = """const looks = new m.Looks();
        const added = a.map((event) => looks.add(event));
        return [added, looks.list.map((look) => look.sequence), looks.isGappy];"""
    events = [report(1, 1, box()), report(3, 3, box()), report(1, 1, box()), report(2, 2, box())]

    assert run(modules, "looks", script, events[:3]) == [[True, True, False], [1, 3], True]
    assert run(modules, "looks", script, events) == [[True, True, False, True], [1, 2, 3], False]


def test_a_picture_shows_its_boxes_at_any_time(modules: Page) -> None:
    picture = {"sequence": 1, "mediaStatus": "AIProcessing", "annotations": [box()], "frameIndex": 0}

    assert [len(boxes) for boxes in seen_at(modules, [picture], 0, 100)] == [1, 1]


def test_shots_are_kept_beside_the_boxes(modules: Page) -> None:
    shots = [{"startTime": "00:00:00.000", "endTime": "00:00:01.960", "startFrame": 0, "endFrame": 49}]
    event = {"sequence": 1, "mediaStatus": "AIProcessing", "annotations": [], "shots": shots}
    script = "const looks = new m.Looks(); looks.add(a); return [looks.shots, looks.list.length, looks.end];"

    assert run(modules, "looks", script, event) == [[{"start": 0, "end": 1.96}], 0, 1.96]


def test_a_picture_is_shown_whole_and_boxes_end_at_its_edges(modules: Page) -> None:
    wide, tall = (
        run(modules, "boxes", "return m.shownIn(...a)", size) for size in ([200, 200, 400, 200], [200, 200, 50, 100])
    )
    assert wide == {"x": 0, "y": 50, "width": 200, "height": 100}
    assert tall == {"x": 50, "y": 0, "width": 100, "height": 200}

    rect = run(modules, "boxes", "return m.rectOf(a[0], a[1])", [box(0.0, 0.5, side=0.2), wide])
    assert rect == {"x": 0, "y": 90, "width": 20, "height": pytest.approx(20)}


def test_the_pointer_finds_the_smallest_box_under_it(modules: Page) -> None:
    rects = [{"x": 0, "y": 0, "width": 100, "height": 100}, {"x": 40, "y": 40, "width": 10, "height": 10}]

    assert run(modules, "boxes", "return [m.hit(a, 45, 45), m.hit(a, 10, 10), m.hit(a, 300, 10)]", rects) == [1, 0, -1]


def test_a_lane_tells_when_its_class_was_seen(modules: Page) -> None:
    looks = [{"time": time, "boxes": [box(), box(class_num=3, confidence=0.3)]} for time in (1.0, 1.2, 1.4, 5.0)]
    script = """const lanes = new m.Lanes();
        const told = (count, threshold) =>
            lanes.of(a.slice(0, count), threshold, 0.25, 0.6).map((lane) => [lane.classNum, lane.count, lane.spans]);
        return [JSON.stringify(told(2, 0.5)), JSON.stringify(told(4, 0.5)), JSON.stringify(told(1, 0.2))];"""

    first, grown, anew = map(json.loads, run(modules, "lanes", script, looks))

    assert first == [[0, 2, [[1.0, 1.45]]], [3, 0, []]]
    assert grown == [[0, 4, [[1.0, 1.65], [5.0, 5.25]]], [3, 0, []]]
    assert anew == [[0, 1, [[1.0, 1.25]]], [3, 1, [[1.0, 1.25]]]]


def test_the_page_keys_go_from_sighting_to_sighting(modules: Page) -> None:
    shown = [{"spans": [[1, 2], [8, 9]]}, {"spans": [[4, 5]]}]
    script = "return [m.nextSighting(a, 1, 1), m.nextSighting(a, 8, -1), m.nextSighting(a, 8, 1), m.nextSighting(a, 0.5, -1)]"

    assert run(modules, "lanes", script, shown) == [4, 4, None, None]


def test_the_ruler_has_as_many_marks_as_there_is_room_for(modules: Page) -> None:
    script = "return [m.rulerMarks(24, 640), m.rulerMarks(7200, 640).length]"

    assert run(modules, "lanes", script) == [[0, 5, 10, 15, 20], 9]


@pytest.mark.parametrize(
    "container", [Container.MP4_FRONT, Container.MP4_END, Container.MOV_END, Container.MP4_FRAGMENTED, Container.MKV]
)
def test_the_tail_is_found_as_the_python_client_finds_it(modules: Page, tmp_path: Path, container: Container) -> None:
    path = write_video(tmp_path / f"clip{container.suffix}", frames=20, container=container)
    with path.open("rb") as file:
        expected = tail_bytes(file) or 0

    assert tail_of(modules, path.read_bytes()) == expected


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\0\x08ftyp\0\0\0\x07mdat",  # shorter than its own header
        b"\0\0\0\x08ftyp\0\0\0\x01mdat\0\0\0\0\0\0\0\x18" + bytes(8) + b"\0\0\0\x08moov",  # a large size
        b"\0\0\0\x08ftyp\0\0\0\0mdat" + bytes(50),  # to the end of the file
        b"\0\0\0\x08mdat\0\0\0\xffmoov",  # cut
    ],
)
def test_odd_boxes_are_read_as_the_python_client_reads_them(modules: Page, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.mp4"
    path.write_bytes(content)
    with path.open("rb") as file:
        assert tail_of(modules, content) == (tail_bytes(file) or 0)


def tail_of(modules: Page, content: bytes) -> int:
    return run(modules, "moov", "return m.tailBytes(new Blob([new Uint8Array(a)]))", list(content))


def test_a_body_goes_tail_first(modules: Page) -> None:
    assert run(modules, "moov", "return m.tailFirst(new Blob(['0123456789']), 3).text()") == "7890123456"


def test_coco_has_pictures_boxes_in_pixels_and_classes(modules: Page) -> None:
    events = [
        report(1, 0.16, box(0.5, 0.5, side=0.2)),
        report(2, 0.32),
        {"sequence": 3, "mediaStatus": "AIProcessed", "annotations": []},
    ]
    medium = {"name": "street.mp4", "width": 200, "height": 100}

    coco = run(modules, "exports", "return m.toCoco(a[0], a[1])", [events, medium])

    assert [image["file_name"] for image in coco["images"]] == ["street_000004.jpg", "street_000008.jpg"]
    assert coco["annotations"] == [
        {"id": 1, "image_id": 1, "category_id": 0, "bbox": [80, 40, 40, 20], "area": 800, "score": 0.9, "iscrowd": 0}
    ]
    assert coco["categories"] == [{"id": 0, "name": "class 0"}]


def test_every_failure_of_the_service_has_words(modules: Page) -> None:
    codes = [code.value for code in FailureCode]
    fallback, *words = run(modules, "problems", "return ['?', ...a].map((code) => m.wordsFor(code).title)", codes)

    assert [code for code, title in zip(codes, words, strict=True) if title == fallback] == []


def test_the_form_has_every_setting_of_the_service_with_its_range(modules: Page) -> None:
    openapi = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())

    fields = {field["name"]: field for field in run(modules, "schema", "return m.configFields(a)", openapi)}

    assert (fields["model_batch_size"]["min"], fields["model_batch_size"]["max"]) == (1, 64)
    assert fields["model_batch_size"]["isWhole"]
    assert fields["tiling"]["choices"] == ["auto", "off"]
    assert {field["name"] for field in fields["camera_config"]["fields"]} >= {"focal_length", "current_height"}
    assert "altitude" not in fields, "an older name of another field"
    script = "return [m.has(a, '/tasks/{id}', 'delete'), m.has(a, '/tasks/{id}', 'post'), m.has(a, '/nothing', 'get')]"
    assert run(modules, "schema", script, openapi) == [True, False, False]


def test_an_end_that_is_heard_while_a_run_is_read_stays(modules: Page) -> None:
    counts = {"decoded": 9}
    end = {
        "taskId": "t",
        "sequence": 2,
        "mediaStatus": "AIProcessed",
        "mediaPercent": 100,
        "counts": counts,
        "annotations": [],
    }
    told = run(
        modules,
        "runs",
        """
        localStorage.setItem("detections.runs", JSON.stringify([{ id: "t", name: "a.mp4", kind: "video", size: 1, addedAt: 1 }]));
        const answers = {};
        const api = {
          json: async () => ({ status: "Running", percent: 40, counts: { decoded: 4 }, isPartial: false }),
          text: () => new Promise((resolve) => (answers.text = resolve)),
        };
        const runs = new m.Runs(api, { want() {} }, () => {});
        const reading = runs.read(runs.list[0]);
        while (!answers.text) await Promise.resolve();
        runs.hear(a);
        answers.text("");
        await reading;
        localStorage.clear();
        const { status, percent, counts } = runs.list[0];
        return { status, percent, counts };
        """,
        end,
    )

    assert told == {"status": "Succeeded", "percent": 100, "counts": counts}
