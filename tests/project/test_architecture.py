"""Who may import whom, and that the tools which say so see every room."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("core", "cli", "train", "convert", "deploy", "sim")

FORBIDDEN_ROOMS = [
    ("core", "sim", "core imports no other room"),
    ("train", "deploy", "train imports core only"),
    ("convert", "deploy", "convert imports core and train only"),
    ("deploy", "sim", "deploy imports core only"),
    ("sim", "train", "sim imports core and deploy only"),
]

TORCH = {"torch", "snntorch", "torchvision"}
CHIP = {"lava", "numba"}
FORBIDDEN_PACKAGES = {
    "core": TORCH | CHIP,
    "train": CHIP,
    "convert": CHIP,
    "deploy": TORCH,
    "sim": TORCH,
}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def copy_package(target: Path) -> Path:
    """The package with its rooms as real folders, and the settings of the tools."""
    # Where another test compiles meanwhile, files of a moment lie there, too.
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "mtspark", target / "mtspark", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", target)
    return target


def imported_packages(source: str) -> set[str]:
    """Top-level names of absolute imports, those inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def room_files(room: str) -> list[Path]:
    # resolve(): rglob does not walk into a folder that is reached through a link.
    return sorted((ROOT / "mtspark" / room).resolve().rglob("*.py"))


def test_every_contract_is_kept():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(("room", "other", "contract"), FORBIDDEN_ROOMS)
def test_a_forbidden_import_breaks_its_contract(tmp_path, room, other, contract):
    folder = copy_package(tmp_path)
    with (folder / "mtspark" / room / "__init__.py").open("a") as file:
        file.write(f"import mtspark.{other}\n")
    done = lint_imports(folder)
    assert done.returncode != 0
    assert f"{contract} BROKEN" in done.stdout
    assert f"mtspark.{room} -> mtspark.{other}" in done.stdout


def test_mypy_checks_every_room(tmp_path):
    """With the four folders mapped but not linked, mypy checks one file and succeeds."""
    folder = copy_package(tmp_path)
    for room in ROOMS:
        with (folder / "mtspark" / room / "__init__.py").open("a") as file:
            file.write("\nplanted: int = 'text'\n")
    # Third-party packages are not followed: this asks which files are seen, and is quick.
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "-p", "mtspark", "--follow-imports=skip"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    planted = [line for line in done.stdout.splitlines() if "Incompatible types" in line]
    assert {room for room in ROOMS for line in planted if f"/{room}/__init__" in line} == set(ROOMS)


def test_the_checkout_links_every_room_into_the_package():
    for room in ("train", "convert", "deploy", "sim"):
        assert (ROOT / "mtspark" / room).resolve() == (ROOT / room).resolve()


@pytest.mark.parametrize("room", FORBIDDEN_PACKAGES)
def test_room_keeps_out_what_is_not_its_business(room):
    files = room_files(room)
    assert files
    found = {
        path.name: bad
        for path in files
        if (bad := imported_packages(path.read_text()) & FORBIDDEN_PACKAGES[room])
    }
    assert not found


def test_imports_are_found_wherever_they_hide():
    source = (
        "def f():\n    import numba.core\n    from lava.proc import lif\n    from . import torch\n"
    )
    assert imported_packages(source) == {"numba", "lava"}
