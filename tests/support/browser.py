"""A real browser without a window: Chromium, spoken to in its own protocol through a pipe.

    page = browser.open("http://127.0.0.1:9480/", width=390, height=800, scheme="dark")
    page.wait_until("document.title == 'Tallystream worker'")
    page.evaluate("document.body.innerText"); page.screenshot(path); page.problems

Without the program (Debian: apt install chromium) the tests that need it are skipped, with that reason; under CI they
fail.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support.lacking import skip_for
from tests.support.waiting import wait_until

ANSWER_TIMEOUT_S = 60
WAIT_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10
NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe")
# The program reads commands from descriptor 3 and writes to 4, whatever they are here.
LAUNCH = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'


class Browser:
    """The program; its pages are tabs of their own."""

    def __init__(self, program: str, folder: Path) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        command = ["/bin/bash", "-c", LAUNCH, "launch", str(commands), str(answers), program, *OPTIONS]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={folder}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(commands, answers),
            start_new_session=True,
        )
        os.close(commands)
        os.close(answers)
        self._read = b""
        self._sent = 0
        self.events: list[dict[str, Any]] = []

    def open(
        self, url: str, *, width: int = 1200, height: int = 900, scheme: Literal["light", "dark"] = "light"
    ) -> "Page":
        """A new page of this size, in this colour scheme, once it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        page.call("Emulation.setDeviceMetricsOverride", **size)
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.call("Page.navigate", url=url)
        page.wait_until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")
        return page

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401
        """Sends a command and returns its answer; what comes in between is kept as events."""
        self._sent += 1
        command = {"id": self._sent, "method": method, "params": parameters}
        if session is not None:
            command["sessionId"] = session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while (message := self._next()).get("id") != self._sent:
            self.events.append(message)
            assert time.monotonic() < deadline, f"{method} was not answered"
        assert "error" not in message, f"{method}: {message}"
        result: dict[str, Any] = message["result"]
        return result

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_TIMEOUT_S)
        os.close(self._commands)
        os.close(self._answers)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            part = os.read(self._answers, 1 << 20)
            assert part, "the browser has ended"
            self._read += part
        text, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


class Page:
    """One page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    @property
    def problems(self) -> list[str]:
        """What the page's console complains of: exceptions, refusals of the content policy, what did not load."""
        self.evaluate("1")  # so that everything that was under way is here
        return [
            json.dumps(event["params"])
            for event in self._browser.events
            if event.get("sessionId") == self._session
            and (
                event["method"] in {"Runtime.exceptionThrown", "Network.loadingFailed"}
                or (event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error")
            )
        ]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401 - the protocol's own
        return self._browser.call(method, self._session, **parameters)

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - whatever it is
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_until(self, condition: str, timeout_s: float = WAIT_TIMEOUT_S) -> None:
        wait_until(lambda: self.evaluate(condition), timeout_s, f"in the page: {condition}")

    def screenshot(self, path: Path) -> None:
        """A picture of the whole page."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(picture))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the tests of one file."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        skip_for("Chromium is not installed (Debian, Ubuntu: apt install chromium)")
    with tempfile.TemporaryDirectory(prefix="ts-chromium-", ignore_cleanup_errors=True) as folder:
        started = Browser(program, Path(folder))
        yield started
        started.close()
