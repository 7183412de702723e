"""Bundles that are replaced: killed writers, several writers, runs and files of the user's own."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mtspark.core.errors import BadFileError, BadRequestError, MtsparkError
from mtspark.core.files import folders, set_policy, write_json
from mtspark.deploy import bundle as bundles
from mtspark.deploy.bundle import add_run, check_bundle_target, load_bundle, write_bundle
from mtspark.sim.results import latest_runs
from tests.support.networks import three_neurons

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks and links of POSIX")

BEFORE, AFTER = three_neurons(), replace(three_neurons(), time_steps=5)
EVENTS = ("os.", "shutil.", "mtspark.exchange", "open")
KILLED = 77


@pytest.fixture(params=["exchanged", pytest.param("renamed twice", marks=pytest.mark.slow)])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How folders are replaced: in one step, or where the system cannot, in two."""
    if request.param == "renamed twice":
        monkeypatch.setattr(folders, "exchange", lambda one, other: False)
    elif folders._renameat2() is None:
        pytest.skip("this system exchanges no folders")
    return str(request.param)


@pytest.fixture
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave flushing out where processes are killed, not computers: it takes most of the time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle with a run, a folder and a link of the user's own."""
    written = write_bundle(tmp_path / "a", BEFORE)
    add_run(written, "run.json", b"{}")
    (written.folder / "notes.txt").write_text("mine")
    (written.folder / "films").mkdir()
    (written.folder / "films" / "pong.gif").write_bytes(b"GIF")
    (tmp_path / "elsewhere").mkdir()
    (written.folder / "link").symlink_to(tmp_path / "elsewhere")
    return written.folder


def own_things_are_there(folder: Path) -> None:
    assert (folder / "runs" / "run.json").read_text() == "{}"
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "films" / "pong.gif").read_bytes() == b"GIF"
    assert (folder / "link").is_symlink()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def in_a_child(work: Callable[[], object], below: Path, step: int, end: Callable[[], None]) -> int:
    """Do `work` in a fork that calls `end` before its `step`-th change below a folder."""
    child = os.fork()
    if child == 0:
        me, seen = os.getpid(), count()

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if os.getpid() != me or not event.startswith(EVENTS):
                return
            if not any(isinstance(one, str) and str(below) in one for one in map(str, arguments)):
                return
            if event == "open" and arguments[1] in ("r", "rb", None):
                return
            if next(seen) == step:
                end()

        code = 3
        with contextlib.suppress(BaseException):
            sys.addaudithook(hook)
            work()
            code = 0
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("unflushed")
@pytest.mark.parametrize(
    "stride", [pytest.param(1, marks=pytest.mark.slow), pytest.param(5, id="each-fifth")]
)
def test_a_replacement_killed_at_any_step_loses_nothing(
    tmp_path: Path, folder: Path, way: str, stride: int
) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "a", kept, symlinks=True)
    seen = set()
    for step in count(0, stride):
        shutil.rmtree(folder)
        shutil.copytree(kept, folder, symlinks=True)
        code = in_a_child(
            lambda: write_bundle(folder, AFTER, replace=True), tmp_path, step, end=die
        )
        if way == "exchanged":
            assert (folder / "manifest.json").is_file()
        # The next start, of whatever command.
        read = load_bundle(folder)
        seen.add(read.network.time_steps)
        own_things_are_there(folder)
        assert not folders.leftovers(folder, ".old")
        if code == 0:
            break
        assert code == -signal.SIGKILL
        check_bundle_target(folder, replace=True)
        write_bundle(folder, AFTER, replace=True)
        own_things_are_there(folder)
        assert names(tmp_path) == ["a", "elsewhere", "kept"]
    assert step > 20
    assert seen == {BEFORE.time_steps, AFTER.time_steps}


@pytest.mark.usefixtures("unflushed")
@pytest.mark.slow
def test_a_replacement_interrupted_at_any_step_leaves_nothing_behind(
    tmp_path: Path, folder: Path, way: str
) -> None:
    for step in count(step=2):
        code = in_a_child(
            lambda: write_bundle(folder, AFTER, replace=True), tmp_path, step, end=interrupt
        )
        load_bundle(folder)
        own_things_are_there(folder)
        assert not folders.leftovers(folder, ".old")
        if code == 0:
            break
    assert step > 20
    assert names(tmp_path) == ["a", "elsewhere"]


