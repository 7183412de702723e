"""How a module takes its input: its type of numbers, encoders within it, several inputs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from snntorch import spikegen
from torch import Tensor, nn

from mtspark.convert.snntorch.trace import trace_module
from mtspark.core.errors import BadNetworkError
from tests.support.snntorch_modules import differing, drive, float_spikes, positive, trace


class Loop(nn.Module):
    """One frame, held or encoded over its own steps."""

    def __init__(self, encode: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.encode = encode
        self.fc, self.lif = positive(nn.Linear(3, 4)), snn.Leaky(0.9, threshold=0.2)

    def forward(self, x: Tensor) -> Tensor:
        mem, spikes = self.lif.init_leaky(), []
        for frame in self.encode(x):
            spk, mem = self.lif(self.fc(frame), mem)
            spikes.append(spk)
        return torch.stack(spikes)


class States(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = positive(nn.Linear(3, 4)), snn.Synaptic(0.8, 0.9, reset_delay=False)

    def forward(self, x: Tensor, syn: Tensor, mem: Tensor) -> Any:
        return self.lif(self.fc(x), syn, mem)


def test_modules_of_float64() -> None:
    torch.manual_seed(3)
    module = nn.Sequential(
        positive(nn.Linear(3, 4)), snn.Leaky(0.9, threshold=0.2, init_hidden=True)
    ).double()
    traced = trace(module, (3,))
    series = drive((3,)).double()
    module[1].reset_mem()
    theirs = torch.stack([module(slice_) for slice_ in series]).detach()
    assert theirs.any()
    assert differing(float_spikes(traced, series)["lif1"], theirs) == 0
    trace(Loop(lambda x: [x] * 5).double(), (3,), steps=None)
    trace(States().double(), (3,), steps=6)


def test_numbers_of_few_digits_are_refused() -> None:
    module = nn.Sequential(nn.Linear(3, 4), snn.Leaky(0.9, init_hidden=True))
    for kind, name in ((torch.float16, "float16"), (torch.bfloat16, "bfloat16")):
        with pytest.raises(BadNetworkError, match=rf"are {name}.*give module.float\(\)"):
            trace_module(module.to(kind), name="net", input_shape=(3,), time_steps=4)


@pytest.mark.parametrize(
    ("encode", "what"),
    [
        (lambda x: spikegen.rate(x, num_steps=5), "the input is encoded"),
        (lambda x: spikegen.latency(x, num_steps=5), "the input is encoded"),
        (lambda x: [torch.bernoulli(x) for _ in range(5)], "bernoulli draws random numbers"),
        (lambda x: [(torch.rand_like(x) < x).float()] * 5, "rand_like draws random numbers"),
        (lambda x: [x + torch.randn(3) for _ in range(5)], "randn draws random numbers"),
        (lambda x: [x * torch.empty(3).uniform_() for _ in range(5)], "uniform_ draws random"),
    ],
)
def test_encoders_inside_forward_are_named(encode: Callable[[Tensor], Any], what: str) -> None:
    with pytest.raises(BadNetworkError) as caught:
        trace_module(Loop(encode), name="net", input_shape=(3,))
    text = str(caught.value)
    assert text.startswith("test_inputs.py:")
    assert f"{what} inside forward" in text or what in text
    assert "encode outside of the network" in text


class Two(nn.Module):
    def __init__(self, join: Callable[..., Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.join = nn.Linear(3, 4), nn.Linear(2, 4), join
        self.lif = snn.Leaky(0.9, init_hidden=True)

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.lif(self.join(self, x, y))


class TwoAndState(Two):
    def forward(self, x: Tensor, y: Tensor, mem: Tensor) -> Any:  # type: ignore[override]
        return self.lif(self.join(self, x, y)), mem


class Named(Two):
    def forward(self, x: Any) -> Any:  # type: ignore[override]
        return self.lif(self.join(self, x["x"], x["y"]))


@pytest.mark.parametrize(
    "module",
    [
        Two(lambda net, x, y: net.a(x) + net.b(y)),
        Two(lambda net, x, y: net.b(y.float()) + net.a(x)),
        Two(lambda net, x, y: net.a(torch.cat([x, y], 1))),
        Two(lambda net, x, y: net.a(x) * y[:, :1]),
        TwoAndState(lambda net, x, y: net.a(x) + net.b(y)),
        Named(lambda net, x, y: net.a(x) + net.b(y)),
    ],
)
def test_two_inputs_say_how_they_are_joined(module: nn.Module) -> None:
    with pytest.raises(BadNetworkError) as caught:
        trace_module(module, name="net", input_shape=(3,), time_steps=4)
    text = str(caught.value)
    assert "a chip has one; join them before the network, torch.cat" in text
    assert "mat1" not in text
    assert "--input-shape" not in text


def test_inputs_that_were_joined_are_split_in_forward() -> None:
    """What the refusal says works."""

    class Joined(Two):
        def forward(self, z: Tensor) -> Any:  # type: ignore[override]
            return self.lif(self.a(z[:, :3]) + self.b(z[:, 3:]))

    trace(Joined(lambda: None), (5,), steps=6)


def test_what_fails_alike_in_every_way_is_said_once() -> None:
    module = nn.Sequential(nn.Linear(4, 4), snn.Leaky(0.9, init_hidden=True))
    with pytest.raises(BadNetworkError) as caught:
        trace_module(module, name="net", input_shape=(3,), time_steps=4)
    assert str(caught.value).count("(8x3 and 4x4)") == 1


def test_float64_that_torch_itself_cannot_run() -> None:
    """snntorch's spikes are float32, which a second layer of float64 does not take."""
    module = nn.Sequential(
        positive(nn.Linear(3, 4)), snn.Leaky(0.9, init_hidden=True),
        positive(nn.Linear(4, 2)), snn.Leaky(0.9, init_hidden=True),
    ).double()  # fmt: skip
    with pytest.raises(BadNetworkError, match=r"spikes float32: give module.float\(\)"):
        trace_module(module, name="net", input_shape=(3,), time_steps=4)
    trace(module.float(), (3,))


