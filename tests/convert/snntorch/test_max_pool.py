"""Max pools of spikes are layers of neurons, equal to torch's own pools spike by spike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn
from torch.nn import functional

from mtspark.convert.nir.reader import import_graph
from mtspark.convert.nir.writer import network_to_nir
from mtspark.convert.snntorch.trace import trace_module
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network.network import FloatKind
from mtspark.core.float_network.simulator import run_float
from mtspark.deploy.quantise.network import quantise
from mtspark.deploy.quantise.options import QuantiseOptions
from mtspark.sim.backends.reference import ReferenceChip
from tests.support.snntorch_modules import trace

STEPS, BATCH = 7, 3


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(3)


class Behind(nn.Module):
    """Neurons that pass spikes on, a pool, neurons that fire where its values are high."""

    def __init__(self, pool: Any, threshold: float = 0.5) -> None:
        super().__init__()
        self.lif1 = snn.Leaky(0.0, threshold=0.5, init_hidden=True, reset_mechanism="zero")
        self.pool = pool
        self.lif2 = snn.Leaky(0.0, threshold=threshold, init_hidden=True, reset_mechanism="zero")

    def forward(self, x: Any) -> Any:
        return self.lif2(self.pool(self.lif1(x)))


POOLS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "2": (nn.MaxPool2d(2), (2, 6, 8)),
    "a rest": (nn.MaxPool2d(2), (2, 7, 9)),
    "overlap": (nn.MaxPool2d(3, stride=2), (2, 7, 9)),
    "overlap, padded": (nn.MaxPool2d(3, stride=2, padding=1), (2, 7, 9)),
    "gaps": (nn.MaxPool2d(2, stride=3), (2, 7, 9)),
    "rectangle": (nn.MaxPool2d((3, 2), stride=(2, 1), padding=(1, 0)), (2, 7, 9)),
    "dilation": (nn.MaxPool2d(2, stride=1, dilation=(2, 3)), (2, 7, 9)),
    "dilation, padded": (nn.MaxPool2d(3, padding=1, dilation=2), (2, 7, 9)),
    "ceil_mode": (nn.MaxPool2d(2, ceil_mode=True), (2, 7, 9)),
    "ceil_mode, even": (nn.MaxPool2d(2, ceil_mode=True), (2, 6, 8)),
    "ceil_mode, padded": (nn.MaxPool2d(3, padding=1, ceil_mode=True), (2, 6, 8)),
    "ceil_mode, one axis": (nn.MaxPool2d((2, 3), (3, 2), (1, 0), ceil_mode=True), (2, 7, 9)),
    "ceil_mode, dilation": (nn.MaxPool2d(2, 3, dilation=(1, 2), ceil_mode=True), (2, 6, 9)),
    "function": (lambda s: functional.max_pool2d(s, 2, 1), (2, 7, 9)),
    "torch's function": (lambda s: torch.max_pool2d(s, 3, (1, 2), 1), (2, 7, 9)),
    "indices": (lambda s: functional.max_pool2d(s, 2, return_indices=True)[0], (2, 6, 8)),
    "adaptive": (nn.AdaptiveMaxPool2d((2, 4)), (2, 6, 8)),
    "adaptive, uneven": (nn.AdaptiveMaxPool2d((3, 4)), (2, 7, 9)),
    "global": (lambda s: s.amax(dim=(2, 3)), (4, 3, 3)),
    "over channels": (lambda s: s.max(dim=1).values, (4, 3, 5)),
    "over rows": (lambda s: s.amax(2), (2, 6, 8)),
    "over everything": (lambda s: s.flatten(1).amax(1, keepdim=True), (2, 2, 2)),
    "twice": (nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(3, 1, 1)), (2, 6, 8)),
    "of two": (lambda s: torch.maximum(s[:, :2], s[:, 2:]), (4, 3, 5)),
    "of a part": (lambda s: functional.max_pool2d(s[:, 1:, :, 2:], 2), (3, 6, 8)),
    "zero padding": (
        lambda s: functional.max_pool2d(functional.pad(s, (1, 2, 0, 1)), 2),
        (2, 5, 5),
    ),
    "times two": (lambda s: functional.max_pool2d(2 * s + 0.5, 2), (2, 6, 8)),
    "negative": (lambda s: functional.max_pool2d(1 - s, 3, 2, 1), (2, 6, 8)),
    "1d": (nn.MaxPool1d(2), (3, 8)),
    "1d, all options": (nn.MaxPool1d(3, 2, padding=1, dilation=2, ceil_mode=True), (3, 10)),
    "1d, ceil_mode, dilation": (
        nn.MaxPool1d(2, 3, dilation=3, ceil_mode=True),
        (3, 9),
    ),
    "1d, adaptive": (nn.AdaptiveMaxPool1d(3), (3, 7)),
}


def spikes(shape: tuple[int, ...], rate: float = 0.3) -> torch.Tensor:
    return (torch.rand(STEPS, BATCH, *shape) < rate).float()


@pytest.mark.parametrize("name", POOLS)
def test_a_max_of_spikes_is_torchs_in_every_step(name: str) -> None:
    """In floats and on the chip, in the module's own time step, of inputs never seen before."""
    pool, shape = POOLS[name]
    series = spikes(shape, 0.8 if name == "negative" else 0.2)
    theirs = torch.stack([pool(frame) for frame in series]).numpy()
    low, high = np.unique(theirs)
    traced = trace(Behind(pool, (low + high) / 2), shape, steps=STEPS)
    assert len(traced.layers) == (4 if name == "twice" else 3)
    network, fired = traced.network, theirs == high
    values = series.double().numpy().reshape(STEPS, BATCH, *network.input.shape)
    assert np.array_equal(run_float(network, values).spikes["lif2"].reshape(fired.shape), fired)
    chip = quantise(network, name="pooled")
    frames = np.ascontiguousarray(values.swapaxes(0, 1)).astype(np.uint8)
    decision = ReferenceChip(chip).decide(frames, 0, trace=True)
    assert decision.trace is not None
    window = decision.trace.spikes["lif2"][chip.window("lif2")]
    assert np.array_equal(window.reshape(fired.shape), fired)
    assert chip.depths["lif2"] == len(traced.layers)


