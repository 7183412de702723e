"""Find a module's weights in a file, wherever a training script put them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snntorch import SpikingNeuron
from torch import Tensor, nn

from mtspark.core.errors import BadFileError, one_line
from mtspark.core.files import FileLimits, read_guarded
from mtspark.train.checkpoint import read_tensors, weights_in, with_tensors

STATES = ("mem", "syn", "spk", "syn_exc", "syn_inh")
"""What older versions of snntorch saved of a neuron beside its constants: where it was left."""

CONSTANTS = ("graded_spikes_factor", "reset_mechanism_val", "threshold", "beta", "alpha", "V")
"""Of a neuron. Older versions of snntorch did not save all of them, nor do files of parameters
alone; one that is learned is a parameter and always saved."""

FIRST = ("", "state_dict", "model_state_dict", "model", "net", "network", "state")
"""Where weights stand, the usual places first, for a file of several that fit alike."""

Weights = dict[str, Tensor]


def load_weights(module: nn.Module, path: Path) -> list[str]:
    """Read a file of weights and load them into a module.

    Args:
        module: gets the weights.
        path: of a state_dict by torch.save, alone or within a checkpoint, or of safetensors.

    Returns:
        A sentence for the user about everything that was left out or filled in.

    Raises:
        BadFileError: no weights in it, or none that fit.
    """

    def read(bounds: FileLimits) -> Any:
        return read_tensors(path, bounds)

    found = weights_in(with_tensors(read_guarded(str(path), read)))
    if not found:
        raise BadFileError(f"{path}: no state_dict; save it with torch.save(net.state_dict(), ...)")
    place, state, notes = _best(module, path, found)
    if place:
        notes.insert(0, f"weights: {place!r} of {path.name}")
    notes += _mend(module, state)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise BadFileError(
            f"{path}: does not fit the module: {one_line(_reason(error), 300)}"
        ) from error
    return notes


def _best(
    module: nn.Module, path: Path, found: Mapping[str, Mapping[str, Any]]
) -> tuple[str, Weights, list[str]]:
    """The weights that fit most of a module's own names."""
    own = set(module.state_dict())
    ranked = []
    for place, entries in found.items():
        state, notes = _without_prefix(entries, own)
        usual = FIRST.index(place) if place in FIRST else len(FIRST)
        ranked.append((-len(own & set(state)), usual, place, state, notes))
    ranked.sort(key=lambda entry: entry[:3])
    (fitting, usual, place, state, notes), *rest = ranked
    alike = [entry[2] for entry in rest if entry[:2] == (fitting, usual)]
    if alike and fitting and usual == len(FIRST):
        places = ", ".join(sorted([place, *alike]))
        raise BadFileError(
            f"{path}: holds several sets of weights that fit, {places}; "
            "save the one to be used alone, torch.save(net.state_dict(), ...)"
        )
    return place, state, notes


def _without_prefix(entries: Mapping[str, Any], own: set[str]) -> tuple[Weights, list[str]]:
    """Weights by the module's own names.

    Wrappers put their own name in front: module. (DataParallel), _orig_mod. (torch.compile),
    model. (Lightning). Where that was not the whole of the wrapper, the rest is left out.
    """
    prefixes = {""}
    for key in entries:
        parts = key.split(".")
        prefixes |= {".".join(parts[:count]) + "." for count in range(1, len(parts))}
    fits = {
        prefix: sum(prefix + name in entries for name in own)
        for prefix in sorted(prefixes, key=len)
    }
    prefix = max(fits, key=lambda text: fits[text])
    if not prefix:
        return dict(entries), []
    state = {
        key.removeprefix(prefix): value for key, value in entries.items() if key.startswith(prefix)
    }
    others = sorted(set(entries) - {prefix + key for key in state})
    if not others:
        return state, []
    return state, [f"left out of the weights, as not below {prefix!r}: {', '.join(others[:8])}"]


def _mend(module: nn.Module, state: Weights) -> list[str]:
    """Bring the neurons' entries of another version of snntorch to those of this one."""
    own, notes = module.state_dict(), []
    neurons = {name for name, part in module.named_modules() if isinstance(part, SpikingNeuron)}

    def of_neuron(key: str, names: tuple[str, ...]) -> bool:
        parent, _, last = key.rpartition(".")
        return parent in neurons and last in names

    left = sorted(key for key in state if key not in own and of_neuron(key, STATES))
    for key in left:
        del state[key]
    if left:
        notes.append(f"states of an older snntorch, which start at 0 here: {', '.join(left[:8])}")
    fixed = {key for key, _ in module.named_buffers()}
    filled = sorted(key for key in fixed - set(state) if of_neuron(key, CONSTANTS))
    for key in filled:
        state[key] = own[key]
    if filled:
        notes.append(f"not in the file, as the module was built: {', '.join(filled[:8])}")
    for key, value in state.items():
        # Constants were (1,) once, and are () now.
        if key in own and value.numel() == own[key].numel() == 1:
            state[key] = value.reshape(own[key].shape)
    return notes


def _reason(error: RuntimeError) -> str:
    """What torch says, without the class in front, whose name the user knows."""
    return str(error).partition(":\n")[2] or str(error)
