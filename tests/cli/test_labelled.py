"""Data with labels in the forms of users, and their accuracy on float network and chip."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import snntorch as snn
import torch
from PIL import Image
from torch import nn

import mtspark
from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.workflows.evaluate import is_labelled, load_labelled
from mtspark.workflows.evaluate.labelled import PAIRS
from mtspark.workflows.report import ReportRequest, write_page

X = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
Y = np.array([0, 1, 1])
"""A tie goes to the first class, so that the third label is missed."""

SOURCE = """
import numpy as np
import torch

x, y = np.array([[1, 0], [0, 1]], np.float32), np.array([0, 1])
pair = (x, y)
number = 3


def function():
    return x, y


def fails():
    raise KeyError("lost")


class Dataset:
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return x[index], int(y[index])


class Odd(Dataset):
    def __init__(self, item):
        self.item = item

    def __getitem__(self, index):
        return self.item(index)


def picture(index):
    from PIL import Image

    return Image.new("L", (2, 1)), int(y[index])


def lost(index):
    raise OSError("lost")


def batches():
    yield x, y


class Course(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield from ((x[index], int(y[index])) for index in range(2))


dataset = Dataset()
subset = torch.utils.data.Subset(dataset, [1, 0])
pictures, broken = Odd(picture), Odd(lost)
dictionaries = Odd(lambda index: {"x": x[index], "y": y[index]})
texts = (np.array(["a", "b"]), y)
unlabelled = Odd(lambda index: x[index])
"""


class Two(nn.Module):
    """Each of two neurons repeats its own input."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(2, 2, bias=False)
        self.lif = snn.Leaky(beta=0.0, threshold=0.5, reset_mechanism="zero")
        with torch.no_grad():
            self.a.weight[:] = torch.eye(2)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        state, spikes = self.lif.init_leaky(), []
        for step in series:
            sent, state = self.lif(self.a(step), state)
            spikes.append(sent)
        return torch.stack(spikes)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "two.deploy"
    mtspark.export(Two(), input_shape=(2,), time_steps=4).save(folder)
    return folder


def saved(path: Path, array: object) -> Path:
    np.save(path, np.asarray(array))
    return path


def test_accuracy_and_counts_by_hand(
    bundle: Path, tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Frames are shown in all 4 steps: 4 nonzero values, 16 messages in, 16 spikes."""
    data, labels = saved(tmp_path / "x.npy", X), saved(tmp_path / "y.npy", Y)
    out = tmp_path / "result.json"
    assert call("eval", bundle, "--data", data, "--labels", labels, "--json", out) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("The chip names 66.7% of 3 samples of x.npy rightly")
    assert "the float network 66.7%; both give the same answer to 100.0%." in shown
    assert "µJ of dynamic energy on Loihi 2 (estimate)" in shown
    result = json.loads(out.read_text())
    assert (result["samples"], result["accuracy"], result["float_accuracy"]) == (3, 2 / 3, 2 / 3)
    assert result["agreement"] == 1
    assert result["input_events"]["total"] == 16
    (layer,) = result["layers"]
    assert layer["spikes_window"] == 16
    assert (layer["synops_structural"], layer["synops_effective"]) == (32, 16)
    assert result["energy"][0]["dynamic_j_per_decision"] > 0


def test_a_frame_is_a_series_that_does_not_change(bundle: Path) -> None:
    chip = mtspark.load_bundle(bundle)
    series = np.repeat(X[:, None], 4, axis=1)
    assert (chip.run(X).values == chip.run(series).values).all()
    assert (chip.run(series[:, :2]).values == chip.run(X).values / 2).all()


def test_inputs_and_labels_of_numpy_files(tmp_path: Path) -> None:
    loaded = load_labelled(saved(tmp_path / "x.npy", X), saved(tmp_path / "y.npy", Y), (2,))
    assert (loaded.x == X).all()
    assert loaded.y is not None
    assert (loaded.y == Y).all()
    for inputs, labels in PAIRS:
        path = tmp_path / f"{inputs}-{labels}.npz"
        np.savez_compressed(path, **{inputs: X, labels: Y, "more": X})
        loaded = load_labelled(path, None, (2,))
        assert (loaded.x == X).all()
        assert loaded.y is not None
        assert (loaded.y == Y).all()


@pytest.mark.parametrize(
    "name", ["pair", "function", "dataset", "Dataset", "subset", "batches", "Course"]
)
def test_data_from_the_users_own_file(bundle: Path, tmp_path: Path, name: str) -> None:
    source = tmp_path / "mine.py"
    source.write_text(SOURCE)
    loaded = load_labelled(f"{source}:{name}", None, (2,))
    result = mtspark.load_bundle(bundle).evaluate(loaded.x, loaded.y)
    assert (result.samples, result.right, loaded.origin) == (2, 2, f"mine.py:{name}")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_of_images_for_each_class(tmp_path: Path, channels: int) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (4, 5, 6, channels), dtype=np.uint8)
    for index, name in enumerate(["b", "a", "b", "c"]):
        place = tmp_path / "set" / name
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[index].squeeze()).save(place / f"{index}.png")
    (tmp_path / "set" / ".empty").mkdir()
    (tmp_path / "set" / "notes.txt").write_text("not an image")
    # As in Tiny ImageNet, whose classes have a folder of images each.
    (tmp_path / "set" / "c" / "images").mkdir()
    (tmp_path / "set" / "c" / "3.png").rename(tmp_path / "set" / "c" / "images" / "3.png")
    assert is_labelled(tmp_path / "set")
    loaded = load_labelled(tmp_path / "set", None, (channels, 5, 6))
    order = [1, 0, 2, 3]
    assert loaded.classes == ("a", "b", "c")
    assert loaded.y is not None
    assert loaded.y.tolist() == [0, 1, 1, 2]
    assert np.array_equal(loaded.x * 255, pixels[order].transpose(0, 3, 1, 2))


def test_a_folder_of_sets_is_none_of_classes(tmp_path: Path) -> None:
    """Another collection may lie beside the files of an image set."""
    deep = tmp_path / "sets" / "flowers" / "rose"
    deep.mkdir(parents=True)
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(deep / "0.png")
    assert is_labelled(tmp_path / "sets")
    assert is_labelled(tmp_path / "sets" / "flowers")
    (tmp_path / "sets" / "mnist.npz").write_bytes(b"")
    assert not is_labelled(tmp_path / "sets")
    assert is_labelled(tmp_path / "sets" / "flowers")


def test_folders_are_as_many_as_outputs(
    bundle: Path, tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """One that is missing would move all classes behind it, and the accuracy would be wrong."""
    for name in ("a", "b", "c"):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((5, 6), np.uint8)).save(tmp_path / "set" / name / "0.png")
    load_labelled(tmp_path / "set", None, (1, 5, 6), 3)
    with pytest.raises(BadRequestError, match="has 3 folders of classes, and the network has 4"):
        load_labelled(tmp_path / "set", None, (1, 5, 6), 4)
    module = nn.Sequential(nn.Flatten(), nn.Linear(30, 2), snn.Leaky(0.5, init_hidden=True))
    folder = tmp_path / "net.deploy"
    mtspark.export(module, input_shape=(1, 5, 6), input_bits=8, time_steps=2).save(folder)
    assert call("eval", folder, "--data", tmp_path / "set") == 2
    assert "has 3 folders of classes, and the network has 2 outputs" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_images_of_more_than_8_bits_are_refused(tmp_path: Path, kind: type) -> None:
    """Pillow cuts values above 255 off where it makes 8 bits of them."""
    (tmp_path / "set" / "a").mkdir(parents=True)
    Image.fromarray(np.full((5, 6), 700, kind)).save(tmp_path / "set" / "a" / "0.tiff")
    with pytest.raises(BadFileError, match=r"0\.tiff: has pixels of more than 8 bits"):
        load_labelled(tmp_path / "set", None, (1, 5, 6))


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.eye(3, 2), "of one-hot labels y.argmax"),
        (Y[:, None], r"give y\.reshape\(-1\)"),
        (Y[:2], "one label for each of 3 inputs is needed$"),
        (np.zeros(5, int), "is needed; if the steps of the inputs come first, swap"),
    ],
)
def test_labels_of_another_shape(bundle: Path, labels: np.ndarray, says: str) -> None:
    series = np.repeat(X[:, None], 5, 1)
    with pytest.raises(BadRequestError, match=says):
        mtspark.load_bundle(bundle).evaluate(series, labels)


def test_datasets_in_python(bundle: Path) -> None:
    pairs = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    chip = mtspark.load_bundle(bundle)
    subset = torch.utils.data.Subset(pairs, [0, 1])
    assert [chip.evaluate(one).right for one in (pairs, subset)] == [2, 2]
    assert chip.run(subset).values.tolist() == chip.run(X[:2]).values.tolist()
    assert mtspark.export(Two(), sample=subset, time_steps=3).network.input.shape == (2,)


def test_readings_that_may_be_meant_otherwise_are_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither is wrong by itself; without a word, the accuracy was."""
    module = nn.Sequential(nn.Linear(2, 2), snn.Leaky(0.5, init_hidden=True))
    pixels = np.array([[0, 32], [255, 128]], np.uint8)
    for values, said in ((pixels / 1020, True), (pixels / 255, False), (pixels, False)):
        caplog.clear()
        chip = mtspark.export(module, sample=values, time_steps=4)
        chip.run(pixels)
        assert ("inputs of uint8 are read as messages of" in caplog.text) is said
        chip.run(values.astype(np.float64) if said else pixels)
        assert caplog.text.count("uint8") == said
    chip = mtspark.export(module, sample=np.eye(2)[None].repeat(3, 0), time_steps=2)
    caplog.clear()
    chip.run(np.ones((3, 2, 2)))
    assert not caplog.text
    chip.run(np.ones((2, 3, 2)))
    assert "read as 2 samples of 3 steps, and the network was made for 2 steps" in caplog.text
    caplog.clear()
    chip.run(np.ones((2, 3, 2)), time_first=True)
    assert not caplog.text


def test_a_class_without_images_moves_no_other(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "set" / name).mkdir(parents=True)
    for name in ("a", "c"):
        Image.fromarray(np.zeros((5, 6), np.uint8)).save(tmp_path / "set" / name / "0.png")
    assert is_labelled(tmp_path / "set")
    with pytest.raises(BadRequestError, match=r"set/b: has no image, and the place of a folder"):
        load_labelled(tmp_path / "set", None, (1, 5, 6))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pictures", "fails in batch 0: TypeError: default_collate"),
        ("broken", "fails in batch 0: OSError: lost"),
        ("dictionaries", "is dict, not numbers; give a numpy array"),
        ("texts", "give whole or real numbers"),
        ("unlabelled", "has no labels"),
    ],
)
def test_data_that_cannot_be_read_are_one_line(
    bundle: Path,
    tmp_path: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    name: str,
    says: str,
) -> None:
    (tmp_path / "mine.py").write_text(SOURCE)
    data = f"{tmp_path / 'mine.py'}:{name}"
    assert call("eval", bundle, "--data", data) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "error" in one]
    assert line.startswith(f"error: {data}: ")
    assert says in line
    with pytest.raises(BadRequestError, match=f":{name}: "):
        write_page(bundle, tmp_path / "page.html", ReportRequest(data=data))


