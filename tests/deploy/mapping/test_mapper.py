from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mtspark.core.chip_network.network import INPUT, ChipNetwork
from mtspark.core.errors import BadRequestError
from mtspark.deploy.chips.model import ChipModel, load_chip
from mtspark.deploy.chips.rules import chip_violations
from mtspark.deploy.mapping.mapper import (
    ChipMapping,
    Division,
    InputPlace,
    check_same_network,
    map_network,
)
from mtspark.deploy.mapping.synapses import stored_weight_bits
from mtspark.deploy.quantise.codebook import palette_by_core, with_palette
from tests.support.chips import chip
from tests.support.networks import (
    BREAKOUT,
    PONG,
    conv,
    dense,
    network,
    population,
    random_networks,
    sparse_conv,
    three_neurons,
    varied_networks,
)
from tests.support.scalar_chip import synapses


def test_three_neurons_by_hand() -> None:
    """The frame's two values, hidden's two neurons and the output take a core each.

    hidden: 64, -64, 128 are -1..2 times 64, which takes 3 bits; two axons (one a value) of
    2 * (3 + 12) + 10 = 40 bits take a word each, 128 bits. out: one neuron hears two axons of
    3 bits (2 is one unit of 2, mixed: 2 bits) 1 * (2 + 12) + 10 = 24 bits, a word each.
    Thresholds: hidden 50 and 100, out one.
    """
    mapping = map_network(three_neurons(), load_chip("loihi2"))
    assert mapping.fits
    assert [core.population for core in mapping.cores] == [INPUT, "hidden", "out"]
    assert [core.use.neurons for core in mapping.cores] == [2, 2, 1]
    assert [core.use.memory_bits for core in mapping.cores] == [0, 128, 128]
    assert [core.use.in_axons for core in mapping.cores] == [0, 2, 2]
    assert [core.out_axons for core in mapping.cores] == [2, 2, 0]
    assert [core.use.thresholds for core in mapping.cores] == [1, 2, 1]
    assert [core.use.configs for core in mapping.cores] == [1, 1, 1]
    assert (mapping.chips, mapping.routers) == (1, 3)


def test_the_host_can_send_the_frame() -> None:
    net = three_neurons()
    mapping = map_network(net, load_chip("loihi2"), input_place=InputPlace.HOST)
    assert [core.population for core in mapping.cores] == ["hidden", "out"]
    assert mapping.owners(INPUT, 2) is None
    series = replace(net, input=replace(net.input, held=False))
    assert map_network(series, load_chip("loihi2")).input_place is InputPlace.HOST


def test_one_neuron_a_core_makes_as_many_axons_as_cores_are_reached() -> None:
    """hidden's two neurons lie apart: each value of the frame sends to both cores."""
    mapping = map_network(three_neurons(), chip("loihi2", neurons_per_core=1))
    assert [core.population for core in mapping.cores] == [INPUT] * 2 + ["hidden"] * 2 + ["out"]
    assert [core.out_axons for core in mapping.cores] == [2, 2, 1, 1, 0]
    # One synapse an axon: 15 + 10 bits are one word, and each neuron hears both values.
    assert [core.use.memory_bits for core in mapping.cores] == [0, 0, 128, 128, 128]


def test_memory_divides_a_layer() -> None:
    """Words of 64 bits hold 2 synapses of 8 + 12 and a header: 3 axons, 6 neurons, 3 cores."""
    weights = np.resize([254, -256], (6, 3))
    net = network((3,), [population("p", [[1] * 6])], [dense(INPUT, "p", weights)])
    cores = {
        bits: len(map_network(net, chip("loihi2", synapse_memory_per_core=bits)).layers["p"])
        for bits in (3 * 64, 6 * 64 - 1, 6 * 64, 9 * 64)
    }
    assert cores == {192: 3, 383: 3, 384: 2, 576: 1}


