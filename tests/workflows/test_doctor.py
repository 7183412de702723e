"""The doctor's findings, on packages made for the purpose and on this environment."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtspark.workflows import doctor

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Put an installed package `planted` 1.4.2 with the given source on every Python's path."""

    def write(source: str) -> doctor.Part:
        (tmp_path / "planted.py").write_text(source)
        information = tmp_path / "planted-1.4.2.dist-info"
        information.mkdir()
        (information / "METADATA").write_text("Name: planted\nVersion: 1.4.2\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return doctor.Part("planted", "planted", "nothing much")

    return write


def test_parts_are_the_declared_dependencies():
    tomllib = pytest.importorskip("tomllib", reason="new in Python 3.11")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    # The one that only Python 3.10 needs is no part of this Python's list.
    names = {line.split(">=")[0] for line in declared if "python_version < '3.11'" not in line}
    assert {part.package for part in doctor.PARTS} == names


def test_bounds_are_those_of_the_metadata():
    bounds = doctor.declared_bounds()
    assert bounds["torch"] == "2.10"
    assert {part.package for part in doctor.PARTS} <= set(bounds)
    assert "pytest" not in bounds


def test_a_good_package(package):
    found = doctor.check_package(package(""), {"planted": "1.4"})
    assert (found.status, found.found, found.fix) == ("ok", "1.4.2", "")


def test_a_missing_package_names_what_brings_it():
    part = doctor.Part("no-such-thing", "no_such_thing", "nothing")
    found = doctor.check_package(part, {"no-such-thing": "2"})
    assert found.status == "missing"
    assert found.fix.endswith("-m pip install 'no-such-thing>=2'")


@pytest.mark.parametrize(
    ("bound", "status"), [("1.4.2", "ok"), ("1.5", "too old"), ("1.10", "too old")]
)
def test_versions_are_compared_as_numbers(package, bound, status):
    assert doctor.check_package(package(""), {"planted": bound}).status == status


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("raise ImportError('libplanted.so: not found')", "ImportError: libplanted.so: not found"),
        ("import os; os.kill(os.getpid(), 9)", "died of signal 9"),
    ],
)
def test_a_package_that_does_not_import_is_broken(package, source, says):
    found = doctor.check_package(package(source), {})
    assert found.status == "broken"
    assert found.found == f"1.4.2: {says}"
    assert "--force-reinstall" in found.fix


def test_a_python_that_hangs_is_given_up():
    works, answer = doctor.ask_python("import time; time.sleep(60)", limit_s=0.3)
    assert (works, answer) == (False, "no answer within 0.3 s")


def test_lava_missing(monkeypatch):
    monkeypatch.setattr(doctor, "installed_version", lambda package: None)
    found = doctor.check_lava()
    assert (found.status, found.fix, found.essential) == ("missing", "mtspark install-lava", False)


def test_lava_that_the_shim_cannot_load(monkeypatch):
    monkeypatch.setattr(doctor, "installed_version", lambda package: "0.10.0")
    monkeypatch.setattr(doctor, "LOAD_LAVA", "raise ImportError('no lava.magma')")
    found = doctor.check_lava()
    assert (found.status, found.found) == ("broken", "0.10.0: ImportError: no lava.magma")


def test_no_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    found = doctor.check_compiler()
    assert (found.status, found.found) == ("missing", "no no-such-compiler")
    assert found.fix


def test_what_confines_the_reading_child_is_asked_of_a_real_one():
    from mtspark.core.confinement import mechanisms_here

    here = {mechanism.name for mechanism in mechanisms_here()}
    found = {part.name: part for part in doctor.check_confinement()}
    assert {name for name, part in found.items() if part.status == "ok"} == {
        name for name, mechanism, _, _ in doctor.CONFINEMENT if mechanism in here
    }


def test_a_kernel_without_landlock_and_seccomp_is_said(monkeypatch):
    monkeypatch.setattr(doctor, "LIST_MECHANISMS", "print('LIMITS PARENT PRIVILEGES')")
    found = {part.name: part for part in doctor.check_confinement()}
    assert found["hard limits"].status == found["parent death"].status == "ok"
    for name in ("Landlock", "seccomp"):
        assert found[name].status == "missing"
        assert "Linux" in found[name].fix
        assert "files" in found[name].disables
        assert not found[name].essential


def test_what_other_rules_lack_without_seccomp_is_said(monkeypatch):
    """Landlock kept files from being truncated by name from its third version on."""
    monkeypatch.setattr(doctor, "LIST_MECHANISMS", "print('LIMITS PARENT LANDLOCK V2')")
    found = {part.name: part for part in doctor.check_confinement()}
    assert "can lift it" in found["parent death"].found
    assert found["Landlock"].status == "too old"
    assert "emptied" in found["Landlock"].found
    assert "6.2" in found["Landlock"].fix
    monkeypatch.setattr(doctor, "LIST_MECHANISMS", "print('LIMITS PARENT LANDLOCK SECCOMP V2')")
    found = {part.name: part for part in doctor.check_confinement()}
    assert {part.found for part in found.values()} == {"in force"}


@pytest.mark.parametrize(
    "code",
    [doctor.LOAD_LAVA, doctor.LOAD_ENGINE, doctor.COUNT_GAMES, doctor.LIST_MECHANISMS],
)
def test_every_name_that_a_question_imports_exists(code):
    """The questions are strings: no linter sees a module that has moved."""
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    assert imports
    for node in imports:
        module = importlib.import_module(node.module)
        for alias in node.names:
            assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


@pytest.mark.parametrize("part", doctor.PARTS, ids=lambda part: part.package)
@pytest.mark.slow
def test_every_part_is_the_module_of_its_package(part):
    known = importlib.metadata.packages_distributions()
    assert part.package.lower() in {name.lower() for name in known[part.module]}


def test_it_starts_where_every_other_package_is_broken(tmp_path):
    """All that mtspark depends on raises an error, and the doctor still finds that out."""
    for part in doctor.PARTS:
        (tmp_path / f"{part.module}.py").write_text("raise ImportError('planted')\n")
    code = (
        "from mtspark.workflows import doctor\n"
        "numpy = next(part for part in doctor.PARTS if part.package == 'numpy')\n"
        "findings = (doctor.check_package(numpy, {}), doctor.check_engine())\n"
        "examination = doctor.Examination(findings, doctor.this_machine())\n"
        "print([(part['status'], part['found']) for part in examination.to_json()['parts']])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    numpy, engine = ast.literal_eval(done.stdout)
    assert numpy[0] == engine[0] == "broken"
    assert numpy[1].endswith("ImportError: planted")
    assert engine[1].endswith("ImportError: planted")
