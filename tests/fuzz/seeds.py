"""Small sound files of every kind that mtspark reads; what is fuzzed starts from them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from mtspark.core.chip_network.network import (
    INPUT,
    ChipNetwork,
    Connection,
    ConnectionKind,
    FrameInput,
    Population,
    Readout,
    SignMode,
)
from mtspark.core.environments.protocol import GameProtocol, Task
from mtspark.deploy.bundle import write_bundle

KINDS = ("nir", "net", "pt", "onnx", "bundle")


def make_seeds(folder: Path, golden: Path | None = None) -> dict[str, list[Path]]:
    """Write the seeds; by kind, files or (bundles) folders.

    Args:
        folder: where to.
        golden: where lava-dl's own network ``pilotnet_lif/network.net`` lies; without it, that
            is no seed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = _checkpoint(folder / "seed.pt")
    return {
        "nir": _graphs(folder),
        "net": _netx_files(folder, golden),
        "pt": [checkpoint],
        "onnx": [*_models(folder), _float_step(checkpoint, folder / "step.onnx")],
        "bundle": _bundles(folder),
    }


def _graphs(folder: Path) -> list[Path]:
    ones = np.ones((2, 3, 3))
    four = np.ones(4)
    chain = nir.NIRGraph(
        nodes={
            "input": nir.Input(input_type={"input": np.array([1, 5, 5])}),
            "conv": nir.Conv2d((5, 5), np.ones((2, 1, 3, 3)), 1, 0, 1, 1, np.zeros(2)),
            "lif": nir.LIF(ones, ones, 0 * ones, ones, 0 * ones),
            "flat": nir.Flatten({"input": np.array([2, 3, 3])}, 0, -1),
            "fc": nir.Affine(np.ones((4, 18)) * 0.1, four),
            "if": nir.IF(four, four, 0 * four),
            "output": nir.Output(output_type={"output": np.array([4])}),
        },
        edges=[
            ("input", "conv"),
            ("conv", "lif"),
            ("lif", "flat"),
            ("flat", "fc"),
            ("fc", "if"),
            ("if", "output"),
        ],
        metadata={"by": "a tool", "more": {"dt": 1e-4, "list": np.arange(3)}},
    )
    loop = nir.NIRGraph(
        nodes={
            "input": nir.Input(input_type={"input": np.array([3])}),
            "in": nir.Linear(np.ones((4, 3))),
            "cuba": nir.CubaLIF(2e-3 * four, 2e-3 * four, four, 0 * four, four, 0 * four, four),
            "back": nir.Affine(np.eye(4), four),
            "output": nir.Output(output_type={"output": np.array([4])}),
        },
        edges=[
            ("input", "in"),
            ("in", "cuba"),
            ("cuba", "back"),
            ("back", "cuba"),
            ("cuba", "output"),
        ],
    )
    paths = [folder / "chain.nir", folder / "loop.nir"]
    for path, graph in zip(paths, (chain, loop), strict=True):
        nir.write(str(path), graph)
    return paths


def _netx(path: Path) -> Path:
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:

        def layer(index: int, kind: bytes, shape: tuple[int, ...], **fields: object) -> None:
            group = file.create_group(f"layer/{index}")
            group.create_dataset("type", data=np.array([kind], "S10"))
            group.create_dataset("shape", data=np.array(shape))
            for key, value in fields.items():
                group.create_dataset(key, data=value)
            if kind in (b"conv", b"dense"):
                neuron = group.create_group("neuron")
                neuron.create_dataset("type", data="LOIHI", dtype=text)
                for key, number in (("iDecay", 4096), ("vDecay", 128), ("vThMant", 80)):
                    neuron.create_dataset(key, data=number)

        layer(0, b"input", (1, 6, 5))
        layer(
            1,
            b"conv",
            (2, 4, 3),
            weight=np.ones((2, 1, 3, 3), np.float32) * 2,
            bias=np.zeros(2, np.float32),
            stride=np.array([1, 1]),
            padding=np.array([0, 0]),
            dilation=np.array([1, 1]),
            groups=1,
        )
        layer(2, b"flatten", (1, 1, 24))
        layer(3, b"dense", (4, 1, 1), weight=np.ones((4, 24)) * 4, bias=np.zeros(4))
        file.create_dataset("simulation/tSample", data=8)
    return path


def _netx_files(folder: Path, golden: Path | None) -> list[Path]:
    """One by hand, small chains that mtspark writes, and one by lava-dl."""
    from mtspark.deploy.formats.netx import save_netx

    paths = [_netx(folder / "seed.net"), folder / "pixels.net", folder / "loop.net"]
    for path, made in zip(paths[1:], (_pixels(), _loop()), strict=True):
        save_netx(made, path)
    recorded = golden and golden / "pilotnet_lif" / "network.net"
    if recorded is not None and recorded.is_file():
        paths.append(recorded)
    return paths


