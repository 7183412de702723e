from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtspark.core.errors import BackendFailedError, BadFileError, BadNetworkError, MtsparkError
from mtspark.core.files import sandbox
from mtspark.core.files.limits import FileLimits
from mtspark.core.files.sandbox import BUG, read_guarded

LIMITS = FileLimits(seconds=60, memory_bytes=256 * 2**20)
ONE_SECOND = FileLimits(seconds=1, memory_bytes=256 * 2**20)


def refused(read: Any, limits: FileLimits = LIMITS) -> str:
    with pytest.raises(MtsparkError) as caught:
        read_guarded("some.file", read, limits)
    text = str(caught.value)
    assert "some.file" in text
    assert "\n" not in text
    return text


def test_a_value_comes_from_another_process() -> None:
    value = read_guarded("f", lambda limits: {"pid": os.getpid(), "a": np.arange(9)}, LIMITS)
    assert value["pid"] != os.getpid()
    assert np.array_equal(value["a"], np.arange(9))
    assert read_guarded("f", lambda limits: os.getpid(), LIMITS, trust=True) == os.getpid()


@pytest.mark.parametrize("header", [b"5", b"[1]", b'{"f": "1"}', b"{", b'{"d": [["text", 7]]}'])
def test_an_answer_of_another_form_is_refused_with_the_file_s_name(header: bytes) -> None:
    """A file that took its reader over says what it likes."""

    def read(limits: FileLimits) -> None:
        for number in os.listdir("/proc/self/fd"):  # noqa: PTH208
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{number}").startswith("pipe:"):  # noqa: PTH115
                    os.write(int(number), len(header).to_bytes(8, "little") + header)
        os._exit(0)

    if Path("/proc/self/fd").exists():
        with pytest.raises(BadFileError) as caught:
            read_guarded("some.file", read, LIMITS)
        assert header.endswith(b"7]]}") or "some.file" in str(caught.value)


def test_our_errors_keep_their_kind_and_text() -> None:
    def read(limits: FileLimits) -> None:
        raise BadNetworkError("some.file: breaks a rule\nof two lines")

    with pytest.raises(BadNetworkError, match="breaks a rule of two lines"):
        read_guarded("some.file", read, LIMITS)


def test_other_errors_become_one_line_of_ours() -> None:
    def read(limits: FileLimits) -> None:
        raise ZeroDivisionError("first\nsecond")

    assert BUG in refused(read)
    with pytest.raises(BadFileError, match="ZeroDivisionError"):
        read_guarded("some.file", read, LIMITS, trust=True)


def test_memory_is_limited() -> None:
    assert "memory" in refused(lambda limits: np.ones(2**30).sum())


def test_memory_of_many_small_objects_is_limited() -> None:
    assert "memory" in refused(lambda limits: [bytes(1000) for _ in range(10**7)])


def test_processor_time_is_limited() -> None:
    def read(limits: FileLimits) -> None:
        while True:
            pass

    assert "took more than 1 s" in refused(read, ONE_SECOND)


@pytest.mark.slow
def test_waiting_is_limited() -> None:
    began = time.monotonic()
    assert "took more than 1 s" in refused(lambda limits: time.sleep(60), ONE_SECOND)
    assert time.monotonic() - began < 50


def test_a_crash_is_one_line() -> None:
    text = refused(lambda limits: os.kill(os.getpid(), signal.SIGSEGV))
    assert f"signal {signal.SIGSEGV.value}" in text


def test_the_child_writes_no_file(tmp_path: Path) -> None:
    refused(lambda limits: (tmp_path / "made").write_bytes(b"x" * 10))
    assert not (tmp_path / "made").exists() or not (tmp_path / "made").stat().st_size


def test_a_value_that_cannot_be_handed_over_is_refused() -> None:
    with pytest.raises(BadFileError, match="cannot be handed over"):
        read_guarded("f", lambda limits: object(), LIMITS)


