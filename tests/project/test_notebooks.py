"""The notebooks of the documentation run, and print what they were stored with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.project.documentation import ROOT, plain

FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def _code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _printed(cell: Any) -> str:
    """What a cell printed, without numbers; a notebook may cut it anywhere."""
    streams = [output for output in cell.outputs if output.output_type == "stream"]
    assert {stream.name for stream in streams} <= {"stdout"}, streams
    return plain("".join(stream.text for stream in streams))


def _pictures(cell: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_as_it_ran(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    cells = _code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(map(_pictures, cells)) >= 2
    for cell in cells:
        assert all(output.output_type != "error" for output in cell.outputs)
        if "print(" in cell.source:
            assert _printed(cell)
    assert "/tmp/" not in path.read_text()
    assert f"notebooks/{path.name}" in (ROOT / "mkdocs.yml").read_text()
    assert f"notebooks/{path.name}" in (ROOT / "docs" / "index.md").read_text()


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["cost", "own-model", "tour"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_the_same(path: Path) -> None:
    """Claims of the text stand beside it as assertions, which must hold, too."""
    from nbclient import NotebookClient

    stored = nbformat.read(path, 4)
    fresh = nbformat.read(path, 4)
    for cell in _code(fresh):
        cell.outputs, cell.execution_count = [], None
    place = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(fresh, timeout=1800, kernel_name="python3", resources=place).execute()
    for before, after in zip(_code(stored), _code(fresh), strict=True):
        assert _printed(after) == _printed(before), before.source
        assert _pictures(after) == _pictures(before), before.source


@pytest.mark.slow
def test_a_notebook_that_fails_is_seen(tmp_path: Path) -> None:
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("assert 1 == 2")])
    with pytest.raises(CellExecutionError, match="assert 1 == 2"):
        NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