@pytest.mark.parametrize("name", ["overlap, padded", "negative", "ceil_mode, dilation"])
@pytest.mark.parametrize(
    "options",
    [
        QuantiseOptions(2),
        QuantiseOptions(5, per_channel=False, keep_sums=False),
        QuantiseOptions(for_netx=True, may_saturate=True),
    ],
)
def test_no_option_of_the_quantiser_touches_a_pool(name: str, options: QuantiseOptions) -> None:
    pool, shape = POOLS[name]
    series = spikes(shape, 0.8 if name == "negative" else 0.2)
    fired = torch.stack([pool(frame) for frame in series]).numpy() > 0.5
    chip = quantise(trace(Behind(pool), shape, steps=STEPS).network, name="net", options=options)
    frames = np.ascontiguousarray(series.numpy().swapaxes(0, 1)).astype(np.uint8)
    decision = ReferenceChip(chip).decide(frames, 0)
    assert np.array_equal(decision.values.reshape(fired.shape[1:]), fired.sum(0))


class Between(nn.Module):
    """A convolution, neurons, a pool, and a convolution of what it gives."""

    def __init__(self, pool: Any, channels: int, one_axis: bool) -> None:
        super().__init__()
        conv: Any = nn.Conv1d if one_axis else nn.Conv2d
        self.conv1, self.conv2 = conv(channels, 2, 1), conv(2, 2, 1)
        self.lif1, self.lif2 = (
            snn.Leaky(0.5, threshold=0.1, init_hidden=True, reset_mechanism="zero")
            for _ in range(2)
        )
        self.pool = pool

    def forward(self, x: Any) -> Any:
        return self.lif2(self.conv2(self.pool(self.lif1(self.conv1(x)))))


IMAGES = [name for name in POOLS if "ceil_mode" in name or name.startswith("1d")]


@pytest.mark.parametrize("name", [name for name in IMAGES if "adaptive" not in name])
def test_a_pool_between_images_is_a_convolution_and_has_a_graph(name: str) -> None:
    """With ceil_mode windows reach beyond the padding; a matrix could not send an image on."""
    pool, shape = POOLS[name]
    traced = trace(Between(pool, shape[0], len(shape) == 2), shape, steps=STEPS)
    (link,) = traced.network.incoming("lif1_pool")
    assert link.kind is FloatKind.CONV
    back = import_graph(network_to_nir(traced.network))
    series = spikes(shape, 0.4).double().numpy().reshape(STEPS, BATCH, *traced.network.input.shape)
    ours = run_float(traced.network, series).values
    assert ours.any()
    assert np.array_equal(run_float(back, series).values.reshape(ours.shape), ours)


