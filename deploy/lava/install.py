"""Puts lava-nc 0.10.0 into the current environment, past the Python bound that it declares.

Its own bounds (Python 3.10 only, numpy < 2) are narrower than what it runs with: see
:mod:`mtspark.deploy.lava.shim`. Packages that are installed already keep their versions on
Python 3.11 to 3.13; on 3.10 pip resolves Lava's declared bounds as it is used to.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mtspark.core.errors import BackendFailedError
from mtspark.deploy.lava.shim import LAVA_VERSION

OWN_NEEDS = ("asteval>=0.9.31", "networkx>=2.8.7", "scipy>=1.10.1", "scikit-learn>=1.5.0")
"""What Lava itself imports, besides numpy; lower bounds as it declares them."""

PIP_TIMEOUT_S = 900
CHECK_TIMEOUT_S = 120

_CHECK = (
    "import json; from mtspark.deploy.lava.shim import check_lava; c = check_lava(); "
    "print(json.dumps({'version': c.version, 'numpy': c.numpy}))"
)


@dataclass(frozen=True)
class LavaInstallation:
    """A Lava that was imported through the shim in a fresh process.

    Attributes:
        version: of lava-nc.
        numpy: version that it was loaded with.
        python: version of the environment's Python.
        installed_now: False where it had been there already and pip was not asked.
    """

    version: str
    numpy: str
    python: str
    installed_now: bool


def install_lava() -> LavaInstallation:
    """Install lava-nc and its needs where they are missing, then import it in a new process.

    Raises:
        BackendFailedError: the Python is outside 3.10 to 3.13, pip is missing or fails (no
            network, no right to write), or the installed Lava does not import.
    """
    python = ".".join(str(part) for part in sys.version_info[:3])
    check_python(sys.version_info[:2])
    if _present(f"lava-nc=={LAVA_VERSION}"):
        try:
            return _verified(python, installed_now=False)
        except BackendFailedError:
            pass  # Something that Lava needs is missing: pip will bring it, or say why not.
    if importlib.util.find_spec("pip") is None:
        raise BackendFailedError(
            f"install-lava: {sys.executable} has no pip; run `{sys.executable} -m ensurepip` first"
        )
    if sys.version_info[:2] == (3, 10):
        _pip(f"lava-nc=={LAVA_VERSION}")
    else:
        _pip(f"lava-nc=={LAVA_VERSION}", "--no-deps", "--ignore-requires-python")
        _pip(*OWN_NEEDS, keep_installed=True)
    return _verified(python, installed_now=True)


def check_python(version: tuple[int, int]) -> None:
    """Refuse Pythons that Lava has never been run with.

    Raises:
        BackendFailedError: `version` is not 3.10 to 3.13.
    """
    if not (3, 10) <= version <= (3, 13):
        raise BackendFailedError(
            f"install-lava: Python {version[0]}.{version[1]} is not supported by lava-nc "
            f"{LAVA_VERSION}; use an environment with Python 3.10 to 3.13"
        )


def _present(requirement: str) -> bool:
    name, _, version = requirement.partition("==")
    try:
        return importlib.metadata.version(name) == version
    except importlib.metadata.PackageNotFoundError:
        return False


def _pip(*arguments: str, keep_installed: bool = False) -> None:
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        if keep_installed:
            # Without this, a package that Lava needs could drag numpy along to another version.
            pins = Path(folder) / "installed.txt"
            pins.write_text(_installed_pins(), encoding="utf-8")
            command += ["--constraint", str(pins)]
        try:
            done = subprocess.run(
                [*command, *arguments],
                capture_output=True,
                text=True,
                timeout=PIP_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BackendFailedError(
                f"install-lava: pip did not finish within {PIP_TIMEOUT_S} s; check the network"
            ) from error
    if done.returncode:
        raise BackendFailedError(f"install-lava: pip failed: {last_error_line(done.stderr)}")


def _installed_pins() -> str:
    """One ``name==version`` line for numpy and each need of Lava that is installed."""
    names = ["numpy", *(need.partition(">=")[0] for need in OWN_NEEDS)]
    lines = []
    for name in names:
        try:
            lines.append(f"{name}=={importlib.metadata.version(name)}\n")
        except importlib.metadata.PackageNotFoundError:
            continue
    return "".join(lines)


def last_error_line(text: str) -> str:
    """The last line of pip's output that names an error, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no message"])[-1].removeprefix("ERROR: ")


def _verified(python: str, *, installed_now: bool) -> LavaInstallation:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHECK],
            capture_output=True,
            text=True,
            timeout=CHECK_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BackendFailedError(
            f"install-lava: importing Lava did not finish within {CHECK_TIMEOUT_S} s"
        ) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BackendFailedError(f"install-lava: the installed Lava does not import: {last}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return LavaInstallation(
        version=found["version"],
        numpy=found["numpy"],
        python=python,
        installed_now=installed_now,
    )
