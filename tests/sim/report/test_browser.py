"""The page in a real browser: Debian's chromium, without a window and without a network."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mtspark.sim.engine.chip import EngineChip
from mtspark.sim.recording.study import study_task
from tests.sim.report.test_data import EVIL, made, tiny_network

pytestmark = pytest.mark.third_party
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no chromium: apt-get install chromium")
    return found


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
    shown = opened(browser, page, "--window-size=1280,3000", f"--screenshot={picture}")
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
