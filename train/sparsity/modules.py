"""Masks on the weights of any module, as parametrisations of PyTorch.

Networks of ours keep their masks in their layers, behind the standardisation of weights. A module
of the user's own, as of snntorch, gets them by :class:`SparseModule`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from mtspark.core.errors import BadRequestError
from mtspark.train.networks import SpikingLayer
from mtspark.train.sparsity.densities import erk_densities
from mtspark.train.sparsity.evolution import drawn_like, exchanged_in
from mtspark.train.sparsity.magnitude import largest_of
from mtspark.train.sparsity.pathways import choose_path, shares_of

LAYERS = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
"""Whose weights are masked, and never their biases."""
Layer = (
    nn.Linear
    | nn.Conv1d
    | nn.Conv2d
    | nn.Conv3d
    | nn.ConvTranspose1d
    | nn.ConvTranspose2d
    | nn.ConvTranspose3d
)
"""One of them."""


class Mask(nn.Module):
    """A parametrisation: a weight where its mask is True, and 0 elsewhere.

    Args:
        weight: whose shape and device the mask has; it begins with all synapses.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.mask: Tensor
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight that acts; what is cut has no gradient."""
        return weight * self.mask


class SparseModule:
    """Sparse weights of a module's linear layers and convolutions.

    The masks are buffers of the module, so its state holds them, and it learns, moves and is
    exported as before: a cut synapse is a weight of 0 that no optimizer moves back. Behind its cut
    a weight waits, and it returns where a synapse grows again, or where another task is played. It
    has no gradient, but moments and weight decay move it all the same: see :meth:`guard`.

    Args:
        module: of any kind, also one of snntorch; it is changed in place.
        layers: names of its layers, as `named_modules` has them; None: all that can be masked. A
            layer that the module has under several names goes by one of them.

    Raises:
        BadRequestError: no such layer, or one that is named twice; or one whose weight has a
            parametrisation already, is not made yet (lazy), is computed by a hook, is shared with
            another layer, or is standardised behind the mask, as in a network of mtspark train.
    """

    def __init__(self, module: nn.Module, layers: Sequence[str] | None = None) -> None:
        self.layers = _chosen(module, layers)
        for name, layer in self.layers.items():
            _check_weight(module, name, layer)
        self._guards: list[RemovableHandle] = []
        self._module = module
        for layer in self.layers.values():
            parametrize.register_parametrization(layer, "weight", Mask(layer.weight))

    @property
    def masks(self) -> dict[str, Tensor]:
        """Masks by layer: the buffers that the module has now, wherever it was moved.

        Raises:
            BadRequestError: :meth:`fold` took them away. All that uses masks raises it.
        """
        if not self.layers:
            raise BadRequestError(
                "masks: none, fold() took them away; give the module to a new SparseModule"
            )
        found: dict[str, Tensor] = {}
        for name in self.layers:
            mask = self._parametrised(name)[0]
            assert isinstance(mask, Mask)
            found[name] = mask.mask
        return found

    @property
    def densities(self) -> dict[str, float]:
        """Share of the synapses of each layer that are there."""
        return {name: int(mask.sum()) / mask.numel() for name, mask in self.masks.items()}

    @torch.no_grad()
    def prune(self, density: float) -> None:
        """Cut the smallest weights of each layer; what is cut stays cut.

        Called along a falling density this is gradual magnitude pruning (Zhu and Gupta 2017,
        arXiv:1710.01878); :meth:`mtspark.train.config.PruningConfig.density_at` is its schedule.

        Args:
            density: share of each layer that is left, rounded to whole synapses, at least one.
        """
        _check_share("density", density)
        for name, mask in self._changeable().items():
            kept = max(1, round(density * mask.numel()))
            if kept < int(mask.sum()):
                mask.copy_(largest_of(self._weight(name), mask, kept))

    @torch.no_grad()
    def draw(self, density: float, generator: np.random.Generator) -> None:
        """Keep synapses at random places, shared out by Erdős-Rényi-Kernel; weights stay.

        Args:
            density: of all layers together.
            generator: of the places.
        """
        _check_share("density", density)
        _check_generator(generator)
        masks = self._changeable()
        shapes = {name: tuple(mask.shape) for name, mask in masks.items()}
        for name, own in erk_densities(shapes, density).items():
            masks[name].copy_(drawn_like(masks[name], own, generator))

    @torch.no_grad()
    def exchange(self, fraction: float, generator: np.random.Generator) -> dict[str, int]:
        """Drop the smallest weights of each layer and grow as many (SET, arXiv:1707.04780).

        Args:
            fraction: share of a layer's synapses that are dropped, rounded down.
            generator: of the places that grow.

        Returns:
            Synapses that were exchanged, by layer.
        """
        _check_share("fraction", fraction)
        _check_generator(generator)
        counts = {}
        for name, mask in self._changeable().items():
            changed, counts[name] = exchanged_in(self._weight(name), mask, fraction, generator)
            mask.copy_(changed)
        return counts

    def guard(self, optimizer: torch.optim.Optimizer) -> None:
        """Let an optimizer change nothing behind a cut, from its next step on.

        A synapse that is cut has a gradient of 0. Adam and momentum move its weight all the same,
        by what they remember, and weight decay shrinks it: what one task learns then changes the
        synapses of the others, and what grows again is another weight. With this, weights and
        moments wait unchanged while they are cut.

        Args:
            optimizer: of the module's parameters.

        Raises:
            BadRequestError: it has none of the masked weights.
        """
        own = {self._weight(name): name for name in self.masks}
        held = {one for group in optimizer.param_groups for one in group["params"]}
        guarded = {name: weight for weight, name in own.items() if weight in held}
        if not guarded:
            raise BadRequestError(
                "optimizer: it has none of the weights that are masked here; make it of the "
                "module's parameters()"
            )
        waiting: dict[str, dict[Any, Tensor]] = {}

        def before(*_: Any) -> None:
            waiting.clear()
            waiting.update(
                (name, {key: value.clone() for key, value in _moved(optimizer, weight).items()})
                for name, weight in guarded.items()
            )

        def after(*_: Any) -> None:
            if not self.layers:
                return
            masks = self.masks
            for name, weight in guarded.items():
                for key, value in _moved(optimizer, weight).items():
                    old = waiting[name].get(key)
                    if old is None:
                        # What this step has made: moments begin at 0, the steps of Rprop do not.
                        old = value if key == "step_size" else torch.zeros_like(value)
                    value.copy_(torch.where(masks[name], value, old))

        self._guards += [
            optimizer.register_step_pre_hook(before),
            optimizer.register_step_post_hook(after),
        ]

    def scores(self, loss: Callable[[], Tensor]) -> dict[str, Tensor]:
        """Score every synapse by |w dL/dw|, with all synapses in place (NPF; DAPD).

        Args:
            loss: of a task, with the module; its weights, their gradients and the running
                statistics of its normalisations do not change. A module that keeps its state
                between calls, as snntorch's neurons with `init_hidden`, is reset in it: the graph
                of the call before is gone.

        Returns:
            Scores in the shape of each layer's weights; they sum to 1 over the layers, or are 0.

        Raises:
            BadRequestError: a weight is frozen, or the loss is no finite number with a finite
                gradient.
        """
        before = {name: mask.clone() for name, mask in self._changeable().items()}
        weights = [self._weight(name) for name in before]
        frozen = [
            name for name, weight in zip(before, weights, strict=True) if not weight.requires_grad
        ]
        if frozen:
            raise BadRequestError(
                f"layers {_listed(frozen)}: requires_grad of their weights is False; scores are "
                "gradients of weights; set it to True while they are scored, or leave these layers "
                "out of `layers`"
            )
        statistics = {one: one.clone() for one in _running_statistics(self._module)}
        try:
            for mask in self.masks.values():
                mask.fill_(True)
            value = loss()
            _check_loss(value)
            slopes = torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)
        finally:
            self.follow(before)
            for one, old in statistics.items():
                one.copy_(old)
        for name, slope in zip(before, slopes, strict=True):
            if not slope.isfinite().all():
                raise BadRequestError(
                    f"loss: its gradient by layer {_listed([name])} is not finite; scores of it "
                    "would say nothing, so train on finite numbers, or clip them"
                )
        rows = zip(self.masks, weights, slopes, strict=True)
        return shares_of({name: (weight.detach() * one).abs() for name, weight, one in rows})

    def path(self, scores: Mapping[str, Tensor], density: float) -> dict[str, Tensor] | None:
        """Choose the synapses of the highest scores over all layers; no layer collapses.

        Args:
            scores: of :meth:`scores`, or a mean of several.
            density: share of all synapses that is kept.

        Returns:
            Masks for :meth:`follow`; fewer synapses where fewer scores are above 0, and None where
            no score of a layer is.

        Raises:
            BadRequestError: scores of no layer, of an unknown one, in another shape, or such as
                are no scores: negative or not finite.
        """
        _check_share("density", density)
        if not scores:
            raise BadRequestError("scores: none; give those of at least one layer")
        self._check_shapes("scores", scores)
        for name, score in scores.items():
            if not (score.isfinite() & (score >= 0)).all():
                raise BadRequestError(
                    f"scores of layer {_listed([name])}: must be finite and at least 0, as those "
                    "of scores() are"
                )
        return choose_path(scores, density)

    @torch.no_grad()
    def follow(self, masks: Mapping[str, Tensor]) -> None:
        """Let these synapses act and no others, as of the task that plays now.

        Args:
            masks: by layer, True where a synapse acts, in the shape of its weights; layers without
                one stay as they are.

        Raises:
            BadRequestError: an unknown layer, or a mask of another shape or dtype; no mask changes.
        """
        own = self._changeable()
        self._check_shapes("mask", masks)
        for name, mask in masks.items():
            if mask.dtype != torch.bool:
                raise BadRequestError(
                    f"mask of layer {_listed([name])}: dtype {mask.dtype}; must be "
                    "torch.bool, as those of path() are"
                )
        for name, mask in masks.items():
            own[name].copy_(mask)

    def fold(self) -> None:
        """Make the cuts weights of 0 and take the masks away, before an export or at the end.

        This object is then of no use, and a module that is trained on moves these weights again.
        """
        for guard in self._guards:
            guard.remove()
        for layer in self.layers.values():
            parametrize.remove_parametrizations(layer, "weight")
        self.layers = {}

    def _changeable(self) -> dict[str, Tensor]:
        """Masks whose changes act at once."""
        masks = self.masks
        layer = next(iter(self.layers.values()))
        one, another = layer.weight, layer.weight
        if one is another:  # PyTorch keeps the first one that it is asked for.
            raise BadRequestError(
                "masks: inside of torch.nn.utils.parametrize.cached() the weights of before act; "
                "score and change masks outside of it"
            )
        return masks

    def _check_shapes(self, what: str, given: Mapping[str, Tensor]) -> None:
        """Check that tensors are of layers with masks, in the shape of their weights."""
        own = self.masks
        unknown = [name for name in given if name not in own]
        if unknown:
            raise BadRequestError(
                f"{what} of layer {_listed(unknown)}: the layers with masks are {_listed(own)}"
            )
        for name, one in given.items():
            shape = tuple(own[name].shape)
            # PyTorch would broadcast one that is smaller.
            if not isinstance(one, Tensor) or one.shape != shape:
                found = (
                    f"shape {tuple(one.shape)}" if isinstance(one, Tensor) else type(one).__name__
                )
                raise BadRequestError(
                    f"{what} of layer {_listed([name])}: {found}; must be a tensor of shape {shape}"
                )

    def _weight(self, name: str) -> Tensor:
        """What lies behind a layer's mask."""
        weight = self._parametrised(name).original
        assert isinstance(weight, Tensor)
        return weight

    def _parametrised(self, name: str) -> parametrize.ParametrizationList:
        lists = self.layers[name].parametrizations
        assert isinstance(lists, nn.ModuleDict)
        weight = lists["weight"]
        assert isinstance(weight, parametrize.ParametrizationList)
        return weight


