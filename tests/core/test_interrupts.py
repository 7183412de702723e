"""A KeyboardInterrupt is raised wherever a signal finds Python."""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mtspark.core import interrupts
from mtspark.core.interrupts import heeded_interrupts, patient_imports

CALLBACK = ctypes.CFUNCTYPE(None)


class Finalised:
    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act

    def __del__(self) -> None:
        self.act()


def from_c(act: Callable[[], None]) -> None:
    CALLBACK(act)()


def as_finaliser(act: Callable[[], None]) -> None:
    Finalised(act)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def heeded(*acts: Callable[[], None]) -> None:
    with heeded_interrupts():
        for act in acts:
            act()


@pytest.fixture(autouse=True)
def default_handlers() -> Iterator[None]:
    before = [(n, signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize("place", [from_c, as_finaliser])
def test_an_interrupt_that_c_swallows_ends_what_runs_next(place: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        heeded(lambda: place(interrupt), lambda: time.sleep(60), lambda: pytest.fail("went on"))


@pytest.mark.parametrize("place", [from_c, as_finaliser])
def test_it_ends_a_block_that_has_nothing_more_to_do(place: Any) -> None:
    with pytest.raises(KeyboardInterrupt), heeded_interrupts():
        place(interrupt)
    # And it is not sent once more.
    time.sleep(0.1)


def test_it_is_not_taken_for_the_error_that_it_causes() -> None:
    def fail() -> None:
        raise RuntimeError("no compiled object yet")

    with pytest.raises(KeyboardInterrupt):
        heeded(lambda: from_c(interrupt), fail)
    with pytest.raises(RuntimeError):
        heeded(fail)


def test_where_only_sigterm_is_handled_that_is_sent_again() -> None:
    """A shell starts programs in the background with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        heeded(lambda: from_c(lambda: signal.raise_signal(signal.SIGTERM)), lambda: time.sleep(60))


def test_it_is_sent_until_it_meets_code_that_it_can_end() -> None:
    met = []

    def slow() -> None:
        met.append(0)
        time.sleep(0.2)

    # Each of the slow ones swallows the one that is sent again.
    with pytest.raises(KeyboardInterrupt):
        heeded(lambda: from_c(interrupt), *[lambda: from_c(slow)] * 3, lambda: time.sleep(60))
    assert met


def test_other_exceptions_are_reported_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: reported.append(one.exc_type))

    def fail() -> None:
        raise ZeroDivisionError

    with heeded_interrupts():
        from_c(fail)
    from_c(fail)
    assert reported == [ZeroDivisionError, ZeroDivisionError]


def test_what_is_sent_again_has_been_sent_when_the_block_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A busy machine may stop the thread that sends it, just after it has taken it."""
    begun, sent = threading.Event(), []

    def send_slowly() -> None:
        begun.set()
        time.sleep(0.2)
        sent.append(True)

    monkeypatch.setattr(interrupts, "_interrupt_main_thread", send_slowly)
    heeded(lambda: from_c(interrupt), begun.wait)
    assert sent


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Import a module of this text."""

    def load(text: str) -> Any:
        (tmp_path / "interrupted_module.py").write_text(text)
        return importlib.import_module("interrupted_module")

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "interrupted_module", raising=False)
    return load


INTERRUPTING = "import signal\nsignal.raise_signal(signal.SIGINT)\n"


def test_an_interrupt_waits_for_the_end_of_an_import(module: Callable[[str], Any]) -> None:
    def load() -> None:
        with patient_imports():
            module(INTERRUPTING + "whole = True")
            time.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        load()
    assert sys.modules["interrupted_module"].whole
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_within_an_import_ends_the_process(
    module: Callable[[str], Any],
) -> None:
    child = os.fork()
    if child == 0:
        try:
            with patient_imports():
                module(INTERRUPTING * 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == interrupts.INTERRUPTED


def test_a_handler_of_the_callers_stays() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with patient_imports():
        interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
