from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


def test_the_page_of_benchmarks_shows_what_the_last_run_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rendering the stored results again changes nothing: no figure was written by hand."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "report", raising=False)
    import report

    results = json.loads((RESULTS / "data" / "benchmarks.json").read_text())
    page = tmp_path / "benchmarks.md"
    page.write_text((RESULTS / "benchmarks.md").read_text())
    report.write(page, report.blocks(results))
    assert page.read_text() == (RESULTS / "benchmarks.md").read_text()
    page.write_text(page.read_text().replace("<!-- end step -->", ""))
    with pytest.raises(ValueError, match="no marks for the part 'step'"):
        report.write(page, report.blocks(results))
