"""Reading a file in a process of its own, with limits of memory, time and rights.

The child is a fork of this process, so that it costs milliseconds. It reads, checks and hands
over plain values (:mod:`mtspark.core.files.handover`). Whatever it meets, this process gets a
value or an error of mtspark. The kernel limits what the child may use and do
(:mod:`mtspark.core.confinement`).
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from mtspark.core import confinement, errors
from mtspark.core.errors import BackendFailedError, BadFileError, MtsparkError, one_line
from mtspark.core.files.limits import FileLimits, check_file_size, chosen_policy, over
from mtspark.core.process import one_thread_of_numpy

CLOCK_FACTOR = 4
"""Seconds by the clock for each second of processor time, for a busy computer."""

ENDING = (signal.SIGINT, signal.SIGTERM)
"""Signals that end the process that reads without a word; its parent says what there is to say."""

CRASHES = tuple(
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGSYS", "SIGTRAP")
    if hasattr(signal, name)
)
"""Signals that a process gets of its own doing."""

_confined = False
"""Whether this process is the child: it reads what it is asked to without another one."""

NO_MEMORY = 71
"""Exit code of the child where its memory did not suffice even for an answer."""

BUG = "its reader failed"
"""Stands in the message of an error that no check foresaw."""


def read_guarded(
    what: str,
    read: Callable[[FileLimits], Any],
    limits: FileLimits | None = None,
    trust: bool | None = None,
) -> Any:
    """Call `read(limits)` in a limited child process and return its plain value.

    Args:
        what: the file, for errors.
        read: reads and checks; returns numbers, texts, lists, dicts and numeric arrays.
        limits: default: those in force.
        trust: call it in this process instead, with the limits of sizes only; default: what
            the user said.

    Raises:
        MtsparkError: what `read` raised.
        BadFileError: any other failure: memory, time, a crash.
        BackendFailedError: this system cannot start a limited process.
    """
    policy = chosen_policy(limits, trust)
    if policy.trust or _confined:
        return _in_this_process(what, read, policy.limits)
    if sys.platform == "win32" or not hasattr(os, "fork"):
        raise BackendFailedError(
            f"{what}: this system has no limited processes to read files in; add --trust if you "
            "know where the file is from"
        )
    return _in_a_child(what, read, policy.limits)


SMALL_TEXT = 2**20
"""JSON of a megabyte parses within tens of megabytes and a second: no child is needed."""


def read_text_guarded(
    path: Path,
    parse: Callable[[str], Any],
    refusal: str = "not readable: {}",
    limits: FileLimits | None = None,
    trust: bool | None = None,
    *,
    content: bytes | None = None,
) -> Any:
    """Call `parse` on the text of a file, as :func:`read_guarded` calls it where it is large.

    Args:
        path: a small file of text: JSON, TOML.
        parse: returns plain values; its ValueErrors and RecursionErrors are the file's fault.
        refusal: what an error says behind the file's name; the reason is filled in.
        limits, trust: see :func:`read_guarded`.
        content: the file's bytes where they have been read; then `path` only names them.

    Raises:
        BadFileError: missing, too large, no UTF-8, or what `parse` does not take.
    """

    def read(bounds: FileLimits) -> Any:
        size = check_file_size(path, bounds) if content is None else len(content)
        if size > bounds.text_bytes:
            raise over("text_bytes", f"{path}", size, bounds)
        try:
            return parse((path.read_bytes() if content is None else content).decode("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise BadFileError(f"{path}: {refusal.format(one_line(error))}") from error

    policy = chosen_policy(limits, trust)
    with contextlib.suppress(OSError, ValueError):
        regular = content is not None or path.is_file()
        size = path.stat().st_size if content is None else len(content)
        if regular and size <= SMALL_TEXT:
            return _in_this_process(str(path), read, policy.limits)
    return read_guarded(str(path), read, policy.limits, policy.trust)


def _in_this_process(what: str, read: Callable[[FileLimits], Any], limits: FileLimits) -> Any:
    try:
        return read(limits)
    except MtsparkError:
        raise
    except Exception as error:
        raise _unforeseen(what, error, limits) from error


def _unforeseen(what: str, error: BaseException, limits: FileLimits) -> MtsparkError:
    if isinstance(error, MemoryError):
        return BadFileError(
            f"{what}: needs more than {limits.memory_bytes:,} bytes of memory to read; if you "
            "trust the file, raise it with `mtspark --limit memory_bytes=N ...`"
        )
    if isinstance(error, RecursionError):
        return BadFileError(f"{what}: nested too deeply")
    return BadFileError(f"{what}: {BUG} ({type(error).__name__}: {one_line(error)})")


def _in_a_child(what: str, read: Callable[[FileLimits], Any], limits: FileLimits) -> Any:
    # Loaded before the fork, so that no child has to.
    _ = confinement.confine, confinement.detach, confinement.Bounds
    # Here, since it imports numpy, which --help does without; and before the fork, since every
    # child would import it anew.
    from mtspark.core.files.handover import decode

    receive, send = os.pipe()
    parent = os.getpid()
    # Ctrl-C also reaches the child: before it is limited, it would unwind the caller's stack there.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        # Within the block: it blocks them, and then may raise for one that came just before.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        with warnings.catch_warnings():
            # Python 3.12 warns of forks beside threads; the child only reads and ends.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            # What the caller has left to collect is not this process's to destroy: libraries in
            # C++ end objects with the help of threads, which a fork does not have.
            gc.freeze()
            os.close(receive)
            _work(send, parent, what, read, limits)
    except BaseException as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(receive)
        os.close(send)
        if not isinstance(error, OSError):
            raise
        raise BackendFailedError(f"{what}: no process to read it in: {one_line(error)}") from error
    data, late, large = bytearray(), False, False
    status = 0
    try:
        os.close(send)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        data, late, large = _receive(receive, limits)
    finally:
        os.close(receive)
        # Its group, if it has one yet, and itself.
        for end in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                end(child, signal.SIGKILL)
        # Where SIGCHLD is ignored, the system keeps no status.
        with contextlib.suppress(ChildProcessError):
            _, status = os.waitpid(child, 0)
    if late:
        raise BadFileError(
            f"{what}: took more than {limits.seconds} s to read; if you trust the file, raise it "
            "with `mtspark --limit seconds=N ...`"
        )
    if large:
        raise _unforeseen(what, MemoryError(), limits)
    if not data:
        raise _ended(what, status, limits)
    try:
        answer = decode(data, limits.memory_bytes)
    except BadFileError as error:
        raise BadFileError(f"{what}: {error}") from error
    if not isinstance(answer, dict):
        answer = {"text": f"{what}: damaged hand-over"}
    if "value" in answer:
        return answer["value"]
    kind = getattr(errors, str(answer.get("error")), BadFileError)
    if not (isinstance(kind, type) and issubclass(kind, MtsparkError)):
        kind = BadFileError
    raise kind(one_line(answer.get("text", what), 2000))


def _ended(what: str, status: int, limits: FileLimits) -> MtsparkError:
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number == getattr(signal, "SIGXCPU", -1):
        return BadFileError(
            f"{what}: took more than {limits.seconds} s to read; if you trust the file, raise it "
            "with `mtspark --limit seconds=N ...`"
        )
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0
    if code == NO_MEMORY:
        return _unforeseen(what, MemoryError(), limits)
    if number in CRASHES:
        return BadFileError(f"{what}: damaged so that reading it crashes (signal {number})")
    if number == signal.SIGKILL:
        return BadFileError(
            f"{what}: the process that reads it was killed, by somebody or by a system that is "
            "short of memory; try again"
        )
    how = f"was ended by signal {number}" if number else f"ended without an answer ({code})"
    return BadFileError(f"{what}: the process that reads it {how}; try again")


def _receive(receive: int, limits: FileLimits) -> tuple[bytearray, bool, bool]:
    """Everything that the child sends until it closes its end; whether it is late, or too large.

    One array of bytes, in which the arrays of the answer stay: nothing is held twice.
    """
    deadline = time.monotonic() + limits.seconds * CLOCK_FACTOR
    data = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([receive], [], [], left)[0]:
            return bytearray(), True, False
        piece = os.read(receive, 2**20)
        if not piece:
            return data, False, False
        data += piece
        if len(data) > limits.memory_bytes:
            return bytearray(), False, True


def _work(
    send: int, parent: int, what: str, read: Callable[[FileLimits], Any], limits: FileLimits
) -> NoReturn:
    """The child: confine itself, read, hand over, and end without any cleaning up."""
    from mtspark.core.files.handover import encode

    code, answer = 1, None
    try:
        _confine_this_process(limits, parent, send)
        try:
            value = read(limits)
            try:
                answer = encode({"value": value})
            except BadFileError as error:
                raise BadFileError(f"{what}: {error}") from error
        except MtsparkError as error:
            answer = encode({"error": type(error).__name__, "text": one_line(error, 2000)})
        except Exception as error:
            text = str(_unforeseen(what, error, limits))
            answer = encode({"error": "BadFileError", "text": text})
        for piece in answer:
            view = memoryview(piece)
            while view:
                view = view[os.write(send, view) :]
        code = 0
    except MemoryError:
        code = NO_MEMORY
    except Exception as error:
        # Of this process: the reader's own errors are answers.
        if answer is None:
            reason = f"{what}: no process to read it in: {type(error).__name__}: {one_line(error)}"
            os.write(send, b"".join(encode({"error": "BackendFailedError", "text": reason})))
    finally:
        # Where that cannot be sent, either, the parent sees an end without an answer.
        os._exit(code)


def _confine_this_process(limits: FileLimits, parent: int, send: int) -> None:
    global _confined
    for number in (*ENDING, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*ENDING, signal.SIGXCPU))
    # Readers in C print what they met, and Python what it was doing when they crashed.
    faulthandler.disable()
    sys.dont_write_bytecode = True
    torch = sys.modules.get("torch")
    if torch is not None:
        # A fork has none of the threads that a product of tensors would wait for.
        torch.set_num_threads(1)
    # Stacks and buffers of a thread a core would be more than the memory that is left.
    one_thread_of_numpy()
    confinement.detach(parent, send)
    confinement.confine(confinement.Bounds(limits.memory_bytes, limits.seconds))
    _confined = True
