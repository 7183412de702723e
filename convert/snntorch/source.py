"""Build a module from the user's own source, ``file.py:factory``, and load its weights.

The source is run as any Python program, so it must be the user's own. Weights may come from
elsewhere: they are read as tensors only, in a limited process.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mtspark.convert.snntorch.recorder import construction_lines
from mtspark.convert.snntorch.weights import load_weights
from mtspark.core.errors import BadFileError, BadRequestError, one_line
from mtspark.core.files import AnyPath


@dataclass(frozen=True)
class BuiltModule:
    """A module, and how it came about.

    Attributes:
        module: in eval mode.
        lines: of the source where each part was built, by id.
        notes: on its weights, for the user, one sentence each.
    """

    module: nn.Module
    lines: dict[int, str]
    notes: tuple[str, ...] = ()


def build_module(text: str, weights: AnyPath | None = None) -> BuiltModule:
    """Run a factory and load weights into the module that it returns.

    Args:
        text: ``file.py:factory``; the factory takes no arguments and returns an nn.Module.
        weights: file of a state_dict, alone or in a checkpoint, by torch.save or safetensors;
            None: the factory's own weights.

    Raises:
        BadRequestError: no such factory, or it fails, or returns something else.
        BadFileError: the file is missing or no Python, or the weights do not fit.
    """
    name, _, function = text.rpartition(":")
    path = Path(name)
    if not path.is_file():
        raise BadFileError(f"{path}: no such file; give file.py:factory")
    source = _import(path)
    factory = getattr(source, function, None)
    if not callable(factory):
        raise BadRequestError(f"{path}: has no function {function!r}; give file.py:factory")
    with construction_lines() as lines, _beside(path):
        try:
            module = factory()
        except (Exception, SystemExit) as error:
            raise BadRequestError(
                f"{path}: {function}() fails: {type(error).__name__}: {one_line(error, 300)}"
            ) from error
    if not isinstance(module, nn.Module):
        raise BadRequestError(
            f"{path}: {function}() returns {type(module).__name__}, not a torch.nn.Module"
        )
    notes = [] if weights is None else load_weights(module, Path(weights))
    return BuiltModule(module.eval(), lines, tuple(notes))


def named_object(text: str) -> Any:
    """Run a file of the user's own and return what stands in it under a name.

    Args:
        text: ``file.py:name``.

    Raises:
        BadFileError: the file is missing or no Python.
        BadRequestError: nothing has that name.
    """
    name, _, wanted = text.rpartition(":")
    path = Path(name or wanted)
    if not path.is_file():
        raise BadFileError(f"{path}: no such file; give file.py:name")
    if not name:
        raise BadRequestError(f"{path}: name what is meant in it, {path.name}:NAME")
    source = _import(path)
    if not hasattr(source, wanted):
        raise BadRequestError(f"{path}: has nothing of the name {one_line(wanted, 60)!r}")
    return getattr(source, wanted)


def _import(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"mtspark_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _beside(path):
        # Dataclasses and pickles look their module up by its name.
        sys.modules[spec.name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[spec.name]
            line = getattr(error, "lineno", None)
            where = f"{path}:{line}" if line else str(path)
            raise BadFileError(
                f"{where}: cannot be run: {type(error).__name__}: {one_line(error, 300)}"
            ) from error
    return module


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    """Let the file import what lies beside it, as ``python file.py`` does."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
