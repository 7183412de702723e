"""A small spiking network learns scikit-learn's digits and runs on the simulated chip."""

import snntorch as snn
import torch
from sklearn.datasets import load_digits
from snntorch import utils
from torch import nn

import mtspark

torch.manual_seed(0)
digits = load_digits()
x, y = torch.tensor(digits.data / 16).float(), torch.tensor(digits.target)
leaky = {"beta": 0.9, "init_hidden": True}
model = nn.Sequential(nn.Linear(64, 48), snn.Leaky(**leaky), nn.Linear(48, 10), snn.Leaky(**leaky))
optimiser = torch.optim.Adam(model.parameters(), 0.01)
for _ in range(60):
    utils.reset(model)
    optimiser.zero_grad()
    nn.functional.cross_entropy(sum(model(x[:1400]) for _ in range(10)), y[:1400]).backward()
    optimiser.step()

chip = mtspark.export(model, sample=x, time_steps=10)
result = chip.evaluate(x[1400:], y[1400:])
print(f"float {result.float_accuracy:.1%}, chip {result.accuracy:.1%}, same {result.agreement:.1%}")
bill = chip.energy(card="loihi2_pilotnet")
print(f"{bill.dynamic_j_per_decision * 1e9:.0f} nJ a digit, an estimate with {bill.card.name}")
