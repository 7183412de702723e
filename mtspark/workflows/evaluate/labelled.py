"""Inputs with labels, in the forms in which people keep them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.errors import BadFileError, BadRequestError, one_line
from mtspark.core.files import AnyPath, FileLimits, npz_names, over, read_guarded, read_npz
from mtspark.deploy.bundle import AGENT, Bundle
from mtspark.sim.recording import load_array
from mtspark.workflows.run import BATCH, is_loader, loader_of

PAIRS = (
    ("x", "y"),
    ("x_test", "y_test"),
    ("images", "labels"),
    ("inputs", "labels"),
    ("data", "labels"),
    ("data", "targets"),
)
"""Names of inputs and labels in an .npz file; the first pair that is there is taken."""

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
WHITE = 255


@dataclass(frozen=True)
class LabelledData:
    """Inputs, and the class of each.

    Attributes:
        x: array, or a loader of batches of inputs and labels.
        y: index of the class of each input; None where `x` is a loader.
        origin: where they come from, for the record.
        classes: names of the classes, where they have some.
    """

    x: Any = field(repr=False)
    y: NDArray[Any] | None = field(repr=False)
    origin: str
    classes: tuple[str, ...] = ()


def is_labelled(data: AnyPath) -> bool:
    """Whether the name is that of inputs with labels, not of a folder of a known image set.

    Beside files, which may be those of a set, images in deeper folders are somebody else's.
    """
    path = Path(data)
    if _names_python(str(data)) or path.suffix in (".npy", ".npz"):
        return True
    if not path.is_dir():
        return False
    classes = _class_folders(path)
    if any(image.parent == one for one, images in classes.items() for image in images):
        return True
    files = (entry for entry in path.iterdir() if entry.is_file() and entry.name[0] != ".")
    return any(classes.values()) and not any(files)


@contextmanager
def named_after(data: AnyPath, labels: AnyPath | None) -> Iterator[None]:
    """Let errors about the arguments x and y name the files that they come from.

    Raises:
        BadRequestError: also where it is no numbers that they hold.
    """
    try:
        yield
    except (BadRequestError, TypeError) as error:
        argument, colon, rest = str(error).partition(": ")
        files = {"x": data, "y": data if labels is None else labels}
        if not colon or argument not in files:
            raise
        raise BadRequestError(f"{files[argument]}: {rest}") from error


def classes_of(bundle: Bundle) -> int | None:
    """Return how many classes a network tells apart; None for an agent: its tasks share a head."""
    if AGENT in bundle.files:
        return None
    return bundle.network.population(bundle.network.readout.population).size


def load_labelled(
    data: AnyPath, labels: AnyPath | None, shape: tuple[int, ...], classes: int | None = None
) -> LabelledData:
    """Load inputs and their labels.

    Args:
        data: a .npy file of inputs; an .npz file of inputs and labels (:data:`PAIRS`); a folder
            that has one folder of images for each class, in the order of their names, as
            torchvision's ImageFolder (pixels become 0 to 1, as by ToTensor), in which images may
            lie in folders, too; or ``file.py:name``, a dataset, a loader or a pair of arrays, or a
            function without arguments that returns one of these.
        labels: a .npy file; only beside a .npy file of inputs.
        shape: of one input of the network.
        classes: that the network tells apart; None: a folder may have any number.

    Raises:
        BadFileError: a file is missing, damaged, or over a limit.
        BadRequestError: labels are missing or given twice, images do not fit, or a class has none.
    """
    path, text = Path(data), str(data)
    if path.suffix == ".npy":
        if labels is None:
            raise BadRequestError(f"{path}: has no labels; give --labels FILE.npy")
        return LabelledData(load_array(path), load_array(labels), path.name)
    if labels is not None:
        raise BadRequestError(
            f"--labels {labels}: belongs to a .npy file of inputs; {text} has its own labels"
        )
    if _names_python(text):
        return _from_python(text)
    if path.suffix == ".npz":
        return _from_npz(path)
    if path.is_dir():
        return _from_folder(path, shape, classes)
    if not path.exists():
        raise BadFileError(f"{path}: no such file or folder")
    raise BadRequestError(
        f"{path}: is no data with labels; give a .npy file and --labels FILE.npy, an .npz file "
        "with x and y, a folder of one folder of images for each class, or FILE.py:NAME"
    )


def _names_python(text: str) -> bool:
    return text.rpartition(":")[0].endswith(".py") or text.endswith(".py")


def _from_npz(path: Path) -> LabelledData:
    def read(limits: FileLimits) -> dict[str, Any]:
        names = npz_names(path, limits)
        for pair in PAIRS:
            if set(pair) <= set(names):
                arrays = read_npz(path, pair, limits)
                return {"x": arrays[pair[0]], "y": arrays[pair[1]]}
        held = ", ".join(one_line(name, 40) for name in names[:8]) or "nothing"
        wanted = "; ".join(" and ".join(pair) for pair in PAIRS)
        raise BadFileError(f"{path}: holds {held}; inputs and labels are named {wanted}")

    content = read_guarded(f"{path}", read)
    return LabelledData(content["x"], content["y"], path.name)


def _from_python(text: str) -> LabelledData:
    from mtspark.convert.snntorch import named_object

    path = Path(text.rpartition(":")[0])
    found = named_object(text)
    if isinstance(found, type) or (callable(found) and not hasattr(found, "__getitem__")):
        found = _called(found, text)
    origin = f"{path.name}:{text.rpartition(':')[2]}"
    if isinstance(found, (tuple, list)) and len(found) == 2:
        return LabelledData(found[0], found[1], origin)
    loader = loader_of(found)
    if isinstance(found, (tuple, list)):
        from torch.utils.data import DataLoader

        # Samples one by one, as a dataset has them.
        samples: Any = found
        loader = DataLoader(samples, batch_size=BATCH)
    if is_loader(loader):
        return LabelledData(_Batches(loader, text), None, origin)
    raise BadRequestError(
        f"{text}: is {type(found).__name__}; give a dataset, a data loader, a pair of arrays of "
        "inputs and labels, or a function that returns one of these"
    )


class _Batches:
    """Batches of the user's own dataset or loader; an error of theirs becomes one line.

    Args:
        loader: that gives the batches.
        text: that names it.
    """

    def __init__(self, loader: Any, text: str) -> None:
        self._loader, self._text = loader, text
        self.dataset = getattr(loader, "dataset", None)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._loader)
        for number in itertools.count():
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (Exception, SystemExit) as error:
                raise BadRequestError(
                    f"{self._text}: fails in batch {number}: {type(error).__name__}: "
                    f"{one_line(error, 300)}"
                ) from error
            yield batch


def _called(function: Callable[[], Any], text: str) -> Any:
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise BadRequestError(
            f"{text}: fails: {type(error).__name__}: {one_line(error, 300)}"
        ) from error


def _class_folders(folder: Path) -> dict[Path, list[Path]]:
    """Folders in a folder, by name, and the images in each."""
    found = (entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    return {entry: _images_in(entry) for entry in sorted(found)}


def _images_in(folder: Path) -> list[Path]:
    """Images of a class, also those in folders of its folder."""
    inside = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    return sorted(path for path in inside if path.suffix.lower() in IMAGE_ENDINGS)


def _from_folder(folder: Path, shape: tuple[int, ...], outputs: int | None) -> LabelledData:
    channels = shape[0] if len(shape) == 3 else 1
    if len(shape) not in (2, 3) or channels not in (1, 3):
        raise BadRequestError(
            f"{folder}: holds images, and this network takes inputs of shape {shape}; give arrays, "
            "a .npy file and --labels FILE.npy"
        )
    classes = _class_folders(folder)
    if not any(classes.values()):
        raise BadRequestError(
            f"{folder}: has no folder of images; it needs one for each class, with files that end "
            f"in {', '.join(IMAGE_ENDINGS)}"
        )
    # Left out, it would move all classes behind it one place ahead of what the network learned.
    for empty in (one for one, images in classes.items() if not images):
        raise BadRequestError(
            f"{empty}: has no image, and the place of a folder among all is its class; put images "
            "there, or move it elsewhere"
        )
    if outputs is not None:
        _check_folders(folder, len(classes), outputs)

    def read(limits: FileLimits) -> dict[str, Any]:
        images = enumerate(classes.values())
        files = [(path, label) for label, paths in images for path in paths]
        size = len(files) * channels * shape[-2] * shape[-1]
        if size > limits.array_bytes:
            raise over("array_bytes", f"{folder}", size, limits)
        pixels = np.empty((len(files), channels, *shape[-2:]), np.uint8)
        for index, (path, _) in enumerate(files):
            pixels[index] = _pixels(path, channels, shape[-2:], limits)
        return {"x": pixels, "y": np.array([label for _, label in files])}

    content = read_guarded(f"{folder}", read)
    x = content["x"].reshape(-1, *shape).astype(np.float32) / WHITE
    return LabelledData(x, content["y"], folder.name, tuple(one.name for one in classes))


def check_classes(data: LabelledData, outputs: int) -> None:
    """Refuse folders of classes that are not one for each output of a network.

    Raises:
        BadRequestError: they are not.
    """
    if data.classes:
        _check_folders(data.origin, len(data.classes), outputs)


def _check_folders(folder: AnyPath, classes: int, outputs: int) -> None:
    if classes != outputs:
        raise BadRequestError(
            f"{folder}: has {classes} folders of classes, and the network has {outputs} outputs; "
            "the place of a folder among all is its class, so give one folder for each output, or "
            "an .npz file of x and y"
        )


def _pixels(
    path: Path, channels: int, size: tuple[int, ...], limits: FileLimits
) -> NDArray[np.uint8]:
    """Decode one image; call it in a limited process."""
    from PIL import Image

    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            # Before any pixel is decoded: a small file may declare a billion.
            if (image.height, image.width) != size:
                raise BadFileError(
                    f"{path}: has {image.width} x {image.height} pixels, the network takes "
                    f"{size[1]} x {size[0]}; resize the images as for training"
                )
            if image.mode.startswith(("I", "F")):
                # Pillow would cut all values above 255 off.
                raise BadFileError(
                    f"{path}: has pixels of more than 8 bits (Pillow's mode {image.mode}); give "
                    "8-bit images, or arrays, a .npy file and --labels FILE.npy"
                )
            plain = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except (BadFileError, MemoryError):
        raise
    except Exception as error:
        # Pillow raises many kinds for a damaged file.
        raise BadFileError(f"{path}: cannot be read as an image ({one_line(error)})") from error
    return plain[None] if channels == 1 else plain.transpose(2, 0, 1)
