"""Who may import whom, kept by import-linter and by what import-linter cannot say."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mtspark"
ROOMS = ("core", "train", "deploy", "convert", "sim", "workflows", "cli")

TORCH = {"torch", "snntorch", "torchvision"}
CHIP = {"lava", "numba"}
FORBIDDEN_PACKAGES = {
    "core": TORCH | CHIP,
    "train": CHIP,
    "convert": CHIP,
    "deploy": TORCH,
    "sim": TORCH,
    "workflows": CHIP,
    "cli": TORCH | CHIP | {"numpy"},
}


def room_files(room: str) -> list[Path]:
    # resolve(): rglob does not walk into a folder that is reached through a link.
    return sorted((PACKAGE / room).resolve().rglob("*.py"))


def dotted_name(room: str, path: Path) -> str:
    parts = path.relative_to((PACKAGE / room).resolve()).with_suffix("").parts
    inner = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(("mtspark", room, *inner))


def all_modules() -> dict[str, Path]:
    modules = {dotted_name(room, path): path for room in ROOMS for path in room_files(room)}
    return {"mtspark": PACKAGE / "__init__.py", **modules}


MODULES = all_modules()
PACKAGES = sorted(name for name, path in MODULES.items() if path.name == "__init__.py")


@cache
def offered_names(package: str) -> dict[str, str]:
    """Names that a package's face offers, and the module that each comes from."""
    face = MODULES[package].with_suffix(".pyi")
    source = face if face.exists() else MODULES[package]
    offered = {}
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.level == 1 or face.exists()):
            base = package if node.level else ""
            origin = ".".join(filter(None, (base, node.module)))
            offered |= {alias.asname or alias.name: origin for alias in node.names}
    return offered


