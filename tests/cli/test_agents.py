"""``mtspark agents``: what is listed, pushed and pulled, and what a user reads of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mtspark.train.checkpoint import Agent, load_agent, save_agent

ROOT = Path(__file__).parents[2]
CARTPOLE = ROOT / "examples" / "agents" / "cartpole"


def test_shipped_agents_are_listed_with_score_and_cost(
    call: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call("agents", "list", "--json", tmp_path / "agents.json") == 0
    text = capsys.readouterr().out
    data = json.loads((tmp_path / "agents.json").read_text())
    names = [card["name"] for card in data["agents"]]
    assert f"{len(names)} agents." in text
    assert max(map(len, text.splitlines())) <= 80
    for card in data["agents"]:
        assert card["name"] in text
        for task in card["tasks"]:
            assert task["name"] in text
    assert call("agents") == 0
    assert capsys.readouterr().out == text
    assert call("agents", "list", "--details") == 0
    details = " ".join(capsys.readouterr().out.split())
    assert "95 %: 500.0 to 500.0" in details
    assert "PQN, 200,704 decisions, seed 1" in details


def test_an_agent_is_pushed_and_pulled(
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(CARTPOLE, tmp_path / "mine")
    (tmp_path / "mine" / "card.json").unlink()
    push = ("agents", "push", tmp_path / "mine", f"file://{tmp_path}/zoo", "--games", 0)
    assert call(*push, "--licence", "MIT", "--json", "pushed.json") == 0
    assert "cartpole: pushed" in capsys.readouterr().out
    assert json.loads(Path("pushed.json").read_text())["card"]["licence"] == "MIT"
    assert call("agents", "pull", "cartpole", "zoo", "--json", "pulled.json") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "cartpole: pulled: cartpole" in text
    assert "the chip scores 500 over 30 games" in text
    assert Path("cartpole/cartpole.pt").read_bytes() == (CARTPOLE / "cartpole.pt").read_bytes()
    for wrong, words in (
        (("agents", "pull", "cartpole", "nosuch://x"), "no known protocol"),
        (("agents", "pull", "../x", "zoo"), "agent name"),
        (("agents", "push", tmp_path / "zoo", "zoo"), "no agent's file"),
        (("agents", "push", tmp_path / "none.pt", "zoo"), "none.pt"),
        (("agents", "list", "none"), "cannot be listed"),
        (("agents", "lsit"), "no such command"),
        ((*push, "--licence", "\x1b[2J"), "licence"),
        ((*push, "--hours", 3), "the log says"),
    ):
        assert call(*wrong) == 2, wrong
        error = capsys.readouterr().err
        lines = [line for line in error.splitlines() if line.startswith("error:")]
        assert len(lines) == 1, error
        assert words in lines[0].lower(), error


@pytest.mark.slow
def test_help_and_list_load_no_torch() -> None:
    for words in (["agents", "--help"], ["agents"], ["agents", "push", "--help"]):
        code = (
            "import sys; from mtspark.cli.start import main\n"
            f"sys.argv = ['mtspark', *{words!r}]\n"
            "try: main()\n"
            "finally: print('TORCH' if 'torch' in sys.modules else 'NONE')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout.endswith("NONE\n"), words


def test_the_mean_of_agents_is_written_and_what_has_none_is_refused(
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_agent: Callable[..., Agent],
) -> None:
    monkeypatch.chdir(tmp_path)
    agents = [make_agent(seed) for seed in (1, 2)]
    for folder, agent in zip(("one", "two"), agents, strict=True):
        Path(folder).mkdir()
        save_agent(agent, Path(folder, "agent.pt"))
    assert call("agents", "mean", "one", "two/agent.pt", "-o", "mean.pt", "--json", "m.json") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "mean.pt: the mean of 2 agents (" in text
    said = json.loads(Path("m.json").read_text())
    assert said["of"] == ["one/agent.pt", "two/agent.pt"]
    mean, heads = load_agent("mean.pt"), [one.network.advantage.weight for one in agents]
    torch.testing.assert_close(mean.network.advantage.weight, (heads[0] + heads[1]) / 2)
    before = Path("mean.pt").read_bytes()
    Path("empty").mkdir()
    for wrong, words in (
        (("one", "two", "-o", "mean.pt"), "exists already"),
        (("one", "-o", "other.pt"), "1 given, a mean needs two or more"),
        (("one", "one/agent.pt", "-o", "other.pt"), "is given twice"),
        (("one", "nowhere.pt", "-o", "other.pt"), "nowhere.pt"),
        (("one", "empty", "-o", "other.pt"), "empty: no agent's file"),
        (("one", "two", "-o", "empty", "--force"), "empty: is a folder"),
        (("one", "two", "-o", "one/agent.pt", "--force"), "one/agent.pt: is one of the agents"),
        (("one", "two", "-o", "other.pt", "--json", "other.pt"), "is written by -o, too"),
        (("one", "nowhere.pt", "-o", "new/other.pt"), "nowhere.pt: no such file"),
    ):
        assert call("agents", "mean", *wrong) == 2, wrong
        captured = capsys.readouterr()
        assert words in captured.err
        assert captured.err.count("\n") == 1
    assert Path("mean.pt").read_bytes() == before
    assert not Path("other.pt").exists()
    assert not Path("new").exists()
    assert call("agents", "mean", "one", "two", "-o", "mean.pt", "--force") == 0
    assert Path("mean.pt").read_bytes() == before
