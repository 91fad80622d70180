"""How the page sends, asks and listens, against doubles of the browser's own network; no service is behind it."""

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.test_page_modules import run

pytestmark = pytest.mark.browser

CARRIER = """
class Carrier {
  constructor() { this.upload = {}; Carrier.made.push(this); }
  open() {}
  setRequestHeader() {}
  abort() {}
  send(body) { this.upload.onprogress({ loaded: a.loaded }); [this.status, this.responseText] = [202, '{"taskId": "t"}']; this.onload(); }
}
Carrier.made = [];
const was = window.XMLHttpRequest;
window.XMLHttpRequest = Carrier;
const sent = [];
const api = { url: (path) => path, headers: {} };
const sending = (kind, signal) => ({ file: new File(["12345678"], "a.bin"), kind, taskId: "t", config: {}, isResumable: true, signal, onSent: (bytes) => sent.push(bytes) });
try { %s } finally { window.XMLHttpRequest = was; }
"""
"""A double of what carries a body: it tells how much has left, and is accepted at once."""


def carried(modules: Page, script: str, *, loaded: int = 0) -> Any:
    return run(modules, "upload", CARRIER % script, {"loaded": loaded})


@pytest.mark.parametrize("kind", ["video", "image"])
def test_a_file_whose_run_was_cancelled_before_it_was_sent_is_not_sent(modules: Page, kind: str) -> None:
    script = f"""
    const why = await m.send(api, sending("{kind}", AbortSignal.abort())).then(() => "sent", (error) => error.code);
    return [why, Carrier.made.length];
    """

    assert carried(modules, script) == ["cancelled", 0]


def test_a_picture_is_never_more_than_sent(modules: Page) -> None:
    script = 'await m.send(api, sending("image", new AbortController().signal)); return sent;'

    assert carried(modules, script, loaded=300) == [8], "the form around the picture counts as well"


@pytest.mark.parametrize(("status", "code"), [(503, "edge_stops"), (408, "upload_stalled")])
def test_a_video_whose_service_is_restarted_in_the_middle_is_gone_on_with(
    modules: Page, status: int, code: str
) -> None:
    script = f"""
    const {{ Problem }} = await import("/problems.js");
    const answers = [[{status}, '{{"code": "{code}"}}'], [202, '{{"taskId": "t"}}']];
    Carrier.prototype.send = function () {{ [this.status, this.responseText] = answers[Carrier.made.length - 1]; this.onload(); }};
    api.refused = Problem.of;
    api.request = async () => ({{ headers: new Headers({{ "upload-offset": "4", "upload-complete": "?0" }}) }});
    const why = await m.send(api, sending("video", new AbortController().signal)).then(() => "sent", (error) => error.code);
    return [why, Carrier.made.length];
    """

    assert carried(modules, script) == ["sent", 2]


def test_an_answer_that_breaks_off_is_told_of_as_a_connection_that_broke(modules: Page) -> None:
    script = """
    const was = window.fetch;
    window.fetch = async () => new Response(new ReadableStream({ start: (body) => body.error(new TypeError("network error")) }));
    const api = new m.Api();
    const why = (asked) => asked.then(() => "whole", (error) => error.code);
    try { return [await why(api.json("health")), await why(api.text("tasks/t/results"))]; } finally { window.fetch = was; }
    """

    assert run(modules, "api", script) == ["offline", "offline"]


def test_a_task_that_is_done_again_twice_is_in_the_list_once(modules: Page) -> None:
    script = """
    localStorage.setItem("detections.runs", JSON.stringify([{ id: "t", name: "a.mp4", kind: "video", size: 1, addedAt: 1 }]));
    const api = { json: async () => ({ taskId: "again" }) };
    const runs = new m.Runs(api, { want() {} }, () => {});
    const [failed] = runs.list;
    Object.assign(runs, { canRetry: true });
    Object.assign(failed, { status: "Failed" });
    const [first, second] = await Promise.all([runs.retry(failed), runs.retry(failed)]);
    localStorage.clear();
    return [first === second, runs.list.map((each) => each.id)];
    """

    assert run(modules, "runs", script) == [True, ["again", "t"]]


def test_a_stream_that_was_not_wanted_for_a_while_begins_anew(modules: Page) -> None:
    script = """
    const was = window.EventSource;
    const opened = [];
    class Source extends EventTarget {
      constructor(url) { super(); opened.push([url, this]); }
      close() {}
    }
    window.EventSource = Source;
    const settled = () => new Promise((resolve) => setTimeout(resolve));
    const told = { onEvent() {}, onOpen() {}, onGap() {}, onState() {} };
    const stream = new m.EventStream({ url: (path) => path, token: "" }, told);
    try {
      stream.want(true);
      await settled();
      opened[0][1].onmessage({ lastEventId: "7", data: "{}" });
      stream.restart();
      await settled();
      stream.want(false);
      stream.want(true);
      await settled();
      return opened.map(([url]) => url);
    } finally { window.EventSource = was; }
    """

    assert run(modules, "stream", script) == ["detect/stream?", "detect/stream?lastEventId=7", "detect/stream?"]


def test_a_setting_that_is_the_services_default_and_not_the_pages_is_kept(modules: Page) -> None:
    properties = {"frame_recognition_seconds": {"type": "number", "default": 2, "minimum": 0, "maximum": 3600}}
    parameter = {"name": "X-Config", "schema": {"contentSchema": {"properties": properties}}}
    openapi = {"paths": {"/detect/video": {"post": {"parameters": [parameter]}}}}
    script = """
    const shown = () => {
      const form = document.createElement("form");
      const settings = new m.Settings(form);
      settings.build(a);
      return { form, settings, input: form.querySelector("input") };
    };
    const before = shown();
    const start = before.input.value;
    before.input.value = "2";
    before.form.dispatchEvent(new Event("input"));
    const after = shown();
    localStorage.clear();
    return [start, before.settings.read(), after.input.value];
    """

    assert run(modules, "settings", script, openapi) == ["0", {}, "2"]


def test_a_stream_that_is_not_wanted_any_more_is_not_told_of_as_broken(modules: Page) -> None:
    script = """
    const states = [];
    const told = { onEvent() {}, onOpen() {}, onGap() {}, onState: (isOpen) => states.push(isOpen) };
    const refusing = { token: "t", ticket: () => Promise.reject(new Error("no ticket")) };
    const stream = new m.EventStream(refusing, told);
    stream.want(true);
    await new Promise((resolve) => setTimeout(resolve));
    stream.want(false);
    return states;
    """

    assert run(modules, "stream", script) == [False, True]