@cache
def imported_modules(name: str, path: Path) -> set[str]:
    """Modules of mtspark that a file imports, wherever in it; names of faces by their origin."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names if alias.name in MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES and not node.level:
            offered = offered_names(node.module) if node.module in PACKAGES else {}
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                imported.add(below if below in MODULES else offered.get(alias.name, node.module))
    return imported - {name}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach one another."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(graph.get(start, ()))
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += graph.get(node, ())
        return seen

    reach = {node: reachable(node) for node in graph}
    groups = {
        tuple(sorted(other for other in reach[node] if node in reach.get(other, ())))
        for node in graph
        if node in reach[node]
    }
    return [list(group) for group in sorted(groups)]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def copy_package(target: Path) -> Path:
    """The package with its rooms as real folders, and the settings of the tools."""
    # Where another test compiles meanwhile, files of a moment lie there, too.
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, target / "mtspark", ignore=ignored)
    for name in ("pyproject.toml", ".importlinter"):
        shutil.copy(ROOT / name, target)
    return target


def plant(folder: Path, module: str, text: str) -> None:
    """Add a line to a module of a copy."""
    path = folder / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    with file.open("a") as lines:
        lines.write(f"\n{text}\n")


# Contracts of import-linter


def test_every_contract_is_kept():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


UPWARDS = (
    ("mtspark.core.errors", "mtspark.deploy"),
    ("mtspark.train.config", "mtspark.convert"),
    ("mtspark.train.config", "mtspark.deploy"),
    ("mtspark.deploy.bundle", "mtspark.sim"),
    ("mtspark.convert.compare", "mtspark.sim"),
    ("mtspark.sim.play", "mtspark.workflows"),
    ("mtspark.workflows.backends", "mtspark.cli"),
)
FORBIDDEN = (
    ("convert imports train and core only", "mtspark.convert.compare", "mtspark.deploy"),
    ("sim imports deploy and core only", "mtspark.sim.play", "mtspark.train"),
)
CIRCLE = ("mtspark.core.errors", "mtspark.core.files")


@pytest.fixture(scope="module")
def broken_house(tmp_path_factory):
    """What import-linter says of a copy with every import that must not be, by contract."""
    folder = copy_package(tmp_path_factory.mktemp("broken"))
    for module, other in {*UPWARDS, *(pair[1:] for pair in FORBIDDEN), CIRCLE}:
        plant(folder, module, f"import {other}")
    output = lint_imports(folder).stdout
    broken = set(re.findall(r"^(.+) BROKEN", output, re.MULTILINE))
    # Each broken contract gets a section: its name, a line of dashes, what breaks it.
    sections = re.split(r"^(.+)\n-+$", output, flags=re.MULTILINE)
    return {
        name: text
        for name, text in zip(sections[1::2], sections[2::2], strict=True)
        if name in broken
    }


@pytest.mark.parametrize(("module", "other"), UPWARDS)
def test_an_import_that_runs_up_breaks_the_floors(broken_house, module, other):
    assert f"{module} -> {other} " in broken_house["Floors"]


@pytest.mark.parametrize(("contract", "module", "other"), FORBIDDEN)
def test_a_forbidden_import_breaks_its_contract(broken_house, contract, module, other):
    assert f"{module} -> {other} " in broken_house[contract]


def test_siblings_that_import_each_other_break_the_contract(broken_house):
    assert "No circles" in broken_house


def faces_with_an_inside() -> list[str]:
    """Packages two levels below mtspark that hold more than their face."""
    return [name for name in PACKAGES if name.count(".") == 2]


def test_every_inside_is_protected_and_its_contract_breaks(tmp_path):
    contracts = (ROOT / ".importlinter").read_text()
    insides = faces_with_an_inside()
    assert sorted(re.findall(r"allowed_importers = (\S+)", contracts)) == insides
    folder = copy_package(tmp_path)
    for package in insides:
        inner = next(name for name in sorted(MODULES) if name.startswith(f"{package}."))
        room = package.split(".")[1]
        stranger = "mtspark.cli.main" if room != "cli" else "mtspark.workflows.backends"
        plant(folder, stranger, f"import {inner}")
    output = lint_imports(folder).stdout
    assert sorted(set(re.findall(r"Inside of (\S+) BROKEN", output))) == insides


# What import-linter does not see


def test_no_module_is_in_a_circle_of_imports():
    graph = {name: imported_modules(name, path) for name, path in MODULES.items()}
    assert len(graph) > 150
    assert sum(map(len, graph.values())) > 500
    assert circles(graph) == []


def test_no_package_is_in_a_circle_with_its_siblings():
    for parent in PACKAGES:
        depth = parent.count(".") + 1
        graph: dict[str, set[str]] = {}
        for name, path in MODULES.items():
            parts = name.split(".")
            if not name.startswith(f"{parent}.") or len(parts) <= depth:
                continue
            targets = {
                other.split(".")[depth]
                for other in imported_modules(name, path)
                if other.startswith(f"{parent}.")
            }
            graph.setdefault(parts[depth], set()).update(targets - {parts[depth]})
        assert circles(graph) == [], parent


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": {"e"}}
    assert circles(graph) == [["a", "b", "c"], ["e"]]


def test_imports_are_found_wherever_they_hide(tmp_path):
    source = tmp_path / "module.py"
    source.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import mtspark.sim.play\n"
        "def f():\n    from mtspark.core import errors\n    from mtspark.core.errors import X\n"
    )
    assert imported_modules("x", source) == {"mtspark.sim.play", "mtspark.core.errors"}


def test_no_file_stands_in_a_prefix_family():
    families = []
    for folder in {path.parent for path in MODULES.values()}:
        stems = [path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")]
        prefixes = Counter(stem.split("_")[0] for stem in stems if "_" in stem)
        families += [
            f"{folder.name}/{prefix}_*"
            for prefix, count in prefixes.items()
            if count > 1 or prefix in stems
        ]
    assert not families


def imported_packages(source: str) -> set[str]:
    """Top-level names of absolute imports, those inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", FORBIDDEN_PACKAGES)
