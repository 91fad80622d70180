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


def test_a_file_that_is_gone_while_its_upload_is_gone_on_with_is_told_of_at_once(modules: Page) -> None:
    script = """
    Carrier.prototype.send = function () { this.onerror(); };
    const away = sending("video", new AbortController().signal);
    api.request = async () => {
      away.file.slice = () => ({ arrayBuffer: () => Promise.reject(new DOMException("gone", "NotFoundError")) });
      return { headers: new Headers({ "upload-offset": "4", "upload-complete": "?0" }) };
    };
    const patient = new Promise((resolve) => setTimeout(resolve, 3000, "still trying"));
    return await Promise.race([patient, m.send(api, away).then(() => "sent", (error) => error.code)]);
    """

    assert carried(modules, script) == "file_unreadable"


def test_a_proxys_page_of_a_service_that_is_away_is_told_of_as_such(modules: Page) -> None:
    script = "return [502, 503, 504].map((status) => m.Problem.of(status, '<html>').code);"

    assert run(modules, "problems", script) == ["offline", "offline", "no_answer"]


KNOWN = """
const known = { name: "a.mp4", kind: "video", size: 1, addedAt: 1 };
localStorage.setItem("detections.runs", JSON.stringify([{ ...known, id: "a" }]));
const asked = [];
const told = { status: "Succeeded", percent: 100, counts: null, isPartial: false };
const api = { json: async (path) => (asked.push(path), told), text: async (path) => (asked.push(path), "") };
const runs = new m.Runs(api, { want() {} }, () => {});
const settled = () => new Promise((resolve) => setTimeout(resolve));
try { %s } finally { localStorage.clear(); }
"""
"""A run that ended before the page was opened."""


def test_the_reports_of_an_ended_run_are_read_when_it_is_looked_at(modules: Page) -> None:
    script = """
    await runs.read(runs.list[0]);
    const before = [...asked];
    runs.show(runs.list[0]);
    runs.show(runs.list[0]);
    await settled();
    runs.show(runs.list[0]);
    return [before, asked.slice(before.length)];
    """

    assert run(modules, "runs", KNOWN % script) == [["tasks/a"], ["tasks/a", "tasks/a/results"]]


def test_a_page_that_is_gone_back_to_knows_what_other_pages_have_added(modules: Page) -> None:
    script = """
    localStorage.setItem("detections.runs", JSON.stringify([{ ...known, id: "b", addedAt: 2 }, { ...known, id: "a" }]));
    dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
    return runs.list.map((each) => each.id);
    """

    assert run(modules, "runs", KNOWN % script) == ["b", "a"]


def test_files_wait_for_a_token_that_is_asked_for(modules: Page) -> None:
    script = """
    const { Problem } = await import("/problems.js");
    const sent = [];
    class Refusing {
      constructor() { this.upload = {}; }
      open(_, path) { sent.push(path); }
      setRequestHeader() {}
      send() { this.status = 401; setTimeout(() => this.onload()); }
    }
    const was = window.XMLHttpRequest;
    window.XMLHttpRequest = Refusing;
    Object.assign(api, { lacksToken: true, url: (path) => path, headers: {} });
    api.refused = () => ((api.lacksToken = true), new Problem("unauthenticated", "", 401));
    runs._stream.opened = async () => {};
    const [run] = runs.add([new File(["1"], "b.mp4")], {});
    const id = run.id;
    await settled();
    const before = [run.upload, sent.length];
    api.lacksToken = false;
    runs.sendNext();
    while (!run.problem) await settled();
    window.XMLHttpRequest = was;
    return [before, [run.upload, run.status, run.id === id, run.problem.code, sent.length]];
    """

    assert run(modules, "runs", KNOWN % script) == [["waiting", 0], ["waiting", "", True, "unauthenticated", 1]]


def test_a_page_that_nobody_looks_at_leaves_its_connection_to_others(modules: Page) -> None:
    script = """
    const [wasSource, later] = [window.EventSource, window.setTimeout];
    const log = [];
    window.EventSource = class extends EventTarget {
      constructor(url) { super(); this.log = url.startsWith("mine") ? log : []; this.log.push("opened"); }
      close() { this.log.push("closed"); }
    };
    window.setTimeout = (what) => later(what);
    const look = (isHidden) => {
      Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
      return new Promise((resolve) => later(resolve, 20));
    };
    const stream = new m.EventStream({ url: (path) => `mine/${path}`, token: "" }, { onState() {} });
    try {
      stream.want(true);
      await look(true);
      await look(false);
      stream.want(false);
      await look(true);
      stream.want(true);
      await look(true);
      const before = log.length;
      await look(false);
      return [log, before];
    } finally {
      [window.EventSource, window.setTimeout] = [wasSource, later];
      delete document.hidden;
    }
    """

    log = ["opened", "closed", "opened", "closed", "opened"]
    assert run(modules, "stream", script) == [log, 4]
