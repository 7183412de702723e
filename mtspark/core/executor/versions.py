"""Whether a worker computes what we would: versions of the packages, and the code itself."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from mtspark.core.version import __version__

PACKAGES = (
    *("numpy", "torch", "snntorch", "gymnasium", "ale-py"),
    *("mujoco", "metaworld", "box2d", "box2d-py", "minigrid"),
)
"""Whose versions change what a game shows, or how a float network rounds."""
CODE = "code"
"""Names the sum of mtspark's own files: engine, rules, everything."""
MODULE = "module "
"""Begins the name of the sum of a module of the user's own, as of an environment."""
NO_MODULE = "none"


@cache
def own_versions() -> dict[str, str]:
    """Versions of this process by name, the sum of mtspark's files included."""
    found = {"mtspark": __version__, "Python": ".".join(platform.python_version_tuple()[:2])}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    # In a checkout, mtspark/core is a folder and four of the other rooms are links.
    return {**found, CODE: _sum_of_folder(Path(__file__).resolve().parents[2])}


def versions_with(modules: Iterable[str]) -> dict[str, str]:
    """:func:`own_versions`, with the sums of modules of the user's own."""
    return {**own_versions(), **{MODULE + name: _sum_of_module(name) for name in modules}}


def differences(asked: dict[str, str]) -> list[str]:
    """What this process has in another version than whoever asks; one phrase each."""
    own = versions_with(name.removeprefix(MODULE) for name in asked if name.startswith(MODULE))
    phrases = [
        f"{name} {own.get(name, 'none')} instead of {wanted}"
        for name, wanted in asked.items()
        if name != CODE and not name.startswith(MODULE) and own.get(name) != wanted
    ]
    phrases += [
        f"no {name}" if own[name] == NO_MODULE else f"another {name}"
        for name, wanted in asked.items()
        if name.startswith(MODULE) and own[name] != wanted
    ]
    if not phrases and own[CODE] != asked.get(CODE):
        phrases.append(f"other files of mtspark {__version__}")
    return phrases


def _sum_of_module(name: str) -> str:
    """Sum of a module's file, or of all Python files of a package."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return NO_MODULE
    if spec.submodule_search_locations:
        return _sum_of_folder(Path(next(iter(spec.submodule_search_locations))))
    if spec.origin is None or not Path(spec.origin).is_file():
        return NO_MODULE
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()


def _sum_of_folder(root: Path) -> str:
    """Sum of all Python files below a folder, by name."""
    digest = hashlib.sha256()
    paths = [
        Path(folder) / name
        for folder, _, names in os.walk(root, followlinks=True)
        for name in names
        if name.endswith(".py")
    ]
    for path in sorted(paths, key=lambda path: path.relative_to(root).as_posix()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()
