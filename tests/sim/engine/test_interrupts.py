from __future__ import annotations

import signal
import time
from typing import Any

import pytest
from numba import njit
from numba.core.registry import cpu_target

from mtspark.sim.engine.chip import _notice_of_compiling


def compile_and_wait() -> None:
    with _notice_of_compiling():
        njit(lambda x: x + 1)(1)
        time.sleep(60)


@pytest.mark.parametrize("hook", ["_object_cache_notify", "_object_cache_getbuffer"])
def test_an_interrupt_in_a_callback_of_numba_is_raised(
    hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    met = []

    def interrupted(*_: Any) -> None:
        if not met:
            met.append(hook)
            signal.raise_signal(signal.SIGINT)

    engine: Any = cpu_target.target_context.codegen()._engine._ee
    monkeypatch.setattr(engine, hook, interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            compile_and_wait()
    finally:
        signal.signal(signal.SIGINT, before)
    assert met == [hook]
