"""Examination of an installation: what works, what is missing, what that disables, what brings it.

This module imports the standard library alone, so that it starts in a broken installation. It
asks fresh Python processes about everything else.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from mtspark.core.process import processors

Status = Literal["ok", "missing", "too old", "broken"]

TIME_LIMIT_S = 120.0
"""For the answer of one fresh Python process; a slow disk needs long to read torch."""

EVERYTHING = "everything"


@dataclass(frozen=True)
class Part:
    """A Python package that mtspark declares as a dependency.

    Attributes:
        package: name in the package index.
        module: name to import.
        disables: what does not work without it.
        essential: whether export, run and report need it.
    """

    package: str
    module: str
    disables: str
    essential: bool = True


@dataclass(frozen=True)
class Finding:
    """The state of one part of the installation.

    Attributes:
        name: of the part.
        status: whether it works.
        found: version or short description; for a part that is not ok, what is wrong.
        disables: what does not work without this part.
        essential: whether export, run and report need it.
        fix: a command or advice that brings the part; empty where it is ok.
    """

    name: str
    status: Status
    found: str
    disables: str
    essential: bool
    fix: str


@dataclass(frozen=True)
class Machine:
    """The computer, as this process sees it.

    Attributes:
        python: path of the running Python.
        processors: that this process may use.
        memory_bytes: main memory; None where the system does not say.
    """

    python: str
    processors: int
    memory_bytes: int | None


@dataclass(frozen=True)
class Examination:
    """The state of an installation.

    Attributes:
        findings: one a part.
        machine: that it runs on.
    """

    findings: tuple[Finding, ...]
    machine: Machine

    @property
    def works(self) -> bool:
        """Whether every essential part is ok."""
        return all(finding.status == "ok" for finding in self.findings if finding.essential)

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``mtspark doctor --json``."""
        return {
            "main_job_works": self.works,
            "machine": asdict(self.machine),
            "parts": [asdict(finding) for finding in self.findings],
        }


PARTS: tuple[Part, ...] = (
    Part("numpy", "numpy", EVERYTHING),
    Part("torch", "torch", "training, export, the torch backend"),
    Part("snntorch", "snntorch", "training, export, the torch backend"),
    Part("nir", "nir", "export, reading NIR graphs"),
    Part("gymnasium", "gymnasium", "playing games, training"),
    Part("ale-py", "ale_py", "playing games, training"),
    Part("h5py", "h5py", "export, reading NIR graphs"),
    Part("safetensors", "safetensors", "saving and loading chip networks"),
    Part("onnx", "onnx", "export to ONNX", essential=False),
    Part("onnxruntime", "onnxruntime", "checking an ONNX export", essential=False),
    Part("numba", "numba", "the fast engine", essential=False),
    Part("lazy-loader", "lazy_loader", EVERYTHING),
    Part("typer", "typer", "the command line"),
    Part("rich", "rich", "tables and progress bars"),
    Part("matplotlib", "matplotlib", "pictures", essential=False),
    Part("pillow", "PIL", "films and screenshots in reports", essential=False),
    Part("jinja2", "jinja2", "report pages", essential=False),
    Part("scikit-learn", "sklearn", "threshold palettes", essential=False),
    Part("scipy", "scipy", "comparing runs", essential=False),
    Part("pydantic", "pydantic", "training recipes", essential=False),
    Part("tensorboardX", "tensorboardX", "TensorBoard's files of a training run", essential=False),
    Part("filelock", "filelock", "training", essential=False),
    Part("msgpack", "msgpack", "hardware in the loop", essential=False),
    Part("fsspec", "fsspec", "addresses of agents", essential=False),
)
if sys.version_info < (3, 11):
    PARTS += (Part("tomli", "tomli", "price cards"),)

