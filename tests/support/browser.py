"""A headless Chromium that a test can act in, by the DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CONTRAST = """
const light = (colour) => {
  const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((value) => {
    const share = value / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
};
const behind = (part) => {
  for (; part !== null; part = part.parentElement) {
    const colour = getComputedStyle(part).backgroundColor;
    if (colour.startsWith("rgb(")) return colour;
  }
  return "rgb(255, 255, 255)";
};
const contrast = (part) => {
  const [high, low] = [light(getComputedStyle(part).color), light(behind(part))]
    .sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
};
"""
"""JavaScript: the contrast of an element's text with what is behind it (WCAG 2.1)."""
PATIENCE_S = 240.0
"""Far more than anything takes, on a busy machine, too."""


def find_browser() -> str:
    """Return the path of a browser; the test is skipped where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no chromium: apt-get install chromium")
    return found


class Tab:
    """A page in a browser.

    Attributes:
        complaints: what scripts and the browser complained of.
    """

    def __init__(self, channel: Any) -> None:
        self._channel, self._number = channel, 0
        self.complaints: list[str] = []
        for domain in ("Runtime", "Log", "Page"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Any:
        """Send a command of the protocol; return its result."""
        self._number += 1
        order = {"id": self._number, "method": method, "params": parameters}
        self._channel.send(json.dumps(order))
        while True:
            answer = json.loads(self._channel.recv(timeout=PATIENCE_S))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(answer["params"]["exceptionDetails"]))
            entry = answer.get("params", {}).get("entry", {})
            if answer.get("method") == "Log.entryAdded" and entry["level"] == "error":
                self.complaints.append(entry["text"])

    def value(self, script: str) -> Any:
        """Evaluate an expression in the page."""
        result = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, script: str) -> Any:
        """Wait until an expression is true; return its value."""
        limit = time.monotonic() + PATIENCE_S
        while not (found := self.value(script)):
            assert time.monotonic() < limit, script
            time.sleep(0.02)
        return found

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Give the window a size, and the system a colour scheme."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """Write what is shown as PNG."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))


@contextmanager
def opened_tab(address: str, folder: Path) -> Iterator[Tab]:
    """Open a page; the test is skipped where there is no browser.

    Args:
        address: of the page.
        folder: for the browser's files.
    """
    from websockets.sync.client import connect

    command = [find_browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={folder / 'profile'}", "--remote-debugging-port=0"]
    with subprocess.Popen([*command, "about:blank"], stderr=subprocess.DEVNULL) as browser:
        try:
            place = folder / "profile" / "DevToolsActivePort"
            limit = time.monotonic() + PATIENCE_S
            while not place.exists() or len(place.read_text().split()) < 2:
                assert browser.poll() is None
                assert time.monotonic() < limit
                time.sleep(0.05)
            port = int(place.read_text().split()[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
                pages = [page for page in json.load(answer) if page["type"] == "page"]
            with connect(pages[0]["webSocketDebuggerUrl"], max_size=2**26) as channel:
                tab = Tab(channel)
                tab.ask("Page.navigate", url=address)
                yield tab
        finally:
            browser.terminate()
            browser.wait()
