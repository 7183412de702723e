"""What a process that reads a file can no longer do: all rules together, and each set alone."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import platform
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtspark.core.confinement.calls import NO_NEW_PRIVILEGES, prctl
from mtspark.core.confinement.landlock import forbid_changing_files, landlock_version
from mtspark.core.confinement.process import Mechanism, mechanisms_here
from mtspark.core.confinement.seccomp import CALLS, forbid_system_calls, processor
from mtspark.core.files.limits import FileLimits
from mtspark.core.files.sandbox import read_guarded

LIMITS = FileLimits(seconds=60, memory_bytes=256 * 2**20)
DONE = "done"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes to confine")


def needs(mechanism: Mechanism) -> None:
    if mechanism not in mechanisms_here():
        pytest.skip(f"this machine has no {mechanism.value}: `mtspark doctor` says so")


def tried(action: Callable[[], Any]) -> str:
    """The kind of error that an action meets."""
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except ValueError as error:
        return str(error)
    return DONE


def in_the_child(actions: dict[str, Callable[[], Any]]) -> dict[str, str]:
    """What each action meets in the process that reads files."""
    read = lambda limits: {name: tried(action) for name, action in actions.items()}  # noqa: E731
    return dict(read_guarded("some.file", read, LIMITS, trust=False))


def after(step: Callable[[], object], actions: dict[str, Callable[[], Any]]) -> dict[str, str]:
    """What each action meets in a fork once one step is taken."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        prctl(NO_NEW_PRIVILEGES, ctypes.c_ulong(1))
        step()
        lines = [f"{name}={tried(action)}" for name, action in actions.items()]
        os.write(send, "\n".join(lines).encode())
        os._exit(0)
    os.close(send)
    with os.fdopen(receive) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return dict(line.split("=", 1) for line in text.splitlines())


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder with a file of the user's own."""
    (tmp_path / "own.txt").write_text("own")
    (tmp_path / "empty").mkdir()
    return tmp_path


def changes(folder: Path) -> dict[str, Callable[[], Any]]:
    own = folder / "own.txt"
    return {
        "write": lambda: os.open(own, os.O_WRONLY),
        "append": lambda: os.open(own, os.O_WRONLY | os.O_APPEND),
        "empty": lambda: os.truncate(own, 0),
        "make": lambda: os.open(folder / "new", os.O_CREAT | os.O_WRONLY),
        "delete": own.unlink,
        "rename": lambda: own.rename(folder / "other"),
        "folder": (folder / "made").mkdir,
        "no folder": (folder / "empty").rmdir,
        "link": lambda: (folder / "link").symlink_to(own),
        "second name": lambda: os.link(own, folder / "second"),
        "pipe": lambda: os.mkfifo(folder / "pipe"),
        "run": lambda: os.execv("/bin/true", ["true"]),
    }


RIGHTS = {
    "mode": lambda folder: (folder / "own.txt").chmod(0o777),
    "time": lambda folder: os.utime(folder / "own.txt", (0, 0)),
    "owner": lambda folder: os.chown(folder / "own.txt", os.getuid(), os.getgid()),
}


def assert_untouched(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"own.txt", "empty"}
    assert (folder / "own.txt").read_text() == "own"


def start_a_thread() -> None:
    try:
        threading.Thread(target=int).start()
    except RuntimeError as error:
        raise OSError(errno.EPERM, str(error)) from error


def send_a_signal_through_a_pipe() -> None:
    """Have SIGURG, which does nothing, sent to the parent once the pipe can be read."""
    reading, writing = os.pipe()
    fcntl.fcntl(reading, 10, signal.SIGURG)  # F_SETSIG
    fcntl.fcntl(reading, fcntl.F_SETOWN, os.getppid())
    fcntl.fcntl(reading, fcntl.F_SETFL, os.O_ASYNC)
    os.write(writing, b"x")


