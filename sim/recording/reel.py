"""The film of a whole game: its picture beside the spikes of every layer, as GIF or WebP.

A long game is thinned evenly while it is played, so that its film takes a bounded memory and still
shows it from its start to its end, at its own speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import Moment
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.environments import Action, Task, seconds_per_decision
from mtspark.core.errors import BadRequestError, MtsparkError
from mtspark.core.files import AnyPath, check_target, write_bytes
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.sim.play import Episode
from mtspark.sim.recording.film import FilmRecorder, Shot
from mtspark.sim.recording.pictures import encode_animation, tiled
from mtspark.sim.recording.scenery import message_picture
from mtspark.sim.recording.stage import ACTION_NAMES
from mtspark.sim.recording.twin import Twin

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

FORMATS: dict[str, dict[str, Any]] = {
    ".gif": {"file_format": "GIF"},
    ".webp": {"file_format": "WEBP", "quality": 60, "method": 2},
}
"""By ending of the file: what Pillow is asked for."""

MOST_PICTURES = 1200
SHORTEST_MS = 40.0
"""Browsers slow pictures down that are shown for less than 20 ms, and 25 a second look smooth."""

MARGIN, HEADLINE, LABEL = 10, 30, 14
SCREEN, PANEL = (320, 240), (300, 240)
CURVE = 60
"""Pixels: of the game's box, of the layers' beside it, and of the curve below the layers."""
RECENT = 150
"""Pictures that the curve shows."""
NIGHT, PALE, BRIGHT, LINE = (16, 20, 24), (143, 161, 179), (255, 255, 255), (136, 192, 208)
EMBERS = ((16, 20, 24), (94, 18, 110), (206, 68, 60), (251, 155, 6), (252, 255, 164))
"""Colours of a neuron, from none of its spikes to one in every step (matplotlib's inferno)."""
COLOURS = 256


def check_film_target(path: AnyPath | None) -> None:
    """Refuse a film that could not be written, before a game is played.

    Raises:
        BadRequestError: its name ends as no format that is written here.
        UnwritableError: it cannot be written.
    """
    if path is None:
        return
    if Path(path).suffix.lower() not in FORMATS:
        raise BadRequestError(
            f"{path}: a film is written as {' or '.join(FORMATS)}; give it such a name"
        )
    check_target(path)


@dataclass(frozen=True)
class Film:
    """A film that was written.

    Attributes:
        path: its file.
        episode: that it shows.
        pictures: how many.
        every: decisions from one to the next.
        note: why it shows what the agent saw and no picture of the game; empty where it does not.
    """

    path: Path
    episode: Episode
    pictures: int
    every: int
    note: str = ""


class Reel:
    """An observer of the agent loop that keeps the whole first game, evenly thinned.

    Args:
        network: that plays.
        task: name of the task.
        sticky: another probability of sticky actions than the protocol's.
    """

    def __init__(self, network: ChipNetwork, task: str, *, sticky: float | None = None) -> None:
        self._task = network.tasks[network.task_index(task)]
        self._network = network
        self._protocol = network.protocol_with(sticky)
        self._recorder = FilmRecorder(network, 1, counts=True)
        self._shots: list[Shot] = []
        seconds = seconds_per_decision(self._task, network.protocol)
        assert seconds is not None
        self._decision_ms = 1000 * seconds
        self.every = max(1, round(SHORTEST_MS / self._decision_ms))

    def __call__(self, moment: Moment) -> None:
        """Keep a decision of the first episode, where it is its turn."""
        if moment.episodes[0]:
            return
        self._recorder(moment)
        (shot,) = self._recorder.latest
        if shot.number % self.every:
            return
        self._shots.append(shot)
        if len(self._shots) > MOST_PICTURES:
            del self._shots[1::2]
            self.every *= 2

    def save(
        self, path: AnyPath, episode: Episode, *, progress: ProgressCallback = no_progress
    ) -> Film:
        """Write the film, whole or not at all.

        The game is played once more by the same actions, for its pictures. Where that shows the
        agent something else, as an environment with dice of its own would, the film shows what
        the agent saw.

        Args:
            path: of the film; its ending names the format.
            episode: the first of the run that was observed.
            progress: receives the pictures drawn so far.

        Raises:
            BadRequestError: the name's ending is unknown.
            UnwritableError: the file cannot be written.
        """
        check_film_target(path)
        drawing = _Drawing(self._network, self._task, self._shots)
        note = ""
        try:
            frames = self._drawn(drawing, self._pictures(episode), progress)
        except MtsparkError as error:
            note = str(error)
            frames = self._drawn(drawing, map(self._plain, self._shots), progress)
        progress(Progress("encoding the film", 0, None, "pictures"))
        data = encode_animation(
            frames,
            milliseconds=round(self.every * self._decision_ms),
            **FORMATS[Path(path).suffix.lower()],
        )
        write_bytes(path, data)
        return Film(Path(path), episode, len(frames), self.every, note)

    def _drawn(
        self, drawing: _Drawing, pictures: Iterator[NDArray[np.uint8]], progress: ProgressCallback
    ) -> list[Image]:
        stage, frames = "drawing the film", []
        for number, picture in enumerate(pictures):
            progress(Progress(stage, number, len(self._shots), "pictures"))
            frames.append(drawing(number, picture))
        return frames

    def _pictures(self, episode: Episode) -> Iterator[NDArray[np.uint8]]:
        """What the game draws at each shot.

        Raises:
            MtsparkError: it cannot draw here, or is another game than was played.
        """
        twin = Twin(self._task, self._protocol)
        try:
            twin.reset(episode.seed)
            number = 0
            for shot in self._shots:
                for action in episode.actions[number : shot.number]:
                    twin.act(action)
                number = shot.number
                if not np.array_equal(twin.seen, shot.observation):
                    raise BadRequestError(
                        f"{self._task.game}: played again by the same actions, it differs from "
                        f"decision {number} on, so it is not deterministic"
                    )
                yield twin.picture()
        finally:
            twin.close()

    def _plain(self, shot: Shot) -> NDArray[np.uint8]:
        return shot.frame if self._task.environment is None else message_picture(shot.observation)


class _Drawing:
    """Composes one picture of the film after the other."""

    def __init__(self, network: ChipNetwork, task: Task, shots: list[Shot]) -> None:
        from PIL import ImageFont

        self._network, self._task, self._shots = network, task, shots
        self._totals = [sum(int(part.sum()) for part in shot.counts.values()) for shot in shots]
        self._spiking = bool(shots[0].counts)
        self._small, self._large = (ImageFont.load_default(size) for size in (11, 15))
        self._palette: Image | None = None
        width = SCREEN[0] + (PANEL[0] + MARGIN) * self._spiking + 2 * MARGIN
        self._size = width, HEADLINE + SCREEN[1] + MARGIN

    def __call__(self, number: int, picture: NDArray[np.uint8]) -> Image:
        """Draw shot `number` beside a picture of the game."""
        from PIL import Image, ImageDraw

        shot = self._shots[number]
        canvas = Image.new("RGB", self._size, NIGHT)
        draw = ImageDraw.Draw(canvas)
        draw.text((MARGIN, 7), self._headline(shot), fill=BRIGHT, font=self._large)
        draw.text(
            (self._size[0] - MARGIN, 10),
            f"{self._totals[number]:,} spikes, {_thousands(shot.synops)} operations"
            if self._spiking
            else f"decision {shot.number}",
            fill=PALE,
            font=self._small,
            anchor="ra",
        )
        canvas.paste(*self._screen(picture))
        if self._spiking:
            self._layers(canvas, draw, shot)
            self._curve(draw, number)
        if self._palette is None:
            self._palette = self._palette_of(canvas)
        return canvas.quantize(palette=self._palette, dither=Image.Dither.NONE)

    def _headline(self, shot: Shot) -> str:
        return f"{self._task.name}  {shot.score:+.5g}   {action_words(self._task, shot.action)}"

    def _screen(self, picture: NDArray[np.uint8]) -> tuple[Image, tuple[int, int]]:
        from PIL import Image

        image = Image.fromarray(picture).convert("RGB")
        if self._task.is_ale:
            # A console's pixels are wide: its picture fills a screen of 4 to 3.
            size = SCREEN
        else:
            scale = min(SCREEN[0] / image.width, SCREEN[1] / image.height)
            size = max(1, int(image.width * scale)), max(1, int(image.height * scale))
        grows = size[0] > image.width
        way = Image.Resampling.NEAREST if grows else Image.Resampling.BOX
        left, top = MARGIN + (SCREEN[0] - size[0]) // 2, HEADLINE + (SCREEN[1] - size[1]) // 2
        return image.resize(size, way), (left, top)

    def _layers(self, canvas: Image, draw: ImageDraw, shot: Shot) -> None:
        from PIL import Image

        across = int(np.ceil(np.sqrt(len(shot.counts))))
        down = -(-len(shot.counts) // across)
        width, height = PANEL[0] // across, (PANEL[1] - CURVE) // down
        for index, (name, counts) in enumerate(shot.counts.items()):
            row, column = divmod(index, across)
            left = MARGIN * 2 + SCREEN[0] + column * width
            top = HEADLINE + row * height
            words = f"{name}: {counts.size:,}"
            while len(words) > 1 and draw.textlength(words, font=self._small) > width - 4:
                words = words[:-2] + "."
            draw.text((left, top - 1), words, fill=PALE, font=self._small)
            shares = tiled(counts.reshape(-1) if counts.ndim == 2 else counts)
            image = Image.fromarray(_embers(shares, self._network.time_steps))
            scale = min((width - 4) / image.width, (height - LABEL - 4) / image.height)
            size = max(1, int(image.width * scale)), max(1, int(image.height * scale))
            canvas.paste(image.resize(size, Image.Resampling.NEAREST), (left, top + LABEL))

    def _curve(self, draw: ImageDraw, number: int) -> None:
        left, bottom = MARGIN * 2 + SCREEN[0], HEADLINE + PANEL[1] - 1
        draw.text((left, bottom - CURVE), "spikes a decision", fill=PALE, font=self._small)
        # A single decision, as the first one, must not press all others to the ground.
        most = max(1.0, 1.1 * float(np.percentile(self._totals, 99)))
        first = max(0, number + 1 - RECENT)
        points = [
            (
                left + int(place * (PANEL[0] - 1) / (RECENT - 1)),
                bottom - int((CURVE - LABEL - 2) * min(1.0, total / most)),
            )
            for place, total in enumerate(self._totals[first : number + 1])
        ]
        draw.line(points if len(points) > 1 else points * 2, fill=LINE)

    def _palette_of(self, canvas: Image) -> Image:
        """One palette for all pictures: colours of the first, embers, and a few of every kind."""
        from PIL import Image

        levels = np.linspace(0, 255, 6)
        cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 3)
        ours = np.array([NIGHT, PALE, BRIGHT, LINE])
        wanted = np.concatenate([cube, _ladder(16), ours]).round().astype(np.uint8)
        room = COLOURS - len(wanted)
        own = canvas.quantize(room, method=Image.Quantize.MEDIANCUT).getpalette() or []
        palette = Image.new("P", (1, 1))
        palette.putpalette([*own[: 3 * room], *wanted.reshape(-1).tolist()])
        return palette


def action_words(task: Task, action: Action) -> str:
    """Say an action for people: its name on a console, its number, or numbers of a box."""
    if isinstance(action, tuple):
        return " ".join(f"{value:+.2f}" for value in action)
    return ACTION_NAMES[action] if task.is_ale else f"action {action}"


def _thousands(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count / 1e3:.1f} k"


def _ladder(steps: int) -> NDArray[np.uint8]:
    """Embers from dark to bright, (steps, 3)."""
    places = np.linspace(0, len(EMBERS) - 1, steps)
    colours = np.array(EMBERS, np.float64).T
    rows = [np.interp(places, range(len(EMBERS)), channel) for channel in colours]
    return np.stack(rows, 1).round().astype(np.uint8)


def _embers(counts: NDArray[np.int32], most: int) -> NDArray[np.uint8]:
    """Colour spike counts, uint8 (height, width, 3)."""
    return _ladder(most + 1)[np.clip(counts, 0, most)]
