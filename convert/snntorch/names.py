"""Names of the layers of a module; of nn.Sequential, which numbers them, names that say more."""

from __future__ import annotations

from torch import nn

KINDS = {
    "Conv1d": "conv",
    "Conv2d": "conv",
    "Linear": "fc",
    "BatchNorm1d": "bn",
    "BatchNorm2d": "bn",
    "MaxPool1d": "pool",
    "MaxPool2d": "pool",
    "AvgPool1d": "pool",
    "AvgPool2d": "pool",
    "Leaky": "lif",
    "RLeaky": "lif",
    "Synaptic": "lif",
    "RSynaptic": "lif",
}
"""What a layer of a kind is called, as the field does; others by their kind."""


def layer_names(network: nn.Module) -> dict[str, str]:
    """Name the layers of a module.

    Layers of an nn.Sequential are named after their kind and counted (conv1, lif1, conv2), others
    as the module has them. A name that is taken by another layer stays the module's own.

    Args:
        network: whose layers are named.

    Returns:
        The names by those of ``named_modules``, in its order.
    """
    own: dict[str, str] = {}
    for path, part in network.named_modules():
        above, _, last = path.rpartition(".")
        prefix = f"{own[above]}." if above else ""
        own.setdefault(path, f"{prefix}{last}")
        if not isinstance(part, nn.Sequential):
            continue
        numbers: dict[str, int] = {}
        taken = {name for name, _ in part.named_children()}
        for name, child in part.named_children():
            if not name.isdigit():
                continue
            kind = KINDS.get(type(child).__name__, type(child).__name__.lower())
            numbers[kind] = numbers.get(kind, 0) + 1
            chosen = f"{kind}{numbers[kind]}"
            inside = f"{own[path]}." if path else ""
            own[f"{path}.{name}" if path else name] = (
                f"{inside}{name if chosen in taken else chosen}"
            )
    return own
