"""Where jobs run, as the option ``--executor`` states it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from mtspark.core.errors import BackendMissingError, BadRequestError, one_line

KINDS = "processes, processes:N, ray, ray:HOST:PORT, ray://HOST:PORT, slurm or slurm:NAME=VALUE,..."
MOST_WORKERS = 1024
SLURM_NUMBERS = ("minutes", "memory_gb", "cpus", "jobs")
SLURM_WORDS = ("partition", "account", "qos", "constraint", "folder", "cluster")
LARGEST_NUMBER = 10**6
NONE_BESIDE: Mapping[str, bool] = {}


@dataclass(frozen=True)
class ExecutorAddress:
    """Where jobs run.

    Attributes:
        text: as it was given.
        kind: processes, ray or slurm.
        workers: of processes; None for one a processor.
        cluster: of Ray, as ``ray.init`` takes it; None for its own choice.
        options: of Slurm, by name.
    """

    text: str
    kind: str
    workers: int | None = None
    cluster: str | None = None
    options: Mapping[str, str | int] = field(default_factory=dict)


PACKAGES = {"ray": ("ray", "Ray"), "slurm": ("submitit", "submitit")}
"""By kind: the module that it needs, and its name."""


def check_executor(text: str | None, beside: Mapping[str, bool] = NONE_BESIDE) -> None:
    """Refuse an executor that cannot be, before long work begins; None is fine.

    Args:
        text: as of :func:`parse_executor`.
        beside: options that no worker can follow, and whether they are given.

    Raises:
        BadRequestError: no such executor, or one of these options.
        BackendMissingError: its package is not installed.
    """
    if text is None:
        return
    kind = parse_executor(text).kind
    for option in (option for option, given in beside.items() if given):
        raise BadRequestError(
            f"--executor: its workers play games, and {option} is done by this process; leave one "
            "of both out"
        )
    module, name = PACKAGES.get(kind, (None, ""))
    if module is not None and find_spec(module) is None:
        raise missing(kind, name)


def missing(kind: str, name: str) -> BackendMissingError:
    """Name the extra whose package is not installed."""
    return BackendMissingError(
        f'--executor {kind}: {name} is not installed; pip install "mtspark[{kind}]"'
    )


def parse_executor(text: str) -> ExecutorAddress:
    """Read where jobs shall run.

    Args:
        text: ``processes``, ``processes:4``, ``ray``, ``ray:10.0.0.1:6379``,
            ``ray://10.0.0.1:10001``, ``slurm``, ``slurm:partition=long,minutes=60``.

    Raises:
        BadRequestError: none of these.
    """
    kind, colon, rest = text.partition(":")
    if kind == "processes":
        return ExecutorAddress(text, kind, workers=_workers(text, rest) if colon else None)
    if kind == "slurm":
        return ExecutorAddress(text, kind, options=_options(text, rest) if colon else {})
    if kind != "ray":
        raise BadRequestError(f"--executor {one_line(text, 60)!r}: {KINDS}")
    if not colon:
        return ExecutorAddress(text, kind)
    host, _, port = rest.removeprefix("//").rpartition(":")
    if not host or not host.isprintable() or not port.isascii() or not port.isdigit():
        raise BadRequestError(
            f"--executor {one_line(text, 60)!r}: write ray:HOST:PORT on a machine of the cluster, "
            "ray://HOST:PORT from elsewhere"
        )
    return ExecutorAddress(text, kind, cluster=text if rest.startswith("//") else rest)


def _workers(text: str, number: str) -> int:
    if number.isascii() and number.isdigit() and 1 <= int(number[:9]) <= MOST_WORKERS:
        return int(number[:9])
    raise BadRequestError(
        f"--executor {one_line(text, 60)!r}: write processes:N with 1 to {MOST_WORKERS} workers"
    )


def _options(text: str, rest: str) -> dict[str, str | int]:
    options: dict[str, str | int] = {}
    for part in rest.split(","):
        name, _, value = part.partition("=")
        if name in SLURM_WORDS and value:
            options[name] = value
        elif name in SLURM_NUMBERS and value.isascii() and value.isdigit():
            options[name] = int(value[:9])
            if not 1 <= int(value[:9]) <= LARGEST_NUMBER:
                raise BadRequestError(f"--executor slurm: {name}={value[:20]}: must be at least 1")
        else:
            known = ", ".join((*SLURM_NUMBERS, *SLURM_WORDS))
            raise BadRequestError(
                f"--executor slurm: {one_line(part, 40)!r}: write NAME=VALUE with commas between; "
                f"names are {known} (numbers: {', '.join(SLURM_NUMBERS)})"
            )
    return options
