"""A real browser, a real system for it, and what every page must hold to: nothing blocked, nothing fetched from elsewhere."""

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from detections.local import LocalStack
from edge.page import FOLDER
from tests.browser.pages import MODULES_URL, PageUnderTest
from tests.e2e.conftest import write_scripted_model

CLASSES = '[{"Id": 0, "Name": "red", "Color": "#FF0044"}, {"Id": 1, "Name": "green"}]'
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium of the system: Playwright's own builds come from a place of their own.

    Of one module: while Playwright runs, its event loop does, and asynchronous tests of other modules could not run.
    """
    executable = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if executable is None:
        pytest.skip("browser: there is no Chromium here (compose/install-chromium.sh)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])  # runs as root, too
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A system with a broker of its own, which a test kills."""
    model = write_scripted_model(tmp_path_factory.mktemp("models"))
    model.with_name("classes.json").write_text(CLASSES)
    stack = LocalStack(tmp_path_factory.mktemp("system") / "storage", model=model, environ={"CONSUMER_WARM_UP": "true"})
    stack.start()
    yield stack
    stack.kill()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that nobody has used yet."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    yield context
    context.close()


@pytest.fixture
def open_page(context: BrowserContext) -> Iterator[Callable[[str], PageUnderTest]]:
    """Opens pages and holds them to what every page must hold to."""
    opened: list[PageUnderTest] = []

    def open_(url: str) -> PageUnderTest:
        opened.append(PageUnderTest(context.new_page(), url))
        return opened[-1]

    yield open_
    for page in opened:
        page.check_manners()


@pytest.fixture
def page(open_page: Callable[[str], PageUnderTest], system: LocalStack) -> PageUnderTest:
    """The page of the system."""
    return open_page(system.url)


@pytest.fixture(scope="module")
def modules(browser: Browser) -> Iterator[Page]:
    """An empty page that can import the page's modules; no service is behind it."""
    context = browser.new_context()
    page = context.new_page()

    def answer(route: object) -> None:
        name = route.request.url.removeprefix(MODULES_URL)  # type: ignore[attr-defined]
        if name:
            route.fulfill(path=FOLDER / name, content_type="text/javascript")  # type: ignore[attr-defined]
        else:
            route.fulfill(body="<!doctype html>", content_type="text/html")  # type: ignore[attr-defined]

    page.route(f"{MODULES_URL}**", answer)
    page.goto(MODULES_URL)
    yield page
    context.close()
