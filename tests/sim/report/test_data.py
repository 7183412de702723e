"""The report's data and page, of a tiny agent that plays for some decisions."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from mtspark.core.backend import Moment, greedy_actions
from mtspark.core.chip_network import Encoder
from mtspark.core.chip_network.network import INPUT, ChipNetwork
from mtspark.core.environments.protocol import GameProtocol
from mtspark.core.errors import BadRequestError
from mtspark.deploy.chips.model import load_chip
from mtspark.deploy.mapping.task_switch import TaskSwitch
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.device import ChipSwitch, Devices, dearest_switches, map_for, on_chip
from mtspark.sim.energy.cards import load_card
from mtspark.sim.engine.chip import EngineChip
from mtspark.sim.recording.film import AFTER_A_POINT, FilmRecorder
from mtspark.sim.recording.study import Study, study_images, study_task
from mtspark.sim.report.data import ReportData, decision_energy, report_data
from mtspark.sim.report.page import (
    _actions,
    byte_count,
    count_of,
    digits,
    joules,
    percent,
    report_html,
    time_of,
)
from mtspark.sim.report.provenance import Fact, Provenance
from mtspark.sim.report.score import Score
from tests.support import networks
from tests.support.networks import three_neurons

CARDS = ("loihi2_pilotnet", "loihi1_sanafe", "ops45nm_int8", "lemaire2022_8bit")
EVIL = (
    '</script><script>document.documentElement.dataset.hacked="1"</script>'
    '<img src=x onerror="hacked()">$a_b$'
)


def tiny_network() -> ChipNetwork:
    """A convolution, a hidden layer and 18 action values, over two frames of 20 x 20 pixels."""
    draw = np.random.default_rng(1)

    def weights(*shape: int) -> Any:
        return draw.integers(-40, 45, shape) * 2

    made = networks.network(
        (2, 20, 20),
        [
            networks.population("conv1", draw.integers(0, 9000, (1, 3, 6, 6)), membrane_decay=2048),
            networks.population("hidden", draw.integers(0, 90, (1, 10)), membrane_decay=2048),
            networks.population("head", np.full((1, 18), 131071), membrane_decay=0),
        ],
        [
            networks.conv(INPUT, "conv1", weights(3, 2, 5, 5), stride=(3, 3), exponent=-2),
            networks.dense("conv1", "hidden", weights(10, 108)),
            networks.dense("hidden", "head", weights(18, 10)),
        ],
        payload_bits=8,
        time_steps=4,
    )
    return replace(made, name="tiny", protocol=GameProtocol(frame_stack=2, screen_size=20))


@pytest.fixture(scope="module")
def network() -> ChipNetwork:
    return tiny_network()


@pytest.fixture(scope="module")
def study(network: ChipNetwork) -> Study:
    return study_task(
        EngineChip(network), network, "pong", seed=3, episodes=2, max_decisions=9, film_decisions=6
    )


Made = tuple[ReportData, str]


def made(
    network: ChipNetwork, study: Study, checks: str = "fine", score: Score | None = None
) -> Made:
    cards = [load_card(name) for name in CARDS]
    devices = {}
    for name in ("loihi2", "loihi1"):
        chip = load_chip(name)
        mapping = map_for(network, chip, Encoder.EVERY_STEP)
        for encoder in Encoder:
            sent = {**study.deep.sent, "input": study.encoders[encoder].sent}
            found = on_chip(network, chip, mapping, sent, study.deep.decisions, host_us=1.0)
            devices[name, encoder] = found
    data = report_data(
        network,
        [study],
        cards,
        {study.task: devices},
        encoder=Encoder.EVERY_STEP,
        provenance=Provenance(
            mtspark="0",
            git_commit=None,
            date="today",
            network_sha256="",
            files={},
            machine="",
            processor="",
            versions={},
            seconds=1.0,
            checks=(Fact("check", checks),),
            repeat=(Fact("command", checks),),
        ),
        scores={} if score is None else {study.task: score},
    )
    return data, report_html(data, [study], {study.task: devices})


@pytest.fixture(scope="module")
def report(network: ChipNetwork, study: Study) -> Made:
    return made(network, study)


class Page(HTMLParser):
    """Collects tags, attributes and whether the tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_several_tasks_stand_side_by_side_with_the_dearest_switch() -> None:
    """Neurons of thresholds (1, 1), (2, 3) and (4, 3): two registers, or four thresholds."""
    thresholds = np.array([[1, 2, 4, 2, 1, 2], [1, 3, 3, 3, 1, 3]])
    two = networks.network(
        (1,),
        [networks.population("p", thresholds)],
        [networks.dense(INPUT, "p", np.zeros((6, 1), int))],
        tasks=(networks.PONG, networks.BREAKOUT),
    )
    devices = {}
    for name in ("loihi2", "loihi1"):
        chip, sent = load_chip(name), {"input": np.ones(1, np.int64), "p": np.zeros(6, np.int64)}
        mapping = map_for(two, chip, Encoder.EVERY_STEP)
        devices[name, Encoder.EVERY_STEP] = on_chip(two, chip, mapping, sent, 1)
    found = dearest_switches(two, [devices, devices], Encoder.EVERY_STEP)
    assert [(one.chip, one.switch.source, one.switch.writes) for one in found] == [
        ("loihi2", "pong", 4),
        ("loihi1", "pong", 2),
    ]
    assert dearest_switches(two, [devices], Encoder.HELD) == []
    assert found[0].switch.time_us == pytest.approx(4 * 25)
    assert found[1].switch.time_us is None


