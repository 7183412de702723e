"""HDF5 files of strangers: every part is looked at before any of its content is read.

An HDF5 file can name other files whose bytes then appear as its own (external storage,
external links, virtual datasets), can lead in circles, and can declare arrays that no memory
holds. None of that belongs into a NIR graph or a netx network, so all of it is refused. The
file is read into memory once; scan and reading see the same bytes.

Only danger is refused here. What a text, an infinite number or a field means, and whether it
can be used, is the importer's to say: only it knows the node that it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from mtspark.core.errors import BadFileError, one_line
from mtspark.core.files.limits import FileLimits, check_file_size, over
from mtspark.core.files.sandbox import read_guarded

SIGNATURE = b"\x89HDF\r\n\x1a\n"


def read_hdf5(
    path: Path,
    limits: FileLimits | None = None,
    trust: bool | None = None,
    check: Callable[[dict[str, Any]], object] | None = None,
    *,
    content: bytes | None = None,
) -> dict[str, Any]:
    """Read a whole HDF5 file as nested dicts, in a limited process of its own.

    Args:
        path: the file.
        limits, trust: see :func:`mtspark.core.files.sandbox.read_guarded`.
        check: called on the values in that process; it raises what is wrong with them.
        content: the file's bytes where they have been read; then `path` only names them.

    Returns:
        Groups as dicts, arrays as arrays, single numbers as NumPy scalars, texts as str or
        (nested) lists of str, an array without a shape as None. Numbers may be infinite or none.

    Raises:
        BadFileError: no HDF5 file, damaged, or anything in it that is refused or over a limit.
    """

    def read(bounds: FileLimits) -> dict[str, Any]:
        values = _read(path, content, bounds)
        if check is not None:
            check(values)
        return values

    values: dict[str, Any] = read_guarded(str(path), read, limits, trust)
    return values


def _read(path: Path, content: bytes | None, limits: FileLimits) -> dict[str, Any]:
    if content is None:
        check_file_size(path, limits)
        with path.open("rb") as file:
            start = file.read(len(SIGNATURE))
    else:
        start = content[: len(SIGNATURE)]
    if start != SIGNATURE:
        raise BadFileError(f"{path}: no HDF5 file (its first bytes are not HDF5's)")
    try:
        with _opened(path, content) as file:
            return _Reader(path, limits).group(file, ())
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        # What h5py raises where the file's own structures are damaged.
        raise BadFileError(f"{path}: a damaged HDF5 file: {one_line(error)}") from error
    except (AttributeError, OverflowError, NotImplementedError) as error:
        raise BadFileError(f"{path}: an HDF5 file that h5py cannot read: {one_line(error)}") from (
            error
        )


def _opened(path: Path, content: bytes | None) -> Any:
    """The file, in memory."""
    import h5py

    if content is None:
        return h5py.File(path, "r", driver="core", backing_store=False)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(backing_store=False)
    access.set_file_image(content)
    return h5py.File(h5py.h5f.open(b"memory", h5py.h5f.ACC_RDONLY, access))


class _Reader:
    """Walks one file: scans all of it, then reads all of it."""

    def __init__(self, path: Path, limits: FileLimits) -> None:
        self.path, self.limits = path, limits
        self.seen: set[int] = set()
        self.total = self.texts = 0

    def group(self, root: Any, names: tuple[str, ...]) -> dict[str, Any]:
        """Scan the whole tree below `root`, then read it."""
        tree = self._scan(root, names)
        return self._content(tree, names)

    def _refuse(self, names: tuple[str, ...], what: str) -> BadFileError:
        return BadFileError(f"{self.path}: /{one_line('/'.join(names), 80)} {what}")

    def _scan(self, group: Any, names: tuple[str, ...]) -> dict[str, Any]:
        import h5py

        limits = self.limits
        if len(names) > limits.depth:
            raise over("depth", f"{self.path}: groups", len(names), limits)
        self._once(group, names)
        tree: dict[str, Any] = {}
        for name in group:
            here = (*names, name)
            if len(self.seen) + len(tree) > limits.objects:
                raise over("objects", f"{self.path}", len(self.seen) + len(tree), limits)
            if len(name) > limits.name_length:
                raise over("name_length", f"{self.path}: a name", len(name), limits)
            if not name.isprintable() or name in ("", ".", ".."):
                raise self._refuse(names, "holds a name that cannot be printed")
            kind = type(group.get(name, getlink=True))
            if kind is not h5py.HardLink:
                raise self._refuse(here, f"is a {kind.__name__}; links to elsewhere are refused")
            item = group[name]
            if isinstance(item, h5py.Group):
                tree[name] = self._scan(item, here)
            elif isinstance(item, h5py.Dataset):
                self._once(item, here)
                self._dataset(item, here)
                tree[name] = item
            else:
                raise self._refuse(here, "is neither a group nor an array")
        return tree

    def _once(self, item: Any, names: tuple[str, ...]) -> None:
        """Refuse what is reached by two names: it could be a circle."""
        import h5py

        address = int(h5py.h5o.get_info(item.id).addr)
        if address in self.seen:
            raise self._refuse(names, "is reached by two names; links within are refused")
        self.seen.add(address)

    def _dataset(self, item: Any, names: tuple[str, ...]) -> None:
        import h5py

        limits, creation = self.limits, item.id.get_create_plist()
        if creation.get_external_count():
            raise self._refuse(names, "keeps its values in another file; refused")
        layout = creation.get_layout()
        if layout not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
            raise self._refuse(names, "is a virtual dataset, creation of other files; refused")
        known = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
        known.add(h5py.h5z.FILTER_LZF)
        used = {creation.get_filter(index)[0] for index in range(creation.get_nfilters())}
        if not used <= known:
            raise self._refuse(names, f"is stored by filters {sorted(used - known)}; gzip or lzf")
        if item.shape is None:
            return
        itemsize = self._itemsize(item, names)
        size = prod(item.shape) * itemsize
        if size > limits.array_bytes:
            raise over("array_bytes", f"{self.path}: /{'/'.join(names)} declares", size, limits)
        self.total += size
        if self.total > limits.total_bytes:
            raise over("total_bytes", f"{self.path}: declared", self.total, limits)
        if layout == h5py.h5d.CHUNKED:
            chunks = creation.get_chunk()
            if prod(chunks) * itemsize > limits.array_bytes:
                raise over(
                    "array_bytes", f"{self.path}: a chunk of", prod(chunks) * itemsize, limits
                )
            needed = prod(-(-n // m) for n, m in zip(item.shape, chunks, strict=True))
            stored = item.id.get_num_chunks()
        else:
            needed, stored = size, item.id.get_storage_size()
        if stored != needed:
            raise self._refuse(names, f"declares values of shape {item.shape} but lacks some")

    def _itemsize(self, item: Any, names: tuple[str, ...]) -> int:
        """Bytes of one value of a type that belongs into such a file."""
        import h5py

        kind = item.id.get_type()
        code, size = kind.get_class(), int(kind.get_size())
        if code == h5py.h5t.STRING:
            self.texts += prod(item.shape)
            if self.texts > 4 * self.limits.objects:
                raise over("objects", f"{self.path}: texts", self.texts, self.limits)
            # On disk, text of variable length is a length and a place elsewhere in the file.
            return 16 if kind.is_variable_str() else size
        numbers = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM)
        if code not in numbers or item.dtype.kind not in "biuf" or item.dtype.itemsize > 8:
            raise self._refuse(names, f"holds values of type {one_line(item.dtype, 40)}; refused")
        return max(size, item.dtype.itemsize)

    def _content(self, tree: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
        return {
            name: self._content(item, (*names, name))
            if isinstance(item, dict)
            else self._values(item, (*names, name))
            for name, item in tree.items()
        }

    def _values(self, item: Any, names: tuple[str, ...]) -> Any:
        if item.shape is None:
            return None
        values = item[()]
        if isinstance(values, (bytes, str)) or values.dtype.kind in "OS":
            return self._text(np.asarray(values).tolist(), names)
        return values

    def _text(self, value: Any, names: tuple[str, ...]) -> Any:
        if isinstance(value, list):
            return [self._text(part, names) for part in value]
        text = value
        if not isinstance(value, str):
            text = bytes(value).rstrip(b"\0").decode("utf-8", "replace")
        text = text.replace("\r\n", "\n")
        shown = text.replace("\n", " ").replace("\t", " ")
        if len(text) > self.limits.text_bytes or not shown.isprintable():
            raise self._refuse(names, "holds text that cannot be printed")
        return text


def hdf5_bytes(fill: Callable[[Any], None]) -> bytes:
    """The content of a new HDF5 file, built in memory: on a full disk the HDF5 library crashes.

    Args:
        fill: is given the open h5py.File.
    """
    import h5py

    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        fill(file)
        file.flush()
        return bytes(file.id.get_file_image())
