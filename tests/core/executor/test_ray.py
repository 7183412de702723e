"""What Ray may answer when a command joins it, without any Ray."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from mtspark.core.errors import BackendFailedError, BackendMissingError
from mtspark.core.executor import Job, finished_jobs
from mtspark.core.executor.ray_cluster import RayPool
from tests.core.executor import work

# As Ray 2.60 words them.
OTHER_RAY = """Version mismatch: The cluster was started with:
    Ray: 2.40.0
    Python: 3.10.15
This process on node 10.0.0.7 was started with:
    Ray: 2.60.0
    Python: 3.11.9
"""


def ray_that(answer: Exception | None, processors: float = 0) -> Any:
    def init(**_: Any) -> None:
        if answer is not None:
            raise answer

    made: Any = ModuleType("ray")
    made.init, made.is_initialized = init, lambda: False
    made.cluster_resources, made.shutdown = lambda: {"CPU": processors}, lambda: None
    return made


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (RuntimeError(OTHER_RAY), r"at this computer has another Ray or Python .*Ray: 2\.40\.0"),
        (ConnectionError("Could not find any running Ray instance."), "no cluster answers"),
        (None, "has no processors; add a node"),
    ],
)
def test_a_cluster_that_cannot_work_is_one_line(
    answer: Exception | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setitem(sys.modules, "ray", ray_that(answer))
    with pytest.raises(BackendFailedError, match=rf"^--executor ray: .*{said}") as refusal:
        RayPool()
    assert str(refusal.value).isprintable()


def test_a_client_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "here")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setitem(sys.modules, "ray", ray_that(ImportError("grpc")))
    with pytest.raises(BackendMissingError, match=r"mtspark\[ray\]"):
        list(finished_jobs("ray", [Job("a", work.double, {"values": 1})]))