def test_a_recursion_is_one_line() -> None:
    def read(limits: FileLimits) -> Any:
        return read(limits)

    assert "nested too deeply" in refused(read)


def test_no_child_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[int] = []
    fork = os.fork

    def noted() -> int:
        child = fork()
        children.append(child)
        return child

    monkeypatch.setattr(os, "fork", noted)
    for read in (lambda limits: 1, lambda limits: os._exit(3)):
        with contextlib.suppress(BadFileError):
            read_guarded("f", read, LIMITS)
    assert len(children) == 2
    for child in children:
        with pytest.raises(ChildProcessError):
            os.waitpid(child, os.WNOHANG)


def test_ctrl_c_in_the_moment_of_the_fork_ends_the_child_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fork, caller = os.fork, os.getpid()

    def slowly() -> int:
        child = fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return child

    monkeypatch.setattr(os, "fork", slowly)
    # As in a terminal; tests in the background of a script ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        text = refused(lambda limits: time.sleep(30))
        assert f"signal {signal.SIGINT.value}" in text
    except BaseException:
        if os.getpid() != caller:
            # The child came back up here: as a second run of the tests it would go on.
            os._exit(1)
        raise
    finally:
        signal.signal(signal.SIGINT, before)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_ctrl_c_just_before_the_fork_is_not_blocked_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block = signal.pthread_sigmask

    def interrupted(how: int, signals: Any) -> set[Any]:
        before = block(how, signals)
        if how == signal.SIG_BLOCK and signals:
            # As Python does with a signal that came a moment earlier: blocked, and then raised.
            raise KeyboardInterrupt
        return before

    monkeypatch.setattr(signal, "pthread_sigmask", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            read_guarded("f", lambda limits: 7, LIMITS)
        assert signal.SIGINT not in block(signal.SIG_BLOCK, ())
    finally:
        block(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])


def test_a_value_comes_where_ended_children_leave_no_status() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert read_guarded("f", lambda limits: 7, LIMITS) == 7
        refused(lambda limits: os._exit(3))
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_system_without_fork_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    with pytest.raises(BackendFailedError, match="--trust"):
        read_guarded("f", lambda limits: 1, LIMITS)
    assert read_guarded("f", lambda limits: 1, LIMITS, trust=True) == 1


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "was killed, by somebody or by a system"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "was ended by signal 15"),
        (lambda: os._exit(1), r"ended without an answer \(1\)"),
    ],
)
def test_an_end_for_another_reason_is_not_called_one_of_memory(end: Any, says: str) -> None:
    with pytest.raises(BadFileError, match=f"a.nir: the process that reads it {says}") as got:
        read_guarded("a.nir", lambda limits: end())
    assert "memory_bytes" not in str(got.value)


def test_a_child_without_memory_for_an_answer_says_memory() -> None:
    def read(limits: Any) -> Any:
        raise SystemExit from None

    with pytest.raises(BadFileError, match="without an answer"):
        read_guarded("a.nir", read)

    def short(limits: Any) -> Any:
        os._exit(sandbox.NO_MEMORY)

    with pytest.raises(BadFileError, match="bytes of memory to read"):
        read_guarded("a.nir", short)


class EndsElsewhere:
    """An object in a circle that, collected in another process than its own, crashes that."""

    def __init__(self) -> None:
        self.circle, self.process = self, os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self.process:
            os.kill(os.getpid(), signal.SIGSEGV)


def test_the_child_does_not_collect_what_its_parent_left() -> None:
    """As the objects of PyTorch that end with the help of threads, which a fork does not have."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        EndsElsewhere()
        assert read_guarded("a file", lambda limits: bool(gc.collect()) or True) is True
    finally:
        if collecting:
            gc.enable()
        gc.collect()


def test_a_child_that_cannot_be_confined_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def detach(parent: int, send: int) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(sandbox.confinement, "detach", detach)
    with pytest.raises(BackendFailedError, match=r"a.nir: no process .*Too many open files"):
        read_guarded("a.nir", lambda limits: 1)
