"""How frames are sent where nobody says it: those of games as changes, where their sums fit."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

import mtspark
from mtspark.cli.show import print_export
from mtspark.core.chip_network import Encoder
from mtspark.core.environments.protocol import Task
from mtspark.core.errors import BadNetworkError
from mtspark.train.checkpoint.agent import Agent, save_agent
from mtspark.train.networks.config import ConvSize
from mtspark.workflows import demo
from mtspark.workflows.export import ExportRequest, export_to

MakeAgent = Callable[..., Agent]


def encoder_of(chip: mtspark.Deployment) -> Encoder:
    return chip.network.input.encoder


def test_a_games_frames_are_sent_as_changes_unless_another_way_is_asked_for(
    make_agent: MakeAgent,
) -> None:
    agent = make_agent()
    assert encoder_of(mtspark.export(agent)) is Encoder.CHANGES
    for encoder in Encoder:
        assert encoder_of(mtspark.export(agent, encoder=encoder.value)) is encoder


def test_images_and_series_are_sent_at_every_step(make_agent: MakeAgent) -> None:
    images = replace(make_agent(tasks=1), tasks=(Task("mnist", "", ()),), protocol=None)
    assert encoder_of(mtspark.export(images)) is Encoder.EVERY_STEP
    assert encoder_of(mtspark.export(images, encoder="changes")) is Encoder.CHANGES
    module = nn.Sequential(nn.Linear(3, 2), snn.Leaky(beta=0.5, init_hidden=True))
    fields = {"input_shape": (3,), "time_steps": 4}
    assert encoder_of(mtspark.export(module, **fields)) is Encoder.EVERY_STEP
    frames = {**fields, "one_frame": True, "input_bits": 8}
    assert encoder_of(mtspark.export(module, **frames)) is Encoder.EVERY_STEP


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({}, "add one_frame=True input_bits=8, or export with encoder='every-step'"),
        ({"one_frame": True}, "add input_bits=8, or"),
        ({"input_bits": 8}, "add one_frame=True, or"),
    ],
)
def test_what_is_no_frame_of_values_says_what_makes_it_one(
    given: dict[str, int], advice: str
) -> None:
    module = nn.Sequential(nn.Linear(3, 2), snn.Leaky(beta=0.5, init_hidden=True))
    fields = {"input_shape": (3,), "time_steps": 4, **given}
    with pytest.raises(BadNetworkError, match=advice):
        mtspark.export(module, encoder="changes", **fields)
    followed = {**fields, "one_frame": True, "input_bits": 8}
    assert encoder_of(mtspark.export(module, encoder="changes", **followed)) is Encoder.CHANGES
    assert encoder_of(mtspark.export(module, encoder="every-step", **fields)) is Encoder.EVERY_STEP


@pytest.fixture
def wide(make_agent: MakeAgent) -> Agent:
    """Half of 450 weights of a kernel are positive, all alike: 225 * 254 * 255 = 14.6 M."""
    agent = make_agent(convolutions=(ConvSize(3, 15, 1), ConvSize(4, 3, 1)))
    weight = agent.network.convolutions[0].synapses.weight
    signs = np.resize([1.0, -1.0], tuple(weight.shape)).astype(np.float32)
    with torch.no_grad():
        weight.copy_(torch.from_numpy(signs))
    return agent


REASON = "frames are sent at every step, not as changes: connection 'input->conv1': a frame's"


@pytest.mark.slow
def test_sums_that_do_not_fit_are_sent_at_every_step_and_said_so(
    wide: Agent, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="mtspark"):
        chip = mtspark.export(wide)
    assert encoder_of(chip) is Encoder.EVERY_STEP
    (line,) = [record.getMessage() for record in caplog.records]
    assert REASON in line
    assert "holds less than 8,388,608" in line
    fidelity = json.loads((chip.save(tmp_path / "wide.deploy") / "fidelity.json").read_text())
    assert [REASON in text for text in fidelity["warnings"]] == [True]
    with pytest.raises(BadNetworkError, match=r"export with encoder='every-step'$"):
        mtspark.export(wide, encoder="changes")
    caplog.clear()
    assert encoder_of(mtspark.export(wide, encoder="every-step")) is Encoder.EVERY_STEP
    assert not caplog.records


def test_the_export_says_how_frames_are_sent(
    capsys: pytest.CaptureFixture[str], make_agent: MakeAgent, wide: Agent, tmp_path: Path
) -> None:
    for agent, words in ((make_agent(), "frames are sent as changes: "), (wide, REASON)):
        print_export(export_to(ExportRequest(source=agent), tmp_path / "a.deploy", overwrite=True))
        (line,) = [text for text in capsys.readouterr().out.splitlines() if "frames are" in text]
        assert words in line


@pytest.mark.slow
def test_the_demo_exports_what_stock_lava_runs(make_agent: MakeAgent, tmp_path: Path) -> None:
    save_agent(make_agent(), tmp_path / "a.pt")
    bundle = demo.export_agent(tmp_path / "a.pt", tmp_path).bundle
    assert bundle.network.input.encoder is Encoder.EVERY_STEP
