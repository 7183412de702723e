"""How, where and when a report was made: what is needed to make it again."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtspark.core.chip_network.network import ChipNetwork
    from mtspark.deploy.bundle import Bundle
    from mtspark.sim.recording.study import Study


def page_made(
    bundle: Bundle, studies: list[Study], seconds: float, checks: list[dict[str, str]]
) -> dict[str, Any]:
    """How, where and when the page was made."""
    from mtspark.core.version import __version__

    network = bundle.network
    commit = git_commit()
    repeat = [
        ("command", " ".join(shlex.quote(word) for word in ["mtspark", *sys.argv[1:]])),
        ("network sha256", bundle.network_hash),
        *((f"{name}", digest) for name, digest in sorted(bundle.files.items())),
        *((key.replace("_", " "), value) for key, value in sorted(network.provenance.items())),
        ("backend", "engine (equal to the reference to the bit)"),
        (
            "seeds",
            "; ".join(
                f"{study.task}: "
                + (
                    f"{study.deep.decisions} test images, chosen with seed 0"
                    if study.interval_ms is None
                    else ", ".join(str(episode.seed) for episode in study.run.episodes)
                )
                + (f", sticky {study.sticky:g}" if study.sticky else "")
                for study in studies
            ),
        ),
        ("protocol", protocol_text(network)),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions().items())),
        ("git commit", commit or "not in a checkout"),
        ("host", f"{platform.machine()}, {processor()}, Python {platform.python_version()}"),
    ]
    return {
        "mtspark": __version__,
        "git_commit": commit,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "network_sha256": bundle.network_hash,
        "files": bundle.files,
        "host": {"machine": platform.machine(), "processor": processor()},
        "versions": versions(),
        "seconds": seconds,
        "checks": checks,
        "repeat": [{"name": name, "text": text} for name, text in repeat],
    }


def protocol_text(network: ChipNetwork) -> str:
    """How games are played, in one line."""
    from mtspark.core.environments.protocol import protocol_to_json

    if network.protocol is None:
        return "none"
    return ", ".join(f"{key} {value}" for key, value in protocol_to_json(network.protocol).items())


def versions() -> dict[str, str]:
    """Of the packages that numbers and pictures depend on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("numpy", "numba", "ale-py", "gymnasium", "matplotlib", "jinja2"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def git_commit() -> str | None:
    """Of the checkout that this code lies in, with a + if it was changed since."""
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
    """This computer's, and how many of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} logical)" if names else platform.processor() or "unknown"
