"""The steps of the demo: an agent as integers, proven equal to Lava, in a game that is filmed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mtspark.core.errors import BackendFailedError, BackendMissingError
from mtspark.core.files import AnyPath
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.deploy.bundle import Bundle
from mtspark.deploy.lava import installed_lava
from mtspark.sim.recording import FilmRecorder
from mtspark.sim.results import RunResult
from mtspark.workflows.backends import BackendName
from mtspark.workflows.diff import DiffResult, diff
from mtspark.workflows.export import ExportRequest, ExportResult, export_to
from mtspark.workflows.run import run_games, store_run

SCENES = 160
"""Decisions at the end of the game that the pictures show."""


@dataclass(frozen=True)
class FilmedGame:
    """A game, stored in its bundle, and the recording of its last decisions.

    Attributes:
        run: its result.
        stored: file of the result.
        recorder: that watched it.
    """

    run: RunResult
    stored: Path
    recorder: FilmRecorder


def require_lava() -> None:
    """Check that Lava is there before the demo starts.

    Raises:
        BackendMissingError: Lava is not installed.
    """
    if installed_lava() is None:
        raise BackendMissingError("the demo compares with Lava; run `mtspark install-lava` first")


def export_agent(
    checkpoint: AnyPath, folder: AnyPath, *, progress: ProgressCallback = no_progress
) -> ExportResult:
    """Export the agent of the demo; what an earlier demo exported is overwritten.

    Its frames are sent at every step, which stock Lava needs: it keeps no sum of a frame.

    Args:
        checkpoint: a trained agent (.pt).
        folder: for the bundle, which is named after the checkpoint.
        progress: receives the steps of the export.

    Raises:
        BadFileError: the checkpoint cannot be read, or the bundle not be written.
    """
    checkpoint = Path(checkpoint)
    target = Path(folder) / f"{checkpoint.stem}.deploy"
    request = ExportRequest(source=checkpoint, encoder="every-step")
    return export_to(request, target, overwrite=True, progress=progress)


def compare_with_lava(
    bundle: Bundle,
    *,
    lava_decisions: int = 50,
    stock_decisions: int = 3,
    progress: ProgressCallback = no_progress,
) -> Iterator[DiffResult]:
    """Compare the reference with the engine, stock Lava, and Lava on our own processes.

    Args:
        bundle: of the agent.
        lava_decisions: to compare with the engine and with Lava on our processes.
        stock_decisions: to compare with stock Lava.
        progress: receives the decisions compared so far.

    Yields:
        One result a comparison.

    Raises:
        BackendFailedError: the result yielded last is a difference.
    """
    for against, decisions in (
        (BackendName.ENGINE, lava_decisions),
        (BackendName.LAVA_STOCK, stock_decisions),
        (BackendName.LAVA, lava_decisions),
    ):
        result = diff(bundle, against, decisions=decisions, progress=progress)
        yield result
        if not result.equal:
            raise BackendFailedError(
                f"the reference differs from {against.value}; see the first difference above"
            )


def film_game(bundle: Bundle, task: str, *, progress: ProgressCallback = no_progress) -> FilmedGame:
    """Play one game on the engine, store its result and keep its last decisions.

    Args:
        bundle: of the agent.
        task: a game, by name.
        progress: receives the episodes played so far.
    """
    recorder = FilmRecorder(bundle.network, keep=SCENES, counts=True)
    run = run_games(bundle, task, observe=recorder, progress=progress)
    return FilmedGame(run, store_run(bundle, run), recorder)


def draw_game(
    game: FilmedGame, folder: AnyPath, *, progress: ProgressCallback = no_progress
) -> tuple[Path, Path]:
    """Draw the last seconds of a game; return the paths of a GIF and of a PNG.

    Args:
        game: that was filmed.
        folder: for both files.
        progress: receives the files written so far.
    """
    from mtspark.sim.recording import save_still, save_video

    task = game.run.task
    still, video = Path(folder) / f"{task}.png", Path(folder) / f"{task}.gif"
    stage = "drawing the last seconds of the game"
    progress(Progress(stage, 0, 2, "files"))
    save_still(game.recorder, task, still)
    progress(Progress(stage, 1, 2, "files"))
    save_video(game.recorder, task, video)
    progress(Progress(stage, 2, 2, "files"))
    return video, still
