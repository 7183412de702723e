"""How, where and when a report is made: what is needed to make it again."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mtspark.core.chip_network import ChipNetwork
from mtspark.core.environments import environment_to_json, protocol_to_json
from mtspark.core.version import __version__
from mtspark.deploy.bundle import Bundle
from mtspark.sim.recording import Study
from mtspark.sim.report import Fact, Provenance

PACKAGES = ("numpy", "numba", "ale-py", "gymnasium", "matplotlib", "jinja2")
"""Those that numbers and pictures depend on."""


def page_provenance(
    bundle: Bundle,
    studies: Sequence[Study],
    seconds: float,
    checks: Sequence[Fact],
    command: str,
) -> Provenance:
    """Describe how, where and when a page is made.

    Args:
        bundle: of the network.
        studies: that the page shows.
        seconds: of play that it shows.
        checks: what the numbers were compared with.
        command: that asked for the page.
    """
    network, commit, versions = bundle.network, git_commit(), package_versions()
    repeat = [
        ("command", command),
        ("network sha256", bundle.network_hash),
        *sorted(bundle.files.items()),
        *((key.replace("_", " "), value) for key, value in sorted(network.provenance.items())),
        ("backend", "engine (equal to the reference to the bit)"),
        ("seeds", "; ".join(_seeds(study) for study in studies)),
        ("protocol", _protocol(network)),
        ("versions", ", ".join(f"{name} {number}" for name, number in versions.items())),
        ("git commit", commit or "not in a checkout"),
        ("host", f"{platform.machine()}, {processor()}, Python {platform.python_version()}"),
    ]
    return Provenance(
        mtspark=__version__,
        git_commit=commit,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        network_sha256=bundle.network_hash,
        files=bundle.files,
        machine=platform.machine(),
        processor=processor(),
        versions=versions,
        seconds=seconds,
        checks=tuple(checks),
        repeat=tuple(Fact(name, text) for name, text in repeat),
    )


def _seeds(study: Study) -> str:
    """Return where a study's inputs come from, in one line."""
    if study.interval_ms is None:
        text = f"{study.deep.decisions} test images, chosen with seed 0"
    else:
        text = ", ".join(str(episode.seed) for episode in study.run.episodes)
    sticky = f", sticky {study.sticky:g}" if study.sticky else ""
    return f"{study.task}: {text}{sticky}"


def _protocol(network: ChipNetwork) -> str:
    """Return how games are played, in one line."""
    parts = []
    if network.protocol is not None:
        parts = [f"{key} {value}" for key, value in protocol_to_json(network.protocol).items()]
    for environment in (task.environment for task in network.tasks):
        if environment is not None:
            known = environment_to_json(environment).items()
            parts += [f"{key} {value}" for key, value in known if key != "observation"]
    return ", ".join(parts) or "none"


def package_versions() -> dict[str, str]:
    """Return the versions of :data:`PACKAGES`."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "unknown"
    return versions


def git_commit() -> str | None:
    """Return the commit of the checkout that this code lies in, with a + if it was changed since.

    None outside of a checkout.
    """
    here = Path(__file__).resolve().parent
    try:
        head = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed else "")


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def processor() -> str:
    """Return this computer's processor, and how many of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} logical)" if names else platform.processor() or "unknown"
