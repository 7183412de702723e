"""The page in a real browser: Debian's chromium, without a window and without a network."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mtspark.sim.engine.chip import EngineChip
from mtspark.sim.recording.study import study_task
from tests.sim.report.test_data import EVIL, made, tiny_network
from tests.support.browser import CONTRAST, find_browser

pytestmark = pytest.mark.third_party


@pytest.fixture(scope="module")
def browser() -> str:
    return find_browser()


def opened(browser: str, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page for two seconds of its own time; what scripts complain of is on stderr."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0"]
    command += [f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=2000"]
    return subprocess.run(
        [*command, *options, page.as_uri()], capture_output=True, text=True, timeout=240, check=True
    )


def complaints(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if "CONSOLE" in line]


def test_the_page_runs_without_a_complaint_and_shows_something(
    browser: str, tmp_path: Path
) -> None:
    from PIL import Image

    network = tiny_network()
    study = study_task(
        EngineChip(network), network, "pong", seed=3, max_decisions=9, film_decisions=6
    )
    _, text = made(network, study, checks=EVIL)
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text(text, encoding="utf-8")
    seen = opened(browser, page, "--dump-dom")
    assert complaints(seen.stderr) == []
    assert 'data-ready="yes"' in seen.stdout
    assert "data-hacked" not in seen.stdout
    # The whole page, with all that is folded.
    unfolded = tmp_path / "unfolded.html"
    unfolded.write_text(text.replace("<details", "<details open"), encoding="utf-8")
    shown = opened(browser, unfolded, "--window-size=1280,4500", f"--screenshot={picture}")
    assert complaints(shown.stderr) == []
    pixels = np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    assert len(colours) > 1000
    # The night of the stage and the paper of the page, and neither is all of it.
    assert 0.15 < (pixels.max(1) < 60).mean() < 0.6
    assert counts.max() < 0.8 * len(pixels)


def test_a_complaint_would_be_seen(browser: str, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<script>throw new Error('broken')</script>", encoding="utf-8")
    seen = opened(browser, page, "--dump-dom")
    assert any("broken" in line for line in complaints(seen.stderr))


PROBE = (
    CONTRAST
    + """
const seen = (part) => part !== null && part.getBoundingClientRect().height > 0;
const bottom = (name) => {
  const part = document.querySelector(name);
  return seen(part) ? part.getBoundingClientRect().bottom : -1;
};
const bottoms = [".screen canvas", ".numbers", ".verdict", ".bars"].map(bottom);
const folds = [...document.querySelectorAll("details")];
for (const fold of folds) fold.open = true;
const faint = [];
for (const part of document.querySelectorAll("body *")) {
  const own = [...part.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || part.closest("svg, script, noscript, .steps") || !seen(part)) continue;
  if (!getComputedStyle(part).color.startsWith("rgb(")) continue;
  if (contrast(part) < 4.5) faint.push(part.className + ": " + part.textContent);
}
parent.postMessage({
  width: innerWidth,
  sideways: document.documentElement.scrollWidth - innerWidth,
  bottoms,
  height: innerHeight,
  folded: folds.length,
  lost: [...document.querySelectorAll(".toc a")].filter(
    (link) => document.getElementById(link.hash.slice(1)) === null).length,
  faint,
}, "*");
"""
)
SIZES = ((390, 844), (820, 1180), (1400, 900))


@pytest.mark.parametrize("dark", [False, True])
def test_three_widths_lose_nothing_and_show_what_matters_first(
    browser: str, tmp_path: Path, dark: bool
) -> None:
    network = tiny_network()
    study = study_task(
        EngineChip(network), network, "pong", seed=3, max_decisions=9, film_decisions=6
    )
    _, text = made(network, study)
    nonce = text.split("script-src 'nonce-")[1].split("'")[0]
    probe = f'<script nonce="{nonce}">addEventListener("load", () => {{{PROBE}}})</script></body>'
    (tmp_path / "inner.html").write_text(text.replace("</body>", probe), encoding="utf-8")
    frames = "".join(
        f'<iframe src="inner.html" width="{width}" height="{height}" style="border:0"></iframe>'
        for width, height in SIZES
    )
    page = tmp_path / "outer.html"
    page.write_text(
        "<body><script>addEventListener('message', (event) => {"
        "const note = document.createElement('pre'); note.className = 'found';"
        "note.textContent = JSON.stringify(event.data); document.body.append(note)})</script>"
        f"{frames}</body>"
    )
    options = ("--force-dark-mode",) if dark else ()
    seen = opened(browser, page, "--dump-dom", *options)
    assert complaints(seen.stderr) == []
    notes = re.findall(r'<pre class="found">(.*?)</pre>', seen.stdout)
    found = {one["width"]: one for one in (json.loads(html.unescape(note)) for note in notes)}
    assert set(found) == {width for width, _ in SIZES}
    for width, height in SIZES:
        one = found[width]
        assert one["sideways"] <= 0, width
        assert one["lost"] == 0
        assert one["folded"] >= 6
        assert one["faint"] == [], (width, one["faint"][:5])
        # Film and numbers are on the first screen everywhere, the rest wherever it is wider.
        first = one["bottoms"] if width > 400 else one["bottoms"][:2]
        assert all(0 < bottom <= height for bottom in first), (width, one["bottoms"])
