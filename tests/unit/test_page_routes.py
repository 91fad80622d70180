"""The page is served as it lies there, with headers that let nothing else run in it."""

import re

import pytest
from litestar import Litestar

from edge import page
from edge.failures import EXCEPTION_HANDLERS
from tests.edge_app import Answer, Call


async def get(path: str, **headers: str) -> Answer:
    app = Litestar(page.routes, exception_handlers=EXCEPTION_HANDLERS, openapi_config=None, debug=False)
    call = Call(app, "GET", path, {name.replace("_", "-"): value for name, value in headers.items()})
    call.end()
    return await call.answer()


async def test_the_page_names_its_files_and_each_is_there() -> None:
    answer = await get("/")

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    named = set(re.findall(r'(?:src|href)="([^"]+)"', answer.body.decode()))
    assert named == {"ui/main.js", "ui/style.css", "ui/icon.svg"}
    assert [(await get(f"/{path}")).status for path in named] == [200, 200, 200]


@pytest.mark.parametrize("name", sorted(path.name for path in page.FOLDER.iterdir()))
async def test_every_file_is_served_by_its_type_and_nothing_else_may_run(name: str) -> None:
    answer = await get(f"/ui/{name}")

    assert answer.body == (page.FOLDER / name).read_bytes()
    assert answer.headers["content-type"].startswith(page.CONTENT_TYPES[f".{name.rsplit('.', maxsplit=1)[-1]}"])
    policy = answer.headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'self'"
    assert not [rule for rule in policy if "unsafe" in rule or "http" in rule or "*" in rule]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("known", ["{}", "W/{}", '"of-before", {}'])
async def test_a_file_that_has_not_changed_is_not_sent_again(known: str) -> None:
    first = await get("/ui/main.js")
    second = await get("/ui/main.js", if_none_match=known.format(first.headers["etag"]))

    assert (second.status, second.body) == (304, b"")


@pytest.mark.parametrize("known", ['""', '"of-before"', "W/", "none"])
async def test_a_file_that_has_changed_is_sent(known: str) -> None:
    assert (await get("/ui/main.js", if_none_match=known)).status == 200


@pytest.mark.parametrize("path", ["/ui/none.js", "/ui/..%2fpage.py", "/ui/%2e%2e", "/ui/.", "/ui//etc/passwd"])
async def test_what_is_no_file_of_the_page_does_not_exist(path: str) -> None:
    assert (await get(path)).status == 404


@pytest.mark.parametrize("path", sorted(page.FOLDER.glob("*.js")), ids=lambda path: path.name)
def test_a_script_is_small_says_what_it_is_for_and_writes_no_markup(path: object) -> None:
    text = path.read_text()  # type: ignore[attr-defined]

    assert len(text.splitlines()) <= 300
    assert text.startswith("/**")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
    assert not re.search(r"https?://", text)