IMPORT = "import importlib, sys; importlib.import_module(sys.argv[1])"
LOAD_LAVA = "from mtspark.deploy.lava.shim import check_lava; check_lava()"
NOT_COMPILED = "JIT compilation is disabled"
DAMAGED = "damaged compiled code: "
NOT_CACHED = "compiles at every start: no cache folder is writable"
LOAD_ENGINE = (
    "import sys, numba; from mtspark.sim.engine.kernels.run import KEPT_ON_DISK, run\n"
    f"if numba.config.DISABLE_JIT: sys.exit({NOT_COMPILED!r})\n"
    f"if not KEPT_ON_DISK: sys.exit({NOT_CACHED!r})\n"
    f"for path in run._cache.damaged(): sys.exit({DAMAGED!r} + str(path))\n"
    "print('compiled code is cached in', run.stats.cache_path)"
)
COUNT_GAMES = (
    "import ale_py; from mtspark.core.environments.atari import task_for_game; "
    "task_for_game('pong'); "
    "print(len(ale_py.roms.get_all_rom_ids()))"
)

LIST_MECHANISMS = (
    "from mtspark.core.confinement import landlock_version, mechanisms_here; "
    "print(*(mechanism.name for mechanism in mechanisms_here()), f'V{landlock_version()}')"
)
CONFINEMENT = (
    ("hard limits", "LIMITS", "limits of memory and time", "use Linux"),
    ("parent death", "PARENT", "ending with mtspark", "use Linux"),
    ("Landlock", "LANDLOCK", "protection of files", "use Linux 5.13 or newer with Landlock"),
    (
        "seccomp",
        "SECCOMP",
        "protection of files, processes and the network",
        "use Linux on x86-64 or AArch64, with seccomp",
    ),
)
"""Name, name of the mechanism, what the process that reads files lacks without it, remedy."""


def examine() -> Examination:
    """Check Python, packages, the engine, games, Lava, the compiler, and how files are read."""
    bounds = declared_bounds()
    # Each package is imported in a Python of its own: one that is broken may take the process
    # with it, and two at a time keep the wait short on two cores.
    with ThreadPoolExecutor(max_workers=2) as pool:
        packages = list(pool.map(lambda part: check_package(part, bounds), PARTS))
        games, lava = pool.submit(check_games), pool.submit(check_lava)
        engine, confinement = pool.submit(check_engine), pool.submit(check_confinement)
        answers = (engine.result(), games.result(), lava.result())
    findings = (
        check_python(),
        *packages,
        *answers,
        check_compiler(),
        *confinement.result(),
    )
    return Examination(findings, this_machine())


def this_machine() -> Machine:
    """Return the interpreter, the processors that this process may use, and the memory."""
    memory: int | None
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        memory = None
    return Machine(python=sys.executable, processors=processors(), memory_bytes=memory)


def declared_bounds() -> dict[str, str]:
    """Return the lower bound of each dependency, from the metadata of the installed mtspark."""
    try:
        requirements = metadata.requires("mtspark") or []
    except metadata.PackageNotFoundError:
        return {}
    own = (line for line in requirements if "extra ==" not in line)
    matches = (re.match(r"([\w.-]+)\s*>=\s*([\d.]+)\s*(;|$)", line) for line in own)
    return {match[1]: match[2] for match in matches if match}


def installed_version(package: str) -> str | None:
    """Return the version of an installed package without importing it; None: not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def check_python() -> Finding:
    """Check the running Python's version."""
    ok = sys.version_info >= (3, 10)
    return Finding(
        name="python",
        status="ok" if ok else "too old",
        found=".".join(map(str, sys.version_info[:3])),
        disables=EVERYTHING,
        essential=True,
        fix="" if ok else "install Python 3.10 or newer",
    )


def check_package(part: Part, bounds: dict[str, str]) -> Finding:
    """Check that a package is installed, new enough, and can be imported."""
    bound = bounds.get(part.package)
    requirement = f"{part.package}>={bound}" if bound else part.package
    status: Status = "ok"
    fix = _pip("install", requirement)
    version = installed_version(part.package)
    found = version or "not installed"
    if version is None:
        status = "missing"
    elif bound and _numbers(version) < _numbers(bound):
        status, found = "too old", f"{version}, needs {bound}"
    else:
        works, answer = ask_python(IMPORT, part.module)
        if not works:
            status, found = "broken", f"{version}: {answer}"
            fix = _pip("install", "--force-reinstall", requirement)
    return Finding(
        name=part.package,
        status=status,
        found=found,
        disables=part.disables,
        essential=part.essential,
        fix="" if status == "ok" else fix,
    )


