"""What a module returns over several steps is what the chip answers, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import mtspark
from mtspark.convert.nir.reader import import_graph
from mtspark.convert.nir.writer import network_to_nir
from mtspark.convert.snntorch.verify import compare_with_recording
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network import OutputKind, run_float
from tests.support.snntorch_modules import drive, trace

STEPS = 5
Answer = Callable[[list[Tensor], list[Tensor]], Any]


class Loop(nn.Module):
    """Two layers over its own loop of steps; `answer` makes of all last membranes and spikes."""

    def __init__(self, answer: Answer, last: Any) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.answer = answer
        self.first, self.hidden = nn.Linear(6, 12), snn.Leaky(beta=0.75, threshold=0.5)
        self.second, self.out = nn.Linear(12, 3), last
        self.second.weight.data.mul_(4)

    def forward(self, x: Tensor) -> Any:
        """Of a series, as the tests' own traces give one; or of a frame that it holds."""
        x = x if x.dim() == 3 else x.expand(STEPS, *x.shape)
        hidden = self.hidden.init_leaky()
        synaptic = isinstance(self.out, snn.Synaptic)
        state: Any = self.out.init_synaptic() if synaptic else (self.out.init_leaky(),)
        membranes, spikes = [], []
        for now in x:
            spike, hidden = self.hidden(self.first(now), hidden)
            spike, *state = self.out(self.second(spike), *state)
            membranes.append(state[-1])
            spikes.append(spike)
        return self.answer(membranes, spikes)


def leaky(beta: float = 0.5, reset: str = "none") -> nn.Module:
    return snn.Leaky(beta=beta, threshold=0.25, reset_mechanism=reset)


def total(values: list[Tensor]) -> Tensor:
    return torch.stack(values).sum(0)


def mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(0)


def uneven(values: list[Tensor]) -> list[Tensor]:
    return [(step + 1) * one for step, one in enumerate(values)]


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
@pytest.mark.parametrize(
    ("answer", "factor", "read"),
    [
        (lambda m, s: total(m), 1, "the sum of the membranes of 'out' over all steps"),
        (lambda m, s: sum(m), 1, "the sum of the membranes of 'out' over all steps"),
        (lambda m, s: 3 * total(m), 1, "the sum of the membranes of 'out' over all steps"),
        (lambda m, s: mean(m), 1, "the mean of the membranes of 'out' over all steps"),
        (lambda m, s: m[-1], 1, "the membrane of 'out' after the last step"),
        (lambda m, s: total(s), 1, "the spikes of 'out' over all steps"),
        (lambda m, s: mean(s), 1 / STEPS, "the spikes of 'out' over all steps"),
        (lambda m, s: 2 * m[-1], 2, "the membrane of 'out' after the last step"),
    ],
)
def test_the_answer_is_what_the_module_returns(
    answer: Answer, factor: float, read: str, beta: float
) -> None:
    module = Loop(answer, leaky(beta)).eval()
    traced = trace(module, (6,), STEPS)
    assert any(read in note for note in traced.network.notes)
    series = drive((6,))[:STEPS]
    own = module(series).detach().double().numpy()
    values = run_float(traced.network, series.double().numpy()).values
    np.testing.assert_allclose(values, own, rtol=0, atol=1e-5 * np.abs(own).max())
    assert own.std() > 0
    # So does the graph that a bundle keeps, but for the factor, which the bundle knows.
    again = import_graph(network_to_nir(traced.network))
    assert again.output.kind is traced.network.output.kind
    values = factor * run_float(again, series.double().numpy()).values
    np.testing.assert_allclose(values, own, rtol=0, atol=1e-5 * np.abs(own).max())
    # The layer that is read is compared with the module's own membranes, too.
    assert [layer.different for layer in compare_with_recording(traced)] == [0, 0]


@pytest.mark.parametrize(
    ("answer", "reset", "expected"),
    [
        (lambda m, s: s, "zero", lambda m, s: total(s)),
        (lambda m, s: tuple(s), "zero", lambda m, s: total(s)),
        (lambda m, s: (s, m), "subtract", lambda m, s: total(s)),
        (lambda m, s: {"of": [m, s]}, "subtract", lambda m, s: total(s)),
        (lambda m, s: m, "none", lambda m, s: m[-1]),
        (lambda m, s: [0.5 * one for one in s], "zero", lambda m, s: 0.5 * total(s)),
        (lambda m, s: total(s) / STEPS, "zero", lambda m, s: mean(s)),
        (lambda m, s: 2 * m[-1], "none", lambda m, s: 2 * m[-1]),
    ],
)
def test_the_chip_answers_with_what_the_module_returns(
    answer: Answer, reset: str, expected: Answer
) -> None:
    """A list of the spikes of all steps is their number; a factor is the host's."""
    inputs = np.random.default_rng(1).integers(0, 4, (20, 6)).astype(np.float32)
    returned = Loop(answer, leaky(0.5, reset)).eval()
    with torch.no_grad():
        for parameter in returned.parameters():
            parameter.copy_((parameter * 8).round() / 8)
    chip = mtspark.export(returned, sample=inputs, time_steps=STEPS)
    returned.answer = expected
    own = returned(torch.from_numpy(inputs)).detach().numpy()
    np.testing.assert_allclose(chip.run(inputs).values, own, rtol=1e-6, atol=1e-6)
    assert own.std() > 0