@pytest.mark.slow
def test_the_page_of_two_tasks_has_one_table_behind_the_first_verdict(
    report: Made, study: Study
) -> None:
    data, one = report
    assert '<table class="tasks">' not in one
    (task,) = data.tasks
    task = replace(task, chips=())
    switch = ChipSwitch("loihi9", "Loihi 9", TaskSwitch("pong", "chess", (), 1234, None, ""))
    both = replace(
        data,
        encoder=Encoder.HELD,
        tasks=(task, replace(task, task="chess")),
        task_switches=(switch,),
    )
    devices: dict[str, Devices] = {study.task: {}}
    text = report_html(both, [study, study], devices)
    table = text[text.index('<table class="tasks">') :]
    assert text.index('<p class="verdict">') < text.index('<table class="tasks">')
    assert text.count('<table class="tasks">') == 1
    table = table[: table.index('<h2 id="counts-1">')]
    assert '<a href="#task-2">chess</a>' in table
    for row in task.encoders:
        assert joules(row.bill(load_card("loihi2_pilotnet")).dynamic_j_per_decision) in table
    assert "rewrites up to 1,234 thresholds (pong to chess); its time is not modelled" in table


def test_actions_have_names_that_fit_under_their_bars() -> None:
    labels = [action["label"] for action in _actions([0, 1, 2, 3, 8, 11, 17])]
    assert labels == [["noop"], ["fire"], ["↑"], ["→"], ["↘"], ["→", "fire"], ["↙", "fire"]]
    many = _actions(list(range(18)))
    assert [many[0]["label"], many[1]["label"], many[14]["label"]] == [["·"], ["●"], ["↗", "●"]]
    assert [action["name"] for action in many[12:15]] == ["leftfire", "downfire", "uprightfire"]


def test_the_data_say_what_was_counted(report: Made, network: ChipNetwork, study: Study) -> None:
    data = report[0].to_json()
    (task,) = data["tasks"]
    counts, decisions = study.run.counts, study.run.counts.decisions
    assert (task["decisions"], decisions) == (18, 18)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    for row, layer in zip(task["layers"], counts.layers, strict=True):
        assert row["spikes_window"] * decisions == pytest.approx(layer.spikes.window)
        assert row["synops_structural"] * decisions == pytest.approx(layer.synops_structural.total)
        assert row["graded"] == (layer.name == "conv1")
    spikes = sum(layer.spikes.total for layer in counts.layers)
    assert task["spikes_per_decision"]["mean"] * decisions == pytest.approx(spikes)
    by_step = sum(sum(steps) for steps in task["steps"]["spikes"].values())
    assert by_step * decisions == pytest.approx(spikes)
    synops = task["synops_per_decision"]
    total = (synops["binary"]["mean"] + synops["graded_mean"]) * decisions
    assert total == pytest.approx(counts.synops_structural)
    assert [episode["seed"] for episode in task["episodes"]] == [3, 4]
    assert sum(episode["synops"] for episode in task["episodes"]) == counts.synops_structural
    assert len({row["encoder"] for row in task["encoders"]}) == 3
    assert "ESTIMATE" in data["note"]
    # A kernel of 3 x 2 x 5 x 5 weights is met at each of 6 x 6 places.
    others = 10 * 108 + 18 * 10
    assert data["synapses"] == data["stored_weights"] == 3 * 2 * 5 * 5 + others
    assert data["every_synapse"] == 6 * 6 * 3 * 2 * 5 * 5 + others
    assert data["memory_bits"]["synapses"] == 8 * data["every_synapse"]


