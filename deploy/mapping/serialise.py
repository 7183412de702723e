"""Mappings from JSON, as ``ChipMapping.to_json`` writes them; the file may be untrusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mtspark.core.errors import BadFileError, one_line
from mtspark.core.files import AnyPath, read_text_guarded
from mtspark.core.version import is_version
from mtspark.deploy.chips import Violation
from mtspark.deploy.mapping.divide import Use
from mtspark.deploy.mapping.mapper import (
    FORMAT,
    VERSION,
    ChipMapping,
    Core,
    Division,
    InputPlace,
)

LARGEST = 10_000_000
"""More neurons than anything here maps; more of them in a file would only fill the memory."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be a line of text")
    return text


def _not_empty(run: tuple[int, int]) -> tuple[int, int]:
    if run[1] <= run[0]:
        raise ValueError("a run must stop after its start")
    return run


Count = Annotated[int, Field(strict=True, ge=0, lt=2**53)]
Text = Annotated[str, AfterValidator(_printable)]
Range = tuple[Count, Count]
Run = Annotated[Range, AfterValidator(_not_empty)]


class _Stored(BaseModel):
    """Fields beyond those that are declared are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _StoredViolation(_Stored):
    subject: Text
    actual: Text
    limit: Text
    remedy: Text


class _StoredUse(_Stored):
    neurons: Count
    memory_bits: Count
    in_axons: Count
    thresholds: Count
    configs: Count


class _StoredCore(_Stored):
    population: Text
    neurons: Annotated[list[Run], Field(min_length=1)]
    box: tuple[Range, ...] | None
    use: _StoredUse
    out_axons: Count
    chip: Count
    column: Count
    row: Count
    place: Count

    def core(self) -> Core:
        return Core(
            population=self.population,
            neurons=np.concatenate([np.arange(*run, dtype=np.int64) for run in self.neurons]),
            box=self.box,
            use=Use(**dict(self.use)),
            out_axons=self.out_axons,
            chip=self.chip,
            column=self.column,
            row=self.row,
            place=self.place,
        )


class _StoredMapping(_Stored):
    network: Text
    chip: Text
    chip_name: Text
    division: Division
    input_place: InputPlace
    chips: Count
    violations: list[_StoredViolation]
    cores: list[_StoredCore]


def mapping_from_json(data: Any, where: str) -> ChipMapping:
    """Rebuild a mapping from ``ChipMapping.to_json``; `where` names the file in errors.

    Raises:
        BadFileError: another format or version, or a field is missing or of a wrong kind.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BadFileError(f"{where}: not a mapping ({FORMAT}); make one with mtspark map --json")
    if not is_version(data.get("version"), VERSION):
        raise BadFileError(
            f"{where}: mapping version {one_line(repr(data.get('version')), 40)}, this mtspark "
            f"reads {VERSION}"
        )
    try:
        stored = _StoredMapping.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = one_line(".".join(map(str, first["loc"])), 80)
        raise BadFileError(
            f"{where}: field missing or of the wrong kind: {field}: {one_line(first['msg'])}"
        ) from error
    if sum(stop - start for core in stored.cores for start, stop in core.neurons) > LARGEST:
        raise BadFileError(f"{where}: cores of more than {LARGEST} neurons")
    return ChipMapping(
        network=stored.network,
        chip=stored.chip,
        chip_name=stored.chip_name,
        division=stored.division,
        input_place=stored.input_place,
        cores=tuple(core.core() for core in stored.cores),
        chips=stored.chips,
        violations=tuple(Violation(**dict(violation)) for violation in stored.violations),
    )


def load_mapping(path: AnyPath) -> ChipMapping:
    """Read the file that ``mtspark map --json`` wrote.

    Raises:
        BadFileError: unreadable or no mapping.
    """
    return mapping_from_json(read_text_guarded(Path(path), json.loads), str(path))
