"""A network as snntorch's users write it, and what it becomes on a chip.

mtspark export examples/snntorch_model.py:make_model --input-shape 2,34,34 --time-steps 20

does what main() does here, step by step; `make_model` is all that it needs to find.

python examples/snntorch_model.py
"""

from __future__ import annotations

import numpy as np
import snntorch as snn
import torch
from torch import Tensor, nn

from mtspark.convert.snntorch.trace import trace_module
from mtspark.convert.snntorch.verify import compare_with_recording
from mtspark.core.float_network.simulator import run_float
from mtspark.deploy.quantise.fidelity import layer_fidelity
from mtspark.deploy.quantise.network import quantise
from mtspark.sim.backends.reference import ReferenceChip


class EventNet(nn.Module):
    """Two spiking convolutions with pooling, batch norm, recurrence; a loop over the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(2, 8, 5, padding="same"), nn.BatchNorm2d(8)
        self.lif1 = snn.Leaky(beta=0.9, threshold=0.5)  # resets by a delayed subtraction
        self.pool = nn.AvgPool2d(2)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2)
        self.lif2 = snn.Synaptic(alpha=0.6, beta=0.8, threshold=0.3)
        self.dense = nn.Linear(16 * 8 * 8, 10)
        self.lif3 = snn.RLeaky(beta=0.7, linear_features=10, threshold=0.3)

    def forward(self, events: Tensor) -> Tensor:
        """Spikes (T, batch, 10) for events (T, batch, 2, 34, 34)."""
        mem1 = self.lif1.init_leaky()
        syn2, mem2 = self.lif2.init_synaptic()
        spk3, mem3 = self.lif3.init_rleaky()
        record = []
        for frame in events:
            spk1, mem1 = self.lif1(self.norm1(self.conv1(frame)), mem1)
            spk2, syn2, mem2 = self.lif2(self.conv2(self.pool(spk1)), syn2, mem2)
            spk3, mem3 = self.lif3(self.dense(spk2.flatten(1)), spk3, mem3)
            record.append(spk3)
        return torch.stack(record)


def make_model() -> nn.Module:
    """What `mtspark export examples/snntorch_model.py:make_model` calls."""
    torch.manual_seed(0)
    model = EventNet().eval()
    # Untrained: as after training, the statistics are not left at their plain start.
    model.norm1.running_mean.uniform_(-0.2, 0.0)
    model.norm1.running_var.uniform_(0.3, 0.6)
    return model


def main() -> None:
    """Trace, compare with torch, make integers, run the chip beside the module."""
    model = make_model()
    traced = trace_module(model, name="events", input_shape=(2, 34, 34), time_steps=20)
    for layer in compare_with_recording(traced):
        print(
            f"{layer.name}: {layer.different} of {layer.compared:,} spikes differ from torch "
            f"({layer.fired:,} fired)"
        )
    chip = quantise(traced.network)
    generator = np.random.default_rng(0)
    events = (generator.random((4, 20, 2, 34, 34)) < 0.2).astype(np.uint8)
    decision = ReferenceChip(chip).decide(events, 0, trace=True)
    assert decision.trace is not None
    run = run_float(traced.network, events.swapaxes(0, 1).astype(np.float64))
    for layer in layer_fidelity(traced.network, chip, run, decision.trace):
        print(
            f"{layer.layer} on the chip: {layer.spike_distance:.2%} of spikes and silences differ "
            f"({layer.chip_rate:.1%} fire in a step)"
        )
    # Random weights are the hardest case: no class stands out, and a loop amplifies what differs.
    same = (run.values.argmax(1) == decision.values.argmax(1)).mean()
    print(f"same class for {same:.0%} of {len(events)} inputs")


if __name__ == "__main__":
    main()
