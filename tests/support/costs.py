"""What long tests cost, and an order of tests by it for the workers of pytest-xdist.

A file is handed to one worker, since its tests share what its fixtures made. A file whose one
test takes a minute would come late, for its number of tests is small, and the other workers would
wait for it. So what is named here comes first, the longest before the others; a test that is named
is handed on alone, apart from its file. The figures are rounded and need no care: they say in
which order tests begin, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    import pytest

PAGE = "tests/project/test_documentation.py::test_the_blocks_of_a_page_run"
NOTEBOOK = "tests/project/test_notebooks.py::test_a_notebook_runs_and_prints_the_same"
LEARNING = "tests/train/rl/test_learning.py"

PROCESSOR_S: dict[str, float] = {
    "tests/train/rl/test_sac.py::test_the_recipe_learns": 60,
    "tests/workflows/test_stateful_agent.py::test_it_learns_what_one_frame_does_not_tell": 60,
    "tests/project/test_packaging.py::test_make_works_for_real_where_the_path_has_a_space": 60,
    "tests/cli/test_homes.py": 50,
    f"{LEARNING}::test_pathways_learn_opposite_tasks_that_a_shared_network_cannot[dqn]": 50,
    f"{PAGE}[README.md]": 45,
    f"{NOTEBOOK}[cost]": 40,
    f"{PAGE}[docs/learn/tour.md]": 40,
    "tests/cli/test_report.py": 40,
    f"{PAGE}[docs/learn/games.md]": 35,
    f"{PAGE}[docs/learn/own-model.md]": 35,
    f"{PAGE}[docs/training.md]": 35,
    f"{NOTEBOOK}[own-model]": 35,
    "tests/cli/test_full_disk.py": 35,
    "tests/convert/nir/test_differential.py": 35,
    "tests/project/test_formats.py": 35,
    "tests/sim/engine/test_chip.py": 35,
    "tests/sim/hil/test_changes.py": 35,
    "tests/train/rl/test_learning.py": 35,
    "tests/project/test_examples.py": 30,
    "tests/sim/backends/lava/test_backend.py": 30,
    "tests/cli/test_demo.py": 30,
    "tests/workflows/test_executor.py": 30,
    f"{PAGE}[docs/learn/loop.md]": 30,
    "tests/cli/test_parallel.py": 30,
    f"{PAGE}[docs/learn/own-actor.md]": 25,
    f"{PAGE}[docs/cluster.md]": 25,
    "tests/train/test_seeds.py": 25,
    "tests/sim/engine/test_slow.py": 20,
    "tests/cli/test_commands.py": 20,
    f"{PAGE}[docs/hil.md]": 20,
    f"{PAGE}[docs/zoo.md]": 15,
    f"{PAGE}[docs/learn/other-tools.md]": 15,
    f"{PAGE}[docs/mapping.md]": 15,
    f"{NOTEBOOK}[tour]": 15,
    "tests/cli/test_starting.py": 15,
    "tests/cli/test_figures_agree.py": 15,
    "tests/cli/test_evaluate_float.py": 15,
    "tests/cli/test_evaluate.py": 15,
}
"""Seconds of processor time of tests, by their id, and of files, by their path."""


def longest_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Sort tests by what they or their files are known to cost, then by their files' length."""
    sizes = Counter(map(_unit, (item.nodeid for item in items)))

    def key(item: pytest.Item) -> tuple[float, int]:
        unit = _unit(item.nodeid)
        return -PROCESSOR_S.get(unit, 0.0), -sizes[unit]

    return sorted(items, key=key)


def _unit(test: str) -> str:
    """Return what is handed on with a test: itself, or its file."""
    return test if test in PROCESSOR_S else test.split("::")[0]


class LongestFirst(LoadFileScheduling):
    """Hands on files, and tests that are named above alone, as :func:`longest_first` sorts them."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)
        # It would sort by number of tests alone.
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return _unit(nodeid)
