"""The house: what a wheel holds, how make behaves, what committed files must not say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHERE = "import mtspark; print(mtspark.__file__)"
ROOMS = ("train", "convert", "deploy", "sim")

pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="needs a git checkout"
)


def checkout_files() -> list[Path]:
    """What a commit of everything here would hold, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = [Path(name) for name in done.stdout.split("\0") if name]
    return [name for name in names if (ROOT / name).is_symlink() or (ROOT / name).is_file()]


def copy_checkout(target: Path) -> Path:
    for name in checkout_files():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name, follow_symlinks=False)
    return target


def run(
    *command: str | Path, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    # A make that called this pytest must not hand its own settings to the make under test.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    environment = {**inherited, **(env or {})}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    checkout = copy_checkout(tmp_path_factory.mktemp("checkout"))
    folder = tmp_path_factory.mktemp("wheel")
    # Without isolation this needs no network; the tools' environment has setuptools.
    done = run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder),
        cwd=checkout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_every_file_of_every_room_once(wheel):
    expected = set()
    for name in checkout_files():
        # What the links in mtspark/ point to is listed under its own top-level folder.
        kept = {".py", ".pyi", ".toml", ".typed", ".j2", ".css", ".js", ".txt"}
        if name.suffix in kept and name.parts[0] in (*ROOMS, "mtspark"):
            inside = name if name.parts[0] == "mtspark" else Path("mtspark", name)
            expected.add(inside.as_posix())
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    assert {name for name in names if ".dist-info/" not in name} == expected


