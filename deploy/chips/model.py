"""Descriptions of chips: capacities and times, each figure with its source.

A description is a TOML file (``deploy/chips/*.toml`` ship with mtspark; a user can write one)::

    name = "My chip"
    about = "..."
    [mesh]                      # routers, and cores at each of them
    columns = 4
    rows = 4
    cores_per_router = 1
    source = "..."
    confidence = "..."
    [limits.neurons_per_core]   # any of LIMITS; a limit that is left out is not checked
    value = 1000
    unit = "neurons"
    source = "..."
    confidence = "measured"
    [encodings.dense]           # dense, sparse, convolution
    [times.NAME]                # one or more sets of times, see TIMES
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from mtspark.core.chip_network import Encoder, Reset
from mtspark.core.errors import BadFileError, one_line
from mtspark.core.files import AnyPath, read_toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIMITS = (
    "cores_per_chip",
    "chips",
    "neurons_per_core",
    "synapse_memory_per_core",
    "in_axons_per_core",
    "out_axons_per_core",
    "fan_in",
    "fan_out",
    "thresholds_per_core",
    "compartment_configs_per_core",
    "weight_bits",
    "smallest_weight_exponent",
    "largest_weight_exponent",
    "largest_delay",
    "largest_decay",
    "payload_bits",
    "resets",
    "encoders",
)
"""Names of limits. Fan-in and fan-out are synapses of one neuron."""

COUNTS = {
    "cores_per_chip",
    "chips",
    "neurons_per_core",
    "synapse_memory_per_core",
    "in_axons_per_core",
    "out_axons_per_core",
    "fan_in",
    "fan_out",
    "thresholds_per_core",
    "compartment_configs_per_core",
}
"""Limits that must be positive; the others may be zero or negative."""

NEEDED = ("cores_per_chip", "chips", "neurons_per_core", "synapse_memory_per_core")
"""Limits that a description must give: no mapping is possible without them."""

ENCODINGS = ("dense", "sparse", "convolution")
"""Ways to store synapses; a chip without "convolution" stores each synapse of a convolution."""

TIMES = (
    "neuron_update_ns",
    "spike_out_ns",
    "synaptic_operation_ns",
    "synaptic_operation_sparse_ns",
    "synaptic_operation_conv_ns",
    "message_in_ns",
    "message_out_ns",
    "within_tile_ns",
    "hop_east_west_ns",
    "hop_north_south_ns",
    "barrier_ns",
    "host_input_value_ns",
    "host_output_value_ns",
    "host_call_ns",
    "register_write_ns",
)
"""Times of single events; `barrier_ns` is a list of (routers in use, nanoseconds)."""

LARGEST = 10**12
"""Upper bound of every figure; a larger number is a mistake in the description."""
LARGEST_MESH = 2**16
"""Upper bound of the places of a chip, which are drawn and walked one by one; Loihi 2 has 128."""
LONGEST_LIST, LONGEST_TEXT = 64, 4096
"""Upper bounds of the entries of a list and of the letters of a text."""


@dataclass(frozen=True)
class Figure:
    """One figure of a chip.

    Attributes:
        value: number, or a tuple (weight bits, resets, encoders, points of the barrier).
        unit: of the value.
        source: publication, file or log.
        confidence: how reliable the figure is, such as measured or estimated.
    """

    value: Any
    unit: str
    source: str
    confidence: str


@dataclass(frozen=True)
class Encoding:
    """How one axon's synapses lie in memory.

    An axon of n synapses takes n (weight + delay + index bits) + header bits, rounded up to
    words; where blocks have a size, each block of synapses has its own header and rounding.
    """

    index_bits: int
    header_bits: int
    word_bits: int
    block_synapses: int | None
    source: str
    confidence: str


@dataclass(frozen=True)
class Mesh:
    """Routers in a grid, `cores_per_router` at each."""

    columns: int
    rows: int
    cores_per_router: int
    source: str
    confidence: str


@dataclass(frozen=True)
class TimeSet:
    """Times of single events from one source or of one kind; a missing time is not modelled."""

    name: str
    about: str
    figures: dict[str, Figure]


@dataclass(frozen=True)
class ChipModel:
    """A chip.

    Attributes:
        key: name that it was loaded by: ``loihi1``, or the file's path.
        name, about: shown to the user.
        mesh: of routers.
        limits: by name of :data:`LIMITS`.
        encodings: by name of :data:`ENCODINGS`.
        times: sets of times; the first is the default.
    """

    key: str
    name: str
    about: str
    mesh: Mesh
    limits: dict[str, Figure]
    encodings: dict[str, Encoding]
    times: tuple[TimeSet, ...]

    def limit(self, name: str) -> Any:
        """Return a limit's value; None where the chip has no such limit or it is unknown."""
        figure = self.limits.get(name)
        return None if figure is None else figure.value

    @property
    def shares_convolutions(self) -> bool:
        """Kernels are stored once a core."""
        return "convolution" in self.encodings

    def time_set(self, name: str | None = None) -> TimeSet | None:
        """Return a set of times by name, by default the first; None for a chip without times.

        Raises:
            BadFileError: the chip has no set of this name.
        """
        if name is None:
            return self.times[0] if self.times else None
        for times in self.times:
            if times.name == name:
                return times
        known = ", ".join(times.name for times in self.times) or "none"
        raise BadFileError(f"chip {self.key}: no times {name!r}; it has {known}")


