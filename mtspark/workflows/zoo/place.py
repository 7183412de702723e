"""Folders of agents: on this computer, or at any address that fsspec opens.

An agent lies in a folder of its own, which has a card. A local folder is replaced in one step; a
remote one loses its card first and gets the new card last, so that what a transfer left unfinished
is no agent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mtspark.core.errors import (
    BackendMissingError,
    BadFileError,
    BadRequestError,
    MtsparkError,
    one_line,
)
from mtspark.core.files import (
    UnwritableError,
    current_policy,
    over,
    read_whole,
    reason_of,
    replacing_folder,
    unchanged,
    write_bytes,
)
from mtspark.workflows.zoo.card import (
    CARD,
    FORMAT,
    LARGEST_CARD,
    AgentCard,
    FileEntry,
    file_entry,
    is_name,
    read_card,
)

MOST_AGENTS = 1000
"""Folders of one address that are looked at."""


@dataclass(frozen=True)
class Place:
    """A folder of agents.

    Attributes:
        address: as it was given, on one printable line.
        local: the folder, where it is one of this computer.
        filesystem: of fsspec, where it is not.
        root: the folder in that file system.
    """

    address: str
    local: Path | None = None
    filesystem: Any = None
    root: str = ""

    def where(self, name: str, file: str = "") -> str:
        """Name a folder or a file in errors."""
        return "/".join(part for part in (self.address.rstrip("/"), name, file) if part)

    def folders(self) -> tuple[list[str], int]:
        """List the folders that may be an agent's, and how many others are left out.

        Raises:
            BadFileError: it cannot be listed.
        """
        if self.local is not None:
            try:
                with os.scandir(self.local) as entries:
                    found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError as error:
                reason = (error.strerror or type(error).__name__).lower()
                raise BadFileError(f"{self.address}: cannot be listed ({reason})") from error
        else:
            with self._remote("listed"):
                entries_there = self.filesystem.ls(self.root, detail=True)
                found = [
                    PurePosixPath(str(entry["name"]).rstrip("/")).name
                    for entry in entries_there
                    if entry["type"] == "directory"
                ]
        names = sorted(name for name in found if is_name(name))
        return names[:MOST_AGENTS], len(found) - len(names[:MOST_AGENTS])

    def read(self, name: str, file: str, most: int) -> bytes | None:
        """Read a file of an agent; None where there is none.

        Args:
            name: of the agent.
            file: a plain name.
            most: bytes.

        Raises:
            BadFileError: a link, larger, or not readable.
        """
        where = self.where(name, file)
        if self.local is not None:
            folder = self.local / name
            if folder.is_symlink():
                raise BadFileError(f"{self.where(name)}: is a link, not a folder")
            if not os.path.lexists(folder / file):
                return None
            content = read_whole(folder / file, current_policy().limits, follow_links=False)
        else:
            with self._remote("read", where):
                try:
                    with self.filesystem.open(f"{self.root}/{name}/{file}", "rb") as stream:
                        content = stream.read(most + 1)
                except FileNotFoundError:
                    return None
        if len(content) > most:
            raise BadFileError(f"{where}: more than {most:,} bytes, which its card does not allow")
        return content

    def write(self, name: str, files: Mapping[str, bytes], card: bytes) -> None:
        """Write an agent's folder whole or not at all; one that stands there is replaced.

        Args:
            name: of the agent.
            files: by their plain names.
            card: is written last.

        Raises:
            BadRequestError: the folder is none of an agent.
            BadFileError: it cannot be written.
        """
        if self.local is not None:
            write_agent_folder(self.local / name, files, card)
            return
        folder, written = f"{self.root}/{name}", list[str]()
        with self._remote("written", self.where(name)):
            try:
                self.filesystem.makedirs(folder, exist_ok=True)
                if self.filesystem.exists(f"{folder}/{CARD}"):
                    self.filesystem.rm_file(f"{folder}/{CARD}")
                for file, content in [*files.items(), (CARD, card)]:
                    written.append(f"{folder}/{file}")
                    self.filesystem.pipe_file(f"{folder}/{file}", content)
                    stored = self.filesystem.info(f"{folder}/{file}")["size"]
                    if stored != len(content):
                        raise OSError(f"{file}: {stored} of {len(content)} bytes arrived")
            except BaseException:
                for path in reversed(written):
                    with suppress(Exception):
                        self.filesystem.rm_file(path)
                with suppress(Exception):
                    self.filesystem.rmdir(folder)
                raise

    @contextmanager
    def _remote(self, done: str, where: str = "") -> Iterator[None]:
        """Turn whatever a library raises into one line."""
        where = where or self.address
        try:
            yield
        except MtsparkError:
            raise
        except FileNotFoundError as error:
            raise BadFileError(f"{where}: no such folder or file") from error
        except Exception as error:
            reason = one_line(error) or type(error).__name__
            raise BadFileError(f"{where}: cannot be {done} ({reason})") from error


def open_place(address: str) -> Place:
    """Open an address: a path, or one that fsspec knows, such as ``hf://datasets/NAME/agents``.

    Raises:
        BadRequestError: empty, or of no known protocol.
        BackendMissingError: its library is not installed.
        BadFileError: its library refuses it.
    """
    shown = one_line(address, 200)
    if not address.strip() or "\0" in address:
        raise BadRequestError(f"address {shown!r}: give a folder or an address like file:///agents")
    if "://" not in address and "::" not in address:
        return Place(shown, local=Path(address))
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    protocol = address.split("://")[0]
    if protocol in LocalFileSystem.protocol:
        return Place(shown, local=Path(LocalFileSystem._strip_protocol(address)))
    try:
        filesystem, root = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise BackendMissingError(f"{shown}: needs a library; {one_line(error)}") from error
    except ValueError as error:
        if "rotocol" not in str(error):
            raise BadFileError(f"{shown}: cannot be opened ({one_line(error)})") from error
        raise BadRequestError(
            f"{shown}: no known protocol; a path, file://, hf://, s3://, sftp:// and others of "
            "fsspec are allowed"
        ) from error
    except Exception as error:
        raise BadFileError(f"{shown}: cannot be opened ({one_line(error)})") from error
    return Place(shown, filesystem=filesystem, root=str(root).rstrip("/"))


def write_agent_folder(folder: Path, files: Mapping[str, bytes], card: bytes) -> None:
    """Write an agent's folder in one step; what its old card does not name moves into it.

    Args:
        folder: missing, or an agent's.
        files: by their plain names.
        card: of them.

    Raises:
        BadRequestError: the folder is none of an agent.
        BadFileError: it cannot be written.
    """
    try:
        folder = folder.resolve()
        check_agent_folder(folder)
        with replacing_folder(folder, _outliving) as fresh:
            for file, content in [*files.items(), (CARD, card)]:
                write_bytes(fresh.path / file, content)
            check_agent_folder(folder)
    except UnwritableError as error:
        raise _unwritable(folder, error.reason) from error
    except OSError as error:
        raise _unwritable(folder, reason_of(error, folder)) from error
    except RuntimeError as error:
        raise _unwritable(folder, one_line(error).lower()) from error


def _unwritable(folder: Path, reason: str) -> BadFileError:
    return BadFileError(f"{folder}: cannot be written ({reason}); {unchanged(folder)}")


def check_agent_folder(folder: Path) -> None:
    """Refuse to replace what is no agent's folder.

    Raises:
        BadRequestError: it is there, and has no card.
    """
    if os.path.lexists(folder) and _outliving(folder) is None:
        raise BadRequestError(
            f"{folder}: exists and is no agent's folder with a {CARD}; choose another folder"
        )


def _outliving(folder: Path) -> list[str] | None:
    """Names in an agent's folder that its card does not name; None where it has no card."""
    try:
        content = read_whole(folder / CARD, current_policy().limits, follow_links=False)
        card = json.loads(content)
        names = sorted(path.name for path in folder.iterdir())
    except (OSError, ValueError, RecursionError, BadFileError):
        return None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        return None
    own = card.get("files")
    own = {*own, CARD} if isinstance(own, dict) else {CARD}
    return [name for name in names if name not in own]


def checked_files(place: Place, name: str, wanted: Mapping[str, FileEntry]) -> dict[str, bytes]:
    """Read the files that a card names, and compare them with it.

    Args:
        place: where the agent lies.
        name: of the agent.
        wanted: size and SHA-256 of each, of a card that :func:`read_card` has checked.

    Raises:
        BadFileError: one is missing, too large, or another than its card says.
    """
    limits = current_policy().limits
    total = sum(entry.bytes for entry in wanted.values())
    if total > limits.total_bytes:
        raise over("total_bytes", place.where(name), total, limits)
    files = {}
    for file, entry in wanted.items():
        content = place.read(name, file, entry.bytes)
        where = place.where(name, file)
        if content is None:
            raise BadFileError(f"{where}: is missing, and the agent's card names it")
        if file_entry(content) != entry:
            raise BadFileError(
                f"{where}: is not the file that the agent's card describes (SHA-256 or size)"
            )
        files[file] = content
    return files


def read_card_at(place: Place, name: str) -> AgentCard | None:
    """Read and check an agent's card; None where there is none.

    Raises:
        BadFileError: it cannot be read, or is no card.
    """
    content = place.read(name, CARD, LARGEST_CARD)
    return None if content is None else read_card(content, place.where(name, CARD), name)