def test_a_bundle_without_its_name_gets_it_back_when_it_is_read(
    tmp_path: Path, folder: Path
) -> None:
    """Killed between two renames, where folders cannot be exchanged."""
    folder.rename(tmp_path / ".a.1234.0.old")
    (tmp_path / ".a.1234.0.mtspark-tmp").mkdir()
    assert load_bundle(folder).network.time_steps == BEFORE.time_steps
    own_things_are_there(folder)
    assert names(tmp_path) == ["a", "elsewhere"]


def test_what_an_older_version_left_is_recovered(tmp_path: Path, folder: Path) -> None:
    """Killed between its two renames: no bundle, only `.a.PID.old` and `.a.PID.tmp`."""
    folder.rename(tmp_path / ".a.1234.old")
    shutil.copytree(tmp_path / ".a.1234.old", tmp_path / ".a.1234.tmp")
    write_bundle(folder, AFTER, replace=True)
    own_things_are_there(folder)
    assert names(tmp_path) == ["a", "elsewhere"]


def test_leftovers_that_are_no_bundles_are_left_alone(tmp_path: Path, folder: Path) -> None:
    (tmp_path / ".a.1.old").mkdir()
    (tmp_path / ".a.1.old" / "thesis.txt").write_text("years of work")
    (tmp_path / ".a.2.old").symlink_to(tmp_path / "elsewhere")
    write_bundle(folder, AFTER, replace=True)
    assert (tmp_path / ".a.1.old" / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / ".a.2.old").is_symlink()


