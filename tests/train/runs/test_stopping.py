"""Signals that ask a training loop to stop: the first waits for a checkpoint, a second does not."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mtspark.train.runs.stopping import StopRequest, stop_requests

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def default_handlers() -> Iterator[None]:
    """A command that ran in this process before may have left others."""
    before = [(number, signal.getsignal(number)) for number in SIGNALS]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before:
        signal.signal(number, handler)


def test_the_first_signal_is_noted_and_a_second_one_ends_at_once() -> None:
    with stop_requests() as request:
        assert request.signal is None
        signal.raise_signal(signal.SIGTERM)
        assert request.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_callers_and_an_ignored_signal_stay() -> None:
    met: list[int] = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: met.append(number))
    with stop_requests() as request:
        for number in SIGNALS:
            signal.raise_signal(number)
        assert request.signal is None
    assert met == [signal.SIGTERM]


def test_another_thread_takes_no_signals() -> None:
    """Python lets only the main thread set handlers."""
    found: list[Any] = []

    def train() -> None:
        with stop_requests() as request:
            found.extend([request, signal.getsignal(signal.SIGTERM)])

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert isinstance(found[0], StopRequest)
    assert found[1] is signal.SIG_DFL