def test_what_is_no_data_with_labels(tmp_path: Path) -> None:
    x = saved(tmp_path / "x.npy", X)
    np.savez(tmp_path / "odd.npz", first=X, second=Y)
    source = tmp_path / "mine.py"
    source.write_text(SOURCE)
    (tmp_path / "plain").mkdir()
    (tmp_path / "set" / "a").mkdir(parents=True)
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(tmp_path / "set" / "a" / "0.png")
    refusals: list[tuple[str | Path, Path | None, tuple[int, ...], type, str]] = [
        (x, None, (2,), BadRequestError, "give --labels FILE.npy"),
        (tmp_path / "none.npy", x, (2,), BadFileError, "no such file"),
        (tmp_path / "none", None, (2,), BadFileError, "no such file or folder"),
        (tmp_path / "odd.npz", None, (2,), BadFileError, "holds first, second; inputs and labels"),
        (tmp_path / "odd.npz", x, (2,), BadRequestError, "has its own labels"),
        (f"{source}:number", None, (2,), BadRequestError, "is int; give a dataset"),
        (f"{source}:fails", None, (2,), BadRequestError, "fails: KeyError: 'lost'"),
        (f"{source}:absent", None, (2,), BadRequestError, "has nothing of the name 'absent'"),
        (source, None, (2,), BadRequestError, "name what is meant in it, mine.py:NAME"),
        (tmp_path / "plain", None, (1, 5, 6), BadRequestError, "has no folder of images"),
        (tmp_path / "set", None, (2,), BadRequestError, "takes inputs of shape (2,)"),
        (tmp_path / "set", None, (1, 6, 5), BadFileError, "has 6 x 5 pixels, the network takes"),
        (tmp_path / "x.txt", None, (2,), BadFileError, "no such file"),
    ]
    for data, labels, shape, kind, words in refusals:
        with pytest.raises(kind) as caught:
            load_labelled(data, labels, shape)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    damaged = tmp_path / "set" / "a" / "0.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    with pytest.raises(BadFileError, match=r"0\.png: cannot be read as an image"):
        load_labelled(tmp_path / "set", None, (1, 5, 6))


