"""Whether a worker computes what we would: versions of the packages, and the code itself."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mtspark.core.version import __version__

PACKAGES = (
    *("numpy", "torch", "snntorch", "gymnasium", "ale-py"),
    *("mujoco", "metaworld", "box2d", "box2d-py", "minigrid"),
)
"""Whose versions change what a game shows, or how a float network rounds."""
CODE = "code"
"""Names the sum of mtspark's own files: engine, rules, everything."""


@cache
def own_versions() -> dict[str, str]:
    """Versions of this process by name, the sum of mtspark's files included."""
    found = {"mtspark": __version__, "Python": ".".join(platform.python_version_tuple()[:2])}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return {**found, CODE: _code_sha256()}


def differences(asked: dict[str, str]) -> list[str]:
    """What this process has in another version than whoever asks; one phrase each."""
    own = own_versions()
    phrases = [
        f"{name} {own.get(name, 'none')} instead of {wanted}"
        for name, wanted in asked.items()
        if name != CODE and own.get(name) != wanted
    ]
    if not phrases and own[CODE] != asked.get(CODE):
        phrases.append(f"other files of mtspark {__version__}")
    return phrases


def _code_sha256() -> str:
    """Sum of all Python files of mtspark, by name: the engine's hash is in it."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    paths = [
        Path(folder) / name
        # In a checkout four rooms are links.
        for folder, _, names in os.walk(root, followlinks=True)
        for name in names
        if name.endswith(".py")
    ]
    for path in sorted(paths, key=lambda path: path.relative_to(root).as_posix()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()
