"""The comparison as a function: what it takes, what it returns, what it reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtspark.core.chip_network.network import INPUT, ChipNetwork
from mtspark.core.errors import BadRequestError
from mtspark.core.progress import Progress
from mtspark.deploy.bundle import Bundle, write_bundle
from mtspark.deploy.formats.netx import save_netx
from mtspark.workflows.backends import BackendName
from mtspark.workflows.diff.comparison import compares_files, diff
from mtspark.workflows.diff.frames import feed_of, random_frames, recorded_frames
from tests.support.networks import dense, network, population


def chain(first_weight: int = 40) -> ChipNetwork:
    return network(
        (4,),
        [population("hidden", [[40, 50, 60]]), population("out", [[30, 40]])],
        [
            dense(INPUT, "hidden", [[first_weight, -20, 60, 2], [8, 30, -4, 10], [2, 4, 6, 8]]),
            dense("hidden", "out", [[60, 20, 10], [-30, 80, 40]]),
        ],
        time_steps=5,
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("diff") / "a.deploy", plain(chain()))


def plain(net: ChipNetwork) -> ChipNetwork:
    """The same network, of a task that is no game."""
    from dataclasses import replace

    task = replace(net.tasks[0], game="", legal_actions=())
    held = replace(net.input, held=False)
    return replace(net, input=held, protocol=None, tasks=(task,))


def test_a_bundle_and_its_path_give_the_same(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    one = diff(bundle, BackendName.ENGINE, decisions=6)
    # The first start of the engine may compile it, and says so.
    capsys.readouterr()
    two = diff(str(bundle.folder), "engine", decisions=6)
    assert one == two
    assert one.equal
    assert not one.fault
    assert one.to_json()["against"] == "engine"
    assert one.expected == "reference"
    # The library prints nothing.
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "")


def test_json_of_backends_has_no_fields_of_files(bundle: Bundle, tmp_path: Path) -> None:
    backends = set(diff(bundle, "reference", decisions=2).to_json())
    save_netx(bundle.network, tmp_path / "a.net")
    files = diff(bundle, tmp_path / "a.net", decisions=2).to_json()
    assert backends == {
        *("expected", "against", "task", "seed", "equal", "decisions", "compared"),
        *("different", "first_divergence"),
    }
    assert set(files) - backends == {"exact", "by_layer", "read_as"}
    assert files["by_layer"]["hidden"] == {"compared": 2 * 2 * 5 * 3, "different": 0}


def test_a_fault_is_a_difference_of_what_ought_to_be_equal(bundle: Bundle, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "b.deploy", plain(chain(2)))
    result = diff(bundle, other.folder, decisions=20)
    assert result.fault
    first = result.agreement.first
    assert first is not None
    assert (first.layer, first.quantity) == ("hidden", "membrane")
    assert result.to_json()["first_divergence"]["neuron"] == [0]


@pytest.mark.parametrize("against", ["engine", "onnx"])
def test_progress_goes_from_none_to_all(bundle: Bundle, against: str) -> None:
    reports: list[Progress] = []
    diff(bundle, against, decisions=12, progress=reports.append)
    assert (reports[0].done, reports[-1].done) == (0, 12)
    assert {(report.total, report.unit) for report in reports} == {(12, "decisions")}
    assert {report.stage.split()[-1] for report in reports} == {against}


def test_what_concerns_files(bundle: Bundle) -> None:
    assert compares_files("agent.pt", "engine")
    assert compares_files(bundle, "other.nir")
    assert compares_files(bundle, "onnx")
    assert not compares_files(bundle, "other.deploy")
    assert not compares_files(bundle.folder, "torch")


def test_an_unknown_side_names_those_that_exist(bundle: Bundle) -> None:
    with pytest.raises(BadRequestError, match="engine, reference, lava, lava-stock, torch, twin"):
        diff(bundle, "loihi3")


def test_random_frames_follow_the_seed_and_the_feed(bundle: Bundle) -> None:
    feed = feed_of(bundle.network)
    one, two, other = (random_frames(feed, 3, seed) for seed in (1, 1, 2))
    assert one.shape == (3, 5, 4)
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_recorded_inputs_have_the_shape_of_the_input(bundle: Bundle, tmp_path: Path) -> None:
    series = np.ones((7, 5, 4), np.uint8)
    np.save(tmp_path / "x.npy", series)
    frames = recorded_frames(bundle.network, bundle.network.tasks[0].name, 3, tmp_path / "x.npy", 0)
    assert np.array_equal(frames, series[:3])
    np.save(tmp_path / "y.npy", series[:, 0])
    with pytest.raises(BadRequestError, match=r"series of 7 steps; a decision has 5"):
        recorded_frames(bundle.network, bundle.network.tasks[0].name, 3, tmp_path / "y.npy", 0)
    with pytest.raises(BadRequestError, match="is no game"):
        recorded_frames(bundle.network, bundle.network.tasks[0].name, 3, None, 0)
