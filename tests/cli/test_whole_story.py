"""From a user's network to accuracy, energy and a page: one command each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mtspark
from mtspark.core.errors import BadFileError
from mtspark.workflows.evaluate import stored_evaluation
from mtspark.workflows.evaluate.kept import MOST_KEPT, Keeper

SOURCE = """
import snntorch as snn
import torch
from torch import nn

LEAKY = {"beta": 0.9, "init_hidden": True}


def sequential():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 24), snn.Leaky(**LEAKY), nn.Linear(24, 4), snn.Leaky(**LEAKY)
    )


def pooled(pool):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), snn.Leaky(**LEAKY), pool, nn.Flatten(),
        nn.Linear(64, 4), snn.Leaky(**LEAKY),
    )


def average():
    return pooled(nn.AvgPool2d(2))


def largest():
    return pooled(nn.MaxPool2d(2))


class Loop(nn.Module):
    def __init__(self, recurrent=False):
        super().__init__()
        torch.manual_seed(0)
        self.recurrent = recurrent
        self.fc1 = nn.Linear(64, 24)
        self.lif1 = snn.RLeaky(beta=0.8, linear_features=24) if recurrent else snn.Leaky(beta=0.8)
        self.fc2 = nn.Linear(24, 4)
        self.lif2 = snn.Leaky(beta=0.9)

    def forward(self, x):
        state = self.lif1.init_rleaky() if self.recurrent else (self.lif1.init_leaky(),)
        mem2, spikes = self.lif2.init_leaky(), []
        for _ in range(6):
            out = self.lif1(self.fc1(x.flatten(1)), *state)
            state = out if self.recurrent else out[1:]
            spk2, mem2 = self.lif2(self.fc2(out[0]), mem2)
            spikes.append(spk2)
        return torch.stack(spikes)


def recurrent():
    return Loop(True)