def test_two_answers_are_no_list_of_two_steps() -> None:
    """Spikes and membrane of the last of two steps, in a tuple of two."""

    class Two(Loop):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x[:2])

    module = Two(lambda m, s: (total(s), m[-1]), leaky(reset="subtract")).eval()
    output = trace(module, (6,), 2).network.output
    assert (output.population, output.kind) == ("out", OutputKind.SPIKES)


@pytest.mark.parametrize("answer", [lambda m, s: total(m), lambda m, s: mean(m)])
def test_the_chip_sums_membranes(answer: Answer) -> None:
    """Weights of four bits are kept as they are, and so is a beta of one half."""
    module = Loop(answer, leaky(0.5)).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_((parameter * 8).round() / 8)
    inputs = np.random.default_rng(0).integers(0, 4, (20, 6)).astype(np.float32)
    chip = mtspark.export(module, sample=inputs, time_steps=STEPS)
    own = module(torch.from_numpy(inputs)).detach().numpy()
    np.testing.assert_allclose(chip.run(inputs).values, own, rtol=1e-6, atol=1e-6)
    assert own.std() > 0


@pytest.mark.parametrize(
    ("answer", "last", "words"),
    [
        (lambda m, s: s[-1], leaky(), "the spikes of 'out' do not count alike in all steps"),
        (lambda m, s: s[2] + s[3] + s[4], leaky(), "the spikes of 'out' do not count alike"),
        (lambda m, s: total(s) + s[1], leaky(), "do not count alike in all steps"),
        (lambda m, s: m[-1] + m[-2], leaky(), "or the membrane of the last one"),
        (lambda m, s: uneven(s), leaky(), "the spikes of 'out' do not count alike in all steps"),
        (lambda m, s: torch.stack(uneven(s)), leaky(), "the spikes of 'out' do not count alike"),
        (lambda m, s: [*s[:-1], -s[-1]], leaky(), "do not count alike"),
        (lambda m, s: (s[-1], m[-1]), leaky(reset="subtract"), "do not count alike in all steps"),
        (lambda m, s: total(m), leaky(reset="zero"), "it fires, and its spikes reset them"),
        (lambda m, s: mean(m), leaky(1.0), "it never leaks (beta 1)"),
        (
            lambda m, s: mean(m),
            snn.Synaptic(alpha=0.5, beta=0.5, reset_mechanism="none"),
            "it has a current with a decay of its own",
        ),
    ],
)
def test_an_answer_that_a_chip_cannot_give_is_refused(
    answer: Answer, last: nn.Module, words: str
) -> None:
    with pytest.raises(BadNetworkError) as refused:
        trace(Loop(answer, last).eval(), (6,), STEPS)
    assert words in str(refused.value)


def test_a_sum_of_spikes_goes_before_membranes_that_they_reset() -> None:
    module = Loop(lambda m, s: (m[-1], total(s)), leaky(reset="subtract")).eval()
    output = trace(module, (6,), STEPS).network.output
    assert (output.population, output.kind) == ("out", OutputKind.SPIKES)


class Membrane(nn.Module):
    """The membrane of one layer after its own loop of steps, with weights that a chip holds."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.fc = nn.Linear(6, 5, bias=False)
        self.lif = snn.Leaky(beta=0.5, **options)
        with torch.no_grad():
            self.fc.weight.copy_((torch.randn(5, 6) * 8).round() / 8)

    def forward(self, seen: Tensor) -> Tensor:
        membrane = self.lif.init_leaky()
        for _ in range(4):
            _, membrane = self.lif(self.fc(seen), membrane)
        return membrane


@pytest.mark.parametrize(
    ("reset", "delayed"), [("subtract", True), ("subtract", False), ("zero", False)]
)
def test_the_membrane_of_neurons_that_fire_is_read_after_its_reset(
    reset: str, delayed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """As snntorch returns it, by float network and chip; a graph would give their spikes."""
    module = Membrane(reset_mechanism=reset, reset_delay=delayed).eval()
    frames = np.random.default_rng(0).integers(0, 3, (8, 6)).astype(np.float32)
    chip = mtspark.export(module, sample=frames, time_steps=4)
    own = module(torch.from_numpy(frames)).detach().numpy()
    assert own.std() > 1
    np.testing.assert_allclose(chip.run(frames).values, own, atol=1e-6)
    series = np.tile(frames, (4, 1, 1)).astype(np.float64)
    run = run_float(chip.float_network, series)
    np.testing.assert_allclose(run.values, own, atol=1e-6)
    assert (run.spikes["lif"][-1] > 0).any(), "no neuron resets in the last step"
    assert "no NIR graph was written: population 'lif' fires and its membranes" in caplog.text


def test_a_membrane_that_torch_resets_a_step_later_is_refused() -> None:
    with pytest.raises(BadNetworkError, match=r"resets it a step later; use reset_delay=False"):
        trace(Membrane(reset_mechanism="zero").eval(), (6,), None)


@pytest.mark.parametrize("change", ["detached", "data"])
def test_an_answer_that_is_changed_behind_the_recording_is_refused(change: str) -> None:
    """All neurons agree with torch, and what is returned is not what they gave."""

    def answer(_: list[Tensor], spikes: list[Tensor]) -> Tensor:
        counts = total(spikes)
        other = counts.detach() if change == "detached" else counts.data
        other[:, 0] = 70.0
        return counts

    with pytest.raises(BadNetworkError, match=r"the module returns differs by up to [\d.]+ from"):
        trace(Loop(answer, leaky()).eval(), (6,), STEPS)