def test_numbers_that_are_none_are_named() -> None:
    module = nn.Sequential(nn.Linear(3, 4), snn.Leaky(float("nan"), init_hidden=True))
    with pytest.raises(BadNetworkError, match=r"1.beta has 1 values that are no numbers \(nan\)"):
        trace_module(module, name="net", input_shape=(3,), time_steps=4)


@pytest.mark.parametrize(
    ("made", "name"), [((), "0.weight"), (("0",), "1.weight"), (("0", "1"), "")]
)
def test_layers_that_have_no_weights_yet_are_named(made: tuple[str, ...], name: str) -> None:
    lif = snn.Leaky(0.9, init_hidden=True)
    module = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d(), lif)
    sample = torch.rand(2, 4)
    for part in made:
        sample = module.get_submodule(part)(sample)
    if not name:
        trace(module, (4,))
        return
    with pytest.raises(BadNetworkError, match=f"{name} is not made yet, .* once with a sample"):
        trace_module(module, name="net", input_shape=(4,), time_steps=4)


class Counted(Loop):
    """A number of steps as an argument."""

    def __init__(self) -> None:
        super().__init__(lambda x: [x] * 5)

    def forward(self, x: Tensor, num_steps: int) -> Tensor:
        mem, spikes = self.lif.init_leaky(), []
        for _ in range(num_steps):
            spk, mem = self.lif(self.fc(x), mem)
            spikes.append(spk)
        return torch.stack(spikes)


class CountedByDefault(Counted):
    def forward(self, x: Tensor, num_steps: int = 5) -> Tensor:
        return super().forward(x, num_steps)


def test_a_number_of_steps_needs_a_default() -> None:
    with pytest.raises(BadNetworkError, match=r"numbers as of steps, need a default.*num_steps=25"):
        trace_module(Counted(), name="net", input_shape=(3,))
    assert trace_module(CountedByDefault(), name="net", input_shape=(3,)).network.time_steps == 5


class Options(Two):
    """What has a default, and is no state of a neuron."""

    def forward(  # type: ignore[override]
        self, x: Tensor, y: Tensor | None = None, twice: bool = False, mode: str = "plain"
    ) -> Any:
        drive = self.a(x) if y is None else self.a(x) + self.b(y)
        return self.lif(drive * 2 if twice or mode != "plain" else drive)


