"""netx files: read back as they were written, and refused where netx cannot hold a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtspark.convert.netx import import_netx
from mtspark.core.chip_network.network import INPUT, ChipNetwork, Reset, SignMode
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.deploy.formats.netx import netx_layers, save_netx
from tests.support.networks import conv, dense, network, population


def assert_same(one: ChipNetwork, other: ChipNetwork) -> None:
    for kind in ("populations", "connections"):
        for a, b in zip(getattr(one, kind), getattr(other, kind), strict=True):
            for key, value in vars(a).items():
                assert np.array_equal(value, vars(b)[key]), (a.name, key)
    assert one.input == other.input
    assert one.time_steps == other.time_steps
    assert one.readout.population == other.readout.population
    assert one.readout.kind == other.readout.kind


def chain(**changes: Any) -> ChipNetwork:
    """A convolution and two dense layers, every length another, as the importer names them."""
    rng = np.random.default_rng(1)
    even = rng.integers(-128, 128, (3, 2, 3, 2)) * 2
    net = network(
        (2, 6, 5),
        [
            population(
                "conv-0",
                np.broadcast_to(np.array([5, 9, 7])[:, None, None], (1, 3, 3, 4)),
                bias_mantissa=np.broadcast_to(np.array([1, -2, 3])[:, None, None], (3, 3, 4)),
                bias_exponent=6,
                membrane_decay=1024,
            ),
            population("fc-0", [[40, 50, 60, 70]], current_decay=2047, bias_exponent=6),
            population("fc-1", [[131071] * 2], membrane_decay=0, bias_exponent=6),
        ],
        [
            conv(INPUT, "conv-0", even, stride=(2, 1), padding=(1, 0)),
            dense("conv-0", "fc-0", rng.integers(-128, 128, (4, 36)) * 2),
            dense("fc-0", "fc-1", rng.integers(-100, -1, (2, 4)), sign_mode=SignMode.INHIBITORY),
        ],
        time_steps=9,
    )
    return replace(net, input=replace(net.input, held=False), **changes)


def changed(net: ChipNetwork, index: int, **changes: Any) -> ChipNetwork:
    populations = list(net.populations)
    populations[index] = replace(populations[index], **changes)
    return replace(net, populations=tuple(populations))


def linked(net: ChipNetwork, index: int, **changes: Any) -> ChipNetwork:
    connections = list(net.connections)
    connections[index] = replace(connections[index], **changes)
    return replace(net, connections=tuple(connections))


def test_a_file_is_read_back_as_the_network_it_was(tmp_path: Path) -> None:
    save_netx(chain(), tmp_path / "a.net")
    assert_same(chain(), import_netx(tmp_path / "a.net"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.net"]


def test_a_recurrent_layer_and_delays_are_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    loop = replace(
        dense("fc-0", "fc-0", rng.integers(-60, 60, (4, 4)) * 2, recurrent=True),
        name="fc-0->fc-0",
    )
    net = network(
        (5,),
        [
            population("fc-0", [[40, 50, 60, 70]], bias_exponent=6),
            population("fc-1", [[9] * 3], bias_exponent=6),
        ],
        [
            dense(INPUT, "fc-0", rng.integers(-60, 60, (4, 5)) * 2),
            dense("fc-0", "fc-1", rng.integers(-60, 60, (3, 4)) * 2, delay=4),
            loop,
        ],
        time_steps=6,
    )
    net = replace(net, input=replace(net.input, held=False))
    save_netx(net, tmp_path / "a.net")
    again = import_netx(tmp_path / "a.net")
    order = {link.name: link for link in again.connections}
    assert_same(net, replace(again, connections=tuple(order[c.name] for c in net.connections),
                             readout=replace(again.readout, kind=net.readout.kind)))  # fmt: skip


def test_pilotnet_is_read_back_as_it_was(golden: Path, tmp_path: Path) -> None:
    net = import_netx(golden / "pilotnet_lif" / "network.net")
    save_netx(net, tmp_path / "again.net")
    assert_same(net, import_netx(tmp_path / "again.net"))


def test_exponents_are_multiplied_into_the_weights(tmp_path: Path) -> None:
    """Odd weights are doubled and halved on the chip; the file holds them plain."""
    weights = np.array([[3, -5, 127], [1, 0, -128]])
    net = network(
        (3,),
        [population("fc-0", [[4, 5]], bias_exponent=6)],
        [dense(INPUT, "fc-0", weights * 2, exponent=-1)],
    )
    assert np.array_equal(netx_layers(net)[1]["weight"], weights)
    save_netx(net, tmp_path / "a.net")
    assert_same(
        replace(net, input=replace(net.input, held=False)),
        replace(import_netx(tmp_path / "a.net", net.time_steps), readout=net.readout),
    )


REFUSED: list[tuple[Callable[[ChipNetwork], ChipNetwork], str]] = [
    (lambda net: changed(net, 1, reset=Reset.SUBTRACT), "resets by 'subtract'"),
    (lambda net: changed(net, 1, membrane_decay=np.array([1, 2, 3, 4])), "differs between"),
    (
        lambda net: changed(net, 0, thresholds=np.arange(36).reshape(1, 3, 3, 4)),
        "differ within a channel",
    ),
    (
        lambda net: changed(net, 1, bias_mantissa=np.array([1, 0, 0, 0]), bias_exponent=3),
        "multiples of 64",
    ),
    (lambda net: linked(net, 0, exponent=-3), "netx stores none"),
    (lambda net: linked(net, 1, exponent=4), "with their exponent"),
    (lambda net: linked(net, 0, delay=2), "delays of convolutions"),
    (lambda net: linked(net, 2, weights=np.zeros((2, 4), np.int64)), "all 0"),
    (lambda net: replace(net, input=replace(net.input, payload_bits=8)), "graded messages"),
    (
        lambda net: replace(net, readout=replace(net.readout, population="fc-0",
                                                 scale=np.ones(4))),
        "not the last layer",
    ),
    (
        lambda net: replace(
            net,
            connections=(
                *net.connections,
                replace(dense("conv-0", "fc-1", np.full((2, 36), 2)), delay=1),
            ),
        ),
        "netx holds chains",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_what_netx_cannot_hold_is_refused(
    tmp_path: Path, change: Callable[[ChipNetwork], ChipNetwork], says: str
) -> None:
    with pytest.raises(BadNetworkError, match=says):
        save_netx(change(chain()), tmp_path / "a.net")
    assert not list(tmp_path.iterdir())


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="task 1"):
        save_netx(chain(), tmp_path / "a.net", task=1)


def test_input_neurons_whose_current_lasts_are_refused(tmp_path: Path) -> None:
    """netx hands them the input as their bias, which no current holds."""
    link = conv(INPUT, "input-0", np.ones((1, 1, 1, 1), np.int64), sign_mode=SignMode.EXCITATORY)
    neurons = population("input-0", np.full((1, 1, 2, 2), 9), current_decay=4095, bias_exponent=6)
    net = network((1, 2, 2), [neurons], [link], time_steps=4)
    net = replace(net, input=replace(net.input, payload_bits=8, held=True))
    save_netx(net, tmp_path / "a.net")
    assert import_netx(tmp_path / "a.net").population("input-0").current_decay == 4095
    with pytest.raises(BadNetworkError, match="currents of pixels that outlast a step"):
        save_netx(changed(net, 0, current_decay=1637), tmp_path / "b.net")
    assert not (tmp_path / "b.net").exists()


def test_signed_messages_are_refused_in_one_line(tmp_path: Path) -> None:
    """Bytes may be the bias of the first neurons; what may be negative is not written so."""
    net = network(
        (2, 3, 4),
        [population("in", np.full((1, 2, 3, 4), 5)), population("out", [[131071] * 2])],
        [
            conv(INPUT, "in", np.ones((2, 1, 1, 1)), groups=2, sign_mode=SignMode.EXCITATORY),
            dense("in", "out", np.full((2, 24), 2)),
        ],
        payload_bits=8,
    )
    net = replace(net, populations=tuple(replace(p, bias_exponent=6) for p in net.populations))
    save_netx(net, tmp_path / "bytes.net")
    signed = replace(net, input=replace(net.input, signed=True))
    with pytest.raises(BadNetworkError, match="hears graded messages"):
        save_netx(signed, tmp_path / "signed.net")
