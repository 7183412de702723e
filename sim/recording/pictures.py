"""Pictures of a film: encoding as PNG, WebP and GIF, and spikes drawn as pixels."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtspark.sim.recording.film import Shot

if TYPE_CHECKING:
    from PIL.Image import Image

WEBP_OPTIONS = {"quality": 45, "method": 4}


def sprite_sheet(shots: list[Shot], columns: int) -> str:
    """Draw all frames side by side in one lossless picture; return a data URI."""
    height, width, *colours = shots[0].frame.shape
    rows = -(-len(shots) // columns)
    sheet = np.zeros((rows * height, columns * width, *colours), np.uint8)
    for index, shot in enumerate(shots):
        row, column = divmod(index, columns)
        place = slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width)
        sheet[place] = shot.frame
    return _png_uri(sheet, "RGB" if colours else "L")


def video(shots: list[Shot], frames_per_second: float, scale: int = 3) -> str:
    """Encode the frames as an animated WebP; return a data URI. `scale` is of grey frames."""
    from PIL import Image

    frames = [
        Image.fromarray(np.kron(shot.frame, np.ones((scale, scale), np.uint8)), "L").convert("RGB")
        if shot.frame.ndim == 2
        else Image.fromarray(shot.frame, "RGB")
        for shot in shots
    ]
    data = encode_animation(frames, "WEBP", round(1000 / frames_per_second), **WEBP_OPTIONS)
    return _uri(data, "webp")


def raster(shots: list[Shot], population: str, colour: str) -> str:
    """Draw spikes of a population, a column a chip step and a row a shown neuron, as a data URI.

    Args:
        shots: with rasters, so recorded with a trace.
        population: its name.
        colour: of a spike, ``#rrggbb``.
    """
    spikes = np.concatenate([shot.rasters[population] for shot in shots]).T
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    # Wider than a step, so that a spike is still seen where the page shrinks the picture.
    once = spikes.copy()
    for further in (1, 2):
        spikes[:, further:] |= once[:, :-further]
    picture = np.zeros((*spikes.shape, 4), np.uint8)
    picture[spikes] = (red, green, blue, 255)
    return _png_uri(picture, "RGBA")


def tiled(counts: NDArray[np.int32]) -> NDArray[np.int32]:
    """Lay channels (or a vector) out as one picture that is about square.

    Args:
        counts: (channels, height, width) or (neurons,).

    Returns:
        (height, width) of the picture, 0 where the last row is not full.
    """
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


def encode_animation(
    frames: list[Image], file_format: str, milliseconds: int, **options: Any
) -> bytes:
    """Encode pictures of one size as an endless animation.

    Args:
        frames: at least one.
        file_format: ``WEBP`` or ``GIF``.
        milliseconds: that each picture is shown.
        options: of Pillow's writer of the format.
    """
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        file_format,
        save_all=True,
        append_images=frames[1:],
        duration=milliseconds,
        loop=0,
        **options,
    )
    return buffer.getvalue()


def _png_uri(pixels: NDArray[Any], mode: str) -> str:
    from PIL import Image

    picture = Image.fromarray(pixels, mode)
    if mode == "RGBA":
        # Two colours: nothing and a spike.
        picture = picture.quantize(2)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return _uri(buffer.getvalue(), "png")


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()
