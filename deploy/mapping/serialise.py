"""A mapping as JSON, and back; read strictly, as it may come from a stranger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mtspark.core.errors import BadFileError
from mtspark.core.files.sandbox import read_text_guarded
from mtspark.deploy.chips.rules import Violation
from mtspark.deploy.mapping.divide import Use
from mtspark.deploy.mapping.mapper import ChipMapping, Core, Division, InputPlace

FORMAT = "mtspark-mapping"
VERSION = 1
LARGEST = 10_000_000
"""More neurons than anything here maps; more of them in a file would only fill the memory."""

USES = ("neurons", "memory_bits", "in_axons", "thresholds", "configs")
PLACE = ("chip", "column", "row", "place")


def mapping_to_json(mapping: ChipMapping) -> dict[str, Any]:
    """Plain values; neurons as (start, stop) runs of flat indices."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "network": mapping.network,
        "chip": mapping.chip,
        "chip_name": mapping.chip_name,
        "division": mapping.division.value,
        "input_place": mapping.input_place.value,
        "chips": mapping.chips,
        "hypothetical": mapping.hypothetical,
        "violations": [
            {"subject": v.subject, "actual": v.actual, "limit": v.limit, "remedy": v.remedy}
            for v in mapping.violations
        ],
        "cores": [
            {
                "population": core.population,
                "neurons": _runs(core.neurons),
                "box": None if core.box is None else [list(edge) for edge in core.box],
                "use": {name: getattr(core.use, name) for name in USES},
                "out_axons": core.out_axons,
                **{name: getattr(core, name) for name in PLACE},
            }
            for core in mapping.cores
        ],
    }


def mapping_from_json(data: Any, where: str) -> ChipMapping:
    """Rebuild a mapping; `where` names the file in errors.

    Raises:
        BadFileError: another format or version, or a field is missing or of a wrong kind.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BadFileError(f"{where}: not a mapping ({FORMAT}); make one with mtspark map --json")
    if data.get("version") != VERSION:
        raise BadFileError(
            f"{where}: mapping version {data.get('version')!r}, this mtspark reads {VERSION}"
        )
    try:
        violations = tuple(
            Violation(*(_text(entry[name]) for name in ("subject", "actual", "limit", "remedy")))
            for entry in data["violations"]
        )
        runs = [run for entry in data["cores"] for run in entry["neurons"]]
        if sum(_count(stop) - _count(start) for start, stop in runs) > LARGEST:
            raise ValueError(f"cores of more than {LARGEST} neurons")
        return ChipMapping(
            network=_text(data["network"]),
            chip=_text(data["chip"]),
            chip_name=_text(data["chip_name"]),
            division=Division(data["division"]),
            input_place=InputPlace(data["input_place"]),
            cores=tuple(_core(entry) for entry in data["cores"]),
            chips=_count(data["chips"]),
            violations=violations,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadFileError(
            f"{where}: field missing or of the wrong kind: {type(error).__name__} {error}"
        ) from error


def load_mapping(path: Path) -> ChipMapping:
    """Read the file that ``mtspark map --json`` wrote.

    Raises:
        BadFileError: unreadable or no mapping.
    """
    return mapping_from_json(read_text_guarded(path, json.loads), str(path))


def _core(entry: dict[str, Any]) -> Core:
    box = entry["box"]
    runs = [(_count(start), _count(stop)) for start, stop in entry["neurons"]]
    if any(stop <= start for start, stop in runs):
        raise ValueError("an empty run of neurons")
    neurons = [np.arange(start, stop) for start, stop in runs]
    return Core(
        population=_text(entry["population"]),
        neurons=np.concatenate(neurons).astype(np.int64),
        box=None if box is None else tuple((_count(start), _count(stop)) for start, stop in box),
        use=Use(*(_count(entry["use"][name]) for name in USES)),
        out_axons=_count(entry["out_axons"]),
        **{name: _count(entry[name]) for name in PLACE},
    )


def _runs(neurons: np.ndarray[Any, np.dtype[np.int64]]) -> list[list[int]]:
    breaks = np.flatnonzero(np.diff(neurons) != 1) + 1
    pieces = np.split(neurons, breaks)
    return [[int(piece[0]), int(piece[-1]) + 1] for piece in pieces if len(piece)]


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(f"{str(value)[:40]!r} is no count")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{str(value)[:40]!r} is no line of text")
    return value