class Tutorial(nn.Module):
    """The order of snntorch's tutorial on event data: convolution, neurons, pool."""

    def __init__(self, **neuron: Any) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 6, 3)
        self.fc = nn.Linear(6 * 2 * 2, 5)
        self.lif1, self.lif2 = (
            snn.Leaky(0.9, threshold=0.2, **neuron),
            snn.Leaky(0.8, threshold=0.2),
        )
        self.lif3 = snn.Leaky(0.7, threshold=0.1)

    def forward(self, x: Any) -> Any:
        mem1, mem2, mem3 = (lif.init_leaky() for lif in (self.lif1, self.lif2, self.lif3))
        out = []
        for frame in x:
            spk1, mem1 = self.lif1(self.conv1(frame), mem1)
            spk2, mem2 = self.lif2(self.conv2(functional.max_pool2d(spk1, 2)), mem2)
            spk3, mem3 = self.lif3(self.fc(functional.max_pool2d(spk2, 2).flatten(1)), mem3)
            out.append(spk3)
        return torch.stack(out)


def test_pools_behind_neurons_of_a_whole_network() -> None:
    module = Tutorial()
    traced = trace(module, (2, 14, 14), steps=STEPS)
    assert set(traced.layers) == {"lif1", "lif1_pool", "lif2", "lif2_pool", "lif3"}
    series = spikes((2, 14, 14))
    theirs = module(series).detach().numpy()
    assert 0 < theirs.mean() < 1
    ours = run_float(traced.network, series.double().numpy()).spikes["lif3"]
    assert np.array_equal(ours, theirs)
    assert "'lif1_pool', 'lif2_pool'" in " ".join(traced.network.notes)


class Delayed(nn.Module):
    """A pool of the spikes of the step before, and one of the last step's only."""

    def __init__(self, last_only: bool) -> None:
        super().__init__()
        self.lif1, self.lif2 = snn.Leaky(0.5, threshold=0.4), snn.Leaky(0.6, threshold=0.3)
        self.fc, self.last_only = nn.Linear(6, 3), last_only

    def forward(self, x: Any) -> Any:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        before, out = torch.zeros(x.shape[1], 2, 2, 3), []
        for frame in x:
            spk1, mem1 = self.lif1(frame, mem1)
            spk2, mem2 = self.lif2(self.fc(self._pooled(before)), mem2)
            before = spk1
            out.append(spk2)
        return self.fc(self._pooled(before)) if self.last_only else torch.stack(out)

    def _pooled(self, spikes: Any) -> Any:
        return functional.max_pool2d(spikes, 2, 1, 1)[:, :, ::2, ::3].flatten(1)[:, :6]


@pytest.mark.parametrize("last_only", [False, True])
def test_a_pool_of_another_step(last_only: bool) -> None:
    module = Delayed(last_only)
    with torch.no_grad():
        module.fc.weight.abs_()
    traced = trace(module, (2, 2, 3), steps=STEPS)
    series = spikes((2, 2, 3), 0.5)
    theirs = module(series).detach().numpy()
    ours = run_float(traced.network, series.double().numpy())
    if last_only:
        assert np.allclose(ours.values, theirs, atol=1e-6)
    else:
        assert 0 < theirs.mean() < 1
        assert np.array_equal(ours.spikes["lif2"], theirs)
        # Neurons for one pool, not for each of its steps.
        assert len(traced.layers) == 3


def test_a_pool_that_is_the_answer() -> None:
    class Last(Behind):
        def forward(self, x: Any) -> Any:
            return self.pool(self.lif1(x))

    traced = trace(Last(nn.MaxPool2d(2)), (2, 4, 6), steps=STEPS)
    series = spikes((2, 4, 6))
    theirs = functional.max_pool2d(series.flatten(0, 1), 2).reshape(STEPS, BATCH, 2, 2, 3).sum(0)
    assert np.array_equal(run_float(traced.network, series.double().numpy()).values, theirs)


