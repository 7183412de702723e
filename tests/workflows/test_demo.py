"""The steps of the demo that need no Lava, and how it treats a difference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mtspark.core.errors import BackendFailedError, BackendMissingError
from mtspark.core.progress import Progress
from mtspark.deploy.bundle import Bundle
from mtspark.sim.compare.agreement import Agreement, LayerAgreement
from mtspark.sim.compare.divergence import Divergence
from mtspark.train.checkpoint.agent import Agent, save_agent
from mtspark.workflows import demo
from mtspark.workflows.backends import BackendName
from mtspark.workflows.diff.result import DiffResult


@pytest.fixture(scope="module")
def checkpoint(make_agent: Callable[..., Agent], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "small.pt"
    save_agent(make_agent(), path)
    return path


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Bundle:
    return demo.export_agent(checkpoint, checkpoint.parent).bundle


def test_without_lava_the_demo_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtspark.workflows.demo.installed_lava", lambda: None)
    with pytest.raises(BackendMissingError, match="mtspark install-lava"):
        demo.require_lava()


@pytest.mark.slow
def test_a_game_is_stored_and_drawn(bundle: Bundle, tmp_path: Path) -> None:
    reports: list[Progress] = []
    task = bundle.network.tasks[0].name
    game = demo.film_game(bundle, task, progress=reports.append)
    assert game.stored.parent == bundle.runs
    assert game.run.task == task
    video, still = demo.draw_game(game, tmp_path, progress=reports.append)
    assert video.read_bytes()[:6] == b"GIF89a"
    assert still.read_bytes()[:4] == b"\x89PNG"
    assert (reports[-1].done, reports[-1].total) == (2, 2)


@pytest.mark.slow
def test_a_difference_is_shown_before_it_ends_the_demo(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[BackendName, int]] = []

    def compared(
        bundle: Bundle, against: BackendName, *, decisions: int, **_: object
    ) -> DiffResult:
        asked.append((against, decisions))
        wrong = against is BackendName.LAVA_STOCK
        first = Divergence(0, 1, "hidden", (0,), "spike", 1, 0) if wrong else None
        agreement = Agreement(decisions, {"hidden": LayerAgreement(9, int(wrong))}, first)
        return DiffResult("reference", against.value, "pong", 0, agreement)

    monkeypatch.setattr(demo, "diff", compared)
    shown: list[DiffResult] = []
    with pytest.raises(BackendFailedError, match="differs from lava-stock"):
        shown.extend(demo.compare_with_lava(bundle, lava_decisions=7, stock_decisions=2))
    assert asked == [(BackendName.ENGINE, 7), (BackendName.LAVA_STOCK, 2)]
    assert [result.equal for result in shown] == [True, False]