def test_energy_of_single_decisions_has_the_bills_mean(
    report: Made, network: ChipNetwork, study: Study
) -> None:
    from mtspark.sim.energy.pricing import price

    (task,) = report[0].to_json()["tasks"]
    for name, bill in zip(CARDS, task["energy"], strict=True):
        single = bill["per_decision_j"]
        if name == "lemaire2022_8bit":
            assert single is None
        else:
            assert single["mean"] == pytest.approx(bill["dynamic_j_per_decision"], rel=1e-9, abs=0)
            assert single["n"] == 18
    card = load_card("loihi1_sanafe")
    found = price(study.run.counts, network, card)
    energy = decision_energy(network, study, found, Encoder.EVERY_STEP)
    assert energy is not None
    updates = sum(layer.neuron_updates.total for layer in study.run.counts.layers) / 18
    conv1, rest = study.deep.operations[5, 0], study.deep.operations[5]
    kinds = [24.0 if link.kind.value == "conv" else 35.5 for link in network.connections]
    by_hand = updates * 72.8 + study.deep.spikes[5] * 69.3 + float((rest * kinds).sum())
    assert conv1 > 0
    assert energy[5] == pytest.approx(by_hand * 1e-12, rel=1e-9, abs=0)


def test_the_page_asks_nothing_of_a_network_and_carries_its_pictures(report: Made) -> None:
    _, text = report
    page = Page(text)
    named = [(tag, attributes) for tag, attributes in page.tags]
    for tag, attributes in named:
        for key in ("src", "href", "xlink:href", "action", "poster", "srcset"):
            target = attributes.get(key)
            assert target is None or target.startswith(("data:", "#")), (tag, target)
    assert "ESTIMATE" in text
    assert not re.search(r"url\(\s*['\"]?(?!#|data:)", text)
    assert sum(tag == "svg" for tag, _ in named) == 6
    assert {"canvas", "noscript"} <= {tag for tag, _ in named}
    ids = [attributes["id"] for _, attributes in named if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "not priced" in text
    assert "mathdefault" not in text
    assert "Hypothetical" in text or "does not fit" in text


def test_a_hostile_name_is_text_and_nothing_else(network: ChipNetwork, study: Study) -> None:
    _, text = made(replace(network, name=EVIL), study, checks=EVIL)
    page = Page(text)
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert len(scripts) == 2
    assert all("nonce" in attributes for attributes in scripts)
    assert not [1 for tag, attributes in page.tags if tag == "img" and attributes.get("src") == "x"]
    assert EVIL not in text
    assert "&lt;/script&gt;" in text


def test_hostile_names_of_layers_reach_no_markup() -> None:
    """Layer names also pass through the figures and the player's data."""
    plain = tiny_network()
    evil = {population.name: f"{population.name}{EVIL}" for population in plain.populations}

    def renamed(name: str) -> str:
        return evil.get(name, name)

    network = replace(
        plain,
        populations=tuple(replace(p, name=renamed(p.name)) for p in plain.populations),
        connections=tuple(
            replace(link, source=renamed(link.source), target=renamed(link.target))
            for link in plain.connections
        ),
        readout=replace(plain.readout, population=renamed(plain.readout.population)),
    )
    study = study_task(
        EngineChip(network), network, "pong", seed=3, max_decisions=3, film_decisions=2
    )
    _, text = made(network, study)
    page = Page(text)
    assert len([1 for tag, _ in page.tags if tag == "script"]) == 2
    assert not [1 for tag, attributes in page.tags if "onerror" in attributes]
    assert EVIL not in text


def test_images_are_one_episode_with_a_point_for_each_right_answer(network: ChipNetwork) -> None:
    chip = EngineChip(network)
    images = np.random.default_rng(3).integers(0, 256, (5, 2, 20, 20)).astype(np.uint8)
    answers = greedy_actions(chip.decide(images, 0).values, network.tasks[0].legal_actions)
    labels = answers.copy()
    labels[[1, 4]] += 1
    study = study_images(chip, network, "pong", images, labels, film_decisions=4)
    (episode,) = study.run.episodes
    assert (episode.score, episode.actions, episode.decisions) == (3, tuple(answers), 5)
    assert [shot.reward for shot in study.shots] == [1, 0, 1, 1]
    assert study.deep.operations.sum() == study.run.counts.synops_structural
    assert study.shots[0].frame.tolist() == images[0].mean(0).round().astype(int).tolist()
    score = Score("accuracy", "pong", 3 / 5, None, None, 5, "mnist")
    data, text = made(network, study, score=score)
    assert data.to_json()["tasks"][0]["kind"] == "images"
    assert "60 %</b><span>right on the chip" in text
    assert "The chip names 60.0% of 5 samples of mnist rightly. An image costs " in text
    more = replace(data.tasks[0], score=replace(score, count=50))
    assert more.priced == "image, the mean of 5 on this page,"
    assert "<span>an image on Loihi 2, estimate" in text
    assert "60 %</b><span>right, of the 5 images on this page" in text
    with pytest.raises(BadRequestError, match="the network takes"):
        study_images(chip, network, "pong", images[:, :1], labels)


def moments(rewards: list[float]) -> list[Moment]:
    net = three_neurons()
    chip = ReferenceChip(net)
    frames = np.array([[7, 1]], np.uint8)
    decision = chip.decide(frames, 0, trace=True)
    first = np.array([0])
    return [
        Moment(frames, first, np.array([0]), np.array([reward]), decision) for reward in rewards
    ]


def test_a_film_ends_after_the_largest_point_that_has_enough_before_it() -> None:
    rewards = [0.0] * 100
    rewards[3], rewards[40], rewards[60], rewards[70] = 9, 1, 2, 2
    recorder = FilmRecorder(three_neurons(), 20)
    for moment in moments(rewards):
        recorder(moment)
    numbers = [shot.number for shot in recorder.shots]
    assert numbers == list(range(60 + AFTER_A_POINT - 19, 60 + AFTER_A_POINT + 1))
    assert [shot.score for shot in recorder.shots][-1] == 9 + 1 + 2 + 2
    assert list(recorder.shown) == ["hidden"]


def test_a_film_without_points_is_of_the_end() -> None:
    recorder = FilmRecorder(three_neurons(), 4)
    for moment in moments([0.0] * 9):
        recorder(moment)
    assert [shot.number for shot in recorder.shots] == [5, 6, 7, 8]
    spikes = recorder.shots[0].rasters["hidden"]
    assert spikes.tolist() == [[False, False], [True, False], [True, False], [False, False]]


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (digits, 0, "0"),
        (digits, 1234.5, "1,234"),
        (digits, 12.34, "12.3"),
        (digits, 0.00123456, "0.00123"),
        (digits, -2.5, "-2.5"),
        (digits, math.inf, "inf"),
        (count_of, 999, "999"),
        (count_of, 2.5, "2.5"),
        (count_of, 12_345, "12.3 k"),
        (count_of, 6_548_694, "6.55 M"),
        (joules, 1.09e-3, "1.09 mJ"),
        (joules, 157.3e-6, "157 µJ"),
        (joules, 61.3e-9, "61.3 nJ"),
        (joules, 2e-12, "2 pJ"),
        (joules, 0.0, "0 pJ"),
        (time_of, 152.9, "153 µs"),
        (time_of, 46_500, "46.5 ms"),
        (percent, 0.0478, "4.78 %"),
        (byte_count, 428_000, "418 KiB"),
    ],
)
def test_numbers_for_people(write: Callable[[float], str], value: float, text: str) -> None:
    assert write(value) == text
