"""A small agent that moves, and stand-ins for its chip, for the tests of hardware in the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mtspark.core.chip_network import Encoder
from mtspark.core.chip_network.network import INPUT, ChipNetwork
from mtspark.deploy.bundle import Bundle, write_bundle
from mtspark.sim.hil.faults import Faults
from mtspark.sim.hil.options import ChipBackend
from mtspark.sim.hil.order import ChipOrder
from mtspark.sim.hil.sender import Sending
from mtspark.sim.hil.timing import Reply
from tests.support.networks import PONG, conv, dense, network, population


def pong_network() -> ChipNetwork:
    """Random weights: a coarse convolution and a dense readout; it plays badly, and moves."""
    generator = np.random.default_rng(3)
    return network(
        (4, 84, 84),
        [
            population("conv", np.full((1, 3, 6, 6), 9000), membrane_decay=1024),
            population("out", np.full((1, 18), 131_071), membrane_decay=0),
        ],
        [
            conv(INPUT, "conv", 2 * generator.integers(-60, 61, (3, 4, 14, 14)), stride=(14, 14)),
            dense("conv", "out", 2 * generator.integers(-128, 128, (18, 108))),
        ],
        payload_bits=8,
        time_steps=2,
        tasks=(PONG,),
    )


def changes_network() -> ChipNetwork:
    """The same, sent what changes; an exponent keeps the sums of a frame in range."""
    net = pong_network()
    first = replace(net.connections[0], weights=net.connections[0].weights // 4 * 2, exponent=-2)
    return replace(
        net,
        input=replace(net.input, encoder=Encoder.CHANGES),
        connections=(first, *net.connections[1:]),
    )


def pong_bundle(folder: Path) -> Bundle:
    return write_bundle(folder / "tiny.deploy", pong_network())


def order(bundle: Bundle, faults: Faults | None = None, **changes: Any) -> ChipOrder:
    """What a chip's process is told."""
    words = {
        "bundle": str(bundle.folder),
        "network": bundle.network_hash,
        "task": "pong",
        "backend": ChipBackend.REFERENCE,
        "faults": faults or Faults(),
    }
    return ChipOrder(**{**words, **changes})


class LocalChip:
    """Stands for a hosted chip, in this process, with any rule for the values."""

    def __init__(self, rule: Callable[[np.ndarray, int], np.ndarray]) -> None:
        self.rule = rule
        self.asked: list[tuple[int, int]] = []
        self.frames: list[np.ndarray] = []
        self.deaths = 0

    def ask(self, task: str, episode: int, sending: Sending) -> Reply:
        self.asked.append((episode, sending.decision))
        self.frames.append(sending.frame.copy())
        return Reply(self.rule(sending.frame, sending.decision), 0.002, sending.messages)

    def die(self) -> None:
        self.deaths += 1


def favour(action: int) -> np.ndarray:
    values = np.zeros(18)
    values[action] = 1
    return values
