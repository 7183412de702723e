"""Which of the things that a module returns is its answer, and how a chip reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from mtspark.convert.linear import LinearMap, Scale, is_identity, same
from mtspark.convert.snntorch.calling import Recording
from mtspark.convert.snntorch.recorder import NeuronCall
from mtspark.convert.snntorch.values import HEAD, Form, Pooled, Series, Term
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network import OutputKind

RESET_MEMBRANES = 3
"""Rank of membranes that spikes reset: an answer only where nothing else is returned."""


@dataclass(frozen=True)
class Readout:
    """What is read.

    Attributes:
        layer: name of the population.
        kind: how.
        form: of a last linear layer without neurons, for one step; None where a layer of
            neurons is read.
        step: that `form` belongs to.
        last_only: only the last step counts.
        summed: the membranes of all steps are added up, each times this; None: they are not.
        factor: the module returns this times what is read.
        where: the line of the source, for errors.
        notes: for the user.
        returned: the tensors that the module returned as it, one a call, or one a step of a list;
            none where a layer is read that it does not return.
    """

    layer: str
    kind: OutputKind
    form: Form | None = None
    step: int = 0
    last_only: bool = False
    summed: float | None = None
    factor: float = 1.0
    where: str = "the output"
    notes: tuple[str, ...] = ()
    returned: tuple[Tensor, ...] = ()


def choose_readout(
    recording: Recording,
    names: list[str],
    sinks: set[str],
    wanted: str | None,
    *,
    stateful: bool = False,
) -> Readout:
    """Pick the answer among the tensors that the module returned.

    A last linear layer without neurons comes first, then the membranes of a layer that resets
    nothing, then spikes, then other membranes; layers that feed no other one before those that do.

    Args:
        recording: of the module.
        names: of the layers.
        sinks: layers that feed no other layer.
        wanted: name of the layer to read; None: the only one that there is.
        stateful: a step is a decision, and each answers for itself.

    Returns:
        The answer; its notes say how it is read.

    Raises:
        BadNetworkError: nothing can be read, or several things and none is chosen.
    """
    candidates: list[Readout] = []
    refused: list[str] = []
    for tensors in _returned_tensors(recording):
        values = [recording.form(tensor) for tensor in tensors]
        try:
            readout = _readout(recording, names, values, stateful)
        except BadNetworkError as error:
            refused.append(str(error))
            continue
        if readout is not None:
            candidates.append(replace(readout, returned=tuple(tensors)))
    if wanted is not None:
        candidates = [readout for readout in candidates if readout.layer == wanted]
        if not candidates and wanted in names:
            candidates = [_plain(recording, names, wanted)]
        if not candidates:
            known = ", ".join([*names, HEAD])
            raise BadNetworkError(f"no layer {wanted!r} to read; there are {known}")
    ends = [readout for readout in candidates if readout.form is not None or readout.layer in sinks]
    ranked = sorted(ends or candidates, key=lambda readout: _rank(recording, names, readout))
    if not ranked:
        if refused:
            raise BadNetworkError(refused[0])
        raise BadNetworkError(
            "the module returns neither spikes nor membranes nor a linear layer of them; return "
            "the spikes of its last layer"
        )
    best = ranked[0]
    if refused and wanted is None and _rank(recording, names, best) == RESET_MEMBRANES:
        raise BadNetworkError(refused[0])
    others = sorted({readout.layer for readout in ranked} - {best.layer})
    if others and wanted is None and best.form is None:
        raise BadNetworkError(
            f"several last layers are returned: {', '.join([best.layer, *others])}; "
            "choose with --readout NAME"
        )
    return best


def _rank(recording: Recording, names: list[str], readout: Readout) -> int:
    if readout.form is not None:
        return 0
    if readout.kind is OutputKind.SPIKES:
        return 2
    return 1 if _reset_is_none(recording, names, readout.layer) else RESET_MEMBRANES


def _reset_is_none(recording: Recording, names: list[str], layer: str) -> bool:
    call = recording.layers[names.index(layer)][0]
    if not isinstance(call, NeuronCall):
        return False
    return getattr(call.module.state_function, "__name__", "") == "_base_int"


def _plain(recording: Recording, names: list[str], layer: str) -> Readout:
    kind = OutputKind.MEMBRANE if _reset_is_none(recording, names, layer) else OutputKind.SPIKES
    return Readout(layer, kind)


def returned(recording: Recording) -> Iterator[list[Any]]:
    """Every tensor that was returned, as its values over the calls."""
    for tensors in _returned_tensors(recording):
        yield [recording.form(tensor) for tensor in tensors]


def _returned_tensors(recording: Recording) -> Iterator[list[Tensor]]:
    """Every tensor that was returned, over the calls; of a list of all steps, over the steps."""
    listed = list(_listed(recording, recording.outputs[0])) if len(recording.outputs) == 1 else []
    yield from listed
    seen = {id(tensor) for tensors in listed for tensor in tensors}
    paths = [dict(_leaves(output, ())) for output in recording.outputs]
    for path, tensor in paths[0].items():
        if id(tensor) not in seen and all(path in entry for entry in paths):
            yield [entry[path] for entry in paths]


def _listed(recording: Recording, value: Any) -> Iterator[list[Tensor]]:
    """Lists with a tensor of each step, in order, as of `outputs.append(spikes)` in a loop."""
    entries = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(entries, (list, tuple)):
        return
    if len(entries) == recording.time_steps and all(isinstance(one, Tensor) for one in entries):
        forms = [recording.form(tensor) for tensor in entries]
        of_steps = all(_is_of_step(recording, form, step) for step, form in enumerate(forms))
        if of_steps and len({_layers(recording, form) for form in forms}) == 1:
            yield list(entries)
            return
    for entry in entries:
        yield from _listed(recording, entry)


def _layers(recording: Recording, form: Form) -> frozenset[tuple[int, str] | None]:
    """Which layers a value comes from, and what of them; None: what is none of a layer's."""
    return frozenset(
        None
        if one.source.call is None
        else (recording.place(one.source.call)[0], one.source.quantity)
        for one in form.terms
    )


