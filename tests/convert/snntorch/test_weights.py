"""Weights are found wherever training scripts and other versions of snntorch left them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import snntorch as snn
import torch
from torch import Tensor, nn

from mtspark.convert.snntorch.weights import load_weights
from mtspark.core.errors import BadFileError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.lif = snn.Leaky(0.5, threshold=0.75, init_hidden=True)

    def forward(self, x: Tensor) -> Any:
        return self.lif(self.fc(x))


def trained() -> dict[str, Tensor]:
    torch.manual_seed(3)
    net = Net()
    net.lif.beta.fill_(0.625)
    return dict(net.state_dict())


def loaded(path: Path) -> tuple[dict[str, Tensor], str]:
    torch.manual_seed(8)
    net = Net()
    notes = load_weights(net, path)
    return dict(net.state_dict()), " | ".join(notes)


def optimiser() -> dict[str, Any]:
    net = Net()
    adam = torch.optim.Adam(net.parameters())
    net.fc(torch.ones(1, 3)).sum().backward()
    adam.step()
    return adam.state_dict()


WRAPPED: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "alone": lambda state: state,
    "net": lambda state: {"net": state, "acc": 0.9, "epoch": 3},
    "snn beside optimiser": lambda state: {"snn": state, "optimizer": optimiser()},
    "two levels": lambda state: {"checkpoint": {"weights": state}, "epoch": 1},
    "four levels": lambda state: {"run": {"best": {"ema": {"net": state}}}},
    "optimiser beside the tensors": lambda state: {**state, "optimizer": optimiser()},
    "pair": lambda state: (3, state),
    "plain values beside": lambda state: {**state, "epoch": 3, "name": "net"},
    "data parallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "compiled": lambda state: {"model": {f"_orig_mod.{k}": v for k, v in state.items()}},
    "lightning": lambda state: {
        "state_dict": {f"model.{k}": v for k, v in state.items()} | {"loss.weight": torch.ones(2)},
        "epoch": 2,
    },
    "half precision": lambda state: {
        key: value.bfloat16() if value.is_floating_point() else value
        for key, value in state.items()
    },
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_weights_are_found(tmp_path: Path, kind: str) -> None:
    path, wanted = tmp_path / "w.pt", trained()
    torch.save(WRAPPED[kind](wanted), path)
    found, notes = loaded(path)
    exact = kind != "half precision"
    for key, value in wanted.items():
        assert torch.allclose(found[key], value, rtol=0 if exact else 1e-2, atol=0), key
    assert ("'net' of w.pt" in notes) == (kind == "net")
    assert ("left out of the weights" in notes) == (kind == "lightning")


def test_safetensors_are_weights(tmp_path: Path) -> None:
    path, wanted = tmp_path / "w.safetensors", trained()
    safetensors.torch.save_file(wanted, path)
    found, _ = loaded(path)
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


def test_states_that_older_versions_saved_are_left_out(tmp_path: Path) -> None:
    """snntorch 0.5 kept mem and syn as buffers, constants as (1,), and had no graded spikes."""
    path, wanted = tmp_path / "w.pt", trained()
    old = {key: value for key, value in wanted.items() if "graded" not in key}
    old["lif.mem"], old["lif.syn"] = torch.ones(2, 4), torch.ones(2, 4)
    old["lif.beta"] = old["lif.beta"].reshape(1)
    torch.save(old, path)
    found, notes = loaded(path)
    assert all(torch.equal(found[key], value) for key, value in wanted.items())
    assert "which start at 0 here: lif.mem, lif.syn" in notes
    assert "as the module was built: lif.graded_spikes_factor" in notes


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"fc.mem": torch.ones(3)}, 'Missing key(s) in state_dict: "fc.weight"'),
        ({**trained(), "fc.mem": torch.ones(2)}, 'Unexpected key(s) in state_dict: "fc.mem"'),
        ({"a": trained(), "b": trained()}, "several sets of weights that fit, a, b"),
        ([1, 2], "no state_dict"),
        ({"epoch": 3}, "no state_dict"),
        (Net().fc, "holds a pickled torch.nn.modules.linear.Linear"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, content: Any, says: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(BadFileError) as caught:
        loaded(tmp_path / "w.pt")
    assert says in str(caught.value)
    assert "only if you trust" not in str(caught.value)


def test_constants_that_are_not_in_the_file_are_the_modules(tmp_path: Path) -> None:
    """A file of parameters alone; what is learned would be one."""
    path, wanted = tmp_path / "w.pt", trained()
    torch.save({key: wanted[key] for key in ("fc.weight", "fc.bias")}, path)
    found, notes = loaded(path)
    assert torch.equal(found["fc.weight"], wanted["fc.weight"])
    assert found["lif.beta"] == 0.5
    assert found["lif.threshold"] == 0.75
    assert "not in the file, as the module was built: lif.beta" in notes


def test_learned_constants_must_be_in_the_file(tmp_path: Path) -> None:
    path, net = tmp_path / "w.pt", Net()
    net.lif = snn.Leaky(0.5, learn_beta=True, init_hidden=True)
    torch.save(trained() | {"lif.beta": torch.tensor(0.5)}, path)
    load_weights(net, path)
    torch.save({key: value for key, value in trained().items() if key != "lif.beta"}, path)
    with pytest.raises(BadFileError, match=r"lif\.beta"):
        load_weights(net, path)


def test_what_is_no_file_of_weights_is_named(tmp_path: Path) -> None:
    script = torch.jit.trace(nn.Linear(3, 4), torch.ones(1, 3))
    torch.jit.save(script, tmp_path / "script.pt")
    np.savez(tmp_path / "w.npz", weight=np.ones(3))
    for name, says in (
        ("script.pt", "a TorchScript program, not weights; save the weights alone"),
        ("w.npz", r"arrays of NumPy \(.npz\), not a PyTorch file; save them as tensors"),
        (".", "a folder, no file; give the path"),
    ):
        with pytest.raises(BadFileError, match=says):
            load_weights(Net(), tmp_path / name)
