"""The doctor's findings, on packages made for the purpose and on this environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from mtspark.cli import doctor

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


def finding(name: str, status: doctor.Status, essential: bool) -> doctor.Finding:
    fix = "" if status == "ok" else f"bring {name}"
    return doctor.Finding(name, status, "[red]1[/red]", "games", essential, fix)


def test_a_missing_extra_is_no_failure(monkeypatch, capsys):
    findings = [finding("numpy", "ok", True), finding("lava-nc", "missing", False)]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    doctor.doctor_command()
    output = capsys.readouterr().out
    assert "to get lava-nc: bring lava-nc\n" in output
    assert "[red]1[/red]" in output
    assert "The main job works." in output


@pytest.mark.parametrize("status", ["missing", "too old", "broken"])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_missing_essential_is_code_1(monkeypatch, capsys, status, as_json):
    monkeypatch.setattr(doctor, "examine", lambda: [finding("numpy", status, True)])
    with pytest.raises(typer.Exit) as end:
        doctor.doctor_command(as_json=as_json)
    assert end.value.exit_code == 1
    output = capsys.readouterr().out
    if as_json:
        content = json.loads(output)
        assert content["main_job_works"] is False
        assert content["parts"][0]["fix"] == "bring numpy"
        assert content["machine"]["processors"] >= 1
    else:
        assert "The main job does not work" in output


@pytest.mark.slow
def test_this_environment_is_healthy():
    done = subprocess.run(
        [Path(sys.executable).parent / "mtspark", "doctor", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "20"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    parts = {part["name"]: part for part in json.loads(done.stdout)["parts"]}
    assert int(parts["game ROMs"]["found"].split()[0]) > 50
    assert all(part["fix"] for part in parts.values() if part["status"] != "ok")
