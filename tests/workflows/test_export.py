"""An export as a list of steps, and its options, declared once."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import get_args

import nir
import numpy as np
import pytest

from mtspark.convert.nir.neurons import Integrator, Order, Start
from mtspark.core.chip_network import Encoder
from mtspark.core.errors import BadRequestError
from mtspark.core.float_network.network import FloatReset
from mtspark.core.progress import Progress
from mtspark.deploy.quantise.calibration import Calibration
from mtspark.workflows.export import request as requests
from mtspark.workflows.export.pipeline import STEPS, export_to, run_steps, write_export
from mtspark.workflows.export.request import (
    ExportOptions,
    ExportRequest,
    Source,
    check_given,
    declared_options,
    former_names,
)
from mtspark.workflows.export.sample import Layout, layouts, sample_encoding


def write_graph(path: Path) -> Path:
    """3 inputs, 4 LIF neurons, 2 of them read by an integrator."""
    four, two = np.ones(4), np.ones(2)
    nodes = {
        "input": nir.Input(input_type={"input": np.array([3])}),
        "fc": nir.Linear(weight=np.arange(12.0).reshape(4, 3) / 12),
        "lif": nir.LIF(tau=4 * four, r=four, v_leak=0 * four, v_threshold=0.2 * four),
        "out": nir.Linear(weight=np.eye(2, 4)),
        "li": nir.LI(tau=9 * two, r=two, v_leak=0 * two),
        "output": nir.Output(output_type={"output": np.array([2])}),
    }
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "out"), ("out", "li"), ("li", "output")]
    nir.write(str(path), nir.NIRGraph(nodes, edges))
    return path


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (requests.IntegratorName, [one.value for one in Integrator]),
        (requests.OrderName, [one.value for one in Order]),
        (requests.StartName, [one.value for one in Start]),
        (requests.EncoderName, [one.value for one in Encoder]),
        (requests.CalibrationName, [one.value for one in Calibration]),
        (
            requests.ResetName,
            [one.value.replace("_", "-") for one in FloatReset if one is not FloatReset.NONE],
        ),
    ],
)
def test_names_of_options_are_values_of_the_enums(names: object, values: list[str]) -> None:
    assert list(get_args(names)) == values


def test_the_command_line_has_every_option_once_and_says_what_it_is_for() -> None:
    from mtspark.cli.export import export_command

    own = {"context", "checkpoint", "output", "force", "json_out", *former_names()}
    own |= {"data", "labels", "page"}
    names = set(inspect.signature(export_command).parameters)
    assert names - own == {option.name for option in fields(ExportOptions)}
    assert all(option.about.help and option.about.sources for option in declared_options())


def test_an_option_is_refused_for_a_source_that_has_no_use_for_it() -> None:
    check_given(["dt", "time_steps"], Source.NIR)
    with pytest.raises(BadRequestError, match="--dt is for a NIR graph; this is a netx network"):
        check_given(["dt"], Source.NETX)


def test_the_steps_can_be_run_one_by_one(tmp_path: Path) -> None:
    request = ExportRequest(source=write_graph(tmp_path / "a.nir"), dt=1.0, time_steps=8)
    steps = STEPS[Source.NIR]
    first = run_steps(request, steps=steps[:1])
    assert first.float_network is not None
    assert first.network is None
    assert first.float_network.population("lif").size == 4
    reports: list[Progress] = []
    whole = run_steps(request, progress=reports.append)
    assert [report.stage for report in reports] == [step.name for step in steps]
    assert whole.network is not None
    assert whole.comparison is not None
    assert whole.headroom
    assert not list(tmp_path.glob("*.deploy"))


def test_what_is_written_is_what_the_steps_worked_out(tmp_path: Path) -> None:
    request = ExportRequest(source=str(write_graph(tmp_path / "a.nir")), dt=1.0, time_steps=8)
    result = export_to(request, str(tmp_path / "a.deploy"))
    again = write_export(run_steps(request), tmp_path / "b.deploy")
    assert again.network_hash == result.bundle.network_hash
    assert again.files == result.bundle.files
    content = result.to_json()
    assert content["folder"] == str(tmp_path / "a.deploy")
    assert content["layers"][0]["layer"] == "lif"
    with pytest.raises(BadRequestError, match="add --force"):
        export_to(request, tmp_path / "a.deploy")


def test_a_series_is_told_from_frames_by_its_axes() -> None:
    assert list(layouts((5, 64), None, 10)) == [Layout((64,), None, 10)]
    assert list(layouts((10, 4, 64), None, 10)) == [
        Layout((64,), 0, 10),
        Layout((4, 64), None, 10),
    ]
    assert next(iter(layouts((4, 10, 64), None, 10))) == Layout((64,), 1, 10)
    assert list(layouts((4, 1, 28, 28), (1, 28, 28), 10)) == [Layout((1, 28, 28), None, 10)]
    with pytest.raises(BadRequestError, match="give a batch"):
        list(layouts((64,), None, None))


@pytest.mark.parametrize(
    ("values", "bits", "scale"),
    [
        ([0, 1, 1], 0, 1.0),
        ([0, 0, 0], 0, None),
        ([0, 0.5], 0, 0.5),
        ([0, 3, 255], 8, 1.0),
        ([0, 1 / 16, 5 / 16, 1], 8, 1 / 16),
        ([0, 128 / 255, 1], 8, 1 / 255),
    ],
)
def test_how_a_sample_is_sent(values: list[float], bits: int, scale: float | None) -> None:
    sample = np.array([values], np.float32)
    sent = sample_encoding(ExportRequest(source="a.nir", sample=sample))
    assert sent == (bits, None if scale is None else pytest.approx(scale), False, 0.0)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        # (x - 0.5) / 0.5 of sixteenths, and of bytes: 255 steps of 2/255 from -1 do not meet 0.
        (np.arange(17) / 8 - 1, 1 / 8),
        ((np.arange(256) / 255 - 0.5) / 0.5, 1 / 127),
        ((np.arange(256) / 255 - 0.1307) / 0.3081, (1 - 0.1307) / 0.3081 / 127),
    ],
)
def test_values_with_a_sign_are_signed_messages(values: np.ndarray, scale: float) -> None:
    sent = sample_encoding(ExportRequest(source="a.nir", sample=values[None]))
    assert (sent.bits, sent.signed) == (8, True)
    assert sent.scale == pytest.approx(scale)
    off = np.abs(values - sent.scale * np.round(values / sent.scale)).max()
    assert sent.off == pytest.approx(off if off > 1e-9 else 0.0)
    assert off <= sent.scale / 2 * 1.001
    assert np.abs(np.round(values / sent.scale)).max() <= 127


def test_what_the_caller_said_of_the_input_stays() -> None:
    values = np.array([[0.0, 0.5, 1.0]])
    for given, sent in (
        ({"input_bits": 8}, (8, 0.5, False, 0.0)),
        ({"input_scale": 0.25}, (8, 0.25, False, 0.0)),
        ({"input_bits": 8, "input_scale": 1.0}, (8, 1.0, False, 0.5)),
    ):
        assert sample_encoding(ExportRequest(source="a.nir", sample=values, **given)) == sent
    spikes = ExportRequest(source="a.nir", sample=2 * values[:, ::2], input_scale=2.0)
    assert sample_encoding(spikes)[:2] == (0, 2.0)
    none = ExportRequest(source="a.nir", sample=values, given=frozenset({"input_bits"}))
    assert sample_encoding(none)[:2] == (0, None)


def test_images_of_one_channel_are_no_series() -> None:
    """397 images of 1 x 8 x 8 values, which a flat layer of 64 takes with and without the 1."""
    images = (397, 1, 8, 8)
    assert next(iter(layouts(images, None, None, graded=True))) == Layout((1, 8, 8), None, None)
    assert next(iter(layouts(images, None, 10, graded=True))) == Layout((1, 8, 8), None, 10)
    spikes = layouts((5, 10, 8, 8), None, None, batch_first=True)
    assert next(iter(spikes)) == Layout((8, 8), 1, 10)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0, np.nan], "the value nan"),
        ([0, np.inf], "the value inf"),
    ],
)
def test_values_that_no_message_stands_for_are_refused(values: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sample_encoding(ExportRequest(source="a.nir", sample=np.array([values])))
