"""Training throughput: our network against a plain snntorch loop of the same network.

    python benchmarks/training.py

Both learn the same batches from the same weights, one gradient step each, in turn, on one
thread. The plain loop is what snntorch's tutorials write: for each time step every layer, with
snntorch's own Leaky. Prints a table and writes docs/results/data/benchmarks-training.json.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import snntorch as snn
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from mtspark.train.networks.config import NetworkConfig
from mtspark.train.networks.network import MTSparkNetwork
from mtspark.train.networks.neurons import spike_with_surrogate

ROUNDS, BATCH = 15, 171
"""Rounds after warming up; a minibatch of the shipped Pong agent's training."""
OUT = Path(__file__).parents[1] / "docs" / "results" / "data" / "benchmarks-training.json"


class PlainLoop(nn.Module):
    """The same layers and weights, every layer in every time step."""

    def __init__(self, network: MTSparkNetwork) -> None:
        super().__init__()
        self.network = network
        self.layers = [*network.convolutions, network.hidden]
        self.neurons = [
            snn.Leaky(
                beta=network.config.beta,
                threshold=network.config.threshold,
                spike_grad=spike_with_surrogate,
                reset_mechanism="zero",
            )
            for _ in self.layers
        ]

    def forward(self, frames: Tensor, task: Tensor) -> Tensor:
        """Values (batch, actions)."""
        network = self.network
        context = functional.one_hot(task, network.config.tasks).float()
        assert network.dendrites is not None
        assert network.value is not None
        membranes = [neuron.init_leaky() for neuron in self.neurons]
        total: Tensor | float = 0.0
        for _ in range(network.config.time_steps):
            signal = frames.float() / 255.0
            for index, (layer, neuron) in enumerate(zip(self.layers, self.neurons, strict=True)):
                last = index == len(self.layers) - 1
                current = layer.current(signal.flatten(1) if last else signal)
                if last:
                    current = current * network.dendrites(context)
                signal, membranes[index] = neuron(current, membranes[index])
            total = total + signal
        rate = total / network.config.time_steps
        advantage = network.advantage(rate)
        return network.value(rate) + advantage - advantage.mean(1, keepdim=True)


def learner(model: nn.Module, *, bfloat16: bool) -> Callable[[Tensor, Tensor], float]:
    """A function that takes one gradient step and returns its seconds."""
    optimizer = torch.optim.RAdam(model.parameters(), lr=1e-6)

    def step(frames: Tensor, task: Tensor) -> float:
        started = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            loss = model(frames, task).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return time.perf_counter() - started

    return step


def main() -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = NetworkConfig(tasks=3)
    start = MTSparkNetwork(config)

    def ours(*, compiled: bool = False) -> MTSparkNetwork:
        network = MTSparkNetwork(config)
        network.load_state_dict(start.state_dict())
        for convolution in network.convolutions:
            convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.compiled = compiled
        return network

    plain = MTSparkNetwork(config)
    plain.load_state_dict(start.state_dict())
    contenders = {
        "plain snntorch loop": learner(PlainLoop(plain), bfloat16=False),
        "plain snntorch loop, bfloat16": learner(PlainLoop(plain), bfloat16=True),
        "ours, float32": learner(ours(), bfloat16=False),
        "ours, bfloat16": learner(ours(), bfloat16=True),
        "ours, bfloat16, compiled": learner(ours(compiled=True), bfloat16=True),
    }
    frames = torch.randint(0, 256, (BATCH, 4, 84, 84), dtype=torch.uint8)
    task = torch.arange(BATCH) % 3
    with torch.no_grad():
        # The same function, or the comparison would be of two networks.
        torch.testing.assert_close(PlainLoop(plain)(frames, task), ours()(frames, task))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for step in contenders.values():
        for _ in range(2):
            step(frames, task)
    for _ in track(range(ROUNDS), "measuring"):
        for name, step in contenders.items():
            times[name].append(step(frames, task))
    base = times["plain snntorch loop"]
    table = Table("gradient step on", "ms a frame", "times as fast (quartiles)")
    rows = {}
    for name, own in times.items():
        ratios = [slow / fast for slow, fast in zip(base, own, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows[name] = {
            "ms_per_frame": 1e3 * statistics.median(own) / BATCH,
            "ratio": middle,
            "ratio_quartiles": [low, high],
        }
        speed = f"{rows[name]['ms_per_frame']:.2f}"
        table.add_row(name, speed, f"{middle:.2f} ({low:.2f}..{high:.2f})")
    Console().print(table)
    OUT.write_text(json.dumps({"batch": BATCH, "rounds": ROUNDS, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
