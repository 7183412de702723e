"""Pictures of an agent at work: the game beside the spikes of every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import Moment
from mtspark.core.chip_network.fan_out import fan_out
from mtspark.core.chip_network.network import INPUT, ChipNetwork
from mtspark.core.files.atomic import AnyPath, replacing

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


@dataclass(frozen=True)
class Scene:
    """What one decision looked like: the newest frame and the spike counts of every layer."""

    frame: NDArray[np.uint8]
    spikes: dict[str, NDArray[np.uint8]]
    values: NDArray[np.float64]
    action: int
    score: float
    synops: int


class Recorder:
    """An observer of the agent loop that keeps the last decisions of the first game."""

    def __init__(self, network: ChipNetwork, keep: int) -> None:
        self.network = network
        self.keep = keep
        self.scenes: list[Scene] = []
        self.score = 0.0
        self._fans = [
            (
                link.source,
                fan_out(link, network.shape_of(link.source)),
            )
            for link in network.connections
        ]

    def __call__(self, moment: Moment) -> None:
        """Record one decision; the score shown is the one after it."""
        if moment.episodes[0]:
            return
        self.score += float(moment.rewards[0])
        activity = moment.decision.activity
        sent = {
            name: activity.window[name][0] + activity.drain[name][0] for name in activity.window
        }
        scene = Scene(
            frame=moment.frames[0][-1].copy(),
            spikes={
                name: activity.window[name][0].astype(np.uint8)
                for name in sent
                if name not in (INPUT, self.network.readout.population)
            },
            values=moment.decision.values[0].copy(),
            action=int(moment.actions[0]),
            score=self.score,
            synops=sum(int((sent[source] * fans[0]).sum()) for source, fans in self._fans),
        )
        self.scenes = [*self.scenes[-(self.keep - 1) :], scene]


def save_video(recorder: Recorder, task: str, path: AnyPath, every: int = 2) -> None:
    """Write an animated GIF of the recorded decisions, every `every`-th one."""
    from matplotlib.animation import FuncAnimation, PillowWriter

    figure, draw = _stage(recorder, task)
    chosen = list(range(0, len(recorder.scenes), every))
    animation = FuncAnimation(figure, draw, frames=chosen, blit=False)
    with replacing(path) as temporary:
        animation.save(temporary, writer=PillowWriter(fps=15), dpi=72)
    _close(figure)


def save_still(recorder: Recorder, task: str, path: AnyPath) -> None:
    """Write a PNG of the last recorded decision."""
    figure, draw = _stage(recorder, task)
    draw(len(recorder.scenes) - 1)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    _close(figure)


def _stage(recorder: Recorder, task: str) -> tuple[Any, Any]:
    """Lay the figure out once; the returned function shows scene number i in it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    network, scenes = recorder.network, recorder.scenes
    legal = next(t.legal_actions for t in network.tasks if t.name == task)
    layers = list(scenes[0].spikes)
    figure = plt.figure(figsize=(10.6, 5.4), facecolor="#101418")
    style: dict[str, Any] = {"color": "#d8dee9", "fontsize": 9}
    grid = figure.add_gridspec(
        2, 2 + len(layers), left=0.02, right=0.98, top=0.86, bottom=0.1, hspace=0.35, wspace=0.12
    )
    game = figure.add_subplot(grid[:, :2])
    game.set_axis_off()
    screen = game.imshow(scenes[0].frame, cmap="gray", vmin=0, vmax=255, aspect="auto")
    headline = figure.text(0.02, 0.93, "", color="#ffffff", fontsize=13, weight="bold")
    images = []
    for column, layer in enumerate(layers):
        axis = figure.add_subplot(grid[0, 2 + column])
        axis.set_axis_off()
        population = network.population(layer)
        axis.set_title(f"{layer}: {population.size:,} neurons", **style)
        images.append(
            axis.imshow(
                _tile(scenes[0].spikes[layer]), cmap="inferno", vmin=0, vmax=network.time_steps
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
    all_values = np.array([scene.values[list(legal)] for scene in scenes])
    margin = 0.05 * max(float(np.ptp(all_values)), 1e-6)
    floor, ceiling = float(all_values.min()) - margin, float(all_values.max()) + margin
    names = [ACTION_NAMES[action] for action in legal]
    bars = values_axis.bar(names, np.zeros(len(legal)), bottom=floor)
    values_axis.set_ylim(floor, ceiling)
    values_axis.set_xlim(-1.2, len(legal) - 0.4)  # room for the labels inside
    values_axis.tick_params(axis="x", rotation=30)
    totals = [sum(int(counts.sum()) for counts in scene.spikes.values()) for scene in scenes]
    (curve,) = cost_axis.plot([], [], color="#88c0d0", linewidth=1)
    cost_axis.set_xlim(-0.13 * len(scenes), max(len(scenes) - 1, 1))
    cost_axis.set_ylim(0, max(totals) * 1.1 + 1)

    def draw(index: int) -> None:
        scene = scenes[index]
        screen.set_data(scene.frame)
        for image, layer in zip(images, layers, strict=True):
            image.set_data(_tile(scene.spikes[layer]))
        for bar, action in zip(bars, legal, strict=True):
            bar.set_height(scene.values[action] - floor)
            bar.set_color("#a3be8c" if action == scene.action else "#4c566a")
        curve.set_data(range(index + 1), totals[: index + 1])
        headline.set_text(
            f"{task}  {scene.score:+.0f}    {totals[index]:,} spikes, "
            f"{scene.synops / 1e6:.2f} M synaptic operations in this decision"
        )

    return figure, draw


def _tile(counts: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay channels (or a vector) out as a picture that is about square."""
    if counts.ndim == 1:
        side = int(np.ceil(np.sqrt(len(counts))))
        return np.pad(counts, (0, side * side - len(counts))).reshape(side, side)
    channels, height, width = counts.shape
    across = int(np.ceil(np.sqrt(channels)))
    down = -(-channels // across)
    padded = np.zeros((across * down, height, width), counts.dtype)
    padded[:channels] = counts
    rows = padded.reshape(down, across, height, width).transpose(0, 2, 1, 3)
    return rows.reshape(down * height, across * width)


def _close(figure: Any) -> None:
    from matplotlib import pyplot as plt

    plt.close(figure)
