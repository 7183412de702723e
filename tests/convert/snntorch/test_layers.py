"""Layers of snntorch modules, against what snntorch gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

from mtspark.core.float_network.network import FloatKind, OutputKind
from mtspark.core.float_network.simulator import run_float
from tests.support.snntorch_modules import BATCH, differing, drive, float_spikes, positive, trace


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(3)


def sequential(*layers: nn.Module, shape: tuple[int, ...]) -> Any:
    layers = tuple(positive(layer) if isinstance(layer, nn.Linear) else layer for layer in layers)
    module = nn.Sequential(*layers, snn.Leaky(0.8, init_hidden=True, threshold=0.05)).eval()
    traced = trace(module, shape, steps=6)
    (neuron,) = [part for part in module if isinstance(part, snn.Leaky)]
    neuron.reset_mem()
    series = drive(shape)[:6]
    theirs = torch.stack([module(slice_) for slice_ in series]).detach()
    assert theirs.any()
    ours = run_float(
        traced.network, series.double().numpy().reshape(6, BATCH, *traced.network.input.shape)
    )
    assert differing(ours.spikes["lif1"], theirs) == 0
    return traced.network.connections


def normalised(features: int, layer: Any = nn.BatchNorm2d) -> nn.Module:
    norm = layer(features)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.3, 3.0)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    return norm


LAYERS: dict[str, tuple[list[Any], tuple[int, ...], FloatKind]] = {
    "groups, dilation, rectangle": (
        [lambda: nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=2)],
        (4, 7, 8),
        FloatKind.CONV,
    ),
    "same, even kernel": (
        [lambda: nn.Conv2d(2, 3, (2, 4), padding="same", dilation=(1, 3))],
        (2, 6, 9),
        FloatKind.CONV,
    ),
    "nearest": ([lambda: nn.Upsample(scale_factor=2)], (2, 3, 4), FloatKind.DENSE),
    "nearest to a size": ([lambda: nn.Upsample(size=(5, 7))], (2, 3, 4), FloatKind.DENSE),
    "bilinear": (
        [lambda: nn.Upsample(scale_factor=(2, 3), mode="bilinear")],
        (2, 3, 4),
        FloatKind.DENSE,
    ),
    "bilinear, corners": (
        [lambda: nn.Upsample(size=5, mode="bilinear", align_corners=True), nn.Flatten],
        (1, 3, 4),
        FloatKind.DENSE,
    ),
    "linear 1d": ([lambda: nn.Upsample(scale_factor=2, mode="linear")], (2, 5), FloatKind.DENSE),
    "smaller": ([lambda: nn.Upsample(scale_factor=0.5)], (2, 4, 6), FloatKind.DENSE),
    "convolution of larger images": (
        [lambda: nn.Upsample(scale_factor=2), lambda: positive(nn.Conv2d(2, 3, 3, padding=1))],
        (2, 3, 4),
        FloatKind.DENSE,
    ),
    "transposed": (
        [
            lambda: positive(
                nn.ConvTranspose2d(
                    4, 6, (3, 2), (2, 1), (1, 0), output_padding=(1, 0), groups=2, dilation=(1, 2)
                )
            )
        ],
        (4, 3, 4),
        FloatKind.DENSE,
    ),
    "transposed 1d": (
        [lambda: positive(nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1))],
        (3, 6),
        FloatKind.DENSE,
    ),
    "conv1d": ([lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1)], (3, 11), FloatKind.CONV),
    "conv1d same": ([lambda: nn.Conv1d(3, 4, 4, padding="same")], (3, 11), FloatKind.CONV),
    "batch norm": (
        [lambda: nn.Conv2d(2, 3, 3), lambda: normalised(3)],
        (2, 6, 5),
        FloatKind.CONV,
    ),
    "batch norm first": (
        [lambda: normalised(2), lambda: nn.Conv2d(2, 3, 3, padding=1)],
        (2, 6, 5),
        FloatKind.CONV,
    ),
    "batch norm of values": (
        [lambda: nn.Linear(5, 4), lambda: normalised(4, nn.BatchNorm1d)],
        (5,),
        FloatKind.DENSE,
    ),
    "pool then conv": (
        [lambda: nn.AvgPool2d(2), lambda: nn.Conv2d(2, 3, 3, padding=1, groups=1)],
        (2, 8, 8),
        FloatKind.CONV,
    ),
    "pool with a rest, then a padded conv": (
        [lambda: nn.AvgPool2d(2), lambda: nn.Conv2d(2, 3, 3, padding=1)],
        (2, 7, 9),
        FloatKind.DENSE,
    ),
    "padded pool without a rest, then a padded conv": (
        [lambda: nn.AvgPool2d(2, padding=1), lambda: nn.Conv2d(2, 3, 3, padding=1)],
        (2, 6, 8),
        FloatKind.CONV,
    ),
    "conv of an image that is read as another one": (
        [lambda: nn.Conv2d(2, 3, 3), lambda: nn.Flatten(2), lambda: nn.Unflatten(2, (6, 4)),
         lambda: nn.Conv2d(3, 2, 2)],
        (2, 6, 8),
        FloatKind.DENSE,
    ),
    "overlapping pool, padded": (
        [lambda: nn.AvgPool2d(3, stride=2, padding=1)],
        (2, 7, 8),
        FloatKind.CONV,
    ),
    "pool that counts no padding": (
        [lambda: nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)],
        (2, 5, 6),
        FloatKind.DENSE,
    ),
    "pool that rounds up": ([lambda: nn.AvgPool2d(2, ceil_mode=True)], (2, 5, 5), FloatKind.DENSE),
    "global pool": (
        [lambda: nn.AdaptiveAvgPool2d(1), nn.Flatten, lambda: nn.Linear(2, 3)],
        (2, 5, 6),
        FloatKind.DENSE,
    ),
    "two convs": (
        [lambda: nn.Conv2d(2, 4, 3, stride=2, groups=2), lambda: nn.Conv2d(4, 3, 2, dilation=2)],
        (2, 11, 12),
        FloatKind.CONV,
    ),
    "conv, flatten, linear": (
        [lambda: nn.Conv2d(1, 2, 3, stride=2), nn.Flatten, lambda: nn.Linear(18, 4)],
        (1, 7, 8),
        FloatKind.DENSE,
    ),
    "two linears, dropout, identity": (
        [lambda: nn.Linear(5, 7), nn.Dropout, nn.Identity, lambda: nn.Linear(7, 4)],
        (5,),
        FloatKind.DENSE,
    ),
    "zero padding, circular padding": (
        [
            lambda: nn.ZeroPad2d((1, 2, 0, 1)),
            lambda: nn.Conv2d(1, 2, 3, padding_mode="circular", padding=1),
        ],
        (1, 5, 5),
        FloatKind.DENSE,
    ),
    "transposed convolution": (
        [lambda: nn.ConvTranspose2d(2, 3, 3, stride=2)],
        (2, 3, 4),
        FloatKind.DENSE,
    ),
    "unflatten": (
        [lambda: nn.Linear(6, 12), lambda: nn.Unflatten(1, (2, 2, 3)), nn.Flatten],
        (6,),
        FloatKind.DENSE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    made, shape, kind = LAYERS[name]
    (link,) = sequential(*[make() for make in made], shape=shape)
    assert link.kind is kind


def test_one_matrix_may_be_large_and_its_factors_too() -> None:
    """6000 x 4 values are few: no matrix of 6000 x 6000 is needed for the batch norm."""
    shape = (4,)
    (link,) = sequential(nn.Linear(4, 6000), normalised(6000, nn.BatchNorm1d), shape=shape)
    assert link.weights.shape == (6000, 4)


class Moves(nn.Module):
    """Channels split, joined, reordered; features transposed before a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)
        self.lif = snn.Leaky(0.8, init_hidden=True, threshold=0.3)
        self.fc = nn.Linear(6 * 4 * 4, 5)
        self.last = snn.Leaky(0.8, init_hidden=True, threshold=0.3)

    def forward(self, x: Any) -> Any:
        joined = torch.cat([self.one(x[:, :2]), self.two(x[:, [3, 2]])], dim=1)
        left, right = self.lif(joined).chunk(2, dim=1)
        turned = torch.cat([right, -left], 1).permute(0, 2, 3, 1).reshape(x.size(0), -1)
        return self.last(self.fc(turned))