def _float_step(checkpoint: Path, path: Path) -> Path:
    from mtspark.convert.onnx import float_step_model
    from mtspark.core.files.onnx.graph import save_onnx
    from mtspark.train.checkpoint.agent import load_agent

    save_onnx(float_step_model(load_agent(checkpoint)), path)
    return path


def _checkpoint(path: Path) -> Path:
    from mtspark.train.checkpoint.agent import Agent, save_agent
    from mtspark.train.networks.config import ConvSize, NetworkConfig
    from mtspark.train.networks.network import MTSparkNetwork

    sizes = NetworkConfig((2, 20, 20), (ConvSize(3, 5, 3), ConvSize(4, 3, 1)), 10, tasks=2)
    tasks = (Task("pong", "pong", (0, 1, 3, 4)), Task("breakout", "breakout", (0, 1, 3)))
    protocol = GameProtocol(frame_stack=2, screen_size=20)
    save_agent(Agent(MTSparkNetwork(sizes).eval(), tasks, protocol), path)
    return path


def _models(folder: Path) -> list[Path]:
    from mtspark.core.files.onnx.graph import save_onnx
    from mtspark.deploy.formats.onnx_integer import integer_model

    paths = [folder / "dense.onnx", folder / "conv.onnx"]
    for path, made in zip(paths, (_dense(), _conv()), strict=True):
        save_onnx(integer_model(made), path)
    return paths


def _bundles(folder: Path) -> list[Path]:
    paths = []
    for name, made in (("dense", _dense()), ("conv", _conv())):
        shutil.rmtree(folder / name, ignore_errors=True)
        paths.append(write_bundle(folder / name, made).folder)
    return paths


def _population(name: str, shape: tuple[int, ...], threshold: int) -> Population:
    zero = np.zeros(shape, np.int64)
    return Population(name, shape, 4095, 2048, np.full((1, *shape), threshold), zero)


def _link(source: str, target: str, weights: Any, kind: ConnectionKind, **more: Any) -> Connection:
    array = np.asarray(weights, np.int64)
    return Connection(f"{source}-{target}", source, target, kind, array, SignMode.MIXED, **more)


def _network(
    shape: tuple[int, ...],
    populations: list[Population],
    links: list[Connection],
    payload_bits: int = 8,
) -> ChipNetwork:
    last = populations[-1]
    return ChipNetwork(
        "seed",
        FrameInput(shape, payload_bits),
        tuple(populations),
        tuple(links),
        Readout(last.name, np.ones(last.shape)),
        (Task("pong", "pong", (0, 1)),),
        3,
        GameProtocol(),
    )


def _dense() -> ChipNetwork:
    return _network(
        (3,),
        [_population("hidden", (2,), 50), _population("out", (2,), 131071)],
        [
            _link(INPUT, "hidden", [[64, 0, 2], [-64, 128, 4]], ConnectionKind.DENSE),
            _link("hidden", "out", [[2, 0], [8, -8]], ConnectionKind.DENSE, delay=1),
        ],
    )


def _conv() -> ChipNetwork:
    kernels = np.full((2, 1, 3, 3), 4)
    return _network(
        (1, 5, 4),
        [_population("c", (2, 3, 4), 90), _population("o", (2,), 500)],
        [
            _link(INPUT, "c", kernels, ConnectionKind.CONV, padding=(0, 1)),
            _link("c", "o", np.full((2, 24), 8), ConnectionKind.DENSE),
        ],
    )


def _pixels() -> ChipNetwork:
    """Neurons that take pixels as their bias, a strided convolution, a dense layer."""
    ones = np.ones((2, 1, 1, 1))
    kernels = np.arange(-18, 18).reshape(2, 2, 3, 3) * 2
    graded = Connection(
        f"{INPUT}-p",
        INPUT,
        "p",
        ConnectionKind.CONV,
        ones.astype(np.int64),
        SignMode.EXCITATORY,
        groups=2,
    )
    return _network(
        (2, 6, 5),
        [
            _population("p", (2, 6, 5), 100),
            _population("c", (2, 3, 3), 90),
            _population("o", (3,), 60),
        ],
        [
            graded,
            _link("p", "c", kernels, ConnectionKind.CONV, padding=(1, 1), stride=(2, 2)),
            _link("c", "o", np.full((3, 18), 8), ConnectionKind.DENSE),
        ],
    )


def _loop() -> ChipNetwork:
    """Spikes in, delays, and a layer that hears itself."""
    back = np.eye(4) * -20
    return _network(
        (3,),
        [_population("a", (4,), 30), _population("b", (2,), 40)],
        [
            _link(INPUT, "a", np.full((4, 3), 12), ConnectionKind.DENSE),
            _link("a", "a", back, ConnectionKind.DENSE, recurrent=True),
            _link("a", "b", np.full((2, 4), 14), ConnectionKind.DENSE, delay=2),
        ],
        payload_bits=0,
    )
