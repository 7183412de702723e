"""Where --json may point: files, links, devices, pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.files.atomic import check_target, write_json

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
    check_target(pipe)
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
    check_target(link)
    write_json(link, {"a": 1})
    assert link.is_symlink()
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("to_file", [False, True])
def test_stdout_gets_the_json_after_what_was_printed(tmp_path: Path, to_file: bool) -> None:
    code = WRITE + "print('before'); w(Path('/dev/stdout'), [1]); print('after')"
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