def change_attributes(path: Path) -> None:
    """Ask for no dumps (FS_IOC_SETFLAGS) of a file that is open for reading."""
    fcntl.ioctl(os.open(path, os.O_RDONLY), 0x40086602, struct.pack("l", 0x40))


def fork_and_end() -> None:
    if os.fork() == 0:
        os._exit(0)


def call(number: int, *values: int) -> None:
    """Make a system call by its number."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(ctypes.c_long(number), *map(ctypes.c_long, values)) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def number_of(name: str) -> int:
    machine = processor()
    assert machine is not None
    number = CALLS[name][machine.column]
    assert number is not None
    return number


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux has these rules")
def test_every_rule_of_this_kernel_is_in_force() -> None:
    """Else the tests below would be left out, one and all."""
    status = read_guarded("f", lambda _: Path("/proc/self/status").read_text(), LIMITS, trust=False)
    found, here = dict(line.split(":\t", 1) for line in status.splitlines()), mechanisms_here()
    assert found["NoNewPrivs"] == "1"
    if platform.machine() in ("x86_64", "aarch64"):
        # Root goes on reading the files of others, CAP_DAC_READ_SEARCH, and no more.
        assert {int(found[name], 16) for name in ("CapEff", "CapPrm")} <= {0, 1 << 2}
    assert {Mechanism.LIMITS, Mechanism.PARENT, Mechanism.PRIVILEGES} <= set(here)
    assert (Mechanism.LANDLOCK in here) == (landlock_version() > 0)
    if processor() is not None and "Seccomp" in found:
        assert found["Seccomp"] == "2"
        assert Mechanism.SECCOMP in here


def test_the_reading_child_changes_no_file(victim: Path) -> None:
    if not {Mechanism.LANDLOCK, Mechanism.SECCOMP} & set(mechanisms_here()):
        pytest.skip("this machine has neither Landlock nor seccomp: `mtspark doctor` says so")
    met = in_the_child(changes(victim))
    assert DONE not in met.values(), met
    assert_untouched(victim)


def test_the_reading_child_keeps_its_limits() -> None:
    def more(kind: int) -> Callable[[], None]:
        return lambda: resource.setrlimit(kind, (2**40, 2**40))

    kinds = ("AS", "CPU", "FSIZE", "NOFILE", "NPROC", "CORE")
    met = in_the_child({kind: more(getattr(resource, f"RLIMIT_{kind}")) for kind in kinds})
    assert DONE not in met.values(), met

    def limits(_: FileLimits) -> dict[str, list[int]]:
        return {
            kind: list(resource.getrlimit(getattr(resource, f"RLIMIT_{kind}"))) for kind in kinds
        }

    found = read_guarded("f", limits, LIMITS, trust=False)
    assert found["FSIZE"] == found["CORE"] == found["NPROC"] == [0, 0]
    assert found["CPU"][0] == LIMITS.seconds
    assert LIMITS.seconds < found["CPU"][1] < LIMITS.seconds + 5
    assert found["AS"][0] == found["AS"][1] != resource.RLIM_INFINITY
    assert found["NOFILE"][1] < 10_000


def test_the_reading_child_reaches_no_other_process_and_no_network(victim: Path) -> None:
    needs(Mechanism.SECCOMP)
    parent = os.getpid()
    met = in_the_child(
        {
            "fork": fork_and_end,
            "internet": lambda: socket.socket(socket.AF_INET),
            "local": lambda: socket.socket(socket.AF_UNIX),
            "pair": socket.socketpair,
            "parent": lambda: os.kill(parent, 0),
            "everybody": lambda: os.kill(-1, 0),
            "its group": lambda: os.kill(0, 0),
            "another group": lambda: os.setpgid(0, parent),
            "session": os.setsid,
            "limits of the parent": lambda: resource.prlimit(parent, resource.RLIMIT_CORE, (0, 0)),
            "io_uring": lambda: call(number_of("io_uring_setup"), 8, 0),
            "outlive the parent": lambda: call(number_of("prctl"), 1, 0),
            "shared memory": lambda: call(number_of("shmget"), 0, 4096, 0o1600),
            "shared memory of others": lambda: call(number_of("shmat"), 2**31 - 1, 0, 0),
            "its removal": lambda: call(number_of("shmctl"), 2**31 - 1, 0, 0),
            "messages of others": lambda: call(number_of("msgctl"), 2**31 - 1, 0, 0),
            "semaphores of others": lambda: call(number_of("semctl"), 2**31 - 1, 0, 0, 0),
            "priority of the parent": lambda: os.setpriority(os.PRIO_PROCESS, parent, 0),
            "cores of the parent": lambda: os.sched_setaffinity(parent, {0}),
            "thread": start_a_thread,
            "signal through a pipe": send_a_signal_through_a_pipe,
            "attributes": lambda: change_attributes(victim / "own.txt"),
            **{name: lambda change=change: change(victim) for name, change in RIGHTS.items()},
        }
    )
    assert set(met.values()) == {"EPERM"}, met
    assert_untouched(victim)


def test_what_reading_needs_still_works(victim: Path) -> None:
    np.save(victim / "a.npy", np.arange(5))

    def read(limits: FileLimits) -> dict[str, Any]:
        import mailbox

        return {
            "array": np.load(victim / "a.npy"),
            "text": (victim / "own.txt").read_text(),
            "names": sorted(path.name for path in victim.iterdir()),
            "late import": mailbox.__name__,
            "itself": tried(lambda: os.kill(os.getpid(), 0)),
        }

    found = read_guarded("f", read, LIMITS, trust=False)
    assert np.array_equal(found.pop("array"), np.arange(5))
    assert found == {
        "text": "own",
        "names": ["a.npy", "empty", "own.txt"],
        "late import": "mailbox",
        "itself": DONE,
    }


def test_a_crash_is_still_told_from_a_refusal() -> None:
    with pytest.raises(Exception, match=f"signal {signal.SIGABRT.value}"):
        read_guarded("f", lambda limits: os.abort(), LIMITS, trust=False)


def test_files_that_the_caller_has_open_are_out_of_reach(victim: Path) -> None:
    with (victim / "own.txt").open("r+b", buffering=0) as mine:
        number = mine.fileno()

        def read(limits: FileLimits) -> None:
            os.write(number, b"theirs")

        read_guarded("f", read, LIMITS, trust=False)
        # The file that the child opens next must not be closed by the caller's object.
        assert read_guarded("f", lambda limits: mine.close(), LIMITS, trust=False) is None
        assert mine.read() == b"own"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="nothing lists what is shared")
def test_memory_that_the_caller_shares_is_out_of_reach(tmp_path: Path) -> None:
    with (tmp_path / "kept").open("w+b") as file:
        file.write(bytes(3 * mmap.PAGESIZE))
        file.flush()
        shared = mmap.mmap(-1, mmap.PAGESIZE)
        shared[:3] = b"own"
        kept = mmap.mmap(file.fileno(), 3 * mmap.PAGESIZE)
        # Nobody reads what is beyond its end, not even to copy it.
        file.truncate(10)
        # May be made writable, since the file is.
        seen = mmap.mmap(file.fileno(), 10, access=mmap.ACCESS_READ)
        place = np.frombuffer(seen, np.uint8).ctypes.data

        def read(limits: FileLimits) -> str:
            found = shared[:3].decode()
            shared[:3] = kept[:3] = b"bad"
            library = ctypes.CDLL(None)
            library.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(10), 3)
            ctypes.memmove(place + 5, b"bad", 3)
            return found

        assert read_guarded("f", read, LIMITS, trust=False) == "own"
        assert (shared[:3], kept[:10]) == (b"own", bytes(10))


def test_a_limit_that_the_system_does_not_keep_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS accepts a limit of address space and lets everybody pass it."""
    from mtspark.core.confinement import process

    kept = process.set_hard_limit
    monkeypatch.setattr(
        process,
        "set_hard_limit",
        lambda kind, *values: kind == resource.RLIMIT_AS or kept(kind, *values),
    )
    assert Mechanism.LIMITS not in process.mechanisms_here()


