from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtspark.convert.netx import import_netx
from mtspark.core.chip_network.network import INPUT
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.deploy.bundle import load_bundle
from mtspark.sim.backends.onnx import OnnxChip
from mtspark.workflows.export.formats import chosen_formats, write_formats
from tests.support.networks import BREAKOUT, PONG, dense, network, population, three_neurons


def test_names_of_formats_are_checked() -> None:
    assert chosen_formats(None) == ()
    assert chosen_formats("onnx, nir,onnx") == ("onnx", "nir")
    with pytest.raises(BadRequestError, match="nir, onnx, netx, lava exist"):
        chosen_formats("onnx,tflite")


def test_each_task_has_its_netx_file(tmp_path: Path) -> None:
    net = network(
        (2,),
        [population("fc-0", [[5, 6], [7, 8]], bias_exponent=6)],
        [dense(INPUT, "fc-0", [[64, 2], [-64, 128]])],
        tasks=(PONG, replace(BREAKOUT, legal_actions=(0, 1))),
    )
    write_formats(tmp_path, net, ("netx", "onnx", "lava"))
    for row, task in enumerate(net.tasks):
        read = import_netx(tmp_path / f"{task.name}.net")
        assert np.array_equal(read.populations[0].thresholds[0], net.populations[0].thresholds[row])
    assert OnnxChip(tmp_path / "network.onnx").description.tasks == ("pong", "breakout")


def test_what_a_format_cannot_hold_is_said(tmp_path: Path) -> None:
    net = three_neurons()
    graded = replace(net, input=replace(net.input, payload_bits=8))
    with pytest.raises(BadNetworkError, match="graded messages"):
        write_formats(tmp_path, graded, ("netx",))


@pytest.mark.slow
def test_the_files_of_an_export_are_in_its_manifest(
    checkpoint: Path, call: Callable[..., int], tmp_path: Path
) -> None:
    folder = tmp_path / "a.deploy"
    assert call("export", checkpoint, "-o", folder, "--formats", "tflite") == 2
    assert call("export", checkpoint, "-o", folder, "--formats", "netx") == 2
    assert not folder.exists()
    assert call("export", checkpoint, "-o", folder, "--formats", "nir,onnx,lava") == 0
    files = load_bundle(folder).files
    assert {"network.onnx", "agent.step.onnx", "agent.decision.onnx"} <= set(files)
    assert {f"integer.{task.name}.nir" for task in load_bundle(folder).network.tasks} <= set(files)