@pytest.mark.parametrize("name", [".a.1.tmp", ".a.1.2.tmp"])
def test_a_folder_of_the_users_own_is_not_taken_for_garbage(
    tmp_path: Path, folder: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("years of work")
    check_bundle_target(folder, replace=True)
    write_bundle(folder, AFTER, replace=True)
    assert (tmp_path / name / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["n" * 255, "ö" * 127, "a." + "x" * 253, "n" * 250 + ".json"])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    write_bundle(folder, BEFORE)
    add_run(load_bundle(folder), "r" * 250 + ".json", b"{}")
    code = in_a_child(lambda: write_bundle(folder, AFTER, replace=True), tmp_path, 12, end=die)
    assert code == -signal.SIGKILL
    assert len(names(tmp_path)) > 1
    write_bundle(folder, AFTER, replace=True)
    assert names(tmp_path) == [name]
    assert (load_bundle(folder).runs / ("r" * 250 + ".json")).read_bytes() == b"{}"
    write_json(tmp_path / ("j" * 250 + ".json"), {})
    write_json(tmp_path / ("j." + "x" * 253), {})


def test_of_two_exports_with_force_both_are_done(folder: Path, way: str) -> None:
    """The second may replace what the first wrote before that was read back."""
    failed: list[BaseException] = []

    def export(steps: int) -> None:
        try:
            for _ in range(4):
                made = write_bundle(folder, replace(BEFORE, time_steps=steps), replace=True)
                assert made.network.time_steps == steps
                assert made.folder == folder
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=export, args=(steps,)) for steps in (3, 7, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    own_things_are_there(folder)


def test_what_cannot_be_read_back_replaces_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_bundle(folder).network_hash
    # A command that ran in this process before has set the limits.
    set_policy(None)
    monkeypatch.setenv("MTSPARK_LIMIT_FILE_BYTES", "100K")
    with pytest.raises(BadFileError, match=r"/a/large.onnx: .* file bytes") as caught:
        write_bundle(folder, AFTER, lambda path: large(path / "large.onnx"), replace=True)
    assert "tmp" not in str(caught.value).replace(str(folder), "")
    assert load_bundle(folder).network_hash == before
    own_things_are_there(folder)


def large(path: Path) -> None:
    path.write_bytes(bytes(2**18))


def test_a_folder_that_is_seen_between_two_renames_is_no_strangers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes in the moment in which its manifest is looked for, and comes again."""
    plain = bundles._listed

    def gone(path: Path) -> dict[str, Any]:
        monkeypatch.setattr(bundles, "_listed", plain)
        path.rename(path.with_name("b"))
        with pytest.raises(BadFileError) as error:
            plain(path)
        shutil.copytree(path.with_name("b"), path, symlinks=True)
        raise error.value

    monkeypatch.setattr(bundles, "_listed", gone)
    with pytest.raises(BadRequestError, match="exists already"):
        check_bundle_target(folder)


def test_runs_that_are_being_moved_are_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the exchange and the move a bundle has no runs for a moment."""
    bundle, found = load_bundle(folder), []
    move, looking = folders._move, threading.Event()

    def look() -> None:
        looking.set()
        found.extend(bundles.run_files(bundle))

    reader = threading.Thread(target=look)

    def moved(*arguments: Any) -> None:
        if not reader.is_alive() and not found:
            reader.start()
            looking.wait()
            reader.join(0.05)
        move(*arguments)

    monkeypatch.setattr(folders, "_move", moved)
    write_bundle(folder, AFTER, replace=True)
    reader.join()
    assert [path.name for path in found] == ["run.json"]


def test_a_mount_point_is_refused_before_work_begins(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = "is a mount point, which cannot be replaced; export to a folder in it"
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == folder)
    with pytest.raises(BadRequestError, match=refusal):
        check_bundle_target(folder, replace=True)
    monkeypatch.undo()

    def busy(one: Path, other: Path) -> bool:
        raise OSError(errno.EBUSY, "Device or resource busy", str(one), None, str(other))

    # What bind mounts of one file system answer, which do not look like mount points.
    monkeypatch.setattr(folders, "exchange", busy)
    with pytest.raises(BadRequestError, match=refusal):
        write_bundle(folder, AFTER, replace=True)
    assert load_bundle(folder).network.time_steps == BEFORE.time_steps
    assert names(folder.parent) == ["a", "elsewhere"]


def test_a_sparse_file_is_not_hashed(folder: Path) -> None:
    """A stranger's manifest may list it; hashing a terabyte of nothing takes hours."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["big.onnx"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with (folder / "big.onnx").open("wb") as file:
        file.truncate(2**40)
    write_bundle(folder, AFTER, replace=True)
    assert (folder / "big.onnx").stat().st_size == 2**40


def test_runs_stored_during_replacements_are_all_there(folder: Path, way: str) -> None:
    """Two threads and a process store runs, often of one name, while the bundle is replaced."""
    bundle, stored = load_bundle(folder), []
    child = os.fork()
    if child == 0:
        for number in range(50):
            add_run(bundle, "same.json", b"child %d" % number)
        os._exit(0)

    def store(thread: int) -> None:
        for number in range(50):
            data = b"%d %d" % (thread, number)
            stored.append((add_run(bundle, "same.json", data), data))

    threads = [threading.Thread(target=store, args=(thread,)) for thread in range(2)]
    for thread in threads:
        thread.start()
    times = 0
    while any(thread.is_alive() for thread in threads) or times < 3:
        write_bundle(folder, (BEFORE, AFTER)[times % 2], replace=True)
        times += 1
    assert os.waitpid(child, 0)[1] == 0
    write_bundle(folder, BEFORE, replace=True)
    assert len(stored) == 100
    contents = sorted(path.read_bytes() for path in (folder / "runs").glob("[!.]*.json"))
    expected = [data for _, data in stored] + [b"child %d" % number for number in range(50)]
    assert contents == sorted([*expected, b"{}"])
    own_things_are_there(folder)


@pytest.mark.parametrize("replaced", [True, False])
def test_a_run_that_moves_before_its_writer_has_finished_is_stored_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """The old bundle leaves its name between the two steps in which a new file gets its own."""
    link, moved = os.link, count()

    def linked(source: Path, target: Path, **options: Any) -> None:
        link(source, target, **options)
        if Path(target).name.startswith("new") and next(moved) == 0:
            folder.rename(folder.with_name(".a.1234.0.old"))

    monkeypatch.setattr(os, "link", linked)
    add_run(load_bundle(folder), "new.json", b"new")
    assert next(moved) > 0
    if replaced:
        write_bundle(folder, AFTER, replace=True)
    load_bundle(folder)
    found = {path.name: path.read_text() for path in (folder / "runs").iterdir()}
    assert found == {"run.json": "{}", "new.json": "new"}


def test_a_run_stored_while_its_folder_is_emptied_moves_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run is stored in the new bundle, one in the old one just before its folder goes."""
    bundle, late = load_bundle(folder), []
    place, flush = folders._place, folders.flush_folder

    def placed(fresh: Path, target: Path) -> None:
        place(fresh, target)
        add_run(bundle, "new.json", b"new")

    def flushed(path: Path) -> None:
        old = folders.leftovers(folder, ".old")
        if path.name == "runs" and old and not (old[0] / "runs" / "run.json").exists() and not late:
            late.append(old[0] / "runs" / "late.json")
            late[0].write_text("late")
        flush(path)

    monkeypatch.setattr(folders, "_place", placed)
    monkeypatch.setattr(folders, "flush_folder", flushed)
    write_bundle(folder, AFTER, replace=True)
    assert late
    found = {path.name: path.read_text() for path in (folder / "runs").iterdir()}
    assert found == {"run.json": "{}", "new.json": "new", "late.json": "late"}


def test_a_bundle_that_is_replaced_while_it_is_read_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is the old one's, the network the new one's: no reason to refuse either."""
    plain, times = bundles._manifest_files, count()

    def replaced_now(path: Path, manifest: Any) -> dict[str, Any]:
        files = plain(path, manifest)
        if next(times) == 0:
            monkeypatch.setattr(bundles, "_manifest_files", plain)
            write_bundle(folder, AFTER, replace=True)
        return files

    monkeypatch.setattr(bundles, "_manifest_files", replaced_now)
    assert load_bundle(folder, trust=True).network.time_steps == AFTER.time_steps


def test_a_run_outlives_a_bundle_that_was_moved_away(tmp_path: Path, folder: Path) -> None:
    bundle = load_bundle(folder)
    folder.rename(tmp_path / "elsewhere" / "a")
    assert add_run(bundle, "late.json", b"{}").read_bytes() == b"{}"


def test_of_two_exports_without_force_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, look = threading.Barrier(2), check_bundle_target

    def looked(*arguments: Any, **options: Any) -> None:
        look(*arguments, **options)
        both.wait(60)

    monkeypatch.setattr(bundles, "check_bundle_target", looked)
    answers: dict[int, object] = {}

    def export(steps: int) -> None:
        try:
            answers[steps] = write_bundle(tmp_path / "a", replace(BEFORE, time_steps=steps))
        except MtsparkError as error:
            answers[steps] = error

    threads = [threading.Thread(target=export, args=(steps,)) for steps in (3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (refused,) = [one for one in answers.values() if isinstance(one, BadRequestError)]
    assert "exists already" in str(refused)
    (steps,) = [steps for steps, one in answers.items() if isinstance(one, bundles.Bundle)]
    assert load_bundle(tmp_path / "a").network.time_steps == steps
    assert names(tmp_path) == ["a"]


def more(*files: str) -> Callable[[Path], None]:
    def write(target: Path) -> None:
        for name in files:
            (target / name).write_text("the bundle's")

    return write


def test_a_file_of_the_users_own_is_neither_lost_nor_the_end_of_the_bundle(folder: Path) -> None:
    mine = folder / "network.onnx"
    mine.write_text("my own")
    before = load_bundle(folder).network_hash
    for look in (
        lambda: check_bundle_target(folder, replace=True, names=["network.onnx"]),
        lambda: write_bundle(folder, AFTER, more("network.onnx"), replace=True),
    ):
        with pytest.raises(BadRequestError, match=r"network\.onnx: is not the bundle's own.*move"):
            look()
    assert mine.read_text() == "my own"
    assert load_bundle(folder).network_hash == before
    # What the message says helps.
    mine.rename(folder / "mine.onnx")
    write_bundle(folder, AFTER, more("network.onnx"), replace=True)
    assert (folder / "mine.onnx").read_text() == "my own"
    assert (folder / "network.onnx").read_text() == "the bundle's"
    load_bundle(folder)


def test_a_file_that_was_altered_is_kept_under_another_name(folder: Path) -> None:
    write_bundle(folder, BEFORE, more("a.onnx", "gone.onnx"), replace=True)
    for name in ("a.onnx", "gone.onnx"):
        (folder / name).write_text("mine now")
    with pytest.raises(BadFileError, match="export again with --force, which keeps this file"):
        load_bundle(folder)
    written = write_bundle(folder, AFTER, more("a.onnx"), replace=True)
    assert written.set_aside == ("a-2.onnx",)
    assert (folder / "a-2.onnx").read_text() == "mine now"
    assert (folder / "gone.onnx").read_text() == "mine now"
    assert (folder / "a.onnx").read_text() == "the bundle's"
    assert load_bundle(folder).set_aside == ()


@pytest.mark.parametrize("content", ['{"name": "a web app"}', "[]", '{"format": 1, "files": {}}'])
def test_another_tools_manifest_makes_no_bundle(tmp_path: Path, content: str) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "manifest.json").write_text(content)
    with pytest.raises(BadRequestError, match="is no mtspark bundle"):
        write_bundle(tmp_path / "app", BEFORE, replace=True)
    assert (tmp_path / "app" / "manifest.json").read_text() == content


def test_a_writer_waits_for_another_and_says_so_in_the_end(folder: Path) -> None:
    above = os.open(folder.parent, os.O_RDONLY)
    fcntl.flock(above, fcntl.LOCK_EX)
    with (
        pytest.raises(BadRequestError, match="another process is writing there"),
        folders.folder_lock(folder, wait_s=0.05),
    ):
        pass
    # Runs are stored, and bundles are read, all the same.
    add_run(load_bundle(folder), "while.json", b"{}")
    os.close(above)
    with folders.folder_lock(folder, wait_s=0.0):
        pass


def test_where_folders_cannot_be_locked_a_file_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def files_only(descriptor: int, kind: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(9, "Bad file descriptor")
        lock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", files_only)
    with (
        folders.folder_lock(folder),
        pytest.raises(BadRequestError, match="another process is writing there"),
        folders.folder_lock(folder, wait_s=0.0),
    ):
        pass
    write_bundle(folder, AFTER, replace=True)
    own_things_are_there(folder)


def test_everything_is_on_the_disk_before_it_takes_the_name(
    folder: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[int] = set()
    fsync, place = os.fsync, folders._place

    def noted(descriptor: int) -> None:
        flushed.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def checked(fresh: Path, target: Path) -> None:
        assert {path.stat().st_ino for path in (fresh, *fresh.iterdir())} <= flushed
        flushed.clear()
        place(fresh, target)
        assert target.parent.stat().st_ino in flushed
        assert fresh.name.startswith(".a.")

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(folders, "_place", checked)
    write_bundle(folder, AFTER, more("more.txt"), replace=True)
    assert folder.stat().st_ino in flushed


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[Path]:
    """A folder that no bundle may lead to."""
    path = tmp_path / "secret"
    path.mkdir()
    (path / "run.json").write_text("secret")
    yield path
    assert names(path) == ["run.json"]


def test_links_inside_a_bundle_are_not_followed(folder: Path, secret: Path) -> None:
    bundle = load_bundle(folder)
    (folder / "runs" / "link.json").symlink_to(secret / "run.json")
    (folder / "runs" / "run.json").unlink()
    assert latest_runs(bundle) == ([], 0)
    shutil.rmtree(folder / "runs")
    (folder / "runs").symlink_to(secret)
    for look in (
        lambda: latest_runs(bundle),
        lambda: bundles.writable_runs(bundle),
        lambda: add_run(bundle, "x.json", b"{}"),
    ):
        with pytest.raises(BadFileError, match="is a link, and links inside a bundle"):
            look()
    write_bundle(folder, AFTER, replace=True)
    assert (folder / "runs").is_symlink()


def test_a_bundle_that_cannot_take_runs_is_to_be_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another folder for the output would change nothing: runs go into the bundle."""
    bundle = load_bundle(folder)

    def readonly(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "touch", readonly)
    monkeypatch.setattr(bundles, "write_unused", readonly)
    for write in (lambda: bundles.writable_runs(bundle), lambda: add_run(bundle, "x.json", b"{}")):
        with pytest.raises(BadFileError, match=r"runs: cannot be written \(read-only.*copy it to"):
            write()


def test_a_half_written_run_is_none(folder: Path) -> None:
    """Of a writer that was killed."""
    (folder / "runs" / ".x.json.1.0.tmp.json").write_text("{")
    (folder / "runs" / "run.json").unlink()
    assert latest_runs(load_bundle(folder)) == ([], 0)


def test_a_manifest_that_is_a_link_makes_no_bundle(folder: Path, tmp_path: Path) -> None:
    (folder / "manifest.json").rename(tmp_path / "other")
    (folder / "manifest.json").symlink_to(tmp_path / "other")
    with pytest.raises(BadRequestError, match="is no mtspark bundle"):
        write_bundle(folder, AFTER, replace=True)
    assert json.loads((tmp_path / "other").read_text())["format"] == "mtspark-bundle"


def test_runs_are_proven_again_in_a_bundle_that_is_replaced_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, proven, asked = load_bundle(folder), bundles.writable_folder, count()

    def replaced_at_first(path: Path, remedy: str) -> Path:
        if next(asked) == 0:
            write_bundle(folder, AFTER, replace=True)
            raise BadFileError("the proof went with the old folder")
        return proven(path, remedy)

    monkeypatch.setattr(bundles, "writable_folder", replaced_at_first)
    assert bundles.writable_runs(bundle) == bundle.runs
    assert next(asked) == 2
    # Where nobody replaces it, the error is what it was.
    monkeypatch.setattr(
        bundles, "writable_folder", lambda *_: (_ for _ in ()).throw(BadFileError("full"))
    )
    with pytest.raises(BadFileError, match="full"):
        bundles.writable_runs(bundle)


def test_what_replaces_a_run_is_in_the_bundle_that_came_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, written, asked = load_bundle(folder), bundles.write_bytes, count()

    def replaced_at_first(path: Path, data: bytes) -> None:
        if path.name == "a.npz" and next(asked) == 0:
            write_bundle(folder, AFTER, replace=True)
            raise BadFileError("its folder went")
        written(path, data)

    monkeypatch.setattr(bundles, "write_bytes", replaced_at_first)
    for content in (b"one", b"two"):
        assert bundles.replace_run(bundle, "a.npz", content).read_bytes() == content
    assert load_bundle(folder).network.time_steps == AFTER.time_steps
    assert names(folder / "runs") == ["a.npz", "run.json"]
    own_things_are_there(folder)


@pytest.mark.parametrize("lost", [True, False])
def test_a_run_is_in_its_place_after_a_bundle_is_replaced_in_every_try(
    folder: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    bundle, written, asked = load_bundle(folder), bundles.write_bytes, count()

    def replaced_again_and_again(path: Path, data: bytes) -> None:
        if path.name == "a.npz" and next(asked) < bundles._ATTEMPTS:
            if not lost:
                # What stood there goes with the old folder, as it does between two renames.
                written(path, b"half")
            with contextlib.suppress(BadRequestError):
                write_bundle(folder, AFTER, replace=True)
            if lost:
                raise BadFileError("its folder went")
        else:
            written(path, data)

    monkeypatch.setattr(bundles, "write_bytes", replaced_again_and_again)
    assert bundles.replace_run(bundle, "a.npz", b"one").read_bytes() == b"one"
    assert next(asked) == bundles._ATTEMPTS + 1
    assert names(folder / "runs") == ["a.npz", "run.json"]
    own_things_are_there(folder)


def test_a_run_waits_for_the_one_that_replaces_its_bundle_without_an_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, identities = load_bundle(folder), count()
    monkeypatch.setattr(bundles, "_identity", lambda _: (next(identities), 0))
    monkeypatch.setattr(bundles, "folder_lock", partial(folders.folder_lock, wait_s=0.0))
    with folders.folder_lock(folder), pytest.raises(BadRequestError, match="is writing there"):
        bundles.replace_run(bundle, "a.npz", b"one")
    assert bundles.replace_run(bundle, "a.npz", b"one").read_bytes() == b"one"