def _is_of_step(recording: Recording, value: Any, step: int) -> bool:
    steps = (
        {recording.step_of(one.source) for one in value.terms} if isinstance(value, Form) else ()
    )
    return set(steps) == {step}


def _leaves(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _leaves(entry, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, entry in enumerate(value):
            yield from _leaves(entry, (*path, index))


def _readout(
    recording: Recording, names: list[str], values: list[Any], stateful: bool
) -> Readout | None:
    """What one returned tensor says; None for what is no answer (inputs, currents, constants)."""
    if any(value is None for value in values):
        return None
    for value in values:
        if isinstance(value, BadNetworkError):
            raise value
        if isinstance(value, Pooled):
            raise BadNetworkError(
                f"{value.pools[-1].where}: a maximum of {value.of} is returned, which no neurons "
                "follow; return spikes"
            )
    if len(values) == 1 and isinstance(values[0], Series):
        forms = values[0].forms
    elif all(isinstance(value, Form) for value in values):
        forms = list(values)
    else:
        return None
    # By step: what a step adds to the answer. A sum over steps holds terms of all of them.
    steps = recording.time_steps
    by_step: dict[int, list[Term]] = {step: [] for step in range(steps)}
    single = len(forms) == 1 and steps > 1
    for at, form in enumerate(forms):
        for term in form.terms:
            step = recording.step_of(term.source)
            by_step[step if single and step is not None else at].append(term)
    constant = sum((form.constant for form in forms), np.zeros(forms[0].shape))
    used = [step for step in range(steps) if by_step[step]]
    if not used or any(term.source.quantity == "current" for term in by_step[used[-1]]):
        return None
    last = by_step[steps - 1]
    if not last:
        raise BadNetworkError(f"{by_step[used[0]][0].where}: the last time step is not returned")
    if stateful and single and used != [steps - 1]:
        raise BadNetworkError(
            f"{last[0].where}: its answer is summed over the steps of a series, and where state "
            "survives decisions, each step is one and has an answer of its own; return that of "
            "every step (torch.stack), or a membrane that leaks"
        )
    layer = _single_layer(recording, names, last, constant)
    summed = single and used != [steps - 1]
    # Of membranes in a stack the last step's are read, and in an episode those of every step.
    if layer is not None and (summed or _spikes(last) or (stateful and not single)):
        _check_alike(recording, names, by_step, layer)
    if layer is not None and not _spikes(last) and summed:
        factor = _factor(last[0].linear)
        what = "mean" if np.isclose(factor, 1 / steps, rtol=1e-6, atol=0) else "sum"
        note = f"the {what} of the membranes of {layer!r} over all steps is read"
        return Readout(
            layer, OutputKind.MEMBRANE, summed=factor, where=last[0].where, notes=(note,)
        )
    if layer is not None and not _spikes(last):
        when = "each decision" if stateful else "the last step"
        note = f"the membrane of {layer!r} after {when} is read"
        factor = _factor(last[0].linear)
        return Readout(
            layer, OutputKind.MEMBRANE, factor=factor, where=last[0].where, notes=(note,)
        )
    if layer is not None:
        note = f"the spikes of {layer!r} over all steps are counted"
        if stateful:
            note = f"the spikes of {layer!r} in each decision are read"
        factor = _factor(last[0].linear)
        return Readout(layer, OutputKind.SPIKES, factor=factor, where=last[0].where, notes=(note,))
    if not all(term.source.quantity == "spikes" for term in last):
        return None
    return _head(forms, by_step, used, constant, steps, stateful)


def _spikes(terms: list[Term]) -> bool:
    return terms[0].source.quantity != "membrane"


def _check_alike(
    recording: Recording, names: list[str], by_step: dict[int, list[Term]], layer: str
) -> None:
    """Refuse an answer in which a layer's steps have different shares, as the chip has none.

    Raises:
        BadNetworkError: a step has another share than the last, or is missing.
    """
    *earlier, last = by_step.values()
    where, quantity = last[0].where, last[0].source.quantity
    for terms in earlier:
        alike = (
            len(terms) == 1
            and terms[0].source.quantity == quantity
            and _single_layer(recording, names, terms, 0.0) == layer
            and same(terms[0].linear, last[0].linear)
        )
        if not alike:
            things = "spikes" if quantity == "spikes" else "membranes"
            remedy = "" if quantity == "spikes" else ", or the membrane of the last one"
            raise BadNetworkError(
                f"{where}: the {things} of {layer!r} do not count alike in all steps of the output;"
                f" return their sum or mean over all steps{remedy}"
            )


def _single_layer(
    recording: Recording, names: list[str], terms: list[Term], constant: Any
) -> str | None:
    """The layer whose own values these are, up to one factor; None: they are something else."""
    if len(terms) != 1 or np.any(constant):
        return None
    (term,) = terms
    if term.source.call is None:
        return None
    if not is_identity(term.linear):
        if not isinstance(term.linear, Scale):
            return None
        factors = term.linear.factors
        if not (factors == factors[0]).all() or factors[0] <= 0:
            return None
    return names[recording.place(term.source.call)[0]]


def _factor(linear: LinearMap) -> float:
    """Of a layer's own values, the same for all, see :func:`_single_layer`."""
    return float(linear.factors[0]) if isinstance(linear, Scale) else 1.0


def _head(
    forms: list[Form],
    by_step: dict[int, list[Term]],
    used: list[int],
    constant: Any,
    steps: int,
    stateful: bool,
) -> Readout:
    """A last linear layer: the same in every step, or in the last one only."""
    last = by_step[steps - 1]
    where = last[0].where
    form = Form(forms[0].shape, tuple(last), constant)
    if used == [steps - 1] and steps > 1:
        note = "the last linear layer is read in the last step only"
        return Readout(
            HEAD, OutputKind.MEMBRANE, form, steps - 1, last_only=True, where=where, notes=(note,)
        )
    for step in range(steps):
        if len(by_step[step]) != len(last) or not all(
            same(one.linear, two.linear) for one, two in zip(by_step[step], last, strict=True)
        ):
            raise BadNetworkError(
                f"{where}: the steps do not count alike in the output; return their sum or mean"
            )
    form = Form(forms[0].shape, tuple(last), constant / steps)
    note = "the last linear layer is summed over all steps"
    if stateful:
        note = "the last linear layer is read in each decision"
    return Readout(
        HEAD, OutputKind.MEMBRANE, form, steps - 1, last_only=stateful, where=where, notes=(note,)
    )