class OfInput(nn.Module):
    """A pool of the input itself, one frame held over the steps or one a step."""

    def __init__(self, held: bool) -> None:
        super().__init__()
        self.fc, self.held = nn.Linear(2 * 2 * 3, 4), held
        self.lif = snn.Leaky(0.8, threshold=0.7)

    def forward(self, x: Any) -> Any:
        mem, out = self.lif.init_leaky(), []
        for frame in [x] * STEPS if self.held else x:
            spk, mem = self.lif(self.fc(functional.max_pool2d(frame, 2).flatten(1)), mem)
            out.append(spk)
        return torch.stack(out)


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("worth", [1.0, 1 / 3])
def test_a_pool_of_an_input_of_spikes_is_exact_and_one_of_values_refused(
    held: bool, worth: float
) -> None:
    module = OfInput(held)
    with torch.no_grad():
        module.fc.weight.abs_().mul_(1 / worth)
    traced = trace(module, (2, 4, 6), steps=None if held else STEPS, input_spike=worth)
    series = spikes((2, 4, 6), 0.1)
    if held:
        series = series[:1].expand(STEPS, -1, -1, -1, -1)
    theirs = module((series[0] if held else series) * worth).detach().numpy()
    ours = run_float(traced.network, series.double().numpy() * worth).spikes["lif"]
    assert 0 < theirs.mean() < 1
    assert np.array_equal(ours, theirs)
    with pytest.raises(BadNetworkError, match="values of the input, whose messages have 8 bits"):
        trace(module, (2, 4, 6), steps=None if held else STEPS, input_spike=None)


def test_spikes_of_one_worth_in_each_window_are_exact() -> None:
    module = Tutorial(graded_spikes_factor=torch.tensor([1.0, 2.0, 0.5, 3.0]).reshape(4, 1, 1))
    traced = trace(module, (2, 14, 14), steps=STEPS)
    series = spikes((2, 14, 14))
    ours = run_float(traced.network, series.double().numpy()).spikes["lif3"]
    assert np.array_equal(ours, module(series).detach().numpy())


NO_SPIKES: dict[str, tuple[Any, str]] = {
    "worth": (
        lambda s: functional.max_pool2d(s * torch.arange(12.0).reshape(2, 2, 3), 2),
        "spikes of different worth",
    ),
    "constant": (
        lambda s: functional.max_pool2d(s + torch.arange(12.0).reshape(2, 2, 3), 2),
        "spikes of different worth",
    ),
    "sum": (lambda s: functional.max_pool2d(s + s.flip(1), 2), "sums of several values"),
    "average": (
        lambda s: functional.max_pool2d(functional.avg_pool2d(s, 2, 1), 1, 2),
        "sums of several values",
    ),
    "samples": (lambda s: s - s.amax(0), "over the samples of a batch"),
    "all": (lambda s: s - s.max(), "over the samples of a batch"),
    "places": (
        lambda s: functional.max_pool2d(s, 2, return_indices=True)[1].float(),
        "use the values only",
    ),
    "a constant": (lambda s: torch.maximum(s, torch.ones(1)), "a signal and a constant"),
}


@pytest.mark.parametrize("name", NO_SPIKES)
def test_a_max_of_anything_else_is_refused(name: str) -> None:
    pool, words = NO_SPIKES[name]
    with pytest.raises(BadNetworkError, match=words) as caught:
        trace_module(Behind(pool), name="net", input_shape=(2, 2, 3), time_steps=4)
    assert str(caught.value).startswith(f"test_max_pool.py:{pool.__code__.co_firstlineno}")
    assert "\n" not in str(caught.value)


class OfMembranes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lif1 = snn.Leaky(0.5, threshold=0.5)
        self.lif2 = snn.Leaky(0.5, threshold=0.5, init_hidden=True)

    def forward(self, x: Any) -> Any:
        mem, out = self.lif1.init_leaky(), []
        for frame in x:
            _, mem = self.lif1(frame, mem)
            out.append(self.lif2(functional.max_pool2d(mem, 2)))
        return torch.stack(out)


def test_a_max_of_membranes_is_refused() -> None:
    with pytest.raises(BadNetworkError, match="max_pool2d of a membrane is not linear"):
        trace_module(OfMembranes(), name="net", input_shape=(1, 4, 4), time_steps=4)


def test_the_refusal_of_a_max_of_currents_names_the_approximation() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), snn.Leaky(0.9, init_hidden=True), nn.Flatten()
    )
    with pytest.raises(BadNetworkError, match="--max-pool or, an approximation"):
        trace_module(module, name="net", input_shape=(1, 6, 6), time_steps=4)