"""
NETWORKS = ("sequential", "Loop", "recurrent", "average", "largest")
STEPS = 6
FORMS = ("npy", "npz", "python")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answers(name: str, x: np.ndarray) -> np.ndarray:
    """What torch says of each image."""
    from snntorch import utils

    space: dict[str, Any] = {}
    exec(SOURCE, space)
    model, series = space[name]().eval(), torch.from_numpy(x)
    with torch.no_grad():
        if name in ("Loop", "recurrent"):
            return np.asarray(model(series).sum(0))
        utils.reset(model)
        return np.asarray(sum(model(series) for _ in range(STEPS)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_from_torch_to_accuracy_energy_and_a_page(
    place: Path, name: str, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Images as people scale them, (x - 0.5) / 0.5; torch's own answers are the labels."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8)) / 255
    x = ((pixels - 0.5) / 0.5).astype(np.float32)
    values = answers(name, x)
    np.save("x.npy", x)
    np.save("y.npy", values.argmax(1))
    folder = f"net-{name}.deploy"
    assert call("export", f"net.py:{name}", "--input", "x.npy", "--time-steps", STEPS) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "inputs are sent as 8-bit values, -128 to 127 times 0.00787" in printed
    assert "compared on: x.npy" in printed
    names = [population.name for population in mtspark.load_bundle(folder).network.populations]
    assert [one for one in names if "pool" not in one] == ["lif1", "lif2"]
    assert call("eval", folder, "--data", "x.npy", "--labels", "y.npy") == 0
    works, costs = capsys.readouterr().out.split("\nA sample costs ")
    accuracy = float(re.search(r"names ([\d.]+)% of 40 samples of x.npy", works)[1])  # type: ignore[index]
    floats = float(re.search(r"float\s+network ([\d.]+)%", works)[1])  # type: ignore[index]
    # Where two outputs have equal spikes, the first wins, in torch and here.
    assert floats == 100.0
    assert accuracy >= 85
    assert "µJ of dynamic energy on Loihi 2 (estimate)" in " ".join(costs.split())
    assert call("report", folder, "-o", "page.html", "--card", "loihi2_pilotnet") == 0
    (task,) = json.loads(Path("page.json").read_text())["tasks"]
    assert task["kind"] == "samples"
    assert round(100 * task["score"]["chip"], 1) == accuracy
    assert task["score"]["origin"] == "x.npy"
    assert "x.npy" in Path("page.html").read_text()
    # The same with data of its own, and the terminal's report.
    data = ("--data", "x.npy", "--labels", "y.npy", "--card", "loihi2_pilotnet")
    assert call("report", folder, "-o", "other.html", *data) == 0
    (other,) = json.loads(Path("other.json").read_text())["tasks"]
    assert (other["score"], other["layers"]) == (task["score"], task["layers"])
    capsys.readouterr()
    assert call("report", folder) == 0
    assert f"names {accuracy:.1f}% of 40 samples" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "form", ["folder", *(pytest.param(one, marks=pytest.mark.slow) for one in FORMS)]
)
def test_all_of_it_in_one_command(
    place: Path, form: str, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Inputs with labels are the sample, too; the page shows what was measured on them."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 1, 8, 8)).astype(np.uint8)
    x, y = (pixels / 255).astype(np.float32), np.arange(24) % 4
    np.save("x.npy", x)
    np.save("y.npy", y)
    np.savez("both.npz", x=x, y=y)
    (place / "data.py").write_text(
        "import numpy as np\ndef test():\n    return np.load('x.npy'), np.load('y.npy')\n"
    )
    for number, (image, label) in enumerate(zip(pixels, y, strict=True)):
        Path("images", str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(f"images/{label}/{number:02}.png")
    data: dict[str, tuple[object, ...]] = {
        "npy": ("x.npy", "--labels", "y.npy"),
        "npz": ("both.npz",),
        "python": ("data.py:test",),
        "folder": ("images", "--input-shape", "1,8,8"),
    }
    source = ("export", "net.py:sequential", "--time-steps", STEPS)
    wanted = ("--data", *data[form], "--page", "page.html", "--json", "all.json")
    assert call(*source, *wanted) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "inputs are sent as 8-bit values, 0 to 255 times 0.00392" in printed
    assert printed.count("of 24 samples of") == 1
    assert "compared on: the sample" not in printed
    assert "--details" not in printed
    assert "wrote page.html" in printed
    said = json.loads(Path("all.json").read_text())
    (task,) = json.loads(Path("page.json").read_text())["tasks"]
    assert said["page"] == "page.html"
    assert said["evaluation"]["accuracy"] == task["score"]["chip"]
    # The same by itself.
    assert call(*source, "--input", "x.npy", "-o", "other.deploy") == 0
    alone = mtspark.load_bundle("other.deploy")
    made = mtspark.load_bundle("net-sequential.deploy")
    assert made.bundle.network_hash == alone.bundle.network_hash
    result = alone.evaluate(x, y)
    assert said["evaluation"]["float_accuracy"] == result.float_accuracy
    assert said["evaluation"]["accuracy"] == result.accuracy


DATA = """
import numpy as np
import torch
from torch.utils.data import TensorDataset

draw = np.random.default_rng(0)
x = draw.normal(size=(600, 64)).astype(np.float32)
x[-1] = 9.0
y = np.arange(600) % 4


def dataset():
    return TensorDataset(torch.tensor(x), torch.tensor(y))


def once():
    return iter([(x[start : start + 150], y[start : start + 150]) for start in range(0, 600, 150)])


def unlabelled():
    return [(x[:3], None)][0][0].tolist()


def uneven():
    return [[1.0, 2.0], [1.0]], [0, 1]


def nothing():
    return iter([])


def shapes():
    return iter([(x[:2], y[:2]), (x[:2, :8], y[:2])])