class OptionsAndState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = positive(nn.Linear(3, 4)), snn.Leaky(0.9, threshold=0.2)

    def forward(self, x: Tensor, state: Any = None, y: Any = None) -> Any:
        (mem,) = (self.lif.init_leaky(),) if state is None else state
        spikes, mem = self.lif(self.fc(x if y is None else y), mem)
        return spikes, (mem,)


@pytest.mark.parametrize(("make", "left"), [(lambda: Options(None), "y"), (OptionsAndState, "y")])
def test_arguments_with_a_default_keep_it(make: Callable[[], nn.Module], left: str) -> None:
    torch.manual_seed(3)
    module = make()
    traced = trace(module, (3,), steps=6)
    series, state, theirs = drive((3,), 6), None, []
    for part in module.modules():
        if isinstance(part, snn.Leaky):
            part.reset_mem()
    for frame in series:
        answer = module(frame, state) if isinstance(module, OptionsAndState) else module(frame)
        spikes, state = answer if isinstance(answer, tuple) else (answer, None)
        theirs.append(spikes.detach())
    assert torch.stack(theirs).any()
    assert differing(float_spikes(traced, series)["lif"], torch.stack(theirs)) == 0
    assert f"one time step a call, its {left} left at the default" in traced.network.notes[0]


@pytest.mark.parametrize(
    "take",
    [
        lambda net, x: net.a(x["a"]) + net.b(x["b"]),
        lambda net, x: net.a(x[0]) - net.a(x[1]),
        lambda net, x: sum(map(net.a, x)),
    ],
)
def test_inputs_in_a_list_or_a_dict_say_how_they_are_joined(take: Any) -> None:
    class Packed(Two):
        def forward(self, x: Any) -> Any:  # type: ignore[override]
            return self.lif(take(self, x))

    with pytest.raises(BadNetworkError, match=r"torch.cat\(\[x, y\], 1\).*split"):
        trace_module(Packed(None), name="net", input_shape=(3,), time_steps=4)


@pytest.mark.parametrize(
    ("draw", "who"),
    [
        (lambda x: x + torch.tensor(np.random.normal(size=3)).float(), "numpy.random draws"),
        (lambda x: x + torch.tensor(np.random.rand(*x.shape)).float(), "numpy.random draws"),
        (lambda x: (torch.tensor(np.random.rand(*x.shape)) < x).float(), "numpy.random draws"),
        (lambda x: x * random.random(), "Python's random draws"),
        (
            lambda x: x + torch.tensor(np.random.default_rng().random(x.shape)).float(),
            "as numbers drawn at random do",
        ),
    ],
)
def test_random_numbers_that_torch_does_not_see_are_named(draw: Any, who: str) -> None:
    class Noisy(Two):
        def forward(self, x: Any) -> Any:  # type: ignore[override]
            return self.lif(self.a(draw(x)))

    with pytest.raises(BadNetworkError, match=who):
        trace_module(Noisy(None), name="net", input_shape=(3,), time_steps=4)


@pytest.mark.parametrize("factor", [0.0, [0.0, 1.0, 2.0, -1.0]])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_spikes_that_are_worth_nothing(factor: Any, reset: str) -> None:
    torch.manual_seed(3)
    first = snn.Leaky(
        0.9, threshold=0.2, init_hidden=True, reset_mechanism=reset,
        graded_spikes_factor=torch.tensor(factor),
    )  # fmt: skip
    module = nn.Sequential(
        positive(nn.Linear(3, 4)), first, nn.Linear(4, 2), snn.Leaky(0.9, threshold=0.1,
        init_hidden=True),
    )  # fmt: skip
    with torch.no_grad():
        module[2].bias[:] = 0.05
    traced = trace(module, (3,), steps=8)
    series = drive((3,), 8)
    for neurons in (module[1], module[3]):
        neurons.reset_mem()
    theirs = torch.stack([module(frame) for frame in series]).detach()
    assert theirs.any()
    assert differing(float_spikes(traced, series)["lif2"], theirs) == 0


def test_spikes_that_are_worth_nothing_and_divide_are_refused() -> None:
    neurons = snn.Leaky(0.9, init_hidden=True, reset_delay=False, graded_spikes_factor=0.0)
    module = nn.Sequential(nn.Linear(3, 4), neurons)
    with pytest.raises(BadNetworkError, match="graded_spikes_factor 0 and reset_delay=False"):
        trace_module(module, name="net", input_shape=(3,), time_steps=4)
