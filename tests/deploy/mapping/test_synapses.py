from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mtspark.core.chip_network.network import INPUT, ChipNetwork, SignMode
from mtspark.deploy.chips.model import Encoding, load_chip
from mtspark.deploy.mapping.synapses import (
    Part,
    axon_bits,
    box_part,
    compartment_configs,
    distinct_thresholds,
    in_axons,
    stored_weight_bits,
    synapse_bits,
    synapses_per_axon,
)
from tests.support.chips import chip
from tests.support.networks import (
    conv,
    dense,
    population,
    random_networks,
    sparse,
    sparse_conv,
)
from tests.support.scalar_chip import synapses


def some_part(net: ChipNetwork, name: str, seed: int) -> Part:
    """A box of an image, or some neurons of a list."""
    generator = np.random.default_rng(seed)
    shape = net.shape_of(name)
    if len(shape) == 3:
        edges = [np.sort(generator.choice(n + 1, 2, replace=False)) for n in shape]
        return box_part(name, shape, tuple((int(a), int(b)) for a, b in edges))
    size = int(np.prod(shape))
    chosen = generator.choice(size, generator.integers(1, size + 1), replace=False)
    return Part(name, np.sort(chosen))


@given(net=random_networks(), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_synapses_of_an_axon_equal_counting_them_one_by_one(net: ChipNetwork, seed: int) -> None:
    for link in net.connections:
        source, target = net.shape_of(link.source), net.shape_of(link.target)
        part = some_part(net, link.target, seed)
        counted = np.zeros(source, int)
        inside = set(part.neurons.tolist())
        for origin, to, _ in synapses(link, source, target):
            counted[origin] += int(np.ravel_multi_index(to, target)) in inside
        assert np.array_equal(synapses_per_axon(link, source, target, part), counted.reshape(-1))


@given(net=random_networks(), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=15)
def test_memory_without_headers_or_words_is_synapses_times_their_bits(
    net: ChipNetwork, seed: int
) -> None:
    model = chip("loihi1")
    plain = Encoding(0, 0, 1, None, "a test", "made up")
    model = replace(model, encodings={"dense": plain, "sparse": plain})
    for link in net.connections:
        source, target = net.shape_of(link.source), net.shape_of(link.target)
        part = some_part(net, link.target, seed)
        inside = set(part.neurons.tolist())
        met = synapses(link, source, target)
        held = [o for o, to, _ in met if int(np.ravel_multi_index(to, target)) in inside]
        each = stored_weight_bits(link, model) + link.delay.bit_length()
        assert synapse_bits(link, source, target, part, model) == each * len(held)
        assert in_axons(link, source, target, part, model) == len(set(held))


def test_words_and_headers_by_hand() -> None:
    """Three synapses of 5 + 6 bits and a header of 10 take 43 bits: one word of 64.

    With 5 synapses it is 65 bits: two words. In blocks of 4 it is 54 and 21 bits: two words
    again; 9 synapses take 54, 54 and 21 bits: three words.
    """
    wide = Encoding(6, 10, 64, None, "", "")
    assert [axon_bits(n, 5, wide) // 64 for n in (0, 1, 3, 4, 5)] == [0, 1, 1, 1, 2]
    blocks = replace(wide, block_synapses=4)
    assert [axon_bits(n, 5, blocks) // 64 for n in (3, 4, 5, 8, 9)] == [1, 1, 2, 2, 3]


def test_a_dense_part_stores_a_row_for_every_source() -> None:
    """3 sources to 2 of 5 neurons; weights -6..6 need 3 bits: 2 * (3 + 12) + 10 = 40 bits."""
    link = dense(INPUT, "p", np.resize([2, -6, 6, 0], (5, 3)))
    part = Part("p", np.array([1, 4]))
    model = load_chip("loihi2")
    assert synapse_bits(link, (3,), (5,), part, model) == 3 * 64
    assert in_axons(link, (3,), (5,), part, model) == 3


def test_a_shared_convolution_is_stored_once_whatever_its_size() -> None:
    """4 filters of 2 x 3 x 3 taps: 18 axons of 4 * 8 + 10 = 42 bits, one word each."""
    weights = np.resize([254, -256, 2], (4, 2, 3, 3))
    link = conv(INPUT, "p", weights, padding=(1, 1))
    model = load_chip("loihi2")
    whole, corner = ((0, 4), (0, 6), (0, 6)), ((0, 4), (0, 1), (0, 1))
    for box in (whole, corner):
        part = box_part("p", (4, 6, 6), box)
        assert synapse_bits(link, (2, 6, 6), (4, 6, 6), part, model) == 18 * 64
        assert in_axons(link, (2, 6, 6), (4, 6, 6), part, model) == 1
    # Loihi 1 stores every synapse: of the corner neurons 2 x 2 x 2 axons of 4 synapses.
    part, model = box_part("p", (4, 6, 6), corner), load_chip("loihi1")
    assert synapse_bits(link, (2, 6, 6), (4, 6, 6), part, model) == 8 * 64
    assert in_axons(link, (2, 6, 6), (4, 6, 6), part, model) == 8


def test_groups_store_only_their_own_filters() -> None:
    link = conv(INPUT, "p", np.full((4, 1, 1, 1), 254), groups=2)
    model = load_chip("loihi2")
    half = box_part("p", (4, 2, 2), ((0, 2), (0, 2), (0, 2)))
    both = box_part("p", (4, 2, 2), ((1, 3), (0, 2), (0, 2)))
    assert synapse_bits(link, (2, 2, 2), (4, 2, 2), half, model) == 64
    assert synapse_bits(link, (2, 2, 2), (4, 2, 2), both, model) == 128


def test_a_sparse_part_stores_nonzero_weights_only() -> None:
    link = sparse(INPUT, "p", [[2, 0, 0], [0, 0, 4]])
    model = load_chip("loihi2")
    assert synapse_bits(link, (3,), (2,), Part("p", np.array([0])), model) == 64
    assert synapse_bits(link, (3,), (2,), Part("p", np.array([0, 1])), model) == 128


def test_a_sparse_kernel_is_stored_as_a_list_a_tap() -> None:
    """8 filters of one 1 x 2 kernel; 6 hear through the left tap, 2 of them through the right.

    Weights of 8 bits with indices of 12: 6 * 20 + 10 = 130 bits, three words, and 2 * 20 + 10, one
    word. As a whole kernel both taps take 8 * 8 + 10 = 74 bits, two words each.
    """
    weights = np.zeros((8, 1, 1, 2), int)
    weights[:6, 0, 0, 0], weights[:2, 0, 0, 1] = [254, -256, 2, 2, 2, 2], [2, 4]
    model = load_chip("loihi2")
    ends = (1, 1, 5), (8, 1, 4)
    part = box_part("p", ends[1], ((0, 8), (0, 1), (0, 4)))
    link = sparse_conv(INPUT, "p", weights)
    assert synapse_bits(link, *ends, part, model) == 4 * 64
    assert in_axons(link, *ends, part, model) == 1
    assert synapses_per_axon(link, *ends, part).tolist() == [6, 8, 8, 8, 2]
    assert synapse_bits(conv(INPUT, "p", weights), *ends, part, model) == 2 * 2 * 64
    # The core that has only the last two filters keeps nothing.
    none = box_part("p", ends[1], ((6, 8), (0, 1), (0, 4)))
    assert synapse_bits(link, *ends, none, model) == in_axons(link, *ends, none, model) == 0


@given(
    bits=st.integers(1, 8),
    mode=st.sampled_from(list(SignMode)),
    raised=st.integers(0, 8),
    seed=st.integers(0, 1000),
)
def test_stored_bits_are_the_fewest_that_hold_every_weight(
    bits: int, mode: SignMode, raised: int, seed: int
) -> None:
    """By trying: a number of bits holds the weights if some power of two puts them on its grid."""
    generator = np.random.default_rng(seed)
    low, high = {
        SignMode.MIXED: (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1),
        SignMode.EXCITATORY: (0, 2**bits - 1),
        SignMode.INHIBITORY: (-(2**bits - 1), 0),
    }[mode]
    full = 9 if mode is SignMode.MIXED else 8
    step = 2 ** max(full - bits - raised, mode is SignMode.MIXED)
    weights = generator.integers(low, high + 1, (3, 4)) * step
    link = dense(INPUT, "p", weights, sign_mode=mode, weight_bits=8, exponent=3)

    def holds(tried: int) -> bool:
        grid = 2 ** (full - tried)
        limits = {
            SignMode.MIXED: (-256, 256 - grid),
            SignMode.EXCITATORY: (0, 256 - grid),
            SignMode.INHIBITORY: (-(256 - grid), 0),
        }[mode]
        return any(
            (weights * 2**s % grid == 0).all()
            and (weights * 2**s >= limits[0]).all()
            and (weights * 2**s <= limits[1]).all()
            for s in range(9)
        )

    wanted = min(tried for tried in range(1, 9) if holds(tried))
    assert stored_weight_bits(link, load_chip("loihi2")) == wanted


def test_the_smallest_exponent_leaves_no_room_to_store_weights_larger() -> None:
    """Weights of 2 and -4 need 2 bits, stored as 64 and -128 with an exponent lower by 5..6."""
    link = dense(INPUT, "p", [[2, -4]])
    model = chip("loihi2", smallest_weight_exponent=-8)
    found = [stored_weight_bits(replace(link, exponent=e), model) for e in (0, -1, -2, -4, -8)]
    assert found == [2, 2, 2, 4, 8]
    # Bits that the chip lacks are rounded up.
    only = chip("loihi2", weight_bits=(4, 8))
    assert stored_weight_bits(link, only) == 4


def test_delays_take_bits_of_every_synapse() -> None:
    model, part = load_chip("loihi2"), Part("p", np.arange(3))
    # 3 * (3 + 12) + 10 = 55 bits; a delay of 3 takes 2 bits more a synapse, 61; 8 takes 4, 67.
    link = dense(INPUT, "p", [[6], [-6], [2]])
    words = [synapse_bits(replace(link, delay=d), (1,), (3,), part, model) // 64 for d in (0, 3, 8)]
    assert words == [1, 1, 2]


def test_registers_are_shared_by_neurons_that_are_alike_in_every_task() -> None:
    own = population("p", [[1, 1, 2, 1], [5, 5, 5, 6]])
    assert distinct_thresholds(own, np.arange(4)) == 3
    assert distinct_thresholds(own, np.array([0, 1])) == 1


def test_configurations_are_pairs_of_decays() -> None:
    own = replace(population("p", [[1, 1, 1]]), membrane_decay=np.array([7, 7, 8]))
    assert compartment_configs(own, np.arange(3)) == 2
    assert compartment_configs(own, np.array([0, 1])) == 1
