"""Bundles as packages of jobs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from mtspark.core.environments import Task
from mtspark.core.executor import Package
from mtspark.core.files import current_policy, read_whole
from mtspark.deploy.bundle import MANIFEST, Bundle, load_bundle


def package_of(bundle: Bundle) -> Package:
    """Pack the files of a bundle, without its runs; the network travels, wherever it lies.

    Raises:
        BadFileError: the bundle was changed since it was read.
    """
    limits = current_policy().limits
    manifest = read_whole(bundle.folder / MANIFEST, limits, follow_links=False)
    files = {MANIFEST: manifest, **{name: bundle.content(name) for name in bundle.files}}
    return Package(files, own_modules(bundle.network.tasks))


def own_modules(tasks: Iterable[Task]) -> tuple[str, ...]:
    """Modules of the user's own that tasks are played with, where they are trusted."""
    if not current_policy().trust:
        # Looking for one may run code; the worker refuses to.
        return ()
    named = [task.environment.module for task in tasks if task.environment is not None]
    return tuple(sorted({name for name in named if name is not None}))


def opened_bundle(folder: Path) -> Bundle:
    """Read the bundle of a job as any stranger's, once in a process."""
    return _opened(str(folder))


@lru_cache(maxsize=2)
def _opened(folder: str) -> Bundle:
    return load_bundle(folder)
