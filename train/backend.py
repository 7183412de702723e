"""The trained float network as a backend of the agent loop."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import torch
from numpy.typing import NDArray

from mtspark.core.arrays import Pixels
from mtspark.core.backend import Activity, Decision
from mtspark.core.chip_network import INPUT, check_batch
from mtspark.train.checkpoint import Agent
from mtspark.train.networks import Memory, NetworkTrace


class TorchBackend:
    """Plays with the float network. It has no pipeline, so nothing is counted as drain.

    It keeps nothing between decisions, but the state of a network whose state survives them.

    Weights are folded once: the network must not learn until the backend is closed.
    """

    name = "torch"

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._memory: Memory = {}
        self._open = ExitStack()
        self._open.enter_context(agent.network.weights_kept())

    def start(self, batch: int) -> None:
        """Put the network at rest."""
        self._memory = {}

    def keep(self, members: NDArray[np.int64]) -> None:
        """Go on with some members of the batch, in this order."""
        rows = torch.from_numpy(members)
        self._memory = {name: one[rows] for name, one in self._memory.items()}

    def decide(self, frames: Pixels, task: int, *, trace: bool = False) -> Decision:
        """Q values and spikes of a batch; `trace` has no meaning, there are no chip steps."""
        recorded = NetworkTrace()
        with torch.no_grad():
            tasks = torch.full((len(frames),), task, dtype=torch.long)
            values = self._values(torch.from_numpy(frames), tasks, recorded)
        steps = self.agent.network.config.time_steps
        window = {INPUT: (frames != 0).astype(np.int64) * steps}
        for name, layer in recorded.layers.items():
            window[name] = layer.spikes.sum(0).numpy().astype(np.int64)
        drain = {name: np.zeros_like(messages) for name, messages in window.items()}
        return Decision(values.double().numpy(), Activity(window, drain))

    def _values(
        self, frames: torch.Tensor, tasks: torch.Tensor, recorded: NetworkTrace
    ) -> torch.Tensor:
        network = self.agent.network
        if not network.config.stateful:
            values: torch.Tensor = network(frames, tasks, recorded)
            return values
        running = len(self._memory["values"]) if self._memory else 0
        check_batch(network.config, running, len(frames))
        series, self._memory = network.unroll(frames[None], tasks, self._memory, trace=recorded)
        return series[0]

    def close(self) -> None:
        """Let the network learn again."""
        self._open.close()
