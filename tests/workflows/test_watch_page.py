"""The page of a watched game in a real browser: Debian's chromium, without a window."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mtspark.workflows.watch import Session, WatchRequest, served_page
from tests.support.browser import CONTRAST, PATIENCE_S, Tab, opened_tab
from tests.support.lamp import COLOURS, STEPS, lamp_network, registered_lamp

pytestmark = pytest.mark.third_party

NUMBER = "Number(document.body?.dataset.number)"
MIDDLE = """(() => {
  const screen = document.getElementById("screen");
  const place = [Math.floor(screen.width / 2), Math.floor(screen.height / 2)];
  return [...screen.getContext("2d").getImageData(...place, 1, 1).data].slice(0, 3);
})()"""
LIT = """(() => {
  const {width, height} = document.querySelector(".layer canvas");
  const context = document.querySelector(".layer canvas").getContext("2d");
  const bytes = context.getImageData(0, 0, width, height).data;
  let lit = 0;
  for (let place = 3; place < bytes.length; place += 4) lit += bytes[place] > 0;
  return lit;
})()"""
FAINT = (
    "(() => {"
    + CONTRAST
    + """
  const faint = [];
  for (const part of document.querySelectorAll("body *")) {
    const own = [...part.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || part.closest("script") || !part.getBoundingClientRect().height) continue;
    if (contrast(part) < 4.5) faint.push(part.textContent);
  }
  return faint;
})()"""
)


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with registered_lamp():
        session = Session(lamp_network(), WatchRequest("Lamp-v0", speed=0.5))
        with served_page(session) as served, opened_tab(served.address, tmp_path) as opened:
            yield opened


def test_the_page_shows_the_game_pauses_steps_and_breaks_the_chip(tab: Tab) -> None:
    tab.wait(f"{NUMBER} > 2")
    assert tab.value("document.getElementById('title').textContent").endswith("plays Lamp-v0")
    tab.value("document.getElementById('pause').click()")
    tab.wait("document.body.dataset.paused === 'true'")
    paused = resting(tab)
    tab.wait(f"JSON.stringify({MIDDLE}) === '{list(COLOURS[paused])}'.replaceAll(' ', '')")
    for number in range(1, 4):
        tab.value("document.getElementById('step').click()")
        following = (paused + number) % STEPS
        tab.wait(f"{NUMBER} === {following}")
        tab.wait(f"JSON.stringify({MIDDLE}) === '{list(COLOURS[following])}'.replaceAll(' ', '')")
        assert resting(tab) == following
    before = tab.value(LIT)
    tab.value(
        "document.getElementById('kind').value = 'stuck-1';"
        "document.getElementById('rate').value = '1';"
        "document.querySelector('#break button').click()"
    )
    told = "document.getElementById('fault').textContent"
    tab.wait(f"{told} === 'The chip is broken: stuck-1 1'")
    tab.value("document.getElementById('pause').click()")
    tab.wait(f"document.body.dataset.paused === 'false' && {LIT} > {before} + 60")
    tab.value("document.getElementById('heal').click()")
    tab.wait("document.getElementById('fault').hidden")
    assert tab.value("document.querySelectorAll('.curve canvas').length") == 2
    assert tab.complaints == []


def resting(tab: Tab) -> int:
    """Wait until the page has shown the same decision for a second; return its number."""
    limit = time.monotonic() + PATIENCE_S
    while time.monotonic() < limit:
        number = tab.value(NUMBER)
        time.sleep(1.0)
        if tab.value(NUMBER) == number:
            return int(number)
    raise AssertionError("the game does not wait")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(390, 844), (820, 1180), (1400, 900)])
def test_no_width_loses_anything(tab: Tab, width: int, height: int, dark: bool) -> None:
    tab.size(width, height, dark=dark)
    tab.wait(f"{NUMBER} > 1")
    assert tab.value("innerWidth") == width
    assert tab.value("document.documentElement.scrollWidth") <= width
    assert tab.value(FAINT) == []
    assert tab.complaints == []


def test_a_wrong_token_is_refused_and_an_end_is_said(tmp_path: Path) -> None:
    with registered_lamp(), ExitStack() as ends_last:
        session = Session(lamp_network(), WatchRequest("Lamp-v0"))
        with served_page(session) as served:
            with opened_tab(served.address[:-1], tmp_path / "a") as tab:
                tab.wait("document.body?.textContent.includes('forbidden')")
            tab = ends_last.enter_context(opened_tab(served.address, tmp_path / "b"))
            tab.wait(f"{NUMBER} > 1")
        tab.wait("document.body.dataset.link === 'closed'")
        assert "the program has ended" in tab.value("document.getElementById('link').textContent")
        assert tab.value("document.getElementById('step').disabled")


def test_a_complaint_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<script>setTimeout(() => { throw new Error('broken') })</script>")
    with opened_tab(page.as_uri(), tmp_path) as tab:
        tab.wait("document.readyState === 'complete'")
        while not tab.complaints:
            tab.value("1")
        assert "broken" in tab.complaints[0]
