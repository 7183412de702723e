"""Compiled code that is kept on the disk: numba's cache, with a sum in every file.

Numba reads whatever lies in its cache: a file that is cut short stops the program, and one wrong
bit in the machine code may crash it or change a number. Here a file whose sum is wrong is removed
and compiled again, and a disk that is full keeps nothing, but stops nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import pickle
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile

logger = logging.getLogger(__name__)

_SUM_BYTES = hashlib.sha256().digest_size


class _DamagedError(Exception):
    """A file of the cache whose sum is wrong."""


class _SummedFiles(IndexDataCacheFile):  # type: ignore[misc]
    """Index and data files as numba has them, each behind the SHA-256 of its content."""

    def _load_index(self) -> Any:
        try:
            content = _content(Path(self._index_path))
        except FileNotFoundError:
            return {}
        version, stamp, overloads = pickle.loads(content)
        return overloads if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_index(self, overloads: Any) -> None:
        content = self._dump((self._version, self._source_stamp, overloads))
        self._write(self._index_path, content)

    def _load_data(self, name: str) -> Any:
        return pickle.loads(_content(Path(self._data_path(name))))

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), self._dump(data))

    def _write(self, path: str, content: bytes) -> None:
        with self._open_for_write(path) as file:
            file.write(hashlib.sha256(content).digest() + content)

    def present(self) -> list[Path]:
        """The files of this function that are on the disk."""
        index = Path(self._index_path)
        names = [path.name for path in index.parent.glob("*.nbc")] if index.parent.is_dir() else []
        start = self._data_name_pattern.partition("{")[0]
        data = [index.with_name(name) for name in sorted(names) if name.startswith(start)]
        return [*([index] if index.exists() else []), *data]


class SummedCache(FunctionCache):  # type: ignore[misc]
    """The cache of one function.

    Args:
        function: that is compiled.

    Raises:
        RuntimeError: no folder for it can be written.
    """

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        plain = self._cache_file
        self._cache_file: Any = _SummedFiles(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=plain._source_stamp,
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What numba would load; None, so that it compiles, where a file is damaged."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:
            # Unpickling and LLVM raise whatever they meet in a file that another program wrote.
            logger.warning(
                "compiled code in %s is damaged (%s); it is removed and compiled again",
                self._cache_path,
                str(error) or type(error).__name__,
            )
            for path in self._cache_file.present():
                with contextlib.suppress(OSError):
                    path.unlink()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled, where the disk takes it."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            # The index is read again, which may be damaged and nobody's to remove.
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            logger.warning(
                "compiled code cannot be kept in %s (%s); the next start compiles again",
                self._cache_path,
                reason.lower(),
            )

    def damaged(self) -> list[Path]:
        """Files of the function whose sum is wrong, or that cannot be read."""
        found = []
        for path in self._cache_file.present():
            try:
                _content(path)
            except (OSError, _DamagedError):
                found.append(path)
        return found


def keep_on_disk(dispatcher: Any) -> bool:
    """Keep what numba compiles for a function, and load it at the next start.

    Args:
        dispatcher: of ``numba.njit``.

    Returns:
        Whether there is a folder for it: the package's, the home's, or NUMBA_CACHE_DIR.
    """
    try:
        dispatcher._cache = SummedCache(dispatcher.py_func)
    except RuntimeError:
        return False
    return True


def _content(path: Path) -> bytes:
    """What stands behind the sum.

    Raises:
        OSError: it cannot be read.
        _DamagedError: the sum is wrong.
    """
    data = path.read_bytes()
    content = data[_SUM_BYTES:]
    if hashlib.sha256(content).digest() != data[:_SUM_BYTES]:
        raise _DamagedError(f"{path.name} is not what was written")
    return content
