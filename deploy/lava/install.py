"""Install lava-nc 0.10.0 into this environment, on Pythons beyond the bound that it declares.

Its own bounds (Python 3.10 only, numpy < 2) are narrower than what it runs with: see
:mod:`mtspark.deploy.lava.shim`. Packages that are installed already keep their versions on
Python 3.11 to 3.13; on 3.10 pip resolves Lava's declared bounds as it is used to.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mtspark.core.errors import BackendFailedError
from mtspark.core.process import finished, install_packages, last_words
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
        installed_now: False where it was installed before and pip did not run.
    """

    version: str
    numpy: str
    python: str
    installed_now: bool

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``mtspark install-lava --json``."""
        return asdict(self)


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
            pass  # A dependency of Lava is missing: pip installs it, or its error says why not.
    if importlib.util.find_spec("pip") is None:
        raise BackendFailedError(
            f"install-lava: {sys.executable} has no pip; run `{sys.executable} -m ensurepip` first"
        )
    if sys.version_info[:2] == (3, 10):
        _install(f"lava-nc=={LAVA_VERSION}")
    else:
        alone = ("--no-deps", "--ignore-requires-python")
        _install(f"lava-nc=={LAVA_VERSION}", options=alone)
        # Unpinned, a package that Lava needs could drag numpy along to another version.
        _install(*OWN_NEEDS, keep=_installed_pins())
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


def _install(*packages: str, options: Sequence[str] = (), keep: Sequence[str] = ()) -> None:
    install_packages(
        sys.executable,
        packages,
        "install-lava",
        PIP_TIMEOUT_S,
        options=options,
        keep=keep,
        remedy="check the network",
    )


def _installed_pins() -> list[str]:
    """``name==version`` of numpy and of each need of Lava that is installed."""
    names = ["numpy", *(need.partition(">=")[0] for need in OWN_NEEDS)]
    lines = []
    for name in names:
        try:
            lines.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return lines


def _verified(python: str, *, installed_now: bool) -> LavaInstallation:
    done = finished([sys.executable, "-c", _CHECK], "install-lava: importing Lava", CHECK_TIMEOUT_S)
    if done.returncode:
        raise BackendFailedError(
            f"install-lava: the installed Lava does not import: {last_words(done.stderr)}"
        )
    versions = json.loads(done.stdout.strip().splitlines()[-1])
    return LavaInstallation(
        version=versions["version"],
        numpy=versions["numpy"],
        python=python,
        installed_now=installed_now,
    )