def test_a_reader_within_the_child_needs_no_other_child() -> None:
    def read(limits: FileLimits) -> int:
        return int(read_guarded("inner", lambda inner: os.getpid(), LIMITS, trust=False))

    assert read_guarded("outer", read, LIMITS, trust=False) != os.getpid()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux ends it with its parent")
def test_the_reading_child_ends_with_its_parent() -> None:
    code = (
        "import os, time\n"
        "from mtspark.core.files.sandbox import read_guarded\n"
        "fork = os.fork\n"
        "def noted():\n"
        "    child = fork()\n"
        "    if child: print(child, flush=True)\n"
        "    return child\n"
        "os.fork = noted\n"
        "read_guarded('f', lambda limits: time.sleep(600), trust=False)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        # Once it has a group of its own, it has been through the step before, too.
        wait_until(lambda: os.getpgid(child) == child)
        wait_until(lambda: Path(f"/proc/{child}/status").read_text().find("NoNewPrivs:\t1") > 0)
        parent.kill()
        parent.wait()
        wait_until(lambda: ended(child))


def test_what_the_reading_child_started_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing keeps it from starting processes."""
    from mtspark.core.confinement import process

    monkeypatch.setattr(process, "forbid_system_calls", lambda number: False)
    monkeypatch.setattr(process, "_limit", lambda bounds: True)

    def read(limits: FileLimits) -> int:
        other = os.fork()
        if other == 0:
            os.closerange(0, 1000)
            time.sleep(600)
            os._exit(0)
        return other

    other = read_guarded("f", read, LIMITS, trust=False)
    try:
        wait_until(lambda: ended(other), tries=200)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(other, signal.SIGKILL)


def wait_until(holds: Callable[[], bool], tries: int = 1200) -> None:
    for _ in range(tries):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("still not")


def ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def test_landlock_alone_keeps_files_as_they_are(victim: Path) -> None:
    needs(Mechanism.LANDLOCK)
    met = after(forbid_changing_files, changes(victim))
    # Whoever became another program has told nothing.
    assert set(met) == set(changes(victim))
    if landlock_version() < 3:
        # Truncating by name came with the third version.
        assert met.pop("empty") == DONE
    assert set(met.values()) <= {"EACCES", "EXDEV"}, met
    if landlock_version() >= 3:
        assert_untouched(victim)


def test_seccomp_alone_keeps_files_as_they_are(victim: Path) -> None:
    needs(Mechanism.SECCOMP)
    met = after(lambda: forbid_system_calls(os.getpid()), changes(victim))
    assert set(met.values()) == {"EPERM"}, met
    assert_untouched(victim)


def test_a_kernel_without_the_rules_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither is there, the limits still hold, and what is missing is missing in the list."""
    from mtspark.core.confinement import process

    monkeypatch.setattr(process, "forbid_changing_files", lambda: False)
    monkeypatch.setattr(process, "forbid_system_calls", lambda number: False)
    found = process.mechanisms_here()
    assert Mechanism.LIMITS in found
    assert not {Mechanism.LANDLOCK, Mechanism.SECCOMP} & set(found)


def test_root_lifts_no_limit_without_the_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid() != 0 or platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("for root on a processor whose capset is known")
    from mtspark.core.confinement import process

    monkeypatch.setattr(process, "forbid_system_calls", lambda number: False)
    met = in_the_child({"core": lambda: resource.setrlimit(resource.RLIMIT_CORE, (9, 9))})
    assert met["core"] != DONE
