"""How files are written: whole or not at all; links, devices, pipes, full disks."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.files import atomic
from mtspark.core.files.atomic import (
    UnwritableError,
    check_json_target,
    check_target,
    replacing,
    writable_folder,
    write_bytes,
    write_json,
    write_text,
    write_unused,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links, devices and pipes of POSIX")
WRITE = (
    "import sys; from pathlib import Path; from mtspark.core.files.atomic import write_json as w\n"
)


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "a.json", tmp_path / "link.json"
    target.write_text("before")
    link.symlink_to(target)
    check_target(link)
    write_json(link, [1])
    assert link.is_symlink()
    assert json.loads(target.read_text()) == [1]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.json", "link.json", "real"]


def test_a_link_to_nothing_yet_makes_its_target(tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "deep" / "new.json")
    check_target(link)
    write_json(link, {})
    assert link.is_symlink()
    assert (tmp_path / "deep" / "new.json").read_text() == "{}\n"


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_json_target(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write_json(pipe, {"a": 1})
    reader.join(60)
    assert json.loads(read[0]) == {"a": 1}
    assert pipe.is_fifo()


def test_a_device_is_written_into(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    check_json_target(link)
    write_json(link, {"a": 1})
    assert link.is_symlink()
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("to_file", [False, True])
def test_stdout_gets_the_json_after_what_was_printed(tmp_path: Path, to_file: bool) -> None:
    check = "from mtspark.core.files.atomic import check_json_target as c\n"
    before = "print('before', flush=True); c('/dev/stdout'); "
    code = f"{WRITE}{check}{before}w(Path('/dev/stdout'), [1]); print('after')"
    out = tmp_path / "out.txt"
    with out.open("w") as file:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=file if to_file else subprocess.PIPE,
            text=True,
            check=True,
        )
    text = out.read_text() if to_file else done.stdout
    assert text == "before\n[\n  1\n]\nafter\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


def test_links_in_a_circle_and_folders_are_refused(tmp_path: Path) -> None:
    for one, two in (("a", "b"), ("b", "a")):
        (tmp_path / one).symlink_to(tmp_path / two)
    with pytest.raises(BadFileError, match="cannot be written"):
        write_json(tmp_path / "a", {})
    with pytest.raises(BadRequestError, match="is a folder"):
        check_target(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(BadFileError, match="cannot be written"):
        check_target(tmp_path / "file" / "x.json")


RESULTS = {
    "ours.json": '{\n  "format": "mtspark-run"\n}\n',
    "dense.json": '{"format": "mtspark-run", "rows": [1, 2]}',
    "formatted.json": "[\r\n1]",
    "list.json": "[1, 2]",
    "empty.json": "",
}
OTHERS = {
    "agent.pt": "PK\x03\x04",
    "log.jsonl": '{"steps": 1}\n',
    "log.json": '{"steps": 1}\n{"steps": 2}\n',
    "recipe.toml": "games = []",
    "table.toml": "[network]\nhidden = 3\n",
    "torn.json": '{"steps": ',
    "net.py": "import torch\n",
}


@pytest.mark.parametrize("name", list(RESULTS))
def test_a_result_may_be_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(RESULTS[name], newline="")
    check_json_target(tmp_path / name)
    check_json_target(tmp_path / "new" / name)
    check_json_target(None)


@pytest.mark.parametrize("name", list(OTHERS))
def test_what_is_no_result_is_not_written_over(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(OTHERS[name])
    (tmp_path / "link.json").symlink_to(path)
    for given in (path, tmp_path / "link.json"):
        with pytest.raises(BadRequestError, match=r"is there already and holds no JSON of a resu"):
            check_json_target(given)
    assert path.read_text() == OTHERS[name]


@pytest.mark.parametrize(
    ("catalogue", "owner"), [("manifest.json", ""), ("card.json", "/card.json")]
)
def test_what_a_bundle_or_a_card_lists_is_not_written_over(
    catalogue: str, owner: str, tmp_path: Path
) -> None:
    write_json(tmp_path / catalogue, {"files": {"network.json": "1234"}})
    write_json(tmp_path / "network.json", {})
    write_json(tmp_path / "eval.json", {})
    for name in (catalogue, "network.json"):
        with pytest.raises(BadRequestError, match=f"and belongs to {tmp_path}{owner}; choose"):
            check_json_target(tmp_path / name)
    check_json_target(tmp_path / "eval.json")
    # A manifest of somebody else's says nothing of ours.
    (tmp_path / catalogue).write_text('{"files": 3}')
    check_json_target(tmp_path / "network.json")


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.json"
    target.write_text("before")

    def fail(self: Path, other: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(BadFileError, match="no space left"):
        write_json(target, {"a": 1})
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_device_or_pipe_gets_what_was_written_beside(tmp_path: Path) -> None:
    null = Path("/dev/null")
    with replacing(null) as temporary:
        assert temporary.parent != null.parent
        temporary.write_text("x")
    assert null.is_char_device()
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    with replacing(pipe) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("hello")
    reader.join(60)
    assert read == ["hello"]
    assert [path.name for path in tmp_path.iterdir()] == ["pipe.txt"]


@pytest.mark.parametrize("blocks", [1, 0])
def test_a_writer_killed_in_the_middle_leaves_the_old_file(tmp_path: Path, blocks: int) -> None:
    """Killed while its file is half written, and once it is whole and not yet renamed."""
    target = tmp_path / "a.bin"
    target.write_bytes(b"before")
    code = (
        "import os, signal, sys\n"
        "from mtspark.core.files.atomic import replacing\n"
        "with replacing(sys.argv[1]) as temporary, temporary.open('wb') as file:\n"
        "    file.write(bytes(100_000))\n"
        "    file.flush()\n"
        f"    if {blocks}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    file.close()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"before"
    (leftover,) = set(tmp_path.iterdir()) - {target}
    assert leftover.match(".a.bin.*.tmp.bin")
    write_bytes(target, b"after")
    assert target.read_bytes() == b"after"


def test_an_interruption_or_error_in_the_middle_leaves_nothing_new(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("before")

    def interrupted(problem: BaseException) -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise problem

    for problem in (KeyboardInterrupt(), ValueError("wrong")):
        with pytest.raises(type(problem)):
            interrupted(problem)
    with pytest.raises(UnwritableError, match="no such file"), replacing(target):
        pass
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_writers_of_one_file_do_not_collide(tmp_path: Path) -> None:
    """Two threads and two processes: there is always one whole content under the name."""
    target = tmp_path / "a.txt"
    code = (
        "import sys\n"
        "from mtspark.core.files.atomic import write_text\n"
        "for _ in range(100): write_text(sys.argv[1], sys.argv[2] * 20_000)\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(target), sign]) for sign in "ab"]

    def write(sign: str) -> None:
        for _ in range(100):
            write_text(target, sign * 20_000)

    threads = [threading.Thread(target=write, args=(sign,)) for sign in "cd"]
    for thread in threads:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads) or any(
        process.poll() is None for process in processes
    ):
        if target.exists():
            text = target.read_text()
            assert text in {sign * 20_000 for sign in "abcd"}
            seen.add(text[0])
    assert [process.returncode for process in processes] == [0, 0]
    assert seen
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("existing", [True, False])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    target = tmp_path / "a.txt"
    if existing:
        target.write_text("before")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    # Other processes write here, too.
    monkeypatch.setattr(atomic, "free_disk", lambda _: 3100)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UnwritableError) as caught:
        write_text(target, "content")
    reason = "no space left on device, 3.1 kB free"
    kept = "the file of before is unchanged" if existing else "no part of it is left"
    remedy = "free some space, or choose another file"
    assert str(caught.value) == f"{target}: cannot be written ({reason}); {kept}; {remedy}"
    assert caught.value.reason == reason
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"] * existing


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_device_that_is_full_is_one_line() -> None:
    with pytest.raises(UnwritableError, match=r"/dev/full: cannot be written \(no space left"):
        write_text("/dev/full", "content")


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, *args: object, **options: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    # The superuser may write anywhere, so the operating system's answer is played.
    for name in ("write_bytes", "touch"):
        monkeypatch.setattr(Path, name, refused)
    with pytest.raises(UnwritableError, match=r"a: cannot be written \(permission denied\)"):
        write_text(tmp_path / "a", "")
    with pytest.raises(BadFileError, match=r"permission denied.*choose another folder"):
        writable_folder(tmp_path)
    with pytest.raises(BadFileError, match=r"permission denied.*choose another folder"):
        check_target(tmp_path / "a")


def test_a_folder_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(UnwritableError, match="is a directory"):
        write_text(tmp_path, "x")
    (tmp_path / "file").touch()
    with pytest.raises(UnwritableError, match=r"not a directory|file exists"):
        write_text(tmp_path / "file" / "x", "x")
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


def test_numbers_that_json_does_not_have_are_refused_before_writing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", [float("nan")])
    assert list(tmp_path.iterdir()) == []


def test_the_refusal_survives_a_change_of_process(tmp_path: Path) -> None:
    with pytest.raises(UnwritableError) as caught:
        write_text(tmp_path, "x")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.reason) == (str(caught.value), "is a directory")


@pytest.mark.parametrize("write", [write_bytes, write_unused])
def test_what_killed_writers_left_is_removed(tmp_path: Path, write: Any) -> None:
    """A killed `mtspark run` leaves .run.json.PID.N.tmp.json."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    hour_ago = time.time() - 4000
    names = {
        f".run.json.{ended.pid}.0.tmp.json": False,
        f".run.json.{os.getpid()}.99.tmp.json": True,
        # Names of runs are never used again, so nobody would write that one.
        f".other.json.{ended.pid}.0.tmp.json": write is write_bytes,
        ".run.json.mine.0.tmp.json": True,
    }
    for name in names:
        (tmp_path / name).write_text("{")
        os.utime(tmp_path / name, (hour_ago, hour_ago))
    young = tmp_path / f".run.json.{ended.pid}.1.tmp.json"
    young.write_text("{")
    write(tmp_path / "run.json", b"{}")
    assert young.exists()
    assert {name: (tmp_path / name).exists() for name in names} == names
