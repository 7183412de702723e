"""The trained float network as a backend of the agent loop."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import torch

from mtspark.core.arrays import Pixels
from mtspark.core.backend import Activity, Decision, Memoryless
from mtspark.core.chip_network import INPUT
from mtspark.train.checkpoint import Agent
from mtspark.train.networks import NetworkTrace


class TorchBackend(Memoryless):
    """Plays with the float network. It has no pipeline, so nothing is counted as drain.

    Weights are folded once: the network must not learn until the backend is closed.
    """

    name = "torch"

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._open = ExitStack()
        self._open.enter_context(agent.network.weights_kept())

    def decide(self, frames: Pixels, task: int, *, trace: bool = False) -> Decision:
        """Q values and spikes of a batch; `trace` has no meaning, there are no chip steps."""
        recorded = NetworkTrace()
        with torch.no_grad():
            tasks = torch.full((len(frames),), task, dtype=torch.long)
            values = self.agent.network(torch.from_numpy(frames), tasks, recorded)
        steps = self.agent.network.config.time_steps
        window = {INPUT: (frames != 0).astype(np.int64) * steps}
        for name, layer in recorded.layers.items():
            window[name] = layer.spikes.sum(0).numpy().astype(np.int64)
        drain = {name: np.zeros_like(messages) for name, messages in window.items()}
        return Decision(values.double().numpy(), Activity(window, drain))

    def close(self) -> None:
        """Let the network learn again."""
        self._open.close()
