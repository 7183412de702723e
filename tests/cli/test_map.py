from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mtspark.cli._console import console
from mtspark.deploy.bundle import load_bundle, write_bundle
from mtspark.deploy.chips.model import load_chip
from mtspark.deploy.mapping.mapper import check_same_network, map_network
from mtspark.deploy.mapping.serialise import load_mapping
from tests.deploy.mapping.test_tasks import own_neurons

Call = Callable[..., int]


def test_a_mapping_is_shown_written_and_can_be_read_again(
    played: Path, call: Call, tmp_path: Path
) -> None:
    out = tmp_path / "m.json"
    with console.capture() as shown:
        assert call("map", played) == 0
        assert call("map", played, "--json", out, "--details") == 0
    text = " ".join(shown.get().split())
    network = load_bundle(played).network
    mapping = map_network(network, load_chip("loihi2"))
    assert text.count(f"tiny fits one Loihi 2: {len(mapping.cores)} of 128 cores.") == 2
    assert text.count("(--details: ") == 1
    assert f"{len(mapping.cores)} cores on 1 chip of 128" in text
    assert "HYPOTHETICAL" not in text
    found = load_mapping(out)
    check_same_network(found, network)
    assert len(found.cores) == len(mapping.cores)
    data = json.loads(out.read_text())
    # Two tasks: the switch is priced in register writes, of each core and together.
    switches = {(s["source"], s["target"]): s for s in data["task_switches"]}
    assert switches.keys() == {("pong", "breakout"), ("breakout", "pong")}
    there = switches["pong", "breakout"]
    thresholds = [p.thresholds.reshape(2, -1) for p in network.populations]
    assert there["writes"] == sum(int((t[0] != t[1]).sum()) for t in thresholds)
    assert sum(there["writes_per_core"]) == there["writes"] > 0
    assert "task switch, the dearest" in text


def test_loihi_1_says_all_that_does_not_fit_and_what_to_do(
    played: Path, call: Call, tmp_path: Path
) -> None:
    out = tmp_path / "m.json"
    with console.capture() as shown:
        assert call("map", played, "--chip", "loihi1", "--json", out) == 1
    text = " ".join(shown.get().split())
    data = json.loads(out.read_text())
    assert data["hypothetical"]
    assert text.count("does not fit: ") == len(data["violations"]) >= 2
    by_subject = {found["subject"]: found for found in data["violations"]}
    assert by_subject["input"]["actual"] == "sends 8-bit payloads"
    assert text.startswith("tiny does not fit one Loihi 1: input: sends 8-bit payloads, ")
    assert f", and {len(data['violations']) - 1} more. " in text
    with console.capture() as shown:
        assert call("map", played, "--chip", "loihi1", "--details") == 1
    text = " ".join(shown.get().split())
    assert "HYPOTHETICAL" in text
    assert text.count("does not fit: ") == len(data["violations"])
    (thresholds,) = [v for v in data["violations"] if v["limit"] == "8 a core"][:1]
    assert "--palette 8 --palette-chip loihi1" in thresholds["remedy"]
    with console.capture() as shown:
        assert call("map", played, "--chip", "loihi1", "--spread-thresholds") == 1
    assert "8 a core" not in shown.get()