"""


@pytest.mark.parametrize("name", ["dataset", "once"])
def test_all_samples_of_a_dataset_say_its_scale_and_are_scored(
    place: Path, name: str, call: Callable[..., int]
) -> None:
    """Its largest value is in the last of three batches; an iterator gives each batch once."""
    (place / "data.py").write_text(DATA)
    source = ("export", "net.py:sequential", "--time-steps", STEPS)
    assert call(*source, "--data", f"data.py:{name}", "--json", "all.json") == 0
    said = json.loads(Path("all.json").read_text())
    assert said["evaluation"]["samples"] == 600
    assert mtspark.load_bundle("net-sequential.deploy").network.input.scale == 9 / 127


def test_data_that_an_export_cannot_take(
    place: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """One line each, before a bundle is written; one that is there stays as it is."""
    np.save("x.npy", np.zeros((3, 1, 8, 8), np.float32))
    np.save("y.npy", np.zeros(3, int))
    np.save("short.npy", np.zeros((3, 63), np.float32))
    np.save("empty.npy", np.zeros((0, 64), np.float32))
    for name, labels in (
        ("few", [0, 1]),
        ("large", [0, 1, 4]),
        ("negative", [0, -1, 1]),
        ("half", [0, 0.5, 1]),
        ("hot", np.eye(3)),
        ("none", np.zeros(0, int)),
    ):
        np.save(f"{name}-y.npy", np.array(labels))
    (place / "data.py").write_text(DATA)
    Path("images", "a").mkdir(parents=True)
    for number in range(3):
        Path("three", f"{number}").mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(f"three/{number}/x.png")
    agent = Path(mtspark.__file__).parents[1] / "examples" / "agents" / "cartpole" / "cartpole.pt"
    module, folder = "net.py:sequential", "net-sequential.deploy"
    assert call("export", module, "--input", "x.npy", "--time-steps", STEPS) == 0
    before = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    labelled, page = ("--data", "x.npy", "--labels"), ("--page", "page.html")
    capsys.readouterr()
    for words, *arguments in (
        ("--labels: belongs to inputs", module, "--labels", "y.npy"),
        ("--data: is of networks that are no agents", agent, "--data", "x.npy"),
        ("x.npy: has no labels; give --labels", module, "--data", "x.npy"),
        ("short.npy: has shape (3, 63)", module, "--data", "short.npy", "--labels", "y.npy"),
        ("empty.npy: has shape (0, 64)", module, "--data", "empty.npy", "--labels", "none-y.npy"),
        ("few-y.npy: has shape (2,); one label for each of 3", module, *labelled, "few-y.npy"),
        ("large-y.npy: has the label 4; the network has 4", module, *labelled, "large-y.npy"),
        ("negative-y.npy: has the label -1", module, *labelled, "negative-y.npy"),
        ("half-y.npy: has labels that are no whole", module, *labelled, "half-y.npy"),
        ("of one-hot labels y.argmax(1)", module, *labelled, "hot-y.npy"),
        ("nowhere.npz", module, "--data", "nowhere.npz"),
        ("data.py:unlabelled", module, "--data", "data.py:unlabelled"),
        ("data.py:uneven: list of rows of unequal", module, "--data", "data.py:uneven"),
        ("data.py:nothing: has no sample", module, "--data", "data.py:nothing"),
        ("data.py:shapes: has inputs of shape (8,)", module, "--data", "data.py:shapes"),
        ("--data images: images are read in the shape", module, "--data", "images"),
        (
            "three: has 3 folders of classes, and the network has 4 outputs",
            *(module, "--data", "three", "--input-shape", "1,8,8"),
        ),
        ("page.txt", module, *labelled, "y.npy", "--page", "page.txt"),
        ("--page: shows what was measured on inputs", module, "--input", "x.npy", *page),
        ("page.json: is written by --page", module, *labelled, "y.npy", *page, "--json=page.json"),
        ("lies in the bundle", module, *labelled, "y.npy", "--page", f"{folder}/page.html"),
    ):
        steps = () if arguments[0] == agent else ("--time-steps", STEPS)
        assert call("export", *arguments, *steps, "--force") == 2, words
        captured = capsys.readouterr()
        (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
        assert words in line
        assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == before
        assert not list(place.glob("page*"))


def test_kept_inputs_are_spread_over_all() -> None:
    keeper = Keeper(1000)
    for start in range(0, 1000, 250):
        rows = np.arange(start, start + 250)
        keeper.add(rows[:, None].astype(np.uint8), rows)
    kept = keeper.result()
    assert kept is not None
    assert kept.labels.tolist() == list(range(0, 1000, 1000 // MOST_KEPT))
    assert (kept.frames[:, 0] == kept.labels % 256).all()
    unknown = Keeper(None)
    unknown.add(np.zeros((300, 1), np.uint8), np.arange(300))
    found = unknown.result()
    assert found is not None
    assert found.labels.tolist() == list(range(MOST_KEPT))


def test_what_eval_measured_is_in_the_bundle(
    place: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    import snntorch as snn
    from torch import nn

    module = nn.Sequential(nn.Linear(2, 2, bias=False), snn.Leaky(beta=0.0, init_hidden=True))
    with torch.no_grad():
        module[0].weight[:] = 2 * torch.eye(2)
    mtspark.export(module, input_shape=(2,), time_steps=4).save("two.deploy")
    np.save("x.npy", np.array([[1, 0], [0, 1], [1, 1]], np.float32))
    np.save("y.npy", np.array([0, 1, 1]))
    assert call("report", "two.deploy") == 2
    assert "mtspark eval two.deploy --data x.npy --labels y.npy" in capsys.readouterr().err
    assert call("eval", "two.deploy", "--data", "x.npy", "--labels", "y.npy") == 0
    bundle = mtspark.load_bundle("two.deploy").bundle
    kept = stored_evaluation(bundle, "default")
    assert kept is not None
    assert (kept.values["samples"], kept.values["accuracy"]) == (3, 2 / 3)
    assert kept.kept.frames.shape == (3, 4, 2)
    assert (kept.kept.frames == np.load("x.npy")[:, None]).all()
    (path,) = (Path("two.deploy") / "runs").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadFileError, match=r"default\.data\.npz"):
        stored_evaluation(bundle, "default")


def test_two_exports_side_by_side(
    place: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    import snntorch as snn
    from torch import nn

    module = nn.Sequential(nn.Linear(2, 2, bias=False), snn.Leaky(beta=0.0, init_hidden=True))
    with torch.no_grad():
        module[0].weight[:] = 2 * torch.eye(2)
    np.save("x.npy", np.array([[1, 0], [0, 1], [1, 1]], np.float32))
    np.save("y.npy", np.array([0, 1, 1]))
    for bits in (8, 4):
        name = f"two{bits}.deploy"
        mtspark.export(module, input_shape=(2,), time_steps=4, weight_bits=bits).save(name)
        if bits == 4:
            assert call("report", "two8.deploy", name) == 2
            assert "mtspark eval two4.deploy" in capsys.readouterr().err
        assert call("eval", name, "--data", "x.npy", "--labels", "y.npy") == 0
    assert call("report", "two8.deploy", "two8.deploy") == 2
    assert call("report", "two8.deploy", "two4.deploy", "--seed", 1) == 2
    capsys.readouterr()
    out = ("-o", "both.html", "--json", "both2.json")
    assert call("report", "two8.deploy", "two4.deploy", *out) == 0
    printed = capsys.readouterr().out
    assert re.search(r"on the chip +66\.7% +66\.7%", printed)
    assert re.search(r"weight bits +8 +4", printed)
    data = json.loads(Path("both.json").read_text())
    assert data == json.loads(Path("both2.json").read_text())
    assert [row["bundle"] for row in data["rows"]] == ["two8.deploy", "two4.deploy"]
    page = Path("both.html").read_text()
    assert page.count("66.7%") >= 4
    assert "two4.deploy" in page


def test_bytes_are_messages_and_the_flag_for_pixels_is_named(
    place: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 1, 8, 8)).astype(np.uint8)
    np.save("x.npy", pixels)
    source = ("export", "net.py:sequential", "--time-steps", STEPS, "--input", "x.npy")
    assert call(*source, "-o", "bytes.deploy") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "0 to 255 times 1; where the network learned pixels from 0 to 1, give" in said
    assert call(*source, "-o", "pixels.deploy", "--input-scale", 0.00392157) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "0 to 255 times 0.00392157" in said
    assert "learned pixels" not in said