def check_engine() -> Finding:
    """Check that numba may compile and has a folder in which it caches compiled code."""
    works, answer = ask_python(LOAD_ENGINE)
    # Where numba itself is missing, its own line names the remedy.
    fixes = {
        NOT_COMPILED: "unset NUMBA_DISABLE_JIT",
        NOT_CACHED: "set NUMBA_CACHE_DIR to a writable folder",
    }
    fix = fixes.get(answer, _pip("install", "numba"))
    if answer.startswith(DAMAGED):
        # The engine removes it, too, when it starts next.
        fix = shlex.join(["rm", "-r", answer.removeprefix(DAMAGED)])
    return Finding(
        name="fast engine",
        status="ok" if works else "broken",
        found=answer,
        disables="the engine backend, or its start without 15 seconds of compilation",
        essential=False,
        fix="" if works else fix,
    )


def check_games() -> Finding:
    """Check that ALE's Pong can be loaded, through the factory that every run uses."""
    works, answer = ask_python(COUNT_GAMES)
    return Finding(
        name="game ROMs",
        status="ok" if works else "broken",
        found=f"{answer} games" if works else answer,
        disables="playing games, training",
        essential=True,
        fix="" if works else _pip("install", "--force-reinstall", "ale-py"),
    )


def check_lava() -> Finding:
    """Check that lava-nc is installed and that the shim can load it."""
    version = installed_version("lava-nc")
    status: Status = "ok"
    if version is None:
        status, found = "missing", "not installed"
    else:
        # Importing Lava changes how its process starts others: never here.
        works, answer = ask_python(LOAD_LAVA)
        found = version if works else f"{version}: {answer}"
        status = "ok" if works else "broken"
    fix = "mtspark install-lava"
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        fix = "use Python 3.10 to 3.13, then: mtspark install-lava"
    return Finding(
        name="lava-nc",
        status=status,
        found=found,
        disables="backends lava and lava-stock, comparing with them",
        essential=False,
        fix="" if status == "ok" else fix,
    )


def check_compiler() -> Finding:
    """Check what torch.compile needs on a CPU: a C++ compiler and Python's headers."""
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    path = shutil.which(compiler)
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    if path is None:
        found, fix = f"no {compiler}", "install a C++ compiler, or name yours in CXX"
    elif not headers.is_file():
        found, fix = f"{path}, but no Python.h", "install Python's headers (python3-dev)"
    else:
        found, fix = path, ""
    return Finding(
        name="C++ compiler",
        status="missing" if fix else "ok",
        found=found,
        disables="mtspark train --compiled",
        essential=False,
        fix=fix,
    )


def check_confinement() -> tuple[Finding, ...]:
    """Check what keeps the process that reads untrusted files from harm, by starting one."""
    works, answer = ask_python(LIST_MECHANISMS)
    findings = []
    for name, mechanism, lost, remedy in CONFINEMENT:
        status: Status = "broken"
        found, fix = answer, "read only files that you trust"
        if works:
            status = "ok" if mechanism in answer.split() else "missing"
            found = "in force" if status == "ok" else "not on this machine"
            fix = "" if status == "ok" else remedy
            if status == "ok" and "SECCOMP" not in answer.split():
                if mechanism == "PARENT":
                    found = "in force, but without seccomp a process can lift it"
                if mechanism == "LANDLOCK" and answer.split()[-1] in ("V1", "V2"):
                    status, fix = "too old", "use Linux 6.2 or newer"
                    found = "in force, but files can still be emptied by name"
        findings.append(
            Finding(
                name=name,
                status=status,
                found=found,
                disables=f"untrusted files: {lost}",
                essential=False,
                fix=fix,
            )
        )
    return tuple(findings)


def ask_python(code: str, *arguments: str, limit_s: float = TIME_LIMIT_S) -> tuple[bool, str]:
    """Run `code` in a fresh Python process.

    Args:
        code: as after ``python -c``.
        arguments: of it.
        limit_s: seconds to wait.

    Returns:
        Whether it ended well, and the last line of its output; otherwise what went wrong.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {limit_s:g} s"
    if done.returncode < 0:
        return False, f"died of signal {-done.returncode}"
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else ""


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def _pip(*arguments: str) -> str:
    return shlex.join([sys.executable, "-m", "pip", *arguments])
