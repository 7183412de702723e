"""Options of the quantiser, and the record of them that a bundle carries.

How to store and read them::

    options = QuantiseOptions(weight_bits=6, keep_sums=False)
    record = Quantisation(options, palette=8, palette_chip="loihi1", calibration="mse")
    write_bundle(folder, network, write_more, quantiser=record.to_json())

    bundle = load_bundle(folder)
    options_of(bundle)         # QuantiseOptions: what `quantise` and `quantise_layer` take
    quantisation_of(bundle)    # Quantisation: the same, with palette and calibration

The record is the object ``quantiser`` of ``network.json``, beside ``provenance``. It is no part
of the chip network, so the network's hash does not depend on it. Bundles written before the
record existed, and networks that came as integers (netx files), have none: ``Bundle.quantiser``
is None, and both functions reconstruct the options of an old bundle from its other files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.errors import BadFileError
from mtspark.core.files import read_text_guarded
from mtspark.deploy.bundle import FIDELITY, NETWORK_JSON, Bundle

WEIGHT_BITS = range(2, 9)
"""Bits that a weight of the chip can have."""

DEFAULT_WEIGHT_BITS = 8

PER_CHANNEL, PER_LAYER = "per channel", "per layer"
KEEPS_SUMS, NEAREST = "keeps kernel sums", "to nearest"
"""Entries ``weight_scale`` and ``rounding`` of a network's provenance."""


@dataclass(frozen=True)
class QuantiseOptions:
    """How weights become integers.

    Attributes:
        weight_bits: 2 to 8.
        per_channel: one scale per output channel, otherwise one per layer.
        keep_sums: round so that the sum of every kernel survives, see
            :func:`mtspark.deploy.quantise.rounding.round_keeping_sums`; otherwise each weight to
            the nearest integer.
        may_saturate: where no exponent that loses no bits keeps membranes from saturating for
            every input, allow that they do; currents never wrap. Otherwise such a layer takes
            smaller exponents, and is refused where none is small enough.
        weight_limits: by connection name, the largest magnitude of each output channel that is
            represented (float); larger weights are clipped. Default: the largest there is.
        largest_currents: by population name, the largest |current| (float) of recorded inputs;
            where given, currents are bounded by twice that instead of by proof.
        for_netx: what a netx file can say: every weight exponent 0, biases in steps of 64.
    """

    weight_bits: int = DEFAULT_WEIGHT_BITS
    per_channel: bool = True
    keep_sums: bool = True
    may_saturate: bool = False
    weight_limits: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    largest_currents: Mapping[str, float] = field(default_factory=dict)
    for_netx: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain values, a field each; weight limits are lists of numbers."""
        return {
            "weight_bits": self.weight_bits,
            "per_channel": self.per_channel,
            "keep_sums": self.keep_sums,
            "may_saturate": self.may_saturate,
            "for_netx": self.for_netx,
            "weight_limits": {name: limit.tolist() for name, limit in self.weight_limits.items()},
            "largest_currents": dict(self.largest_currents),
        }

    @classmethod
    def from_json(cls, data: Any, where: str) -> QuantiseOptions:
        """Rebuild options from :meth:`to_json`.

        Args:
            data: a JSON value; a field that is missing takes its default, others are ignored.
            where: names the file in errors.

        Raises:
            BadFileError: a field of another type or range.
        """
        try:
            return cls(
                weight_bits=_weight_bits(data.get("weight_bits", DEFAULT_WEIGHT_BITS)),
                per_channel=_flag(data.get("per_channel", True)),
                keep_sums=_flag(data.get("keep_sums", True)),
                may_saturate=_flag(data.get("may_saturate", False)),
                for_netx=_flag(data.get("for_netx", False)),
                weight_limits={
                    str(name): np.array([_number(value) for value in limit], np.float64)
                    for name, limit in data.get("weight_limits", {}).items()
                },
                largest_currents={
                    str(name): _number(value)
                    for name, value in data.get("largest_currents", {}).items()
                },
            )
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise BadFileError(f"{where}: quantiser options are damaged; export again") from error


@dataclass(frozen=True)
class Quantisation:
    """How the network of a bundle was quantised.

    Attributes:
        options: that :func:`mtspark.deploy.quantise.network.quantise` took.
        palette: largest number of distinct thresholds, see
            :mod:`mtspark.deploy.quantise.codebook`; None without a palette.
        palette_chip: whose cores have such a palette each; None where each population has one.
        calibration: method that chose the weight limits, a value of
            :class:`mtspark.deploy.quantise.calibration.Calibration`; None without one.
    """

    options: QuantiseOptions = field(default_factory=QuantiseOptions)
    palette: int | None = None
    palette_chip: str | None = None
    calibration: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values: the fields of the options and of this record in one object."""
        return {
            **self.options.to_json(),
            "palette": self.palette,
            "palette_chip": self.palette_chip,
            "calibration": self.calibration,
        }

    @classmethod
    def from_json(cls, data: Any, where: str) -> Quantisation:
        """Rebuild the record from :meth:`to_json`.

        Args:
            data: a JSON value; a field that is missing takes its default, others are ignored.
            where: names the file in errors.

        Raises:
            BadFileError: a field of another type or range.
        """
        options = QuantiseOptions.from_json(data, where)
        palette = data.get("palette")
        names = data.get("palette_chip"), data.get("calibration")
        if not (palette is None or (type(palette) is int and palette >= 1)) or not all(
            name is None or (isinstance(name, str) and name.isprintable()) for name in names
        ):
            raise BadFileError(f"{where}: quantiser options are damaged; export again")
        return cls(options, palette, *names)


