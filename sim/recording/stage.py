"""Pictures of an agent at work: the game beside the spikes of every layer, as PNG or GIF."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from mtspark.core.files import AnyPath, write_bytes
from mtspark.sim.recording.film import FilmRecorder
from mtspark.sim.recording.pictures import encode_animation, tiled

ACTION_NAMES = (
    "noop",
    "fire",
    "up",
    "right",
    "left",
    "down",
    "upright",
    "upleft",
    "downright",
    "downleft",
    "upfire",
    "rightfire",
    "leftfire",
    "downfire",
    "uprightfire",
    "upleftfire",
    "downrightfire",
    "downleftfire",
)
"""ALE's 18 actions, in its order."""


FRAMES_PER_SECOND = 15
PICTURE_DPI, ANIMATION_DPI = 120, 72


def save_video(recorder: FilmRecorder, task: str, path: AnyPath, every: int = 2) -> None:
    """Write an animated GIF of the last recorded decisions, every `every`-th one.

    Args:
        recorder: that kept counts of at least one decision.
        task: that was played.
        path: of the GIF.
        every: decisions from one picture to the next.

    Raises:
        BadFileError: the file cannot be written.
    """
    from PIL import Image

    figure, draw = _stage(recorder, task)
    figure.set_dpi(ANIMATION_DPI)
    frames = []
    for index in range(0, len(recorder.latest), every):
        draw(index)
        figure.canvas.draw()
        frames.append(Image.fromarray(np.array(figure.canvas.buffer_rgba())).convert("RGB"))
    write_bytes(path, encode_animation(frames, "GIF", int(1000 / FRAMES_PER_SECOND)))


def save_still(recorder: FilmRecorder, task: str, path: AnyPath) -> None:
    """Write a PNG of the last recorded decision.

    Args:
        recorder: that kept counts of at least one decision.
        task: that was played.
        path: of the PNG.

    Raises:
        BadFileError: the file cannot be written.
    """
    figure, draw = _stage(recorder, task)
    draw(len(recorder.latest) - 1)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=PICTURE_DPI, format="png")
    write_bytes(path, buffer.getvalue())


def _stage(recorder: FilmRecorder, task: str) -> tuple[Any, Callable[[int], None]]:
    """Lay the figure out once; the returned function shows decision number i in it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    network, shots = recorder.network, recorder.latest
    known = network.tasks[network.task_index(task)]
    legal = known.legal_actions
    layers = list(shots[0].counts)
    figure = Figure(figsize=(10.6, 5.4), facecolor="#101418")
    FigureCanvasAgg(figure)
    # Dollars in a name are no formula.
    style: dict[str, Any] = {"color": "#d8dee9", "fontsize": 9, "parse_math": False}
    grid = figure.add_gridspec(
        2, 2 + len(layers), left=0.02, right=0.98, top=0.86, bottom=0.1, hspace=0.35, wspace=0.12
    )
    game = figure.add_subplot(grid[:, :2])
    game.set_axis_off()
    screen = game.imshow(shots[0].frame, cmap="gray", vmin=0, vmax=255, aspect="auto")
    headline = figure.text(
        0.02, 0.93, "", parse_math=False, color="#ffffff", fontsize=13, weight="bold"
    )
    images = []
    for column, layer in enumerate(layers):
        axis = figure.add_subplot(grid[0, 2 + column])
        axis.set_axis_off()
        population = network.population(layer)
        axis.set_title(f"{layer}: {population.size:,} neurons", **style)
        images.append(
            axis.imshow(
                tiled(shots[0].counts[layer]), cmap="inferno", vmin=0, vmax=network.time_steps
            )
        )
    values_axis = figure.add_subplot(grid[1, 2 : 2 + len(layers) // 2])
    cost_axis = figure.add_subplot(grid[1, 2 + len(layers) // 2 :])
    for axis, title in ((values_axis, "action values"), (cost_axis, "spikes per decision")):
        axis.set_facecolor("#101418")
        axis.set_title(title, **style)
        axis.tick_params(colors="#8fa1b3", labelsize=7)
        axis.tick_params(axis="y", direction="in", pad=-24)
        for side in axis.spines.values():
            side.set_color("#3b4252")
    all_values = np.array([shot.values[list(legal)] for shot in shots])
    margin = 0.05 * max(float(np.ptp(all_values)), 1e-6)
    floor, ceiling = float(all_values.min()) - margin, float(all_values.max()) + margin
    names = [ACTION_NAMES[action] if known.is_ale else str(action) for action in legal]
    bars = values_axis.bar(names, np.zeros(len(legal)), bottom=floor)
    values_axis.set_ylim(floor, ceiling)
    values_axis.set_xlim(-1.2, len(legal) - 0.4)  # room for the labels inside
    values_axis.tick_params(axis="x", rotation=30)
    totals = [sum(int(counts.sum()) for counts in shot.counts.values()) for shot in shots]
    (curve,) = cost_axis.plot([], [], color="#88c0d0", linewidth=1)
    cost_axis.set_xlim(-0.13 * len(shots), max(len(shots) - 1, 1))
    cost_axis.set_ylim(0, max(totals) * 1.1 + 1)

    def draw(index: int) -> None:
        shot = shots[index]
        screen.set_data(shot.frame)
        for image, layer in zip(images, layers, strict=True):
            image.set_data(tiled(shot.counts[layer]))
        for bar, action in zip(bars, legal, strict=True):
            bar.set_height(shot.values[action] - floor)
            bar.set_color("#a3be8c" if action == shot.action else "#4c566a")
        curve.set_data(range(index + 1), totals[: index + 1])
        headline.set_text(
            f"{task}  {shot.score:+.0f}    {totals[index]:,} spikes, "
            f"{shot.synops / 1e6:.2f} M synaptic operations in this decision"
        )

    return figure, draw