def test_the_channel_with_the_fullest_kernel_decides_whether_a_neuron_fits() -> None:
    """Loihi 1 has 4,096 axons a core; of four filters of 4,608 taps, the first has weights."""
    weights = np.zeros((4, 8, 24, 24), int)
    weights[0] = 2
    parts = [population("p", np.ones((1, 4, 1, 1)))]
    net = network((8, 24, 24), parts, [sparse_conv(INPUT, "p", weights)])
    mapping = map_network(net, chip("loihi1"), place=False)
    assert not mapping.fits
    found = [one.actual for one in mapping.violations]
    assert any(text.startswith("one neuron alone takes 4,608 ") for text in found), found


def test_a_neuron_that_does_not_fit_a_core_is_said_and_mapped_all_the_same() -> None:
    weights = np.resize([254, -256], (2, 4))
    net = network((4,), [population("p", [[1] * 2])], [dense(INPUT, "p", weights)])
    mapping = map_network(net, chip("loihi2", synapse_memory_per_core=128))
    assert not mapping.fits
    assert "one neuron alone takes 256 units of synapse_memory_per_core" in (
        mapping.violations[0].actual
    )
    check_same_network(mapping, net)


# Distinct thresholds


def many_thresholds(count: int, neurons: int) -> ChipNetwork:
    thresholds = np.resize(np.arange(1, count + 1), neurons)
    links = [dense(INPUT, "p", np.zeros((neurons, 1), int))]
    return network((1,), [population("p", thresholds[None])], links)


def test_loihi_1_refuses_more_than_eight_thresholds_a_core_with_a_remedy() -> None:
    loihi1 = load_chip("loihi1")
    assert map_network(many_thresholds(8, 40), loihi1).fits
    (found,) = map_network(many_thresholds(9, 40), loihi1).violations
    assert found.subject == "'p'"
    assert found.actual == "up to 9 distinct thresholds on each of its 1 cores"
    assert found.limit == "8 a core"
    assert "export with --palette 8 --palette-chip loihi1" in found.remedy
    assert "over 2 cores (--spread-thresholds)" in found.remedy


def test_both_remedies_for_too_many_thresholds_work_when_followed() -> None:
    """300 neurons with 300 thresholds, which Loihi 1's memory alone puts on two cores."""
    loihi1 = load_chip("loihi1")
    generator = np.random.default_rng(0)
    thresholds = generator.permutation(np.rint(1000 * 1.01 ** np.arange(300)).astype(np.int64))
    weights = generator.integers(-128, 128, (300, 600)) * 2
    plain = network((600,), [population("p", thresholds[None])], [dense(INPUT, "p", weights)])
    mapping = map_network(plain, loihi1)
    assert len(mapping.layers["p"]) == 2
    assert [found.subject for found in mapping.violations] == ["'p'"]
    by_core, (cost,) = palette_by_core(plain, loihi1, 8)
    mapping = map_network(by_core, loihi1)
    assert mapping.fits
    assert [mapping.cores[i].use.thresholds for i in mapping.layers["p"]] == [8, 8]
    _, (by_layer,) = with_palette(plain, 8)
    # Twice the registers for the same range: half the error.
    assert cost.mean_error == pytest.approx(by_layer.mean_error / 2, rel=0.05)
    assert map_network(plain, loihi1, spread_thresholds=True).fits
    with pytest.raises(BadRequestError, match="a core holds 8; use 8 or fewer"):
        palette_by_core(plain, loihi1, 9)


def test_neurons_that_share_thresholds_share_cores_where_that_alone_suffices() -> None:
    """16 thresholds in turn on two cores: 8 on each, without a core more."""
    loihi1 = load_chip("loihi1")
    weights = np.random.default_rng(1).integers(-128, 128, (300, 600)) * 2
    thresholds = np.resize(np.arange(1, 17), 300)
    net = network((600,), [population("p", thresholds[None])], [dense(INPUT, "p", weights)])
    mapping = map_network(net, loihi1)
    assert mapping.fits
    assert len(mapping.layers["p"]) == 2
    first, second = (mapping.cores[i].neurons for i in mapping.layers["p"])
    assert set(thresholds[first]) == set(range(1, 9))
    assert set(thresholds[second]) == set(range(9, 17))