def _chosen(module: nn.Module, layers: Iterable[str] | None) -> dict[str, Layer]:
    """Linear layers and convolutions of a module by name, each once."""
    if isinstance(layers, str):
        raise BadRequestError(f"layers {layers!r}: one string; give a sequence, [{layers!r}]")
    own = {name: one for name, one in module.named_modules() if isinstance(one, LAYERS)}
    # A layer that is registered twice goes by any of its names.
    every = {
        name: one
        for name, one in module.named_modules(remove_duplicate=False)
        if isinstance(one, LAYERS)
    }
    names = list(own if layers is None else layers)
    no_names = [name for name in names if not isinstance(name, str)]
    if no_names:
        raise BadRequestError(
            f"layers {_listed(map(repr, no_names))}: names are strings, as named_modules() has "
            f"them: {_listed(map(repr, every))}"
        )
    unknown = [name for name in names if name not in every]
    if unknown or not names:
        raise BadRequestError(
            f"layers {_listed(unknown)}: the linear layers and convolutions are {_listed(every)}"
        )
    names_of: dict[Layer, list[str]] = {}
    for name in names:
        names_of.setdefault(every[name], []).append(name)
    for same in names_of.values():
        if len(same) > 1:
            raise BadRequestError(
                f"layers {_listed(same)}: one layer, named {len(same)} times; name it once"
            )
    return {name: every[name] for name in names}


