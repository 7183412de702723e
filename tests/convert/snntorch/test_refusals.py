"""Modules that cannot go on a chip: the line of their source, and what to write instead."""

from __future__ import annotations

from typing import Any

import pytest
import snntorch as snn
import torch
from torch import nn
from torch.nn import functional

from mtspark.convert.snntorch.trace import trace_module
from mtspark.convert.snntorch.verify import compare_with_recording
from mtspark.core.errors import BadInputError, BadNetworkError
from tests.support.snntorch_modules import differing, drive, float_spikes, trace


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(3)


class Refused(nn.Module):
    def __init__(self, operation: Any) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(6, 6), snn.Leaky(0.8, init_hidden=True)
        self.fc2, self.lif2 = nn.Linear(6, 6), snn.Leaky(0.8, init_hidden=True)
        self.operation = operation

    def forward(self, x: Any) -> Any:
        spk = self.lif1(self.fc1(x))
        return self.lif2(self.fc2(self.operation(spk)))


OPERATIONS: dict[str, tuple[Any, str]] = {
    "relu": (lambda s: functional.relu(s), "spiking neurons are the nonlinearity"),
    "product": (lambda s: s * s.roll(1, 1), "of two signals"),
    "attention": (lambda s: torch.softmax(s @ s.T, 1) @ s, "of two signals"),
    "layer norm": (lambda s: functional.layer_norm(s, (6,)), "nn.BatchNorm2d"),
    "softmax": (lambda s: torch.softmax(s, 1), "changes no order"),
    "dropout": (lambda s: functional.dropout(s, 0.5), "training=self.training"),
    "branch": (lambda s: s if s.sum() > 3 else -s, "branch on"),
    "item": (lambda s: s * float(s.mean()), "branch on"),
    "batch": (lambda s: s - s.mean(0), "over the samples"),
    "unknown": (lambda s: torch.fft.fft(s).real, "not known as a linear operation"),
    "in place": (lambda s: s.view(-1).add_(1).view(-1, 6), "in place"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_that_no_synapse_can_do(name: str) -> None:
    operation, remedy = OPERATIONS[name]
    with pytest.raises(BadNetworkError, match=remedy) as caught:
        trace(Refused(operation), (6,), steps=4)
    line = operation.__code__.co_firstlineno
    assert str(caught.value).startswith(f"test_refusals.py:{line}: ")
    assert "\n" not in str(caught.value)


def test_what_a_module_only_records_does_no_harm() -> None:
    """The same product and softmax, where no neuron and no answer needs them."""

    class Watching(Refused):
        def forward(self, x: Any) -> Any:
            spk = self.lif1(self.fc1(x))
            self.seen = torch.softmax(spk * spk, 1)
            return self.lif2(self.fc2(spk))

    trace(Watching(None), (6,), steps=4)


NEURON_REFUSALS: dict[str, tuple[Any, str]] = {
    "Lapicque": (
        lambda: snn.Lapicque(beta=0.9, init_hidden=True),
        r"snn.Leaky\(beta=0.894639, threshold=1\) and multiply the weights and biases before it "
        "by 0.105361",
    ),
    "Alpha": (lambda: snn.Alpha(0.9, 0.8, init_hidden=True), r"snn.Synaptic\(alpha=0.9, beta=0.8"),
    "inhibition": (lambda: snn.Leaky(0.9, inhibition=True, init_hidden=True), "negative recurrent"),
    "state_quant": (
        lambda: snn.Leaky(0.9, state_quant=torch.round, init_hidden=True),
        "state_quant",
    ),
    "surrogate": (
        lambda: snn.Leaky(0.9, spike_grad=lambda x: x.clamp(0, 1), init_hidden=True),
        "spike_grad",
    ),
    "surrogate at equality": (
        lambda: snn.Leaky(0.9, spike_grad=lambda x: (x >= 0).float(), init_hidden=True),
        "gives 1 where the membrane equals the threshold",
    ),
    "surrogate silent far above": (
        lambda: snn.Leaky(
            0.9, spike_grad=lambda x: ((x > 0) & (x < 5)).float(), init_hidden=True
        ),
        "does not fire exactly where the membrane is above",
    ),
    "surrogate loud far below": (
        lambda: snn.Leaky(0.9, spike_grad=lambda x: (x * (x + 40) > 0).float(), init_hidden=True),
        "does not fire exactly where the membrane is above",
    ),
    "surrogate of half a spike": (
        lambda: snn.Leaky(0.9, spike_grad=lambda x: 0.5 * (torch.sign(x) + 1), init_hidden=True),
        "gives 0.5 where the membrane equals the threshold",
    ),
    "threshold": (lambda: snn.Leaky(0.9, threshold=-1.0, init_hidden=True), "must not be < 0"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Inhibition")
@pytest.mark.parametrize("name", NEURON_REFUSALS)
def test_neurons_that_the_chip_does_not_have(name: str) -> None:
    make, remedy = NEURON_REFUSALS[name]
    with pytest.raises(BadNetworkError, match=remedy):
        trace(nn.Sequential(nn.Linear(6, 6), make()), (6,), steps=4)


def test_lapicques_replacement_is_the_same_neuron() -> None:
    """The refusal's own recipe, followed to the letter, gives Lapicque's spikes."""
    lapicque = nn.Sequential(nn.Linear(6, 8), snn.Lapicque(beta=0.9, init_hidden=True))
    with pytest.raises(BadNetworkError) as caught:
        trace(lapicque, (6,), steps=4)
    words = str(caught.value)
    beta = float(words.split("beta=")[1].split(",")[0])
    gain = float(words.rsplit(" ", 1)[1])
    leaky = nn.Sequential(nn.Linear(6, 8), snn.Leaky(beta, init_hidden=True))
    leaky[0].load_state_dict({key: gain * value for key, value in lapicque[0].state_dict().items()})
    traced = trace(leaky, (6,))
    lapicque[1].reset_mem()
    series = 4 * drive((6,))
    theirs = torch.stack([lapicque(slice_) for slice_ in series]).detach()
    assert theirs.any()
    assert differing(float_spikes(traced, series)["lif1"], theirs) <= theirs.sum() * 0.01


def test_a_neuron_with_a_forward_of_its_own_is_refused() -> None:
    class Halved(snn.Leaky):  # type: ignore[misc]
        def forward(self, input_: Any, mem: Any = None) -> Any:
            return super().forward(input_ / 2, mem)

    with pytest.raises(BadNetworkError, match="Halved changes the forward pass of Leaky"):
        trace(nn.Sequential(nn.Linear(6, 6), Halved(0.9, init_hidden=True)), (6,), steps=4)


def test_a_reset_that_the_state_dict_contradicts_is_refused() -> None:
    neuron = snn.Leaky(0.9, init_hidden=True, reset_delay=False)
    neuron.load_state_dict(
        snn.Leaky(0.9, init_hidden=True, reset_mechanism="zero", reset_delay=False).state_dict()
    )
    with pytest.raises(BadNetworkError, match="build it with reset_mechanism='zero'"):
        trace(nn.Sequential(nn.Linear(6, 6), neuron), (6,), steps=4)


class Membranes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(6, 6), snn.Leaky(0.8)
        self.fc2, self.lif2 = nn.Linear(6, 6), snn.Leaky(0.8)

    def forward(self, x: Any) -> Any:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        for slice_ in x:
            _, mem1 = self.lif1(self.fc1(slice_), mem1)
            spk, mem2 = self.lif2(self.fc2(mem1), mem2)
        return spk


def test_membranes_that_go_on_are_refused() -> None:
    with pytest.raises(BadNetworkError, match="send spikes only: pass the spikes on") as caught:
        trace(Membranes(), (6,), steps=4)
    assert "self.fc2(mem1)" in str(caught.value)


class Leaking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(6, 6), snn.Leaky(0.8)

    def forward(self, x: Any) -> Any:
        mem = self.lif.init_leaky()
        for slice_ in x:
            spk, mem = self.lif(self.fc(slice_), mem)
            mem = 0.5 * mem
        return spk


def test_states_that_the_module_changes_are_refused() -> None:
    with pytest.raises(BadNetworkError, match="hand states on unchanged") as caught:
        trace(Leaking(), (6,), steps=4)
    assert "0.5 * mem" in str(caught.value)


class Forgetful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(6, 6), snn.Leaky(0.8)

    def forward(self, x: Any) -> Any:
        return self.lif(self.fc(x), self.lif.reset_mem())[0]


def test_states_that_start_anew_are_refused() -> None:
    with pytest.raises(BadNetworkError, match="start anew in every call"):
        trace(Forgetful(), (6,), steps=4)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.a = nn.Linear(6, 3), snn.Leaky(0.8, init_hidden=True, threshold=0.2)
        self.fc2, self.b = nn.Linear(6, 4), snn.Leaky(0.8, init_hidden=True, threshold=0.2)

    def forward(self, x: Any) -> Any:
        return {"left": self.a(self.fc1(x)), "right": self.b(self.fc2(x))}


def test_two_answers_need_a_choice() -> None:
    with pytest.raises(BadNetworkError, match="choose with --readout"):
        trace(TwoHeads(), (6,), steps=4)
    assert trace(TwoHeads(), (6,), steps=4, readout="b").network.output.population == "b"
    with pytest.raises(BadNetworkError, match="no layer 'c'"):
        trace(TwoHeads(), (6,), steps=4, readout="c")


def test_wrong_shapes_and_no_steps_are_one_line() -> None:
    module = nn.Sequential(nn.Linear(6, 6), snn.Leaky(0.8, init_hidden=True))
    with pytest.raises(BadNetworkError, match="--time-steps"):
        trace(module, (6,), steps=None)
    with pytest.raises(BadNetworkError, match="check --input-shape"):
        trace(module, (5,), steps=4)
    with pytest.raises(BadNetworkError, match="no spiking neuron"):
        trace(nn.Linear(6, 6), (6,), steps=4)


def test_a_step_that_differs_is_refused() -> None:
    class Warming(Refused):
        count = 0

        def forward(self, x: Any) -> Any:
            self.count += 1
            return self.lif2(self.lif1(self.fc1(x)) * (1.0 if self.count > 4 else 0.5))

    with pytest.raises(BadNetworkError, match="a chip does the same in every step"):
        trace(Warming(None), (6,), steps=4)


def test_the_comparison_finds_a_forward_that_depends_on_something_else() -> None:
    """The check at export is no formality: a weight changed after the run is found."""
    traced = trace_module(
        nn.Sequential(nn.Linear(6, 6), snn.Leaky(0.8, init_hidden=True, threshold=0.2)),
        name="net",
        input_shape=(6,),
        time_steps=6,
    )
    (link,) = traced.network.connections
    link.weights[0, 0] += 0.5
    with pytest.raises(BadNetworkError, match="differ from the module's own run"):
        compare_with_recording(traced)


@pytest.mark.parametrize(
    "neuron",
    [
        # snntorch has no recurrence without delay of a hidden state.
        lambda: snn.RSynaptic(0.5, 0.5, linear_features=5, reset_delay=False, init_hidden=True),
        lambda: snn.Leaky(0.5, spike_grad=lambda x, variance: x, init_hidden=True),
    ],
)
def test_a_module_that_torch_cannot_run_is_no_matter_of_the_input_shape(neuron: Any) -> None:
    module = nn.Sequential(nn.Linear(6, 5), neuron())
    with pytest.raises(BadInputError, match=r"torch cannot run it by itself, either$"):
        trace(module, (6,), steps=4)
    with pytest.raises(TypeError):
        module(torch.zeros(1, 6))


def test_a_neuron_in_two_places_of_a_step_has_one_state() -> None:
    lif = snn.Leaky(0.9, init_hidden=True)
    module = nn.Sequential(nn.Linear(6, 6), lif, nn.Linear(6, 6), lif)
    with pytest.raises(BadNetworkError, match=r"called \[2\] times .* use one for each layer$"):
        trace(module, (6,), steps=8)
