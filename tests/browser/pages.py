"""The page as a test drives it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Request

WAIT_S = 60.0
"""How long a test waits for what must come."""
POLL_MS = 20
MODULES_URL = "http://modules.test/"
UNTHROTTLED = 1e9
_TELL_VIOLATIONS = (
    "window.violations = []; document.addEventListener('securitypolicyviolation', "
    "(event) => violations.push(`${event.violatedDirective} ${event.blockedURI}`));"
)


class PageUnderTest:
    """One open page, and what went wrong on it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.errors: list[str] = []
        self.requests: list[Request] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request))
        page.add_init_script(_TELL_VIOLATIONS)
        self._session = page.context.new_cdp_session(page)
        self._session.send("Network.enable")
        page.goto(url)
        self.until("document.querySelectorAll('#settings input').length > 5")

    def until(self, condition: str, *, timeout_s: float = WAIT_S) -> Any:
        """Return the value of a JavaScript expression once it is true. (`wait_for_function` needs `unsafe-eval`.)"""
        deadline_s = time.monotonic() + timeout_s
        while not (value := self.page.evaluate(condition)):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{condition} is not so; the page says: {self.page.inner_text('body')}")
            self.page.wait_for_timeout(POLL_MS)
        return value

    def choose(self, *files: Path) -> None:
        """Hand files over as the person does."""
        self.page.set_input_files("#files", list(files))

    def throttle(self, bytes_per_s: float) -> None:
        """Let no more than so many bytes a second leave the browser."""
        limits = {"offline": False, "latency": 0, "downloadThroughput": UNTHROTTLED}
        self._session.send("Network.emulateNetworkConditions", {**limits, "uploadThroughput": bytes_per_s})

    def wait_for_boxes(self, at_least: int = 1) -> None:
        self.until(f"Number(document.querySelector('#frame canvas').dataset.boxes) >= {at_least}")

    def wait_for_state(self, word: str) -> None:
        """`Done`, `Failed`, ...: of the run that is open."""
        self.until(f"document.querySelector('#open-state').textContent === '{word}'")

    def wait_for_text(self, selector: str, text: str) -> None:
        """Until all that is said there is this: texts keep a pace, and what was missed is asked for."""
        self.until(f"document.querySelector({selector!r}).textContent === {text!r}")

    @property
    def share_sent(self) -> float:
        return self.page.evaluate("document.querySelector('#sent').value")

    @property
    def boxes(self) -> int:
        """Drawn now."""
        return int(self.page.evaluate("document.querySelector('#frame canvas').dataset.boxes"))

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def download(self, name: str) -> bytes:
        """What the button with this name saves."""
        with self.page.expect_download() as download:
            self.page.click(f"#downloads button:text-is('{name}')")
        return Path(download.value.path()).read_bytes()

    def uploads(self) -> Sequence[Request]:
        """The requests that carried a file."""
        paths = ("/detect", "/detect/video")
        return [request for request in self.requests if request.method == "POST" and request.url.endswith(paths)]

    def check_manners(self) -> None:
        """Nothing was blocked by the policy, nothing asked from elsewhere, no script failed."""
        blocked = self.page.evaluate("window.violations")
        elsewhere = [request.url for request in self.requests if not request.url.startswith((self.url, "blob:"))]
        assert (blocked, elsewhere, self.errors) == ([], [], [])