def _running_statistics(module: nn.Module) -> list[Tensor]:
    """What batch and instance normalisation remember of the samples that they have seen."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
    return [
        buffer
        for part in module.modules()
        if isinstance(part, kinds)
        for buffer in part.buffers(recurse=False)
        if not is_lazy(buffer)  # It remembers nothing yet.
    ]


def _check_weight(module: nn.Module, name: str, layer: Layer) -> None:
    """Check that a mask can act on the weight of a module's layer, and on nothing else."""
    where = f"layer {_listed([name])}"
    owners = [one for one in module.modules() if isinstance(one, SpikingLayer)]
    if any(one.synapses is layer for one in owners):
        raise BadRequestError(
            f"{where}: belongs to a network of mtspark train, which standardises its weights "
            "behind any mask; cut it by [pruning] of a recipe, with start_from"
        )
    if parametrize.is_parametrized(layer, "weight"):
        raise BadRequestError(
            f"{where}: its weight has a parametrisation already; remove it first, as by fold() of "
            "its SparseModule or torch.nn.utils.parametrize.remove_parametrizations"
        )
    weight = dict(layer.named_parameters(recurse=False, remove_duplicate=False)).get("weight")
    if weight is None:
        raise BadRequestError(
            f"{where}: its weight is no parameter, a hook computes it, as that of "
            "torch.nn.utils.weight_norm; remove the hook first, as by remove_weight_norm"
        )
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise BadRequestError(
            f"{where}: its weight is not made yet, as the layer is lazy; call the module once "
            "with a sample first"
        )
    if not weight.numel():
        raise BadRequestError(
            f"{where}: its weight has no synapse (shape {tuple(weight.shape)}); leave it out of "
            "`layers`"
        )
    others = [
        f"{owner}.{key}".removeprefix(".")
        for owner, one in module.named_modules()
        for key, parameter in one.named_parameters(recurse=False, remove_duplicate=False)
        if parameter is weight and (one is not layer or key != "weight")
    ]
    if others:
        raise BadRequestError(
            f"{where}: its weight is also {', '.join(others)}; a shared weight cannot have "
            "the mask of one layer; give each a weight of its own, or leave them out of `layers`"
        )


