"""``mtspark doctor``: what it prints, and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from mtspark.cli.doctor import doctor_command
from mtspark.workflows import doctor


def examined(monkeypatch: pytest.MonkeyPatch, *findings: doctor.Finding) -> None:
    """Let the doctor find these on this machine."""
    examination = doctor.Examination(findings, doctor.this_machine())
    monkeypatch.setattr(doctor, "examine", lambda: examination)


def finding(name: str, status: doctor.Status, essential: bool) -> doctor.Finding:
    fix = "" if status == "ok" else f"bring {name}"
    return doctor.Finding(name, status, "[red]1[/red]", "games", essential, fix)


def test_a_missing_extra_is_no_failure(monkeypatch, capsys):
    examined(monkeypatch, finding("numpy", "ok", True), finding("lava-nc", "missing", False))
    doctor_command()
    output = capsys.readouterr().out
    assert "to get lava-nc: bring lava-nc\n" in output
    assert "[red]1[/red]" in output
    assert "All essential parts work." in output


@pytest.mark.parametrize("status", ["missing", "too old", "broken"])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_missing_essential_is_code_1(monkeypatch, capsys, status, as_json):
    examined(monkeypatch, finding("numpy", status, True))
    with pytest.raises(typer.Exit) as end:
        doctor_command(as_json=as_json)
    assert end.value.exit_code == 1
    output = capsys.readouterr().out
    if as_json:
        content = json.loads(output)
        assert content["main_job_works"] is False
        assert content["parts"][0]["fix"] == "bring numpy"
        assert content["machine"]["processors"] >= 1
    else:
        assert "An essential part is missing, too old or broken" in output


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