def test_moves_of_channels() -> None:
    module = Moves()
    traced = trace(module, (4, 6, 6), steps=6)
    for part in (module.lif, module.last):
        part.reset_mem()
    series = drive((4, 6, 6))[:6]
    theirs = torch.stack([module(slice_) for slice_ in series]).detach()
    assert theirs.any()
    assert differing(float_spikes(traced, series)["last"], theirs) == 0


@pytest.mark.parametrize(
    "neuron",
    [
        lambda: snn.RLeaky(0.8, conv2d_channels=3, kernel_size=3, init_hidden=True, threshold=0.1),
        lambda: snn.RLeaky(
            0.8, V=torch.rand(3, 5, 4), all_to_all=False, init_hidden=True, threshold=0.1
        ),
        lambda: snn.RSynaptic(
            0.5, 0.8, conv2d_channels=3, kernel_size=(3, 1), init_hidden=True, threshold=0.1
        ),
    ],
)
def test_recurrence_in_images(neuron: Any) -> None:
    module = nn.Sequential(positive(nn.Conv2d(2, 3, 3)), neuron())
    traced = trace(module, (2, 7, 6), steps=20)
    back = [link for link in traced.network.connections if link.source == "lif1"]
    assert [link.delay for link in back] == [1]
    module[1].reset_mem()
    series = drive((2, 7, 6))
    theirs = torch.stack([module(slice_) for slice_ in series]).detach()
    assert theirs.mean() > 0.02
    assert differing(float_spikes(traced, series)["lif1"], theirs) == 0


def test_a_membrane_is_read_where_nothing_resets_it() -> None:
    module = nn.Sequential(
        nn.Linear(6, 8),
        snn.Leaky(0.8, init_hidden=True, threshold=0.3),
        nn.Linear(8, 3),
        snn.Leaky(0.9, init_hidden=True, output=True, reset_mechanism="none"),
    )
    traced = trace(module, (6,), steps=9)
    network = traced.network
    assert (network.output.population, network.output.kind) == ("lif2", OutputKind.MEMBRANE)
    assert not network.population("lif2").spiking
    for part in module:
        if isinstance(part, snn.Leaky):
            part.reset_mem()
    series = drive((6,))[:9]
    for slice_ in series:
        _, mem = module(slice_)
    np.testing.assert_allclose(
        run_float(network, series.double().numpy()).values, mem.detach().numpy(), rtol=1e-4
    )
