"""Image sets as tasks of one network: MNIST, Fashion-MNIST and CIFAR-10 in one shape.

Every image becomes uint8 (3, 32, 32): grey digits and clothes are padded from 28 to 32 pixels
and repeated in the three channels. Files are looked for in a local folder first, and read in a
limited process; without one, scikit-learn fetches the set from OpenML.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mtspark.core.arrays import AnyArray, Integers, Pixels
from mtspark.core.errors import BadFileError, BadRequestError, one_line
from mtspark.core.files import (
    AnyPath,
    FileLimits,
    check_file_size,
    chosen_policy,
    read_guarded,
    read_idx,
    read_npz,
)
from mtspark.train.config import CLASSES, IMAGE_SHAPE

SPLITS = ("train", "test")

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
OPENML = {
    "mnist": ("mnist_784", 60_000),
    "fashion-mnist": ("Fashion-MNIST", 60_000),
    "cifar10": ("CIFAR_10", 50_000),
}
"""Name on OpenML, and how many of its images, the first ones, are for training."""

LARGEST_MEMBER = 2**20
"""A 32x32 JPEG has about 1 kB; a larger file in a zip is no image of these sets."""
PATIENCE = 5
"""Times the usual limit of seconds: 50,000 JPEGs take more than half of it on one core."""
MOST_IMAGES = 200_000
"""In one file; the sets have up to 60,000, and both splits of CIFAR-10 lie in one zip."""


@dataclass(frozen=True)
class ImageSet:
    """One split of one image set.

    Attributes:
        name: of the set.
        images: uint8 (count, 3, 32, 32).
        labels: int64 (count,), 0 to 9.
        origin: where the images came from, for the record.
    """

    name: str
    images: Pixels
    labels: Integers
    origin: str

    def subset(self, count: int, seed: int) -> ImageSet:
        """A random choice of `count` images (0: all of them), the same for the same seed."""
        if count <= 0 or count >= len(self.labels):
            return self
        picked = np.random.default_rng(seed).permutation(len(self.labels))[:count]
        return ImageSet(self.name, self.images[picked], self.labels[picked], self.origin)


def load_images(name: str, split: str, folder: AnyPath | None = None) -> ImageSet:
    """Load one split of one image set.

    Args:
        name: mnist, fashion-mnist or cifar10.
        split: train or test.
        folder: where files lie, in any of these forms: ``NAME_SPLIT.npz`` with `images`
            (count, height, width[, 3]) and `labels`; the IDX files of MNIST's and Fashion-MNIST's
            authors, plain or gzipped, in the folder itself (MNIST) or in ``fashion-mnist/``;
            ``cifar10_jpeg.zip`` with ``SPLIT/CLASS/*.jpg``. None: fetch from OpenML.

    Raises:
        BadRequestError: no such set or split, or a library for it is missing.
        BadFileError: the folder has none of these files, or one is damaged.
    """
    if name not in OPENML:
        raise BadRequestError(f"image set {name!r}: choose {', '.join(OPENML)}")
    if split not in SPLITS:
        raise BadRequestError(f"split {split!r} of {name}: choose {' or '.join(SPLITS)}")
    if folder is None:
        return _from_openml(name, split)
    folder = Path(folder)
    if not folder.is_dir():
        raise BadFileError(f"{folder}: no such folder; give the one that holds {name}")

    def read(limits: FileLimits) -> dict[str, Any] | None:
        for form in (_from_npz, _from_idx, _from_jpeg_zip):
            found = form(name, split, folder, limits)
            if found is not None:
                return {key: getattr(found, key) for key in ("images", "labels", "origin")}
        return None

    limits = chosen_policy(None, None).limits
    limits = replace(limits, seconds=PATIENCE * limits.seconds)
    content = read_guarded(f"{folder}: {split} images of {name}", read, limits)
    if content is not None:
        return ImageSet(name, **content)
    raise BadFileError(
        f"{folder}: no {split} images of {name} (NAME_SPLIT.npz, IDX files or cifar10_jpeg.zip); "
        "leave the folder out to download them"
    )


def as_rgb32(images: AnyArray, where: str) -> Pixels:
    """Bring (count, height, width) or (count, height, width, 3) pixels to (count, 3, 32, 32).

    Smaller images are padded with black, centred; grey ones fill all three channels.

    Raises:
        BadFileError: no uint8 pixels, or larger than 32 x 32.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)):
        raise BadFileError(f"{where}: images are {images.dtype} {images.shape}, not uint8 pixels")
    height, width = images.shape[1:3]
    if height > 32 or width > 32:
        raise BadFileError(f"{where}: images of {height} x {width} pixels, 32 x 32 is the limit")
    result = np.zeros((len(images), *IMAGE_SHAPE), np.uint8)
    top, left = (32 - height) // 2, (32 - width) // 2
    channels = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    result[:, :, top : top + height, left : left + width] = channels
    return result


def _checked(name: str, images: AnyArray, labels: AnyArray, where: str, origin: str) -> ImageSet:
    if not images.ndim or labels.shape != images.shape[:1] or not len(labels):
        raise BadFileError(
            f"{where}: images of shape {images.shape} with labels of shape {labels.shape}"
        )
    if len(labels) > MOST_IMAGES:
        raise BadFileError(f"{where}: {len(labels):,} images, {MOST_IMAGES:,} is the limit")
    if labels.dtype.kind not in "ui" or labels.min() < 0 or labels.max() >= CLASSES:
        raise BadFileError(f"{where}: labels must be integers from 0 to {CLASSES - 1}")
    return ImageSet(name, as_rgb32(images, where), labels.astype(np.int64), origin)


def _from_npz(name: str, split: str, folder: Path, limits: FileLimits) -> ImageSet | None:
    path = folder / f"{name}_{split}.npz"
    if not path.is_file():
        return None
    arrays = read_npz(path, ("images", "labels"), limits)
    return _checked(name, arrays["images"], arrays["labels"], str(path), path.name)


def _from_idx(name: str, split: str, folder: Path, limits: FileLimits) -> ImageSet | None:
    if name == "cifar10":
        return None
    place = folder / "fashion-mnist" if name == "fashion-mnist" else folder
    prefix = "train" if split == "train" else "t10k"
    arrays = []
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        paths = [place / f"{prefix}-{kind}{end}" for end in ("", ".gz")]
        existing = [path for path in paths if path.is_file()]
        if not existing:
            return None
        arrays.append(read_idx(existing[0], limits))
    images, labels = arrays
    return _checked(name, images, labels, str(place), "IDX files")


def _from_jpeg_zip(name: str, split: str, folder: Path, limits: FileLimits) -> ImageSet | None:
    path = folder / "cifar10_jpeg.zip"
    if name != "cifar10" or not path.is_file():
        return None
    check_file_size(path, limits)
    images, labels = [], []
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MOST_IMAGES:
                raise BadFileError(f"{path}: {len(members):,} files, {MOST_IMAGES:,} is the limit")
            for member in members:
                part, _, rest = member.filename.partition("/")
                label = rest.partition("/")[0]
                if part != split or label not in CIFAR10_CLASSES or member.is_dir():
                    continue
                images.append(_jpeg(path, archive, member))
                labels.append(CIFAR10_CLASSES.index(label))
    except (BadFileError, MemoryError, RecursionError):
        raise
    except Exception as error:
        # zipfile, zlib and Pillow raise many kinds for a damaged file.
        raise BadFileError(f"{path}: damaged ({one_line(error)}); download it again") from error
    if len({image.shape for image in images}) > 1:
        raise BadFileError(f"{path}: damaged (images of several sizes); download it again")
    stacked = np.stack(images) if images else np.zeros((0, 32, 32, 3), np.uint8)
    return _checked(name, stacked, np.asarray(labels, int), str(path), "JPEG copies, lossy")


def _jpeg(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Pixels:
    where = f"{path}: {one_line(member.filename, 80)}"
    if member.file_size > LARGEST_MEMBER:
        raise BadFileError(f"{where} has {member.file_size} bytes, {LARGEST_MEMBER} is the limit")
    pillow = _library("PIL.Image", "pillow")
    with pillow.open(io.BytesIO(archive.read(member)), formats=("JPEG",)) as image:
        # Before any pixel is decoded: a small file may declare a billion.
        if max(image.size) > max(IMAGE_SHAPE):
            raise BadFileError(f"{where} has {image.size} pixels, (32, 32) is the limit")
        return np.asarray(image.convert("RGB"))


def _from_openml(name: str, split: str) -> ImageSet:
    datasets: Any = _library("sklearn.datasets", "scikit-learn pandas")
    _library("pandas", "scikit-learn pandas")
    known_as, training = OPENML[name]
    fetch: Callable[..., Any] = datasets.fetch_openml
    try:
        pixels, labels = fetch(
            known_as, version=1, return_X_y=True, as_frame=False, parser="pandas"
        )
    except Exception as error:
        # urllib, OpenML and the parser each raise their own kinds.
        reason = one_line(error, 120)
        raise BadRequestError(
            f"{name}: cannot be fetched from OpenML ({reason}); give a local folder"
        ) from error
    part = slice(0, training) if split == "train" else slice(training, None)
    flat: Any = np.asarray(pixels)[part].astype(np.uint8)
    colour = name == "cifar10"
    images = flat.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) if colour else flat
    images = images if colour else flat.reshape(-1, 28, 28)
    classes = np.asarray(labels)[part].astype(np.int64)
    return _checked(name, images, classes, known_as, f"OpenML {known_as}")


def _library(module: str, package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BadRequestError(
            f"these images need {module}; install it with `pip install {package}`"
        ) from error