def options_of(bundle: Bundle) -> QuantiseOptions:
    """Return the options that a bundle's network was quantised with.

    Raises:
        BadFileError: the bundle's record, or of an old bundle its provenance, is damaged.
    """
    return quantisation_of(bundle).options


def quantisation_of(bundle: Bundle) -> Quantisation:
    """Return how a bundle's network was quantised.

    Raises:
        BadFileError: the bundle's record, or of an old bundle its provenance, is damaged.
    """
    if bundle.quantiser is None:
        return _from_provenance(bundle)
    return Quantisation.from_json(bundle.quantiser, str(bundle.folder / NETWORK_JSON))


def _from_provenance(bundle: Bundle) -> Quantisation:
    """Reconstruct the record of an old bundle; no bundle that is written today needs this.

    Bits, scales and rounding stand as text in the provenance, what calibration chose in
    ``fidelity.json``. Which chip a palette was for, and the method of calibration, are lost.
    """
    texts = bundle.network.provenance
    bits = texts.get("weight_bits", str(DEFAULT_WEIGHT_BITS))
    if bits not in map(str, WEIGHT_BITS):
        raise BadFileError(f"{bundle.folder}: weights of {bits[:20]!r} bits; export again")
    data = {
        **_calibrated_part(bundle),
        "weight_bits": int(bits),
        "per_channel": texts.get("weight_scale", PER_CHANNEL) == PER_CHANNEL,
        "keep_sums": texts.get("rounding", KEEPS_SUMS) == KEEPS_SUMS,
    }
    palette = texts.get("palette", "")
    if palette.isdecimal() and int(palette) >= 1:
        data["palette"] = int(palette)
    return Quantisation.from_json(data, str(bundle.folder / FIDELITY))


def _calibrated_part(bundle: Bundle) -> dict[str, Any]:
    """What ``fidelity.json`` of an old bundle says about its options."""
    if FIDELITY not in bundle.files:
        return {}
    path = bundle.folder / FIDELITY
    try:
        return dict(
            read_text_guarded(path, json.loads, content=bundle.content(FIDELITY)).get(
                "quantise_options", {}
            )
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise BadFileError(f"{path}: quantise_options are damaged; export again") from error


def _weight_bits(value: Any) -> int:
    if type(value) is not int or value not in WEIGHT_BITS:
        raise ValueError(f"{value!r} weight bits")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError(f"{value!r} where true or false is needed")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"{value!r} where a number is needed")
    return float(value)
