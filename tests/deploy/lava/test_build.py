"""Building Lava networks: what is refused, unrolled convolutions, shared memory, models."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

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
from mtspark.core.errors import BadNetworkError
from mtspark.deploy.lava.build import check_fits_lava, largest_sum, shared_array, unrolled
from mtspark.deploy.lava.shim import installed_lava
from mtspark.sim.backends.reference import Synapses

needs_lava = pytest.mark.skipif(
    installed_lava() is None, reason="lava-nc is missing: run `mtspark install-lava`"
)


def dense_network(
    weights: np.ndarray, *, exponent: int = 0, payload_bits: int = 8, current_decay: int = 4095
) -> ChipNetwork:
    outputs, inputs = weights.shape
    population = Population(
        "out",
        (outputs,),
        current_decay,
        4096,
        np.full((1, outputs), 100),
        np.zeros(outputs, np.int64),
    )
    link = Connection("link", INPUT, "out", ConnectionKind.DENSE, weights, SignMode.MIXED, exponent)
    return ChipNetwork(
        "one-layer",
        FrameInput((inputs,), payload_bits),
        (population,),
        (link,),
        Readout("out", np.ones(outputs)),
        (Task("pong", "pong", (0,)),),
        2,
        GameProtocol(),
    )


def conv_network(seed: int) -> ChipNetwork:
    """One convolution with a geometry drawn at random, rows unlike columns."""
    rng = np.random.default_rng(seed)
    groups = int(rng.integers(1, 3))
    source = (2 * groups, int(rng.integers(6, 10)), int(rng.integers(6, 10)))
    kernel, stride, padding, dilation = (
        tuple(int(n) for n in rng.integers(low, high, 2))
        for low, high in ((1, 4), (1, 4), (0, 3), (1, 3))
    )
    sizes = [
        (length + 2 * pad - gap * (taps - 1) - 1) // step + 1
        for length, pad, gap, taps, step in zip(
            source[1:], padding, dilation, kernel, stride, strict=True
        )
    ]
    target = (3 * groups, *sizes)
    link = Connection(
        "conv",
        INPUT,
        "out",
        ConnectionKind.CONV,
        rng.integers(-128, 128, (target[0], 2, *kernel)) * 2,
        SignMode.MIXED,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    population = Population(
        "out", target, 4095, 4096, np.full((1, *target), 100), np.zeros(target, np.int64)
    )
    network = dense_network(np.zeros((1, 1), np.int64))
    return replace(
        network,
        input=FrameInput(source, 8),
        populations=(population,),
        connections=(link,),
        readout=Readout("out", np.ones(target)),
    )


def test_largest_sum_counts_every_input_at_its_largest_value():
    weights = np.array([[2, -4], [6, 6]])
    graded, binary = (dense_network(weights, payload_bits=bits) for bits in (8, 0))
    assert largest_sum(graded, graded.connections[0]) == 12 * 255
    assert largest_sum(binary, binary.connections[0]) == 12


def test_a_network_within_32_bits_is_accepted():
    check_fits_lava(dense_network(np.full((2, 500), 254)))


def test_currents_beyond_32_bits_are_refused():
    network = dense_network(np.full((2, 500), 254), exponent=1)
    with pytest.raises(BadNetworkError, match="population 'out': currents can reach") as caught:
        check_fits_lava(network)
    assert "\n" not in str(caught.value)


def test_currents_that_add_up_beyond_32_bits_are_refused():
    # What one correction leaves over stays where the current decays slowly.
    weights = np.full((2, 400), 254)
    check_fits_lava(dense_network(weights))
    with pytest.raises(BadNetworkError, match="currents can reach"):
        check_fits_lava(dense_network(weights, current_decay=0))


def test_sums_beyond_32_bits_are_refused_even_if_shifted_down():
    network = dense_network(np.full((1, 40_000), 254), exponent=-8)
    with pytest.raises(BadNetworkError, match="connection 'link': sums reach"):
        check_fits_lava(network)


def test_a_network_that_breaks_its_own_rules_is_refused():
    with pytest.raises(BadNetworkError, match="multiples of 2"):
        check_fits_lava(dense_network(np.full((1, 2), 3)))


@pytest.mark.third_party
@needs_lava
@pytest.mark.parametrize("seed", range(20))
def test_an_unrolled_convolution_equals_the_reference(seed):
    network = conv_network(seed)
    link = network.connections[0]
    frame = np.random.default_rng(seed).integers(0, 256, (1, *network.input.shape))
    expected = Synapses(link, network).deliver(frame)
    matrix = unrolled(link, network.input.shape, network.populations[0].shape)
    assert np.array_equal(matrix @ frame.reshape(-1), expected.reshape(-1))


@pytest.mark.third_party
@needs_lava
def test_an_unrolled_convolution_of_zeros_is_empty():
    network = conv_network(0)
    link = replace(network.connections[0], weights=network.connections[0].weights * 0)
    assert unrolled(link, network.input.shape, network.populations[0].shape).nnz == 0


def test_shared_arrays_are_shared_with_forked_children():
    array = shared_array((2, 3), np.int32)
    assert array.shape == (2, 3)
    assert not array.any()
    child = os.fork()
    if child == 0:
        array[1, 2] = 7
        os._exit(0)
    os.waitpid(child, 0)
    assert array[1, 2] == 7


@pytest.mark.third_party
@needs_lava
def test_each_process_has_exactly_one_model_that_lava_finds():
    code = """
import warnings
warnings.simplefilter("error")
import numpy as np
from mtspark.deploy.lava.shim import load_lava
load_lava()
from lava.magma.compiler.compiler_graphs import ProcGroupDiGraphs
from mtspark.deploy.lava.processes.processes import FrameSource
source = FrameSource(frame=np.zeros(2, np.int32), series=False, steps=2, active_steps=1)
found = ProcGroupDiGraphs._find_proc_models(source)
assert [model.__module__ for model in found] == ["mtspark.deploy.lava.processes.models"], found
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