def _check_loss(value: object) -> None:
    """Check that a loss can be differentiated."""
    if not isinstance(value, Tensor):
        raise BadRequestError(f"loss: {type(value).__name__}; must return a tensor of one number")
    if value.numel() != 1:
        raise BadRequestError(
            f"loss: shape {tuple(value.shape)}; must be one number, as the mean of these"
        )
    if not value.isfinite().all():
        raise BadRequestError(f"loss: {float(value.detach())}; must be finite to score by it")
    if not value.requires_grad:
        raise BadRequestError(
            "loss: it has no gradient; compute it from the module's outputs, and neither under "
            "torch.no_grad nor detached"
        )


def _listed(names: Iterable[str]) -> str:
    """Names in a row; that of the module itself is empty."""
    return ", ".join(str(name) or "''" for name in names) or "none"


def _moved(optimizer: torch.optim.Optimizer, weight: Tensor) -> dict[Any, Tensor]:
    """What an optimizer's step moves of a weight: itself, and moments in its shape."""
    state = optimizer.state.get(weight, {})
    moments = {
        key: value
        for key, value in state.items()
        if isinstance(value, Tensor) and value.shape == weight.shape
    }
    return {None: weight.detach(), **moments}


def _check_share(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise BadRequestError(f"{name} of type {type(value).__name__}: must be a number")
    if not 0 < (share := float(value)) <= 1:
        raise BadRequestError(f"{name} {share:g}: must be above 0 and at most 1")


def _check_generator(generator: object) -> None:
    if not isinstance(generator, np.random.Generator):
        raise BadRequestError(
            f"generator of type {type(generator).__name__}: give numpy.random.default_rng(SEED)"
        )
