"""Record the film of the README: ``python docs/figures/pong_film.py docs/pong.gif``.

The shipped Pong agent plays seed 0 on the simulated chip; the film shows the last decisions of
that game, one picture a decision, at about the speed of the game.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from mtspark.sim.recording.film import FilmRecorder
from mtspark.sim.recording.stage import save_video
from mtspark.workflows.export.pipeline import export_to
from mtspark.workflows.export.request import ExportRequest
from mtspark.workflows.run.games import run_games

AGENT = Path(__file__).parents[2] / "examples" / "agents" / "pong" / "pong.pt"
DECISIONS, WIDTH, COLOURS = 133, 640, 63
MILLISECONDS = 70
"""GIF counts hundredths of a second; a decision of the game lasts 66.7 ms."""


def record(folder: Path) -> Path:
    """Export the agent, play one game, write the film at its full size; return its path."""
    bundle = export_to(ExportRequest(source=AGENT), folder / "pong.deploy").bundle
    recorder = FilmRecorder(bundle.network, DECISIONS, counts=True)
    run_games(bundle, "pong", observe=recorder)
    save_video(recorder, "pong", folder / "pong.gif", every=1)
    return folder / "pong.gif"


def shrink(source: Path, target: Path) -> None:
    """Write the film at a smaller width with one palette; pixels that stay are transparent."""
    with Image.open(source) as film:
        pictures = [frame.convert("RGB") for frame in ImageSequence.Iterator(film)]
    size = WIDTH, round(pictures[0].height * WIDTH / pictures[0].width)
    pictures = [picture.resize(size, Image.Resampling.LANCZOS) for picture in pictures]
    palette = pictures[len(pictures) // 2].quantize(COLOURS, dither=Image.Dither.NONE)
    frames = [
        np.array(picture.quantize(palette=palette, dither=Image.Dither.NONE))
        for picture in pictures
    ]
    colours = [*(palette.getpalette() or [])[: 3 * COLOURS], 0, 0, 0]
    images = []
    for index, frame in enumerate(frames):
        unchanged = frame == frames[index - 1] if index else np.zeros_like(frame, dtype=bool)
        image = Image.fromarray(np.where(unchanged, COLOURS, frame).astype(np.uint8), "P")
        image.putpalette(colours)
        images.append(image)
    images[0].save(
        target,
        save_all=True,
        append_images=images[1:],
        duration=MILLISECONDS,
        loop=0,
        optimize=False,
        transparency=COLOURS,
        disposal=1,
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as name:
        shrink(record(Path(name)), Path(sys.argv[1]))