@pytest.mark.slow
def test_the_wheel_imports_without_the_checkout(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import mtspark, mtspark.train.networks.network, mtspark.convert\n"
        "import mtspark.deploy.lava.processes\n"
        "import mtspark.sim, mtspark.cli.main, sys\n"
        "folders = {m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'mtspark'}\n"
        "print(*folders, sep='\\n')"
    )
    done = run(sys.executable, "-c", code, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")})
    assert done.returncode == 0, done.stderr
    assert all(Path(line).is_relative_to(tmp_path / "site") for line in done.stdout.splitlines())


def test_the_editable_installation_imports_every_room(tmp_path):
    code = "import mtspark.train.config.games, mtspark.convert, mtspark.deploy, mtspark.sim"
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.network
def test_the_wheel_installs_in_a_fresh_environment(wheel, tmp_path):
    assert run(sys.executable, "-m", "venv", "fresh", cwd=tmp_path).returncode == 0
    python = tmp_path / "fresh" / "bin" / "python"
    done = run(python, "-m", "pip", "install", "--no-deps", wheel, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run(python, "-m", "pip", "install", "typer", "lazy-loader", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for script, usage in (("mtspark", "mtspark doctor"), ("mtspark-export", "mtspark export")):
        arguments = ["doctor", "--help"] if script == "mtspark" else ["--help"]
        done = run(python.parent / script, *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert usage in done.stdout
    # Nothing that it needs is here: the doctor still starts, and says so.
    done = run(python.parent / "mtspark", "doctor", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "to get torch: " in done.stdout


# make, with a Python that only writes down what it is asked

FAKE_PYTHON = """#!/bin/sh
echo "$*" >> "{log}"
case "$*" in
  *version_info*) exit {too_old} ;;
  *ensurepip*) exit {no_venv} ;;
  "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python && touch .venv/pip ;;
  "-m pip --version") test -e .venv/pip ;;
  *"pip install"*) exit {pip_fails} ;;
esac
"""


class House:
    """A checkout under a path with a space, and a stand-in for Python."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "with space"
        self.log = folder / "calls.log"
        self.python = folder / "fake-python"
        self.root.mkdir()
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.root)
        self.set()

    def set(self, *, too_old: int = 0, no_venv: int = 0, pip_fails: int = 0) -> None:
        text = FAKE_PYTHON.format(
            log=self.log, too_old=too_old, no_venv=no_venv, pip_fails=pip_fails
        )
        for path in (self.python, self.root / ".venv" / "bin" / "python"):
            if path.parent.exists():
                path.write_text(text)
                path.chmod(0o755)

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run("make", f"PYTHON={self.python}", *arguments, cwd=self.root)

    def calls(self, text: str) -> int:
        return sum(text in line for line in self.log.read_text().splitlines())


@pytest.fixture
def house(tmp_path) -> House:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    return House(tmp_path)


def test_make_installs_once(house):
    for _ in range(2):
        done = house.make("test", "PYTEST_ARGS=-k one")
        assert done.returncode == 0, done.stderr
    assert house.calls("-m venv .venv") == 1
    assert house.calls("pip install") == 1
    assert house.calls("-c constraints.txt -e .[dev]") == 1
    assert house.calls("-k one") == 2


def test_make_installs_again_when_the_requirements_change(house):
    assert house.make("test").returncode == 0
    later = time.time() + 60
    os.utime(house.root / "constraints.txt", (later, later))
    assert house.make("test").returncode == 0
    assert house.calls("pip install") == 2


def test_an_interrupted_installation_is_done_again(house):
    house.set(pip_fails=130)
    done = house.make("test")
    assert done.returncode != 0
    assert house.calls("-m pytest") == 0
    assert not (house.root / ".venv" / ".installed").exists()
    house.set()
    assert house.make("test").returncode == 0
    assert house.calls("pip install") == 2


def test_half_an_environment_is_completed(house):
    assert house.make("test").returncode == 0
    (house.root / ".venv" / "pip").unlink()
    (house.root / ".venv" / ".installed").unlink()
    assert house.make("test").returncode == 0
    assert house.calls("-m venv .venv") == 2


@pytest.mark.parametrize(
    ("trouble", "says"),
    [({"too_old": 1}, "is older than 3.10"), ({"no_venv": 1}, "cannot make environments")],
)
def test_an_unfit_python_is_refused_in_one_line(house, trouble, says):
    house.set(**trouble)
    done = house.make("test")
    assert done.returncode != 0
    first, *rest = done.stderr.splitlines()
    assert first.startswith("error: ")
    assert says in first
    assert all(line.startswith("make") for line in rest)
    assert not (house.root / ".venv").exists()


def test_no_python_at_all_is_said(house):
    done = run("make", "PYTHON=no-such-python", "test", cwd=house.root)
    assert done.returncode != 0
    assert done.stderr.startswith("error: no no-such-python: install Python 3.10 or newer")


def test_make_alone_lists_the_targets(house):
    output = house.make().stdout
    for target in ("demo", "test", "test-all", "lint", "clean"):
        assert f"make {target} " in output


@pytest.mark.network
@pytest.mark.slow
def test_make_works_for_real_where_the_path_has_a_space(tmp_path):
    """Into an environment that sees the packages of this one; only what builds is fetched."""
    root = tmp_path / "with space" / "mtspark"
    root.mkdir(parents=True)
    copy_checkout(root)
    assert run(sys.executable, "-m", "venv", root / ".venv", cwd=root).returncode == 0
    (packages,) = (root / ".venv" / "lib").glob("python*/site-packages")
    (packages / "these.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    test = ("make", "test")
    done = run(*test, "PYTEST_ARGS=tests/core --collect-only", cwd=root)
    assert (root / ".venv" / ".installed").exists(), done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    chosen = "tests/core/files -k 'link or links'"
    done = run(*test, f"PYTEST_ARGS={chosen}", cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "pip install" not in done.stdout
    script = root / ".venv" / "bin" / "mtspark"
    assert run(script, "--version", cwd=tmp_path).returncode == 0
    assert f"{root}" in run(root / ".venv" / "bin" / "python", "-c", WHERE, cwd=tmp_path).stdout


# What committed files say

HOSTS = ("pypi" + ".org", "python" + "hosted", "download.pytorch" + ".org", "index" + "-url")
ABSOLUTE = re.compile(r"(?<![\w.~-])/(?:root|home|work|Users|opt)/")


def offences(text: str) -> list[str]:
    """Lines that name a place on somebody's machine, or a package registry."""
    return [
        line
        for line in text.splitlines()
        if ABSOLUTE.search(line) or any(host in line for host in HOSTS)
    ]


def test_no_committed_file_names_a_machine_or_a_registry():
    found = {}
    for name in checkout_files():
        if (ROOT / name).is_symlink():
            continue
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if bad := offences(text):
            found[str(name)] = bad[:3]
    assert not found


@pytest.mark.parametrize("place", ["root", "home", "work"])
def test_a_machine_path_is_recognised(place):
    assert offences(f"see '/{place}/me/x'")
    assert not offences(f"see docs/{place}/x")


def test_a_registry_is_recognised():
    assert all(offences(f"from https://{host}/simple") for host in HOSTS)
