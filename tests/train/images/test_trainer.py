"""Image sets load from every form of file, and one small network learns two of them."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.train.ablation import grid as ablation
from mtspark.train.ablation.plots import draw, draw_curves
from mtspark.train.checkpoint.agent import load_agent
from mtspark.train.config.ablation import TASKS, AblationSettings, Cell, grid, run_config
from mtspark.train.config.images import ImageConfig, check_image_config
from mtspark.train.images import data as images_data
from mtspark.train.images.data import ImageSet, as_rgb32, load_images
from mtspark.train.images.run import train_images
from mtspark.train.images.trainer import ImageTrainer, accuracy, augment
from mtspark.train.networks.config import ConvSize, NetworkConfig


def idx(array: NDArray[np.uint8]) -> bytes:
    """An array of bytes as an IDX file: magic number, sizes, data."""
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def small_set(name: str, seed: int, count: int = 160) -> ImageSet:
    """Two classes: bright above or below; cifar10's stand-in is bright left or right."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count)
    images = generator.integers(0, 60, (count, 3, 32, 32)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        half = slice(16 * label, 16 * label + 16)
        if name == "cifar10":
            image[label, :, :] += 150
        else:
            image[:, half] += 150
    return ImageSet(name, images, labels.astype(np.int64), "made by the test")


TINY = ImageConfig(
    epochs=4,
    images_per_epoch=(0, 0),
    batch=20,
    learning_rate=1e-2,
    bfloat16=False,
    network=NetworkConfig(
        observation_shape=(3, 32, 32),
        convolutions=(ConvSize(4, 8, 4),),
        hidden=16,
        actions=10,
        tasks=2,
        dueling=False,
    ),
)
TRAINING = [small_set("mnist", 0), small_set("cifar10", 1)]
TEST = [small_set("mnist", 2, 60), small_set("cifar10", 3, 60)]


def test_fashion_mnist_loads_from_its_authors_files(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (7, 28, 28)).astype(np.uint8)
    labels = np.arange(7, dtype=np.uint8)
    place = tmp_path / "fashion-mnist"
    place.mkdir()
    (place / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    (place / "t10k-labels-idx1-ubyte").write_bytes(idx(labels))
    loaded = load_images("fashion-mnist", "test", tmp_path)
    assert loaded.images.shape == (7, 3, 32, 32)
    assert loaded.labels.tolist() == list(range(7))
    for channel in range(3):
        np.testing.assert_array_equal(loaded.images[:, channel, 2:30, 2:30], images)
    assert loaded.images[:, :, :2].sum() == loaded.images[:, :, :, 30:].sum() == 0
    with pytest.raises(BadFileError, match="no train images of fashion-mnist"):
        load_images("fashion-mnist", "train", tmp_path)


def test_mnist_loads_from_npz_and_from_idx_alike(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28)).astype(np.uint8)
    labels = np.array([3, 1, 4, 1], np.uint8)
    packed, plain = tmp_path / "npz", tmp_path / "idx"
    packed.mkdir()
    plain.mkdir()
    np.savez(packed / "mnist_train.npz", images=images, labels=labels)
    (plain / "train-images-idx3-ubyte").write_bytes(idx(images))
    (plain / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    one, two = load_images("mnist", "train", packed), load_images("mnist", "train", plain)
    np.testing.assert_array_equal(one.images, two.images)
    assert one.labels.tolist() == two.labels.tolist() == [3, 1, 4, 1]


def test_cifar10_loads_from_a_zip_of_jpegs(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    with zipfile.ZipFile(tmp_path / "cifar10_jpeg.zip", "w") as archive:
        for label, colour in (("truck", (200, 0, 0)), ("cat", (0, 0, 200))):
            data = io.BytesIO()
            image_module.new("RGB", (32, 32), colour).save(data, "JPEG")
            archive.writestr(f"test/{label}/0000.jpg", data.getvalue())
        archive.writestr("train/cat/0000.jpg", b"of the other split: never read")
    loaded = load_images("cifar10", "test", tmp_path)
    assert loaded.labels.tolist() == [9, 3]
    assert loaded.images[0].mean((1, 2)) == pytest.approx([200, 0, 0], abs=4)
    assert loaded.images[1].mean((1, 2)) == pytest.approx([0, 0, 200], abs=4)
    with pytest.raises(BadFileError, match="damaged"):
        load_images("cifar10", "train", tmp_path)


def test_without_a_folder_images_come_from_openml(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows are flattened images; the first 60,000 are for training."""
    pixels = np.zeros((60_003, 784), np.float64)
    pixels[60_001, 28 + 5] = 77
    asked: list[str] = []

    def fetch(name: str, **options: object) -> tuple[object, object]:
        asked.append(name)
        if len(asked) > 1:
            raise OSError("no route\nto host")
        return pixels, np.array(["4"] * 60_003)

    library = SimpleNamespace(fetch_openml=fetch)
    monkeypatch.setattr(images_data, "_library", lambda module, package: library)
    loaded = load_images("mnist", "test")
    assert asked == ["mnist_784"]
    assert loaded.images.shape == (3, 3, 32, 32)
    assert loaded.images[1, 0, 2 + 1, 2 + 5] == 77
    assert loaded.labels.tolist() == [4, 4, 4]
    with pytest.raises(BadRequestError, match=r"no route to host.*give a local folder"):
        load_images("mnist", "test")


def test_a_missing_library_is_named() -> None:
    with pytest.raises(BadRequestError, match="pip install some-package"):
        images_data._library("mtspark_has_no_such_module", "some-package")


def test_other_bad_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="image set 'svhn'"):
        load_images("svhn", "train", tmp_path)
    with pytest.raises(BadRequestError, match="split 'all'"):
        load_images("mnist", "all", tmp_path)
    with pytest.raises(BadFileError, match="no such folder"):
        load_images("mnist", "train", tmp_path / "none")
    with pytest.raises(BadFileError, match="40 x 28"):
        as_rgb32(np.zeros((1, 40, 28), np.uint8), "here")
    with pytest.raises(BadFileError, match="float64"):
        as_rgb32(np.zeros((1, 28, 28)), "here")
    images = np.zeros((2, 28, 28), np.uint8)
    for labels, message in (
        (np.array([1]), r"\(2, 28, 28\) with labels of shape \(1,\)"),
        (np.array([1, 10]), "0 to 9"),
    ):
        np.savez(tmp_path / "mnist_test.npz", images=images, labels=labels)
        with pytest.raises(BadFileError, match=message):
            load_images("mnist", "test", tmp_path)
    (tmp_path / "mnist_test.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(BadFileError, match=r"mnist_test\.npz: damaged"):
        load_images("mnist", "test", tmp_path)


def test_augmentation_shifts_and_mirrors() -> None:
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    image[:, :, 10, 6] = 9
    seen: dict[str, set[tuple[int, int]]] = {}
    for name in ("mnist", "cifar10"):
        generator = torch.Generator().manual_seed(0)
        moved = augment(image.repeat(400, 1, 1, 1), name, generator)
        assert moved.dtype == torch.uint8
        assert moved.sum((1, 2, 3)).unique().tolist() == [27]  # nothing of it is lost
        seen[name] = {(int(row), int(column)) for row, column in moved[:, 0].nonzero()[:, 1:]}
    rows = {name: {row for row, _ in places} for name, places in seen.items()}
    columns = {name: {column for _, column in places} for name, places in seen.items()}
    assert rows == {"mnist": set(range(8, 13)), "cifar10": set(range(6, 15))}
    assert columns["mnist"] == set(range(4, 9))
    assert columns["cifar10"] == set(range(2, 11)) | set(range(21, 30))


def test_one_small_network_learns_two_image_sets(tmp_path: Path) -> None:
    result = train_images(TINY, TRAINING, TEST, tmp_path / "run")
    agent = load_agent(result.path)
    assert [task.name for task in agent.tasks] == ["mnist", "cifar10"]
    assert agent.protocol is None
    for index, part in enumerate(TEST):
        assert accuracy(agent.network, part, index) > 0.9, part.name
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]


def test_a_resumed_run_is_the_uninterrupted_one() -> None:
    config = replace(TINY, epochs=2)
    whole = ImageTrainer(config, TRAINING)
    while not whole.finished:
        whole.run_epoch()
    first = ImageTrainer(config, TRAINING)
    first.run_epoch()
    second = ImageTrainer(replace(config), TRAINING)
    second.restore(first.state())
    second.run_epoch()
    assert second.finished
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name


def test_a_run_of_another_configuration_is_not_gone_on_with(tmp_path: Path) -> None:
    config = replace(TINY, epochs=1, train_images=20)
    train_images(config, TRAINING, TEST, tmp_path)
    with pytest.raises(BadRequestError, match="another configuration"):
        train_images(replace(config, seed=2), TRAINING, TEST, tmp_path)


def test_sequential_runs_see_one_task_at_a_time() -> None:
    config = replace(TINY, schedule="sequential", epochs=2, loss="squared_error")
    trainer = ImageTrainer(config, TRAINING)
    assert config.phases == ((0,), (1,))
    seen = []
    while not trainer.finished:
        batches = trainer._batches(np.random.default_rng(0))
        seen.append({task for batch in batches for task, _ in batch})
        assert sum(len(picked) for batch in batches for _, picked in batch) == 160
        trainer.run_epoch()
    assert seen == [{0}, {0}, {1}, {1}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "hinge"}, "loss 'hinge'"),
        ({"schedule": "random"}, "schedule 'random'"),
        ({"images_per_epoch": (0,)}, "1 numbers of images"),
        ({"tasks": ("mnist",), "images_per_epoch": (0,)}, "the network has 2 tasks"),
        ({"epochs": 0}, "0 epochs"),
    ],
)
def test_runs_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        check_image_config(replace(TINY, **changes))  # type: ignore[arg-type]


def test_the_grid_has_every_cell_once_and_cells_differ_as_named() -> None:
    cells = grid(AblationSettings())
    assert len(cells) == len(set(cells)) == 2 * 2 * 4 * 3
    configs = {cell: run_config(cell, AblationSettings()) for cell in cells}
    assert len(set(configs.values())) == len(cells)
    for cell, config in configs.items():
        network = config.network
        assert (network.dendrite_segments > 0) == ("A" in cell.network)
        assert network.dueling == (cell.network in ("D", "ADD"))
        assert (network.neuron == "lif") == (cell.neurons == "spiking")
        assert config.schedule == cell.schedule


@pytest.mark.slow
def test_a_stopped_ablation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = AblationSettings(seeds=1, images=20, epochs=1, test_images=10, hidden=8)
    ran: list[Cell] = []
    stop_at = 5

    def run(cell: Cell, *rest: object) -> dict[str, object]:
        if len(ran) == stop_at:
            raise KeyboardInterrupt
        ran.append(cell)
        share = {"mnist": 0.9, "cifar10": 0.1 * len(ran)}
        forgotten = 0.1 if cell.schedule == "sequential" else None
        curve = [{"passes": passes, **share} for passes in (0.5, 1.0)]
        known = {"curve": curve, "accuracy": share, "forgotten": forgotten}
        return {**asdict(cell), "parameters": 3, **known}

    monkeypatch.setattr(ablation, "run_cell", run)
    with pytest.raises(KeyboardInterrupt, match="finished runs are kept"):
        ablation.run_grid(tmp_path, settings, TRAINING, TEST)
    stop_at = 16
    result = ablation.run_grid(tmp_path, settings, TRAINING, TEST)
    assert len(result.runs) == len(result.cells) == len(set(ran)) == len(ran) == 16
    assert json.loads((tmp_path / "ablation.json").read_text()) == result.to_json()
    draw(result, tmp_path / "ablation.png")
    draw_curves(result, tmp_path / "ablation-curves.png")
    for picture in ("ablation.png", "ablation-curves.png"):
        assert (tmp_path / picture).stat().st_size > 1000
    assert ablation.as_markdown(result).count("\n") == 18
    with pytest.raises(BadRequestError, match="images was 20, is 21"):
        ablation.run_grid(tmp_path, replace(settings, images=21), TRAINING, TEST)


def test_forgetting_is_what_was_known_less_what_is_left() -> None:
    cell = Cell("plain", "not spiking", "sequential", 1)
    settings = AblationSettings(epochs=2, images=160, hidden=16)
    row = ablation.run_cell(cell, settings, TRAINING, TEST)
    first, second = row["after_phase"]
    assert list(first) == ["mnist"]
    assert list(second) == ["mnist", "cifar10"]
    assert row["forgotten"] == first["mnist"] - second["mnist"]
    assert row["accuracy"] == second
    # Both tasks, at the end of every pass, which is one batch here; at the ends of the phases as
    # the table does.
    curve = {look["passes"]: look for look in row["curve"]}
    assert list(curve) == [1.0, 2.0, 3.0, 4.0]
    assert curve[2.0]["mnist"] == first["mnist"]
    assert {name: curve[4.0][name] for name in TASKS} == second


def test_looking_at_a_run_does_not_change_it() -> None:
    cell = Cell("ADD", "spiking", "interleaved", 2)
    settings = AblationSettings(epochs=2, images=160, hidden=16)
    trainer = ImageTrainer(run_config(cell, settings), TRAINING)
    while not trainer.finished:
        trainer.run_epoch()
    unseen = {name: accuracy(trainer.network, TEST[i], i) for i, name in enumerate(TASKS)}
    assert ablation.run_cell(cell, settings, TRAINING, TEST)["accuracy"] == unseen


def test_means_and_spreads_over_seeds() -> None:
    rows = [
        {
            **{"network": "AD", "neurons": "spiking", "schedule": "sequential", "seed": seed},
            **{"accuracy": {"mnist": mnist, "cifar10": 0.5}, "forgotten": 0.9 - mnist},
            "parameters": 7,
        }
        for seed, mnist in ((1, 0.6), (2, 0.8))
    ]
    (cell,) = ablation.summarise(rows)
    assert cell["seeds"] == 2
    assert cell["mean"]["mnist accuracy"] == pytest.approx(0.7)
    assert cell["deviation"]["mnist accuracy"] == pytest.approx(0.02**0.5)
    assert cell["mean"]["forgotten"] == pytest.approx(0.2)
