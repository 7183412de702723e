"""Installing lava-dl: what can go wrong is one line, and nothing is left half-made."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtspark.core.errors import BackendFailedError, BackendMissingError
from mtspark.deploy.lava.netx_environment import install_lava_dl

CHECKED = '{"lava_dl": "0.6.0", "numpy": "1.26.4", "python": "3.10.13"}'
NO_NETWORK = """WARNING: Retrying after connection broken
ERROR: Could not find a version that satisfies the requirement lava-dl==0.6.0 (from versions: none)
ERROR: No matching distribution found for lava-dl==0.6.0
"""


class Shell:
    """Stands for every process that is started; knows what each was asked."""

    def __init__(self, pip: tuple[int, str] = (0, "")) -> None:
        self.pip, self.python, self.installed = pip, "3 10", False
        self.asked: list[list[str]] = []
        self.places: dict[str, str] = {}

    def __call__(self, command: list[str], **_: Any) -> SimpleNamespace:
        self.asked.append(command)
        code, out, err = 0, "", ""
        if "version_info" in command[-1]:
            out = self.python
        elif "base_prefix" in command[-1]:
            out = self.places.get(command[0], "/usr") + "\n"
        elif "venv" in command:
            made = Path(command[-1]) / "bin" / "python"
            made.parent.mkdir(parents=True, exist_ok=True)
            made.touch()
        elif "install" in command:
            code, err = self.pip
            self.installed = code == 0
        elif self.installed:
            out = CHECKED
        else:
            code, err = 1, "ModuleNotFoundError: No module named 'lava'"
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    free = SimpleNamespace(free=10**12)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    return free


def test_it_is_made_once(
    tmp_path: Path, disk: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell()
    monkeypatch.setattr(subprocess, "run", shell)
    folder = tmp_path / "a" / "b"
    assert install_lava_dl(folder=folder).installed_now
    assert [command[-1] for command in shell.asked if "install" in command] == ["lava-dl==0.6.0"]
    before = len(shell.asked)
    assert not install_lava_dl(folder=folder).installed_now
    assert len(shell.asked) == before + 1


def test_a_named_python_is_that_of_the_environment(
    tmp_path: Path, disk: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an environment that was there already, --python said nothing."""
    shell, folder = Shell(), tmp_path / "env"
    monkeypatch.setattr(subprocess, "run", shell)
    assert install_lava_dl("mine", folder).installed_now
    assert not install_lava_dl("mine", folder).installed_now
    shell.places["other"] = "/elsewhere/python"
    with pytest.raises(BackendFailedError, match=r"made with the Python in /usr, and --python"):
        install_lava_dl("other", folder)
    shell.python = "3 11"
    with pytest.raises(BackendMissingError, match=r"other is no Python 3\.10"):
        install_lava_dl("other", folder)
    assert not install_lava_dl(folder=folder).installed_now


@pytest.mark.parametrize("kind", ["python", "space", "network", "file", "time"])
def test_what_goes_wrong_is_one_line(
    tmp_path: Path, disk: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    shell, folder = Shell(), tmp_path / "env"
    wanted: dict[str, tuple[type[Exception], str]] = {
        "python": (BackendMissingError, "no Python 3.10"),
        "space": (BackendFailedError, "8 GB are needed; name another place with --folder"),
        "network": (BackendFailedError, "No matching distribution found for lava-dl==0.6.0"),
        "file": (BackendFailedError, "no folder that can be written"),
        "time": (BackendFailedError, "did not finish within 3600 s"),
    }
    if kind == "python":
        shell.python = "3 11"
    elif kind == "space":
        disk.free = 10**9
    elif kind == "network":
        shell.pip = (1, NO_NETWORK)
    elif kind == "file":
        (tmp_path / "file").touch()
        folder = tmp_path / "file" / "env"
    monkeypatch.setattr(subprocess, "run", shell)
    if kind == "time":

        def slow(command: list[str], **options: Any) -> SimpleNamespace:
            if "install" in command:
                raise subprocess.TimeoutExpired(command, options["timeout"])
            return shell(command)

        monkeypatch.setattr(subprocess, "run", slow)
    error, text = wanted[kind]
    with pytest.raises(error) as found:
        install_lava_dl(folder=folder)
    assert text in str(found.value)
    assert "\n" not in str(found.value)
    if kind not in ("network", "time"):
        assert not folder.exists()


def test_half_an_environment_is_completed(
    tmp_path: Path, disk: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip stopped: the next call goes on with what is there."""
    shell = Shell(pip=(1, NO_NETWORK))
    monkeypatch.setattr(subprocess, "run", shell)
    with pytest.raises(BackendFailedError):
        install_lava_dl(folder=tmp_path / "env")
    shell.pip = (0, "")
    assert install_lava_dl(folder=tmp_path / "env").installed_now