def test_a_played_game_gives_messages_and_time(played: Path, call: Call, tmp_path: Path) -> None:
    out = tmp_path / "m.json"
    with console.capture() as shown:
        assert (
            call("map", played, "--task", "pong", "--decisions", 3, "--json", out, "--details") == 0
        )
    text = " ".join(shown.get().split())
    data = json.loads(out.read_text())
    traffic, time = data["traffic"], data["decision_time"]
    assert traffic["decisions"] == 3
    assert sum(traffic["sent_by_core"]) >= 3 * traffic["messages_per_decision"] > 0
    network = load_bundle(played).network
    assert time["steps"] == network.steps_per_decision
    assert len(time["by_step_us"]) == time["steps"]
    assert time["terms"][0]["time_us"] == pytest.approx(sum(time["by_step_us"]))
    assert time["terms"][0]["time_us"] >= time["steps"] * time["step"]["total_us"]
    assert time["margin_us"] == pytest.approx(time["deadline_us"] - time["total_us"])
    # The frame of 4 x 84 x 84 values is written once, 1.497 us a value.
    assert time["terms"][1]["time_us"] == pytest.approx(28_224 * 1.497)
    assert time["terms"][2]["time_us"] is None
    assert "ms are left of 66.7 ms a decision" in text
    assert "not modelled, so the time is longer: " in text
    assert text.startswith("tiny fits one Loihi 2: ")
    assert "µJ of dynamic energy on Loihi 2 (estimate); the cheapest network without spikes" in text
    assert text.count("no neuromorphic hardware was measured") == 1


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_chip_is_drawn(played: Path, call: Call, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"map.{ending}"
    assert call("map", played, "--chip", "loihi1", "-o", path) == 1
    content = path.read_bytes()
    if ending == "png":
        from matplotlib import image

        pixels = image.imread(path)
        assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 20
    else:
        assert b"<svg" in content
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


CHIP = """
name = "Mine"
about = "small"
[mesh]
columns = 8
rows = 8
cores_per_router = 1
source = "me"
confidence = "sure"
[limits]
cores_per_chip = {value = 60, unit = "cores", source = "me", confidence = "sure"}
chips = {value = 2, unit = "chips", source = "me", confidence = "sure"}
neurons_per_core = {value = 400, unit = "neurons", source = "me", confidence = "sure"}
synapse_memory_per_core = {value = 99999999, unit = "bits", source = "me", confidence = "sure"}
[encodings]
dense = {index_bits = 0, header_bits = 8, word_bits = 32, source = "me", confidence = "sure"}
sparse = {index_bits = 6, header_bits = 8, word_bits = 32, source = "me", confidence = "sure"}
"""


def test_a_stored_cost_of_one_task_of_several_names_it(played: Path, call: Call) -> None:
    with console.capture() as shown:
        assert call("map", played) == 0
    assert "A decision of pong costs" in " ".join(shown.get().split())


def test_a_chip_of_ones_own_with_two_chips_and_no_times(
    played: Path, call: Call, tmp_path: Path
) -> None:
    """The frame's 28,224 values alone take more than 60 cores of 400 neurons."""
    path, out = tmp_path / "mine.toml", tmp_path / "m.json"
    path.write_text(CHIP)
    with console.capture() as shown:
        done = call(
            "map", played, "--chip", path, "--task", "pong", "--decisions", 1, "--json", out,
            "-o", tmp_path / "two.png", "--details",
        )  # fmt: skip
    assert done == 0
    data = json.loads(out.read_text())
    assert data["chips"] == 2
    assert data["chip_name"] == "Mine"
    text = " ".join(shown.get().split())
    assert text.startswith(f"tiny fits 2 chips of Mine: {len(data['cores'])} cores; pong: the")
    assert "Mine has no price card, so its energy is not known; name one, --card." in text
    assert "on 2 chips of 60" in text
    assert "Mine has no times: nothing is modelled" in text
    assert data["decision_time"]["total_us"] is None
    assert (tmp_path / "two.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--chip", "loihi9"), "chip 'loihi9' is unknown; known are loihi1, loihi2"),
        (("--chip", "none.toml"), "none.toml: no such file"),
        (("--chip", "{tmp}/bad.toml"), "bad.toml: the file: unknown field 'core'"),
        (("--times", "never"), "no times 'never'; it has pilotnet"),
        (("-o", "{tmp}/map.gif"), "pictures end in .png, .svg, .pdf"),
        (("-o", "{tmp}"), "pictures end in"),
        (("--task", "chess"), "chess"),
        (("--json", "{tmp}"), "is a folder"),
        (("--pilotnet", "{tmp}"), "name either a bundle or --pilotnet FOLDER"),
    ],
)
def test_a_bad_request_is_one_line_and_code_2(
    played: Path,
    call: Call,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    says: str,
) -> None:
    (tmp_path / "bad.toml").write_text("core = 3\n")
    capsys.readouterr()
    assert call("map", played, *(a.format(tmp=tmp_path) for a in arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.toml"]


def test_pilotnet_stands_beside_intels_figures(call: Call, golden: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.json"
    with console.capture() as shown:
        assert call("map", "--pilotnet", golden / "pilotnet_lif", "--json", out) == 0
    text = " ".join(shown.get().split())
    data = json.loads(out.read_text())
    assert (data["intel_cores"], len(data["cores"]), data["fewest_cores"]) == (74, 74, 52)
    assert "cores 74 74 52" in text
    assert set(data["modelled_step"]) == {"scaled", "brief", "pilotnet"}
    assert "152.8 us" in text


def test_pilotnets_folder_may_be_another(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("map", "--pilotnet", tmp_path) == 2
    assert "network.net: no such file" in capsys.readouterr().err
    assert call("map") == 2


def test_tasks_with_neurons_of_their_own_are_shown_on_their_cores(
    call: Call, tmp_path: Path
) -> None:
    """Each task needs 2 of 3 neurons; by default all are on as few cores as fit, so none idles."""
    folder, out = tmp_path / "own.deploy", tmp_path / "m.json"
    write_bundle(folder, own_neurons())
    with console.capture() as shown:
        assert call("map", folder, "--details", "--json", out) == 0
    text = " ".join(shown.get().split())
    data = json.loads(out.read_text())["tasks_on_cores"]
    assert data["union_neurons"] == 3
    assert [(task["task"], task["neurons"]) for task in data["tasks"]] == [
        ("pong", 2),
        ("breakout", 2),
    ]
    assert f"Tasks with neurons of their own, on {data['cores']} cores" in text
    for task in data["tasks"]:
        assert f"{task['cores']} ({task['shared']} shared)" in text


def test_tasks_that_share_all_neurons_have_no_table(played: Path, call: Call) -> None:
    with console.capture() as shown:
        assert call("map", played, "--details") == 0
    assert "neurons of their own" not in shown.get()
