"""The order in which workers begin tests."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from tests.project.documentation import ROOT
from tests.support import costs


@pytest.mark.parametrize("name", costs.PROCESSOR_S)
def test_what_is_named_is_there(name: str) -> None:
    """One that is renamed would come late again."""
    path, _, test = name.partition("::")
    text = (ROOT / path).read_text()
    function, *arguments = re.findall(r"[^\[\]]+", test) or [""]
    assert f"def {function}" in text
    for page in arguments:
        places = (ROOT / page, ROOT / "docs" / "notebooks" / f"{page}.ipynb")
        assert any(place.is_file() for place in places) or f'"{page}"' in text


def test_long_tests_come_first_and_files_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "PROCESSOR_S", {"b.py::two": 9.0, "c.py": 20.0})
    names = ["a.py::one", "b.py::one", "b.py::two", "b.py::three", "c.py::one", "c.py::two[x]"]
    items: Any = [SimpleNamespace(nodeid=name) for name in names]
    order = [item.nodeid for item in costs.longest_first(items)]
    assert order == [*names[4:], "b.py::two", "b.py::one", "b.py::three", "a.py::one"]
    option = SimpleNamespace(loadscopereorder=True, tx=["popen"], numprocesses=1)
    config: Any = SimpleNamespace(option=option, getvalue=lambda _: ["popen"])
    scheduler = costs.LongestFirst(config)
    assert not option.loadscopereorder
    assert [scheduler._split_scope(name) for name in names[1:4]] == ["b.py", "b.py::two", "b.py"]
    assert scheduler._split_scope("c.py::two[x]") == "c.py"
