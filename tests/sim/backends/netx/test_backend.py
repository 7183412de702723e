"""lava-dl's netx, in an environment of its own, against the reference."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mtspark.convert.netx import import_netx
from mtspark.core.chip_network.network import INPUT, ChipNetwork
from mtspark.core.errors import BackendFailedError, BackendMissingError, BadNetworkError
from mtspark.deploy.lava.netx_environment import PYTHON_VARIABLE, find_python, netx_python
from mtspark.sim.backends.netx import backend as netx_runner
from mtspark.sim.backends.netx.backend import NetxBackend
from mtspark.sim.backends.reference import ReferenceChip
from tests.support.networks import conv, dense, frames_for, network, population


@pytest.fixture
def _installed() -> None:
    try:
        netx_python()
    except BackendMissingError as error:
        pytest.skip(str(error))


def compare(net: ChipNetwork, frames: np.ndarray) -> int:
    """Every spike and membrane in the windows; returns how many values were compared."""
    backend = NetxBackend(net)
    try:
        one = backend.decide(frames, 0, trace=True).trace
    finally:
        backend.close()
    assert one is not None
    reference, compared = ReferenceChip(net), 0
    for index in range(len(frames)):
        two = reference.decide(frames[index : index + 1], 0, trace=True).trace
        assert two is not None
        for name, spikes in two.spikes.items():
            window = net.window(name)
            assert np.array_equal(one.spikes[name][window, index], spikes[window, 0]), name
            membranes = two.membranes[name][window, 0]
            assert np.array_equal(one.membranes[name][window, index], membranes), name
            compared += 2 * membranes.size
    return compared


@pytest.mark.third_party
@pytest.mark.slow
@pytest.mark.usefixtures("_installed")
def test_a_chain_in_netx_equals_the_reference() -> None:
    rng = np.random.default_rng(1)
    net = network(
        (2, 6, 5),
        [
            population(
                "conv-0",
                np.broadcast_to(np.array([50, 90, 70])[:, None, None], (1, 3, 3, 4)),
                bias_mantissa=np.broadcast_to(np.array([1, -2, 3])[:, None, None], (3, 3, 4)),
                bias_exponent=6,
                membrane_decay=1024,
            ),
            population("fc-0", [[40, 50, 60, 70]], current_decay=2047, bias_exponent=6),
            population("fc-1", [[131071] * 2], membrane_decay=0, bias_exponent=6),
        ],
        [
            conv(
                INPUT,
                "conv-0",
                rng.integers(-128, 128, (3, 2, 3, 2)) * 2,
                stride=(2, 1),
                padding=(1, 0),
            ),
            dense("conv-0", "fc-0", rng.integers(-128, 128, (4, 36)) * 2),
            dense("fc-0", "fc-1", rng.integers(-128, 128, (2, 4)) * 2),
        ],
        time_steps=6,
    )
    assert compare(net, frames_for(net, 3, 2)) == 3 * 6 * 2 * (36 + 4 + 2)


@pytest.mark.third_party
@pytest.mark.slow
@pytest.mark.usefixtures("_installed")
def test_a_loop_in_netx_equals_the_reference() -> None:
    rng = np.random.default_rng(2)
    net = network(
        (5,),
        [
            population(
                "fc-0",
                [[360, 480, 400, 320]],
                current_decay=1023,
                membrane_decay=512,
                bias_mantissa=np.array([3, 5, -2, 8]),
                bias_exponent=6,
            ),
            population("fc-1", [[240, 280, 320]], membrane_decay=1024, bias_exponent=6),
        ],
        [
            dense(INPUT, "fc-0", rng.integers(-60, 90, (4, 5)) * 2),
            dense("fc-0", "fc-0", rng.integers(-60, 60, (4, 4)) * 2, recurrent=True),
            dense("fc-0", "fc-1", rng.integers(-40, 90, (3, 4)) * 2),
        ],
        time_steps=20,
    )
    frames = np.random.default_rng(0).integers(0, 2, (3, 5)).astype(np.uint8)
    trace = ReferenceChip(net).decide(frames, 0, trace=True).trace
    assert trace is not None
    assert all(0.05 < spikes.mean() < 0.6 for spikes in trace.spikes.values())
    assert compare(net, frames) == 2 * 3 * 20 * 7


@pytest.mark.third_party
@pytest.mark.slow
@pytest.mark.usefixtures("_installed")
def test_pilotnet_written_back_runs_in_netx_as_in_the_reference(golden: Path) -> None:
    net = import_netx(golden / "pilotnet_lif" / "network.net")
    frame = np.load(golden / "pilotnet_lif" / "image.npy").T.astype(np.uint8)
    neurons = sum(population.size for population in net.populations)
    assert compare(net, frame[None]) == 2 * 16 * neurons == 5_072_288


def test_a_loop_that_begins_too_early_is_refused() -> None:
    """lava-dl does not gate a loop: what its neurons send before their window would come back."""
    rest = {"membrane_decay": 0, "bias_exponent": 6}
    loop = population("fc-0", [[1] * 3], bias_mantissa=np.array([0, 9, 0]), **rest)
    weights = np.full((3, 3), 2)
    links = [dense(INPUT, "fc-0", weights), dense("fc-0", "fc-0", weights, recurrent=True)]
    with pytest.raises(BadNetworkError, match="fire before its input arrives"):
        NetxBackend(network((3,), [loop], links, time_steps=4))


def test_a_worker_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text("import time; time.sleep(600)")
    monkeypatch.setattr(netx_runner, "WORKER", worker)
    monkeypatch.setattr(netx_runner, "END_S", 0.1)
    monkeypatch.setattr(netx_runner, "netx_python", lambda: Path(sys.executable))
    net = network((3,), [population("fc-0", [[1] * 2])], [dense(INPUT, "fc-0", np.full((2, 3), 2))])
    backend = NetxBackend(net, time_limit_s=0.1)
    # Ignored here it is ignored there: SIGTERM ends nothing.
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        began = time.monotonic()
        with pytest.raises(BackendFailedError, match="no answer within"):
            backend.decide(np.ones((1, 3), np.uint8), 0)
        assert time.monotonic() - began < 300
    finally:
        signal.signal(signal.SIGTERM, before)
        backend.close()


def test_a_missing_environment_says_how_to_make_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, "/nowhere/python")
    with pytest.raises(BackendMissingError, match="mtspark install-lava-dl"):
        netx_python()


def test_a_python_that_is_none_is_refused() -> None:
    with pytest.raises(BackendMissingError, match=r"Python 3\.10"):
        find_python("/nowhere/python3.10")