def known_chips() -> list[str]:
    """Return the names of the chips that ship with mtspark."""
    folder = resources.files("mtspark.deploy.chips")
    names = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load_chip(name: AnyPath) -> ChipModel:
    """Load a chip that ships with mtspark by name, or a description by the path of its file.

    Raises:
        BadFileError: no such chip or file, or a field is missing, unknown or of a wrong kind.
    """
    name, known = os.fspath(name), known_chips()
    if name in known:
        text = (resources.files("mtspark.deploy.chips") / f"{name}.toml").read_text("utf-8")
        data = tomllib.loads(text)
    elif not name.endswith(".toml"):
        raise BadFileError(
            f"chip {name!r} is unknown; known are {', '.join(known)}, or give a FILE.toml"
        )
    else:
        try:
            data = read_toml(Path(name))
        except BadFileError as error:
            raise BadFileError(f"chip description {error}") from error
    try:
        return _chip(name, data)
    except ValueError as error:
        raise BadFileError(f"chip description {name}: {one_line(error, 1000)}") from error


def _chip(key: str, data: dict[str, Any]) -> ChipModel:
    _known_keys(data, ("name", "about", "mesh", "limits", "encodings", "times"), "the file")
    mesh = _table(data, "mesh", "the file")
    _known_keys(mesh, ("columns", "rows", "cores_per_router", "source", "confidence"), "mesh")
    limits = {
        name: _limit(name, _table(_table(data, "limits", "the file"), name, "limits"))
        for name in _known_keys(_table(data, "limits", "the file"), LIMITS, "limits")
    }
    for name in NEEDED:
        if name not in limits:
            raise ValueError(f"limits.{name} is missing")
    encodings = _table(data, "encodings", "the file")
    _known_keys(encodings, ENCODINGS, "encodings")
    for name in ("dense", "sparse"):
        _table(encodings, name, "encodings")
    chip = ChipModel(
        key=key,
        name=_text(data, "name", "the file"),
        about=_text(data, "about", "the file"),
        mesh=Mesh(
            _count(mesh, "columns", "mesh"),
            _count(mesh, "rows", "mesh"),
            _count(mesh, "cores_per_router", "mesh"),
            _text(mesh, "source", "mesh"),
            _text(mesh, "confidence", "mesh"),
        ),
        limits=limits,
        encodings={
            name: _encoding(_table(encodings, name, "encodings"), f"encodings.{name}")
            for name in encodings
        },
        times=tuple(
            _times(name, _table(data["times"], name, "times"))
            for name in (_table(data, "times", "the file") if "times" in data else {})
        ),
    )
    places = chip.mesh.columns * chip.mesh.rows * chip.mesh.cores_per_router
    if places > LARGEST_MESH:
        raise ValueError(f"mesh has {places:,} places, {LARGEST_MESH:,} is the limit")
    if places < chip.limit("cores_per_chip"):
        raise ValueError(
            f"mesh has {places} places, limits.cores_per_chip is {chip.limit('cores_per_chip')}"
        )
    return chip