def test_an_unknown_card_is_refused_before_anything_runs(
    bundle: Path, tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = saved(tmp_path / "x.npy", X), saved(tmp_path / "y.npy", Y)
    assert call("eval", bundle, "--data", x, "--labels", y, "--card", "none") == 2
    said = capsys.readouterr().err
    assert "price card 'none' does not exist" in said
    assert "samples" not in said


def test_requests_that_cannot_work(
    bundle: Path, tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = saved(tmp_path / "x.npy", X), saved(tmp_path / "y.npy", Y + 5)
    half = saved(tmp_path / "half.npy", X / 2)
    for arguments, words in (
        (("--labels", y), "give them, too: --data FILE.npy"),
        ((), "score it on your own: mtspark eval BUNDLE --data x.npy"),
        (("--data", x, "--labels", y), "has the label 6; the network has 2 outputs"),
        (("--data", half, "--labels", y), "with --input-bits and --input-scale"),
        (("--data", x, "--labels", y, "--task", "a", "--task", "b"), "data belong to one task"),
    ):
        assert call("eval", bundle, *arguments) == 2
        assert words in " ".join(capsys.readouterr().err.split())


def test_a_number_of_images_is_of_image_sets(bundle: Path, tmp_path: Path) -> None:
    data, labels = saved(tmp_path / "x.npy", X), saved(tmp_path / "y.npy", Y)
    request = ReportRequest(data=str(data), labels=labels, images=2)
    words = "--images 2: is of the folder of an image set, and default shows the inputs of --data"
    with pytest.raises(BadRequestError, match=words):
        write_page(bundle, tmp_path / "page.html", request)
    assert not (tmp_path / "page.html").exists()
