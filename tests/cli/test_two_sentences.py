"""Every command begins with two sentences: does it work, what does it cost; on any card."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mtspark
from tests.support.image_agent import image_agent

AGENTS = Path(__file__).parents[2] / "examples" / "agents"
GAME, WORLD, NUMBERS, PLAIN, SINGLE, FOREIGN, IMAGES = KINDS = (
    "game", "world", "numbers", "plain", "single", "foreign", "images",
)  # fmt: skip
TASKS = {GAME: "pong", WORLD: "CartPole-v1", NUMBERS: "Pendulum-v1"}
CUT = ("--max-decisions", 4)
ENERGY = re.compile(r" costs [\d.,]+ µJ")


def sentences(printed: str) -> list[str]:
    """What stands before the line that names --details, by the ends of sentences."""
    lines = printed.splitlines()
    end = next(i for i, line in enumerate(lines) if line.startswith("(--details"))
    assert all(len(line) <= 80 for line in lines[:end])
    text = " ".join(" ".join(lines[:end]).split())
    return re.split(r"(?<=[.!?]) (?=[A-Z])", text)


@pytest.fixture(scope="module")
def bundles(played: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    import snntorch as snn
    import torch
    from torch import nn

    place = tmp_path_factory.mktemp("two")
    folders = {kind: place / f"{kind}.deploy" for kind in KINDS}
    shutil.copytree(played, folders[GAME])
    for kind, agent in ((WORLD, "cartpole"), (NUMBERS, "pendulum")):
        mtspark.export(AGENTS / agent / f"{agent}.pt").save(folders[kind])
    options = {"beta": 0.5, "reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
    for kind, outputs in ((PLAIN, 2), (SINGLE, 1)):
        module = nn.Sequential(nn.Linear(2, outputs, bias=False), snn.Leaky(**options))
        with torch.no_grad():
            module[0].weight[:] = 2 * torch.eye(2)[:outputs]
        formats = ("netx",)
        made = mtspark.export(module, input_shape=(2,), time_steps=4, formats=formats)
        made.save(folders[kind])
    (netx,) = folders[PLAIN].rglob("*.net")
    # A chip network alone: there is no float network in its bundle.
    mtspark.export(netx).save(folders[FOREIGN])
    mtspark.export(image_agent(place)).save(folders[IMAGES])
    x = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    # Four slices each: three slices alone could be one series.
    np.save(place / "x.npy", np.repeat(x[:, None], 4, 1))
    np.save(place / "y.npy", np.array([0, 1, 1]))
    np.save(place / "zeros.npy", np.array([0, 0, 0]))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 12, 12), np.uint8)
    np.save(place / "pixels.npy", pixels)
    return folders


def calls(kind: str, place: Path) -> dict[str, tuple[object, ...]]:
    """Arguments of every command that a kind of bundle takes."""
    if kind in TASKS:
        task = ("--task", TASKS[kind])
        known: dict[str, tuple[object, ...]] = {
            "run": (*task, *CUT),
            "eval": (*task, *CUT, "--episodes", 2),
            "hil": (*task, *CUT),
            "hil --chip": (*task, *CUT, "--chip", "loihi2"),
            "map": (),
            "map --task": (*task, *CUT),
            "explain": (*task, "--decisions", 4),
            "diff": ("--against", "reference", *task, "--decisions", 4),
            "diff --against": ("--against", "torch", *task, "--decisions", 4),
            "report": (),
        }
        return known
    samples = place / ("pixels.npy" if kind == IMAGES else "x.npy")
    labels = place / ("zeros.npy" if kind == SINGLE else "y.npy")
    inputs = ("--input", samples)
    known = {
        "run": inputs,
        "eval": ("--data", samples, "--labels", labels),
        "map": (),
        "diff": ("--against", "reference", "--decisions", 4),
        "report": (),
    }
    return known if kind == FOREIGN else {**known, "explain": inputs}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_command_begins_with_two_sentences(
    kind: str,
    bundles: dict[str, Path],
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = bundles[kind]
    for name, words in calls(kind, folder.parent).items():
        capsys.readouterr()
        assert call(name.split()[0], folder, *words) == 0, (kind, name)
        printed = capsys.readouterr().out
        found = sentences(printed)
        assert len(found) == 2, (kind, name, found)
        assert ENERGY.search(found[1]), (kind, name, found[1])
        assert "Loihi 2" in found[1]
        assert " costs less: " in found[1] or " costs more: " in found[1]
        assert "the spiking one fits one Loihi 2 (" in found[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [WORLD, PLAIN])
def test_a_card_prices_every_command_and_an_unknown_one_is_refused(
    kind: str,
    bundles: dict[str, Path],
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Loihi 1's prices stand to the fitted ones of Loihi 2 as 1 to 0.8107, on the same counts."""
    folder = bundles[kind]
    for name, words in calls(kind, folder.parent).items():
        command = name.split()[0]
        if name in ("report", "map", "hil --chip"):
            continue
        joules = {}
        for card in ("loihi2_pilotnet", "loihi1_davies2018"):
            capsys.readouterr()
            assert call(command, folder, *words, "--card", card) in (0, 1)
            cost = sentences(capsys.readouterr().out)[1]
            joules[card] = float(re.findall(r" costs ([\d.,]+) µJ", cost)[0])
            assert ("Loihi 1" if "loihi1" in card else "Loihi 2") in cost, (name, cost)
        assert joules["loihi1_davies2018"] > 1.1 * joules["loihi2_pilotnet"], name
        assert call(command, folder, *words, "--card", "nosuch") == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: price card 'nosuch' does not exist; known cards: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "words", "says"),
    [
        (PLAIN, "run {} --input {place}/x.npy --seed 0", "--seed: is of games"),
        (PLAIN, "run {} --input {place}/x.npy --episodes 3", "--episodes: is of games"),
        (WORLD, "run {} --max-decisions 2 -o {place}/spikes.npz", "--output: is the file of what"),
        (PLAIN, "eval {} --data {place}/x.npy --labels {place}/y.npy --seed 1", "--seed: is of"),
        (WORLD, "eval {} --max-decisions 2 --images 7", "--images: is of image sets"),
        (WORLD, "eval {} --max-decisions 2 --sticky 0.5", "--sticky: is of ALE's games"),
        (WORLD, "hil {} --serve tcp://127.0.0.1:0 --latency-ms 3", "--latency-ms: is of games"),
        (WORLD, "hil {} --jitter normal", "--jitter: distributes the time of --jitter-ms"),
        (WORLD, "hil {} --away-ms 5", "--away-ms: is of a chip that dies"),
        (WORLD, "hil {} --key 00", "--key: is of a served chip"),
        (WORLD, "map {} --max-decisions 3", "--max-decisions: is of the game of --task"),
        (WORLD, "map {} --seed 0", "--seed: is of the game of --task"),
        (PLAIN, "explain {} --input {place}/x.npy --seed 1", "--seed: is of the game"),
        (WORLD, "report {} --seconds 5", "--seconds: belongs to a page"),
        (WORLD, "report {} -o {place}/p.html --details", "--details: is of the terminal"),
        (PLAIN, "report {} -o {place}/p.html --labels {place}/y.npy", "--labels: belongs to"),
    ],
)
def test_an_option_that_means_nothing_is_refused(
    kind: str,
    words: str,
    says: str,
    bundles: dict[str, Path],
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = bundles[kind]
    capsys.readouterr()
    assert call(*(word.format(folder, place=folder.parent) for word in words.split())) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: {says}")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "dueling"), [(WORLD, True), (NUMBERS, False), (PLAIN, False)])
def test_the_page_says_only_what_the_network_has(
    kind: str, dueling: bool, bundles: dict[str, Path], call: Callable[..., int]
) -> None:
    folder, page = bundles[kind], bundles[kind].parent / f"{kind}.html"
    words: tuple[object, ...] = CUT
    if kind == PLAIN:
        data = ("--data", folder.parent / "x.npy", "--labels", folder.parent / "y.npy")
        assert call("eval", folder, *data) == 0
        words = ()
    assert call("report", folder, "-o", page, *words, "--card", "loihi2_pilotnet") == 0
    text = page.read_text(encoding="utf-8")
    held = mtspark.load_bundle(folder).network.input.held
    assert held == (kind != PLAIN)
    assert ("dueling head" in text) == dueling
    assert ("A held frame is sent again" in text) == held
    # The network fits, so no name is grey.
    assert "Grey names" not in text