def _limit(name: str, table: dict[str, Any]) -> Figure:
    where = f"limits.{name}"
    _known_keys(table, ("value", "unit", "source", "confidence"), where)
    value = table.get("value")
    if name == "weight_bits":
        value = tuple(sorted(_items(value, int, where)))
        if not set(value) <= set(range(1, 9)):
            raise ValueError(f"{where}.value {list(value)}: must be 1 to 8")
    elif name == "resets":
        value = tuple(_items(value, str, where))
        known = [reset.value for reset in Reset]
        if not set(value) <= set(known):
            raise ValueError(f"{where}.value {list(value)}: must be of {', '.join(known)}")
    elif name == "encoders":
        value = tuple(_items(value, str, where))
        known = [encoder.value for encoder in Encoder]
        if not set(value) <= set(known):
            raise ValueError(f"{where}.value {list(value)}: must be of {', '.join(known)}")
    elif type(value) is not int or abs(value) > LARGEST or (name in COUNTS and value < 1):
        what = "a positive whole number" if name in COUNTS else "a whole number"
        raise ValueError(f"{where}.value must be {what}, it is {one_line(str(value), 40)!r}")
    return Figure(value, *(_text(table, part, where) for part in ("unit", "source", "confidence")))


def _encoding(table: dict[str, Any], where: str) -> Encoding:
    sizes = ("index_bits", "header_bits", "word_bits")
    _known_keys(table, (*sizes, "block_synapses", "source", "confidence"), where)
    index_bits, header_bits = (_count(table, name, where, least=0) for name in sizes[:2])
    return Encoding(
        index_bits,
        header_bits,
        _count(table, "word_bits", where),
        _count(table, "block_synapses", where) if "block_synapses" in table else None,
        _text(table, "source", where),
        _text(table, "confidence", where),
    )


def _times(name: str, table: dict[str, Any]) -> TimeSet:
    where = f"times.{name}"
    _known_keys(table, ("about", *TIMES), where)
    figures = {}
    for key in TIMES:
        if key not in table:
            continue
        inner = _table(table, key, where)
        _known_keys(inner, ("value", "source", "confidence"), f"{where}.{key}")
        value: Any = inner.get("value")
        if key == "barrier_ns":
            value = _points(value, f"{where}.{key}")
        elif not _is_time(value):
            raise ValueError(f"{where}.{key}.value must be a number of nanoseconds, 0 or more")
        texts = (_text(inner, part, f"{where}.{key}") for part in ("source", "confidence"))
        figures[key] = Figure(value, "ns", *texts)
    return TimeSet(name, _text(table, "about", where), figures)


def _points(value: Any, where: str) -> tuple[tuple[int, float], ...]:
    pairs = value if isinstance(value, list) else []
    good = all(
        isinstance(pair, list) and len(pair) == 2 and type(pair[0]) is int and _is_time(pair[1])
        for pair in pairs
    )
    if len(pairs) > LONGEST_LIST:
        raise ValueError(f"{where}.value has {len(pairs):,} points, {LONGEST_LIST} is the limit")
    if not pairs or not good or [pair[0] for pair in pairs] != sorted({p[0] for p in pairs}):
        raise ValueError(f"{where}.value must list [routers, nanoseconds], routers rising")
    return tuple((pair[0], float(pair[1])) for pair in pairs)


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < LARGEST


def _known_keys(table: dict[str, Any], known: tuple[str, ...], where: str) -> list[str]:
    for key in table:
        if key not in known:
            raise ValueError(
                f"{where}: unknown field {one_line(key, 40)!r}; known: {', '.join(known)}"
            )
    return list(table)


def _table(data: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = data.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"{where}: table {key!r} is missing")
    return value


def _text(table: dict[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError(f"{where}.{key} must be a line of text")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"{where}.{key} has {len(value):,} letters, {LONGEST_TEXT:,} is the limit")
    return value


def _count(table: dict[str, Any], key: str, where: str, *, least: int = 1) -> int:
    value = table.get(key)
    if type(value) is not int or value < least:
        raise ValueError(f"{where}.{key} must be a whole number, {least} or more")
    if value > LARGEST:
        raise ValueError(f"{where}.{key} is {value:,}, {LARGEST:,} is the limit")
    return value


def _items(value: Any, kind: type, where: str) -> list[Any]:
    if not isinstance(value, list) or not value or any(type(item) is not kind for item in value):
        raise ValueError(f"{where}.value must list at least one {kind.__name__}")
    if len(value) > LONGEST_LIST:
        raise ValueError(f"{where}.value has {len(value):,} entries, {LONGEST_LIST} is the limit")
    return value