@pytest.mark.parametrize(("count", "cores"), [(8, 1), (9, 2), (16, 2), (17, 3), (40, 5)])
def test_more_thresholds_go_to_more_cores_if_asked(count: int, cores: int) -> None:
    mapping = map_network(many_thresholds(count, 40), load_chip("loihi1"), spread_thresholds=True)
    assert mapping.fits
    assert len(mapping.layers["p"]) == cores
    check_same_network(mapping, many_thresholds(count, 40))


def test_tasks_make_thresholds_distinct_only_where_they_differ() -> None:
    """Two neurons that are alike in one task and differ in the other need two registers."""
    thresholds = np.array([np.ones(9), np.arange(9)])
    net = network(
        (1,),
        [population("p", thresholds)],
        [dense(INPUT, "p", np.zeros((9, 1), int))],
        tasks=(PONG, BREAKOUT),
    )
    assert not map_network(net, load_chip("loihi1")).fits
    assert map_network(net, load_chip("loihi2")).fits


def test_channels_of_few_thresholds_come_to_lie_on_their_own_cores() -> None:
    """16 channels with a threshold each: two cores of 8 channels, not of half the picture."""
    thresholds = np.broadcast_to(np.arange(1, 17)[:, None, None], (16, 2, 2))[None]
    links = [conv(INPUT, "p", np.zeros((16, 1, 1, 1), int))]
    net = network((1, 2, 2), [population("p", thresholds)], links)
    mapping = map_network(net, load_chip("loihi1"), spread_thresholds=True)
    assert mapping.fits
    boxes = [mapping.cores[index].box for index in mapping.layers["p"]]
    assert boxes == [((0, 8), (0, 2), (0, 2)), ((8, 16), (0, 2), (0, 2))]


# More than one chip, and axons out


def test_a_large_network_takes_a_second_chip_and_then_too_many() -> None:
    net = network((1,), [population("p", [[1] * 10])], [dense(INPUT, "p", np.zeros((10, 1), int))])
    small = chip("loihi1", neurons_per_core=1, cores_per_chip=6, chips=2)
    mapping = map_network(net, small)
    assert (mapping.chips, len(mapping.cores), mapping.fits) == (2, 11, True)
    assert [core.chip for core in mapping.cores].count(0) in (5, 6)
    smaller = chip("loihi1", neurons_per_core=1, cores_per_chip=5, chips=2)
    (found,) = map_network(net, smaller).violations
    assert found.actual == "11 cores on 3 chips"
    assert found.limit == "2 chips of 5 cores"


def test_a_layer_takes_more_cores_where_its_axons_out_run_short() -> None:
    """6 neurons that each reach 3 cores have 18 axons out; at 9 a core they need two cores."""
    links = [
        dense(INPUT, "p", np.zeros((6, 1), int)),
        dense("p", "q", np.resize([254, -256], (6, 6))),
    ]
    net = network((1,), [population("p", [[1] * 6]), population("q", [[1] * 6])], links)
    words = {"synapse_memory_per_core": 6 * 64}  # q: 2 synapses of 20 bits a word, 3 cores
    wide = map_network(net, chip("loihi2", **words))
    assert [len(wide.layers[name]) for name in ("p", "q")] == [1, 3]
    assert wide.cores[wide.layers["p"][0]].out_axons == 18
    narrow = map_network(net, chip("loihi2", **words, out_axons_per_core=9))
    assert [len(narrow.layers[name]) for name in ("p", "q")] == [2, 3]
    assert narrow.fits
    broken = map_network(net, chip("loihi2", **words, out_axons_per_core=2))
    assert "outgoing axons" in " ".join(v.text for v in broken.violations)


