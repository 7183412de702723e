"""--max-pool or: neurons that fire before their max pool, beside torch's own networks.

The networks have the order of snntorch's tutorial on convolutions: convolution, pool, neurons.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn
from torch.nn import functional

from mtspark.convert.snntorch.exchange import measure_exchange
from mtspark.convert.snntorch.trace import trace_module
from mtspark.convert.snntorch.verify import compare_with_recording
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network.simulator import run_float

STEPS, BATCH = 9, 20


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(3)


def tutorial(*between: nn.Module, **neuron: Any) -> nn.Sequential:
    """One step a call; spikes and membrane of the last layer, as in the tutorial."""
    options = {"beta": 0.9, "threshold": 0.3, "init_hidden": True, **neuron}
    return nn.Sequential(
        nn.Conv2d(1, 4, 5),
        nn.MaxPool2d(2),
        *between,
        snn.Leaky(**options),
        nn.Conv2d(4, 6, 3),
        nn.MaxPool2d(2),
        snn.Leaky(**options),
        nn.Flatten(),
        nn.Linear(6 * 2 * 2, 5),
        snn.Leaky(**options, output=True),
    ).eval()


def exchanged(module: nn.Sequential) -> nn.Sequential:
    """Pools and neurons in the other order, with the same weights."""
    parts = list(module)
    for at in range(len(parts) - 1):
        if isinstance(parts[at], nn.MaxPool2d) and isinstance(parts[at + 1], snn.Leaky):
            parts[at], parts[at + 1] = parts[at + 1], parts[at]
    return nn.Sequential(*parts)


def spikes_of(module: nn.Sequential, series: torch.Tensor) -> list[torch.Tensor]:
    """What every layer of neurons (and a pool behind it) sends, (T, batch, ...)."""
    for part in module:
        if isinstance(part, snn.Leaky):
            part.reset_mem()
    seen: list[list[torch.Tensor]] = []
    with torch.no_grad():
        for frame in series:
            value, row = frame, []
            for at, part in enumerate(module):
                value = part(value)
                if isinstance(part, snn.Leaky):
                    value = value[0] if isinstance(value, tuple) else value
                    pooled = isinstance(module[at + 1], nn.MaxPool2d) if at + 1 < len(module) else 0
                    row.append(module[at + 1](value) if pooled else value)
            seen.append(row)
    return [torch.stack(layer) for layer in zip(*seen, strict=True)]


@pytest.fixture
def series() -> torch.Tensor:
    """An image a sample, the same in every step, as in the tutorial."""
    images = (255 * torch.rand(BATCH, 1, 16, 16)).round() / 255
    return images.expand(STEPS, -1, -1, -1, -1)


@pytest.mark.parametrize("mechanism", ["subtract", "zero"])
def test_the_tutorials_network_becomes_the_one_with_pools_behind(
    mechanism: str, series: torch.Tensor
) -> None:
    module = tutorial(reset_mechanism=mechanism)
    options: Any = {"name": "net", "input_shape": (1, 16, 16), "time_steps": STEPS}
    with pytest.raises(BadNetworkError, match="export with --max-pool or, an approximation"):
        trace_module(module, input_spike=None, **options)
    traced = trace_module(module, input_spike=None, exchange_pools=True, **options)
    # All else is the module's own, to the last spike.
    agreement = compare_with_recording(traced)
    assert [one.different for one in agreement] == [0, 0, 0]
    assert [one.name for one in agreement[:2]] == [
        f"{name}, its max pool before it" for name in ("lif1", "lif2")
    ]
    network = traced.network
    assert any(
        "--max-pool or, an approximation: 'lif1', 'lif2' fires" in note for note in network.notes
    )
    sizes = {population.name: population.shape for population in network.populations}
    assert sizes["lif1_unpooled"] == (4, 12, 12)
    assert sizes["lif1"] == (4, 6, 6)
    theirs, swapped = spikes_of(module, series), spikes_of(exchanged(module), series)
    ours = run_float(network, series.double().numpy())
    for name, spikes in zip(("lif1", "lif2", "lif3"), swapped, strict=True):
        assert np.array_equal(ours.spikes[name].reshape(spikes.shape), spikes.numpy())
    # What is told of the cost is the difference between torch's two networks.
    cost = measure_exchange(module, traced, series.double().numpy(), "images")
    assert cost is not None
    assert (cost.inputs, cost.samples) == ("images", BATCH)
    for layer, own, other in zip(cost.layers, theirs, swapped, strict=False):
        assert layer.compared == own.numel()
        assert layer.fired == own.sum()
        assert layer.fired_exchanged == other.sum()
        assert layer.different == (own != other).sum()
    answers = [layers[2].sum(0) for layers in (theirs, swapped)]
    assert cost.same_answer == (answers[0].argmax(1) == answers[1].argmax(1)).sum()
    assert 0 < cost.layers[0].different < cost.layers[0].compared
    share = cost.layers[0].different / cost.layers[0].compared
    assert f"{share:.2%} of its spikes and silences differ" in cost.sentences[0]
    assert f"{cost.same_answer} of 20 answers are the module's own" in cost.sentences[-1]


@pytest.mark.parametrize("neurons", [False, True])
def test_answers_that_are_no_spikes_are_compared_too(neurons: bool, series: torch.Tensor) -> None:
    """The membranes of a last layer without reset, and a last linear layer."""
    parts = list(tutorial())
    last = snn.Leaky(0.9, init_hidden=True, output=True, reset_mechanism="none")
    module = nn.Sequential(*parts[:-1], *([last] if neurons else [])).eval()
    traced = trace_module(
        module, name="net", input_shape=(1, 16, 16), time_steps=STEPS, input_spike=None,
        exchange_pools=True,
    )  # fmt: skip
    cost = measure_exchange(module, traced, series.double().numpy(), "images")
    assert cost is not None

    def answers(network: nn.Sequential) -> torch.Tensor:
        sums = parts[-2](spikes_of(nn.Sequential(*network[:6]), series)[1].flatten(2)).detach()
        keep = 0.9 if neurons else 1.0
        return sum(keep ** (STEPS - 1 - step) * row for step, row in enumerate(sums))

    own, other = answers(module), answers(exchanged(module))
    assert cost.same_answer == (own.argmax(1) == other.argmax(1)).sum()
    assert cost.values_error == pytest.approx(float((own - other).abs().sum() / own.abs().sum()))


def test_what_rises_with_the_current_may_lie_between(series: torch.Tensor) -> None:
    """Batch norm with factors above 0, and dropout, as well before the pool as behind it."""
    norm = nn.BatchNorm2d(4)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2.0)
        norm.bias.normal_()
    module = tutorial(norm, nn.Dropout(0.3))
    options: Any = {"name": "net", "input_shape": (1, 16, 16), "time_steps": STEPS}
    traced = trace_module(module, input_spike=None, exchange_pools=True, **options)
    assert not any(one.different for one in compare_with_recording(traced))
    parts = list(module)
    other = exchanged(nn.Sequential(parts[0], norm, parts[1], *parts[4:]))
    ours = run_float(traced.network, series.double().numpy())
    for name, spikes in zip(("lif1", "lif2", "lif3"), spikes_of(other, series), strict=True):
        assert np.array_equal(ours.spikes[name].reshape(spikes.shape), spikes.numpy())
    with torch.no_grad():
        norm.weight[0] = -1.0
    with pytest.raises(BadNetworkError, match="batch_norm lies between it and the neurons"):
        trace_module(module, input_spike=None, exchange_pools=True, **options)


class Between(nn.Module):
    """Something between a pool of currents and the neurons, or in the neurons themselves."""

    def __init__(self, operation: Any, **neuron: Any) -> None:
        super().__init__()
        kind = neuron.pop("kind", snn.Leaky)
        self.conv, self.operation = nn.Conv2d(1, 2, 3), operation
        self.lif = kind(beta=neuron.pop("beta", 0.9), init_hidden=True, **neuron)

    def forward(self, x: Any) -> Any:
        return self.lif(self.operation(functional.max_pool2d(self.conv(x), 2)))


def same(x: Any) -> Any:
    return x


REFUSED: dict[str, tuple[Any, str]] = {
    "a convolution between": (
        lambda: Between(nn.Conv2d(2, 2, 1)),
        "conv2d lies between it and the neurons",
    ),
    "a sum with another signal": (
        lambda: Between(lambda s: s + s),
        "max_pool2d of sums of several values is not linear",
    ),
    "a negative factor": (lambda: Between(lambda s: -s), "neg lies between"),
    "a bias of its own for each neuron": (
        lambda: Between(lambda s: s + torch.arange(18.0).reshape(2, 3, 3)),
        "cannot be followed|lies between",
    ),
    "recurrent neurons": (
        lambda: Between(
            same, kind=snn.RLeaky, all_to_all=True, conv2d_channels=2, kernel_size=1,
            reset_delay=False,
        ),
        "neurons with recurrence of their own",
    ),
    "neurons that differ": (
        lambda: Between(same, beta=torch.linspace(0.1, 0.9, 9).reshape(3, 3)),
        "its neurons differ within a channel",
    ),
    "its membrane is read": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3),
            nn.MaxPool2d(2),
            snn.Leaky(0.9, init_hidden=True, output=True, reset_mechanism="none"),
        ),
        "the membrane of 'lif1' is read",
    ),
    "nothing behind": (
        lambda: nn.Sequential(
            snn.Leaky(0.9, init_hidden=True), nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)
        ),
        "a maximum of sums of several values is returned",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exchanged_is_refused(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(BadNetworkError, match=words):
        trace_module(make(), name="net", input_shape=(1, 8, 8), time_steps=4, exchange_pools=True)


def test_the_option_is_advised_only_where_it_helps() -> None:
    options: Any = {"name": "net", "input_shape": (1, 8, 8), "time_steps": 4}
    with pytest.raises(BadNetworkError, match="--max-pool or"):
        trace_module(Between(same), **options)
    recurrent = Between(
        same, kind=snn.RLeaky, all_to_all=True, conv2d_channels=2, kernel_size=1, reset_delay=False
    )
    for module in (Between(nn.Conv2d(2, 2, 1)), recurrent):
        with pytest.raises(BadNetworkError, match="put it behind the neurons") as caught:
            trace_module(module, **options)
        assert "--max-pool" not in str(caught.value)
    pixels = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(1, 2, 3), snn.Leaky(0.9, init_hidden=True))
    with pytest.raises(BadNetworkError, match=r"pool your data before they are sent$"):
        trace_module(pixels, input_spike=None, **options)


def test_a_maximum_that_is_only_returned_beside_spikes_does_no_harm() -> None:
    class Watching(Between):
        def forward(self, x: Any) -> Any:
            pooled = functional.max_pool2d(self.conv(x), 2)
            return self.lif(self.conv(x)), pooled

    for option in (False, True):
        traced = trace_module(
            Watching(same), name="net", input_shape=(1, 8, 8), time_steps=4, exchange_pools=option
        )
        assert traced.layers == ("lif",)
        assert not traced.exchanged


def test_pools_behind_neurons_stay_exact_under_the_option() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3), snn.Leaky(0.9, threshold=0.2, init_hidden=True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(18, 3), snn.Leaky(0.9, init_hidden=True),
    )  # fmt: skip
    traced = trace_module(
        module, name="net", input_shape=(1, 8, 8), time_steps=4, exchange_pools=True
    )
    assert traced.exchanged == ()
    assert measure_exchange(module, traced, np.zeros((4, 1, 1, 8, 8)), "zeros") is None
