"""Get a module from the user's own source, ``file.py:name``, and load its weights.

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
from mtspark.core.files import AnyPath, names_in


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
    """Take a module from a file, or call what makes it there, and load weights into it.

    Args:
        text: ``file.py:name`` of an nn.Module, or of a function or class that takes no arguments
            and gives one.
        weights: file of a state_dict, alone or in a checkpoint, by torch.save or safetensors;
            None: the module's own weights.

    Raises:
        BadRequestError: nothing has that name, or it fails, or is or returns something else.
        BadFileError: the file is missing or no Python, or the weights do not fit.
    """
    name, _, wanted = text.rpartition(":")
    path = Path(name)
    if not path.is_file():
        raise BadFileError(f"{path}: no such file; give file.py:factory")
    with construction_lines() as lines, _beside(path):
        source = _import(path)
        found = getattr(source, wanted, None)
        module, made = found, wanted
        if not isinstance(found, nn.Module):
            if not callable(found):
                raise BadRequestError(_nothing(path, wanted, source))
            try:
                module, made = found(), f"{wanted}()"
            except (Exception, SystemExit) as error:
                raise BadRequestError(
                    f"{path}: {wanted}() fails: {type(error).__name__}: {one_line(error, 300)}"
                ) from error
    if not isinstance(module, nn.Module):
        raise BadRequestError(
            f"{path}: {made} returns {type(module).__name__}, not a torch.nn.Module"
        )
    notes = [] if weights is None else load_weights(module, Path(weights))
    return BuiltModule(module.eval(), lines, tuple(notes))


def _nothing(path: Path, wanted: str, source: Any) -> str:
    """The refusal of a name, with those that the file has."""
    what = f"has no function {one_line(wanted, 60)!r}"
    if hasattr(source, wanted):
        kind = type(getattr(source, wanted)).__name__
        what = f"{wanted} is {kind}, no torch.nn.Module, and no function that makes one"
    return f"{path}: {what}; {names_in(path) or 'give file.py:factory'}"


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
        there = names_in(path)
        raise BadRequestError(
            f"{path}: name what is meant in it, {path.name}:NAME{there and '; ' + there}"
        )
    source = _import(path)
    if not hasattr(source, wanted):
        there = names_in(path)
        raise BadRequestError(
            f"{path}: has nothing of the name {one_line(wanted, 60)!r}{there and '; ' + there}"
        )
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