def test_room_keeps_out_what_is_not_its_business(room):
    files = room_files(room)
    assert files
    broken = {
        path.name: bad
        for path in files
        if (bad := imported_packages(path.read_text()) & FORBIDDEN_PACKAGES[room])
    }
    assert not broken


def test_packages_are_found_wherever_they_hide():
    source = (
        "def f():\n    import numba.core\n    from lava.proc import lif\n    from . import torch\n"
    )
    assert imported_packages(source) == {"numba", "lava"}


LONGEST_COMMAND = 60


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its signature, which may be a list of options."""
    assert function.end_lineno is not None
    return function.end_lineno - function.body[0].lineno + 1


def test_the_command_line_only_parses_and_prints():
    long = {}
    for path in room_files("cli"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and body_lines(node) > LONGEST_COMMAND:
                long[f"{path.name}:{node.name}"] = body_lines(node)
    assert not long


def test_libraries_print_nothing():
    """Only the command line prints; a module that runs as a program may speak to its parent."""
    loud = {}
    for room in ROOMS[:-1]:
        for path in room_files(room):
            calls = [
                node.lineno
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "print"
            ]
            if calls and '__name__ == "__main__"' not in path.read_text():
                loud[str(path.relative_to(ROOT))] = calls
    assert not loud


# Faces


@pytest.mark.parametrize("package", [name for name in PACKAGES if name.count(".") > 0])
def test_every_package_says_what_lives_in_it(package):
    text = ast.get_docstring(ast.parse(MODULES[package].read_text())) or ""
    assert len(text.split()) >= 12, f"{package}: a docstring of two or three sentences"


def test_every_name_on_a_face_survives_the_import_of_all_modules():
    """An imported submodule replaces a function of its name on the package."""
    for name in MODULES:
        if ".lava" not in name and not name.endswith("__main__"):
            importlib.import_module(name)
    for package in PACKAGES:
        face = importlib.import_module(package)
        beside = {module.name for module in pkgutil.iter_modules(face.__path__)}
        for offered, origin in offered_names(package).items():
            if ".lava" in origin or not MODULES[package].with_suffix(".pyi").exists():
                continue
            assert offered not in beside, f"{package}.{offered}"
            assert getattr(face, offered) is getattr(importlib.import_module(origin), offered)


def test_other_packages_import_the_face():
    inside = {}
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or node.module not in MODULES:
                continue
            package = ".".join(node.module.split(".")[:3])
            if node.module != package and not f"{name}.".startswith(f"{package}."):
                inside.setdefault(name, set()).add(node.module)
    assert not inside


@pytest.mark.slow
def test_mypy_checks_every_room(tmp_path):
    """With the four folders mapped but not linked, mypy checks one file and succeeds."""
    folder = copy_package(tmp_path)
    # Which files are seen is asked here; whether all are right is asked by `make lint`.
    for path in [*folder.rglob("*.py"), *folder.rglob("*.pyi")]:
        if path.name != "__init__.py":
            path.unlink()
    for room in ROOMS:
        (folder / "mtspark" / room / "planted.py").write_text("planted: int = 'text'\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "-p", "mtspark", "--follow-imports=skip"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    planted = [line for line in done.stdout.splitlines() if "Incompatible types" in line]
    assert {room for room in ROOMS for line in planted if f"/{room}/planted" in line} == set(ROOMS)


def test_the_checkout_links_every_room_into_the_package():
    for room in ("train", "convert", "deploy", "sim"):
        assert (PACKAGE / room).resolve() == (ROOT / room).resolve()


def test_the_picture_of_the_house_shows_what_stands():
    sys.path.insert(0, str(ROOT / "docs" / "figures"))
    try:
        house = importlib.import_module("house")
    finally:
        sys.path.pop(0)
    text = (ROOT / "docs" / "house.svg").read_text()
    for room in ROOMS:
        for part in (room, *house.describe_room(room).parts):
            assert f">{part}</text>" in text, f"{room}: draw docs/house.svg again"