# As Intel's compiler divides


def test_lists_are_divided_by_the_ratio_and_then_doubled() -> None:
    """PilotNet's fc-0: 100 neurons hear 2,560; 24 words an axon are 61,440 of 12,000, ratio 6.

    6 cores of 17 neurons take 5 words, 12,800: doubled to 12 cores of 9 (3 words, 7,680).
    Fewest: 4 words hold 16 neurons (16 * 15 + 10 = 250 bits), so 7 cores.
    """
    weights = np.resize([-6, 0, 2, 4, 6], (100, 2560))
    net = network((2560,), [population("p", [[1] * 100])], [dense(INPUT, "p", weights)])
    alike = map_network(net, load_chip("loihi2"), division=Division.INTEL)
    sizes = [alike.cores[index].use.neurons for index in alike.layers["p"]]
    assert sizes == [9] * 11 + [1]
    words = [alike.cores[index].use.memory_bits // 64 for index in alike.layers["p"]]
    assert words == [7680] * 11 + [2560]
    fewest = map_network(net, load_chip("loihi2"))
    assert len(fewest.layers["p"]) == 7


@pytest.mark.parametrize(
    ("shape", "tile", "cores"),
    [
        ((3, 66, 200), 16, 13),
        ((24, 32, 99), 4, 25),
        ((36, 15, 49), 4, 13),
        ((48, 7, 24), 8, 3),
        ((64, 4, 22), 8, 3),
        ((64, 2, 20), 16, 2),
    ],
)
def test_images_are_cut_into_tiles_of_a_power_of_two_as_in_intels_log(
    shape: tuple[int, int, int], tile: int, cores: int
) -> None:
    link = conv(INPUT, "p", np.full((shape[0], 1, 1, 1), 2))
    net = network((1, *shape[1:]), [population("p", np.ones((1, *shape)))], [link])
    host = InputPlace.HOST
    mapping = map_network(
        net, load_chip("loihi2"), division=Division.INTEL, input_place=host, place=False
    )
    assert len(mapping.cores) == cores
    assert mapping.cores[0].box == ((0, shape[0]), (0, shape[1]), (0, tile))


# What holds for every network


def recounted(net: ChipNetwork, mapping: ChipMapping, model: ChipModel) -> None:
    """Check every core against the chip's limits, one synapse at a time, from equations."""
    owner = {
        (core.population, int(neuron)): index
        for index, core in enumerate(mapping.cores)
        for neuron in core.neurons
    }
    wanted = {(p.name, i) for p in net.populations for i in range(p.size)}
    if mapping.input_place is InputPlace.CORES:
        wanted |= {(INPUT, i) for i in range(int(np.prod(net.input.shape)))}
    assert owner.keys() == wanted, "every neuron is mapped"
    assert sum(len(core.neurons) for core in mapping.cores) == len(wanted), "and on one core only"
    bits, axons = [0] * len(mapping.cores), [0] * len(mapping.cores)
    outgoing: set[tuple[str, str, int, int]] = set()
    total = 0
    for link in net.connections:
        source, target = net.shape_of(link.source), net.shape_of(link.target)
        each = stored_weight_bits(link, model) + link.delay.bit_length()
        held: dict[tuple[int, int], int] = {}
        for origin, to, _ in synapses(link, source, target):
            start = int(np.ravel_multi_index(origin, source))
            core = owner[link.target, int(np.ravel_multi_index(to, target))]
            held[core, start] = held.get((core, start), 0) + 1
            outgoing.add((link.name, link.source, start, core))
        total += sum(held.values())
        code = model.encodings["sparse" if "sparse" in link.kind.value else "dense"]
        for (core, _), count in held.items():
            left = count
            while left > 0:
                block = min(left, code.block_synapses or left)
                size = block * (each + code.index_bits) + code.header_bits
                bits[core] += ceil(size / code.word_bits) * code.word_bits
                left -= block
            axons[core] += 1
    assert total == sum(
        len(synapses(link, net.shape_of(link.source), net.shape_of(link.target)))
        for link in net.connections
    )
    for index, found in enumerate(mapping.cores):
        assert found.use.memory_bits == bits[index] <= model.limit("synapse_memory_per_core")
        assert found.use.in_axons == axons[index] <= model.limit("in_axons_per_core")
        sent = [1 for _, name, start, _ in outgoing if owner.get((name, start)) == index]
        assert found.out_axons == len(sent) <= model.limit("out_axons_per_core")
        assert found.use.neurons == len(found.neurons) <= model.limit("neurons_per_core")
        if found.population == INPUT:
            continue
        own = net.population(found.population)
        rows = own.thresholds.reshape(len(net.tasks), -1)
        registers = {tuple(rows[:, neuron]) for neuron in found.neurons}
        assert found.use.thresholds == len(registers) <= model.limit("thresholds_per_core")
        decays = [
            np.broadcast_to(decay, own.shape).reshape(-1)
            for decay in (own.current_decay, own.membrane_decay)
        ]
        configs = {(int(decays[0][n]), int(decays[1][n])) for n in found.neurons}
        assert found.use.configs == len(configs) <= model.limit("compartment_configs_per_core")
    places = [(core.chip, core.column, core.row, core.place) for core in mapping.cores]
    assert len(set(places)) == len(places), "one core a place"
    per_chip = np.bincount([core.chip for core in mapping.cores])
    assert per_chip.max() <= model.limit("cores_per_chip")
    assert len(per_chip) <= mapping.chips <= model.limit("chips")
    assert all(core.column < model.mesh.columns for core in mapping.cores)
    assert all(core.row < model.mesh.rows for core in mapping.cores)
    assert all(core.place < model.mesh.cores_per_router for core in mapping.cores)


@given(
    net=st.one_of(random_networks(), varied_networks()),
    neurons=st.integers(2, 40),
    memory=st.integers(5, 200),
    axons=st.integers(12, 120),
    out=st.integers(6, 60),
    thresholds=st.integers(1, 8),
    division=st.sampled_from(Division),
    spread=st.booleans(),
)
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
def test_what_fits_breaks_no_limit_and_every_neuron_lies_on_one_core(
    net: ChipNetwork,
    neurons: int,
    memory: int,
    axons: int,
    out: int,
    thresholds: int,
    division: Division,
    spread: bool,
) -> None:
    model = chip(
        "loihi1",
        neurons_per_core=neurons,
        synapse_memory_per_core=64 * memory,
        in_axons_per_core=axons,
        out_axons_per_core=out,
        thresholds_per_core=thresholds,
        compartment_configs_per_core=4,
        chips=8,
    )
    mapping = map_network(net, model, division=division, spread_thresholds=spread, place=False)
    check_same_network(mapping, net)
    hopeless = chip_violations(net, model)
    assert set(hopeless) <= set(mapping.violations)
    assume(set(hopeless) == set(mapping.violations))
    recounted(net, mapping, model)


@given(net=random_networks(), neurons=st.integers(2, 40))
@settings(deadline=None, max_examples=10)
def test_no_smaller_even_division_would_have_fitted(net: ChipNetwork, neurons: int) -> None:
    mapping = map_network(net, chip("loihi2", neurons_per_core=neurons), place=False)
    for name, indices in mapping.layers.items():
        size = int(np.prod(net.shape_of(name)))
        if len(net.shape_of(name)) == 1:
            assert len(indices) == ceil(size / neurons)
        else:
            assert len(indices) >= ceil(size / neurons)


def test_a_mapping_of_another_network_is_refused() -> None:
    mapping = map_network(three_neurons(), load_chip("loihi2"))
    check_same_network(mapping, three_neurons())
    other = many_thresholds(3, 5)
    with pytest.raises(BadRequestError, match="the mapping has 2 neurons of 'hidden'"):
        check_same_network(mapping, other)
