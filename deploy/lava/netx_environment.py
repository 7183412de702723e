"""An environment of its own for lava-dl, whose netx loads the ``.net`` files that we write.

lava-dl 0.6.0 needs Python 3.10, torch 2.3 and numpy 1, which cannot be installed beside mtspark.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtspark.core.errors import BackendFailedError, BackendMissingError
from mtspark.core.files import AnyPath
from mtspark.core.process import foreign_environment, install_packages, output_of

LAVA_DL_VERSION = "0.6.0"
PYTHON_VARIABLE = "MTSPARK_NETX_PYTHON"
DISK_BYTES = 8 * 10**9
"""What an installation may take at most; it is 5.7 GB on Linux, where torch brings CUDA."""

INSTALL_TIMEOUT_S = 3600
CHECK_TIMEOUT_S = 300

_CHECK = (
    "import json, sys; from importlib.metadata import version; "
    "from lava.lib.dl import netx; import numpy; "
    "print(json.dumps({'lava_dl': version('lava-dl'), 'numpy': numpy.__version__, "
    "'python': sys.version.split()[0]}))"
)


@dataclass(frozen=True)
class NetxEnvironment:
    """An environment in which lava-dl's netx was imported.

    Attributes:
        python: its interpreter.
        lava_dl, numpy, version: of lava-dl, numpy and Python.
        installed_now: False where it was installed before.
    """

    python: Path
    lava_dl: str
    numpy: str
    version: str
    installed_now: bool

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``mtspark install-lava-dl --json``."""
        return {
            "python": str(self.python),
            "lava_dl": self.lava_dl,
            "numpy": self.numpy,
            "python_version": self.version,
            "installed_now": self.installed_now,
        }


def default_folder() -> Path:
    """Return where the environment is created: in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "mtspark" / f"lava-dl-{LAVA_DL_VERSION}"


def netx_python() -> Path:
    """The interpreter that has lava-dl.

    Raises:
        BackendMissingError: there is none.
    """
    named = os.environ.get(PYTHON_VARIABLE)
    python = Path(named) if named else default_folder() / "bin" / "python"
    if not python.is_file():
        hint = f"; {PYTHON_VARIABLE} names it" if named else ""
        raise BackendMissingError(
            f"netx needs lava-dl {LAVA_DL_VERSION} in an environment of its own, and there is none "
            f"at {python}{hint}; run `mtspark install-lava-dl`"
        )
    return python


def install_lava_dl(python: str | None = None, folder: AnyPath | None = None) -> NetxEnvironment:
    """Make the environment where it is missing, then import netx in it.

    Args:
        python: a Python 3.10; default: one that is found.
        folder: of the environment; default: :func:`default_folder`.

    Raises:
        BackendMissingError: no Python 3.10.
        BackendFailedError: too little disk, pip fails, netx does not import, or the environment is
            there already and was made with another Python than the one that is named.
    """
    folder = default_folder() if folder is None else Path(folder)
    interpreter = folder / "bin" / "python"
    base = None if python is None else find_python(python)
    if interpreter.is_file():
        if base is not None:
            _check_base(base, interpreter, folder)
        try:
            return _checked(interpreter, installed_now=False)
        except BackendFailedError:
            pass  # The environment is incomplete: pip completes it, or its error says why not.
    base = base or find_python()
    _check_space(folder)
    variables = foreign_environment()
    output_of(
        [base, "-m", "venv", str(folder)],
        "install-lava-dl: making the environment",
        CHECK_TIMEOUT_S,
        environment=variables,
    )
    try:
        install_packages(
            interpreter,
            [f"lava-dl=={LAVA_DL_VERSION}"],
            "install-lava-dl",
            INSTALL_TIMEOUT_S,
            environment=variables,
        )
    except BackendFailedError as error:
        raise BackendFailedError(
            f"{error}; see that pip reaches its index, then give the command again: it goes on"
        ) from error
    return _checked(interpreter, installed_now=True)


def _check_base(base: str, interpreter: Path, folder: Path) -> None:
    """Refuse a Python by which an environment that is there was not made.

    Raises:
        BackendFailedError: it was made by another one, or one of them does not run.
    """
    wanted, found = (
        output_of(
            [str(one), "-c", "import sys; print(sys.base_prefix)"],
            "install-lava-dl: asking Python for its place",
            CHECK_TIMEOUT_S,
            environment=foreign_environment(),
        ).strip()
        for one in (base, interpreter)
    )
    if Path(wanted).resolve() != Path(found).resolve():
        raise BackendFailedError(
            f"install-lava-dl: {folder} was made with the Python in {found}, and --python names "
            f"that in {wanted}; leave --python out, or name another place with --folder"
        )


def _check_space(folder: Path) -> None:
    """Refuse a place that is too small or not ours, before anything is written there.

    Raises:
        BackendFailedError: it is.
    """
    there = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise BackendFailedError(
            f"install-lava-dl: {folder} cannot be made, {there} is no folder that can be written; "
            "name another place with --folder"
        )
    free = shutil.disk_usage(there).free
    if free < DISK_BYTES:
        raise BackendFailedError(
            f"install-lava-dl: {free / 1e9:.1f} GB are free at {there}, "
            f"{DISK_BYTES / 1e9:.0f} GB are needed; name another place with --folder"
        )


def find_python(named: str | None = None) -> str:
    """A Python 3.10: the one that is named, on the PATH, or among pyenv's.

    Raises:
        BackendMissingError: none works.
    """
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    of_pyenv = [str(path) for path in sorted(root.glob("3.10*/bin/python"), reverse=True)]
    for candidate in [named] if named else ["python3.10", *of_pyenv]:
        try:
            done = subprocess.run(
                [candidate, "-c", "import sys; print(*sys.version_info[:2])"],
                capture_output=True,
                text=True,
                timeout=CHECK_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.stdout.split() == ["3", "10"]:
            return candidate
    raise BackendMissingError(
        f"install-lava-dl: {named or 'python3.10'} is no Python 3.10, which lava-dl "
        f"{LAVA_DL_VERSION} needs; install one and name it with --python"
    )


def _checked(python: Path, *, installed_now: bool) -> NetxEnvironment:
    text = output_of(
        [str(python), "-c", _CHECK],
        "install-lava-dl: importing netx",
        CHECK_TIMEOUT_S,
        environment=foreign_environment(),
    )
    versions = json.loads(text.strip().splitlines()[-1])
    return NetxEnvironment(
        python, versions["lava_dl"], versions["numpy"], versions["python"], installed_now
    )
