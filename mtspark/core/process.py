"""Other processes: their environment, threads, last words, and pip; and memory of this one."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtspark.core.errors import BackendFailedError, one_line

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
"""Where libraries of matrices look for their number of threads when they are loaded."""

ANY_LINE = re.compile(r"\S")
PYTHON_ERROR = re.compile(r"^[\w.]*(Error|Exception)\b")
"""The line that ends a traceback."""
NAMES_AN_ERROR = re.compile(r"Error")
PIP_ERROR = re.compile(r"^ERROR")


def one_thread_each() -> None:
    """Keep matrix libraries to one thread unless the user chose otherwise.

    The products here are small: threads that wait for one another cost more than they bring,
    thirty times more where another process keeps a core busy. Must run before numpy loads.
    """
    for variable in THREAD_VARIABLES:
        os.environ.setdefault(variable, "1")


def one_thread_of_numpy() -> None:
    """Keep the numpy that is already loaded to one thread, where its library is OpenBLAS."""
    import ctypes

    with contextlib.suppress(OSError):
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        for path in set(re.findall(r"/.*openblas.*", maps)):
            library = ctypes.CDLL(path)
            for name in ("openblas_set_num_threads", "scipy_openblas_set_num_threads64_"):
                if hasattr(library, name):
                    getattr(library, name)(1)


def processors() -> int:
    """Number of processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def main_memory_bytes() -> int | None:
    """Return this computer's memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def give_back_memory() -> bool:
    """Give memory that was freed back to the system, where its allocator is glibc's.

    glibc keeps an arena for each of up to eight threads a processor and seldom gives back what is
    free in it. Where threads come and go, as games in threads of their own do, each arena keeps the
    most that was ever used in it: the process grows although it holds no more than before.

    Returns:
        Whether anything was given back.
    """
    import ctypes

    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError, TypeError):
        return False


def own_environment() -> dict[str, str]:
    """Variables for a child of this Python: it sees our packages, and has one thread a library."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        # Not what lies in the folder in which it is started; for 3.10 see own_module.
        "PYTHONSAFEPATH": "1",
        **dict.fromkeys(THREAD_VARIABLES, "1"),
    }


def own_module(name: str, *arguments: str) -> list[str]:
    """Command that runs a module in a child of this Python, with :func:`own_environment`.

    Args:
        name: of the module, as after ``python -m``.
        arguments: that it is given.
    """
    how = ["-m", name]
    if sys.version_info < (3, 11):
        # PYTHONSAFEPATH is new in 3.11: the folder in which the child starts is taken out here.
        code = (
            "import sys; sys.path[:] = filter(None, sys.path); import runpy; "
            f"runpy.run_module({name!r}, run_name='__main__', alter_sys=True)"
        )
        how = ["-c", code]
    return [sys.executable, *how, *arguments]


def foreign_environment() -> dict[str, str]:
    """Variables for the Python of another environment, which ours would lead astray."""
    return {name: os.environ[name] for name in os.environ if not name.startswith("PYTHON")}


def last_words(text: str, *kinds: re.Pattern[str]) -> str:
    """The line that best says why a process failed.

    Args:
        text: what it wrote.
        kinds: of lines, the most telling first; default: any line that is not blank.

    Returns:
        The last line of the first kind that there is one of; "no message" where there is none.
    """
    lines = [line.strip() for line in text.split("\n")]
    for kind in kinds or (ANY_LINE,):
        for line in reversed(lines):
            if kind.search(line):
                return line
    return "no message"


def finished(
    command: Sequence[str],
    what: str,
    timeout_s: float,
    *,
    environment: Mapping[str, str] | None = None,
    remedy: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its exit status may be any.

    Args:
        command: the program and its arguments.
        what: it does, for errors.
        timeout_s: after which it is killed.
        environment: variables; default: our own.
        remedy: what to do if it takes longer.

    Raises:
        BackendFailedError: it cannot be started, or takes longer.
    """
    try:
        return subprocess.run(
            list(command),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        advice = f"; {remedy}" if remedy else ""
        raise BackendFailedError(
            f"{what} did not finish within {timeout_s:.0f} s{advice}"
        ) from error
    except OSError as error:
        raise BackendFailedError(f"{what}: {one_line(error)}") from error


def output_of(
    command: Sequence[str],
    what: str,
    timeout_s: float,
    *,
    environment: Mapping[str, str] | None = None,
    remedy: str = "",
) -> str:
    """What a command prints; arguments as of :func:`finished`.

    Raises:
        BackendFailedError: it cannot be started, takes longer, or fails.
    """
    done = finished(command, what, timeout_s, environment=environment, remedy=remedy)
    if done.returncode:
        reason = last_words(done.stderr, PIP_ERROR, ANY_LINE).removeprefix("ERROR: ")
        raise BackendFailedError(f"{what} failed: {one_line(reason)}")
    return done.stdout


def install_packages(
    python: Path | str,
    packages: Sequence[str],
    what: str,
    timeout_s: float,
    *,
    options: Sequence[str] = (),
    keep: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    remedy: str = "",
) -> None:
    """Install packages with pip.

    Args:
        python: the interpreter of the environment.
        packages: requirements, as pip takes them.
        what: names the work in errors.
        timeout_s: for all of it.
        options: further ones of pip install.
        keep: lines ``name==version`` of packages that pip must not change.
        environment: variables; default: our own.
        remedy: what to do if it takes longer.

    Raises:
        BackendFailedError: pip is missing, fails, or takes longer.
    """
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        if keep:
            pins = Path(folder) / "installed.txt"
            pins.write_text("".join(f"{line}\n" for line in keep), encoding="utf-8")
            command += ["--constraint", str(pins)]
        output_of(
            [*command, *options, *packages],
            f"{what}: pip",
            timeout_s,
            environment=environment,
            remedy=remedy,
        )
