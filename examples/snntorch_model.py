"""A network as snntorch's users write it, and what it becomes on a chip.

mtspark export examples/snntorch_model.py:make_model --input-shape 2,34,34 --time-steps 20

does what main() does here; `make_model` is all that it needs to find.

python examples/snntorch_model.py
"""

from __future__ import annotations

import numpy as np
import snntorch as snn
import torch
from torch import Tensor, nn

import mtspark


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
    """Make integers of the module, and compare them with torch layer by layer."""
    model = make_model()
    generator = np.random.default_rng(0)
    events = (generator.random((4, 20, 2, 34, 34)) < 0.2).astype(np.uint8)
    chip = mtspark.export(model, sample=events, time_steps=20)
    for layer in chip.fidelity.module_against_network:
        print(
            f"{layer.name}: {layer.different} of {layer.compared:,} spikes differ from "
            f"torch ({layer.fired:,} fired)"
        )
    for layer in chip.fidelity.layers:
        print(
            f"{layer.layer} on the chip: {layer.spike_distance:.2%} of spikes and silences "
            f"differ ({layer.chip_rate:.1%} fire in a step)"
        )
    with torch.no_grad():
        in_torch = model(torch.from_numpy(events).float().transpose(0, 1)).sum(0).argmax(1)
    # Random weights are the hardest case: no class stands out, and a loop amplifies what differs.
    same = (in_torch.numpy() == chip.run(events).classes).mean()
    print(f"same class for {same:.0%} of {len(events)} inputs")


if __name__ == "__main__":
    main()
