"""Agents at addresses: what a card says, and what a transfer leaves."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.registry import known_implementations

from mtspark.core.errors import BackendMissingError, BadFileError, BadRequestError
from mtspark.core.files import read_whole
from mtspark.train.checkpoint import load_agent
from mtspark.workflows.zoo import PushRequest, exchange, list_agents, pull_agent, push_agent
from mtspark.workflows.zoo import place as places
from mtspark.workflows.zoo.card import AgentCard, _score, hours_of_log, read_card
from mtspark.workflows.zoo.listing import shipped_folder

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "examples" / "agents"
NAMES = sorted(path.name for path in SHIPPED.iterdir())


@pytest.fixture
def memory() -> Any:
    """An address of fsspec's memory, empty before and after."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def pole(tmp_path: Path) -> Path:
    """A copy of the agent that balances a pole, with its card."""
    return Path(shutil.copytree(SHIPPED / "cartpole", tmp_path / "cartpole"))


def push(source: Path, address: object, **options: Any) -> Any:
    return push_agent(PushRequest(source, str(address), **options))


def card_in(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "card.json").read_text()))


def rewrite(folder: Path, **changes: Any) -> None:
    (folder / "card.json").write_text(json.dumps({**card_in(folder), **changes}))


def check_against_the_file(name: str) -> AgentCard:
    """Compare a shipped card with the agent's file and log, field by field, from plain values."""
    folder = SHIPPED / name
    card = read_card((folder / "card.json").read_bytes(), "card.json", name)
    agent = load_agent(folder / f"{name}.pt")
    assert [task.name for task in card.tasks] == [task.name for task in agent.tasks]
    stored = [
        (
            *(row["task"], row["backend"], row.get("mean_return", row.get("accuracy"))),
            *(tuple(row["interval_95"]), row.get("episodes", row.get("images"))),
        )
        for row in agent.evaluations
    ]
    shown = [
        (task.name, row.backend, row.value, row.interval_95, row.count)
        for task in card.tasks
        for row in task.scores
    ]
    assert sorted(shown) == sorted(stored)
    assert card.training.decisions == agent.training.get("steps")
    assert card.training.seeds == [agent.training["config"]["seed"]]
    assert card.time_steps == agent.network.config.time_steps
    assert card.parameters == sum(part.numel() for part in agent.network.parameters())
    assert card.licence == "Apache-2.0"
    assert card.recipe
    assert card.training.hours is not None
    return card


def test_every_shipped_agent_has_a_card_of_its_files() -> None:
    assert len(NAMES) >= 9
    for name in NAMES:
        folder = SHIPPED / name
        files = {
            path.name: {
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in folder.iterdir()
            if path.name != "card.json"
        }
        assert card_in(folder)["files"] == files, f"{name}: mtspark agents push writes its card"
    listing = list_agents()
    assert [card.name for card in listing.cards] == NAMES
    assert listing.left_out == ()


def test_a_card_says_what_the_file_says() -> None:
    check_against_the_file("cartpole")


def test_a_card_says_how_often_a_task_was_solved() -> None:
    content = json.loads((SHIPPED / "cartpole" / "card.json").read_bytes())
    assert AgentCard.model_validate(content).to_json() == content
    for row in content["tasks"][0]["scores"]:
        row["success_rate"] = 0.9
    card = AgentCard.model_validate(content)
    assert card.to_json() == content
    assert any("success rate 90.0%" in sentence for sentence in card.sentences)
    stored = {"backend": "engine", "mean_return": 1.0, "success_rate": 0.25}
    assert _score(stored)["success_rate"] == 0.25


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_card_says_what_its_file_says(name: str) -> None:
    card = check_against_the_file(name)
    for task in card.tasks:
        assert (task.cost is None) == (task.plays == "images")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cartpole", "pendulum"])
def test_the_cost_on_a_card_is_what_a_run_prices(name: str) -> None:
    import mtspark

    card = read_card((SHIPPED / name / "card.json").read_bytes(), "card.json", name)
    cost = card.tasks[0].cost
    assert cost is not None
    chip = mtspark.export(mtspark.load_agent(SHIPPED / name / f"{name}.pt"))
    run = chip.play(episodes=cost.games, seed=cost.seed)
    assert run.network_sha256 == cost.network_sha256
    assert run.decisions == cost.decisions
    bill = run.bills_on_chip[0].dynamic_j_per_decision
    assert bill == pytest.approx(cost.cost.dynamic_j_per_decision, rel=1e-9)


def test_hours_are_those_of_the_log() -> None:
    rows = [(3600, 1.0), (7200, 2.0), (1800, 0.5)]  # An hour, half an hour; again from 0: an hour.
    log = "\n".join(json.dumps({"steps": steps, "steps_per_s": rate}) for steps, rate in rows)
    assert hours_of_log(log.encode()) == pytest.approx(1 + 0.5 + 1)
    assert hours_of_log(b'{"epoch": 1, "seconds": 1800}\n{"epoch": 2, "seconds": 900}') == 0.75
    for unknown in (b"", b'{"steps": 5}', b"no JSON", b'{"steps": 5, "steps_per_s": 0}', b"[1]"):
        assert hours_of_log(unknown) is None


@pytest.mark.parametrize("address", ["{}/there", "file://{}/there", "memory://{}/there"])
def test_an_agent_comes_back_as_it_was_pushed(
    address: str, pole: Path, tmp_path: Path, memory: Any
) -> None:
    there = address.format(tmp_path)
    pushed = push(pole, there)
    assert not pushed.same
    assert push(pole, there).same
    assert [card.name for card in list_agents(there).cards] == ["cartpole"]
    pulled = pull_agent("cartpole", there, tmp_path / "back")
    assert pulled.card == pushed.card
    for name in ("cartpole.pt", "training.jsonl"):
        assert (tmp_path / "back" / name).read_bytes() == (pole / name).read_bytes()
    # Pushed once more from there, the card is the same, byte for byte.
    shutil.move(tmp_path / "back", tmp_path / "b" / "cartpole")
    again = push(tmp_path / "b" / "cartpole", tmp_path / "c")
    assert again.card.content() == (pole / "card.json").read_bytes()


def test_the_folder_of_a_training_can_be_pushed(pole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    shutil.copy(pole / "cartpole.pt", folder / "agent.pt")
    shutil.copy(pole / "training.jsonl", folder / "log.jsonl")
    (folder / "resume.pt").write_bytes(b"of no use to others")
    result = push(folder, tmp_path / "zoo", games=0, licence="MIT", recipe="mine.toml")
    assert result.card.licence == "MIT"
    assert result.card.tasks[0].cost is None
    assert result.card.training.hours == card_in(pole)["training"]["hours"]
    files = {path.name for path in (tmp_path / "zoo" / "mine").iterdir()}
    assert files == {"mine.pt", "training.jsonl", "card.json"}


def test_a_cost_of_another_file_is_not_kept(pole: Path, tmp_path: Path) -> None:
    """The card beside an agent that was changed since tells nothing of its cost."""
    entry = card_in(pole)["files"]
    entry["cartpole.pt"]["sha256"] = "0" * 64
    rewrite(pole, files=entry)
    assert push(pole, tmp_path / "zoo", games=0).card.tasks[0].cost is None


@pytest.mark.parametrize(("games", "measured"), [(None, []), (3, []), (5, [5]), (0, [0])])
def test_games_that_are_asked_for_are_played(
    pole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    games: int | None,
    measured: list[int],
) -> None:
    """The cost on the card beside the agent is of three games."""
    asked: list[int] = []

    def measure(agent: Any, games: int, **_: Any) -> dict[str, Any]:
        asked.append(games)
        return {}

    monkeypatch.setattr(exchange, "measure_costs", measure)
    cost = push(pole, tmp_path / "zoo", games=games).card.tasks[0].cost
    assert asked == measured
    assert (cost is None) == bool(measured)


def test_another_agent_of_the_name_is_replaced_only_if_asked(pole: Path, tmp_path: Path) -> None:
    push(pole, tmp_path / "zoo")
    with pytest.raises(BadRequestError, match="another agent of this name is there"):
        push(pole, tmp_path / "zoo", note="better")
    assert push(pole, tmp_path / "zoo", note="better", replace=True).card.note == "better"
    with pytest.raises(BadRequestError, match="holds another agent"):
        pull_agent("cartpole", str(tmp_path / "zoo"), pole)
    (pole / "mine.txt").write_text("kept")
    pull_agent("cartpole", str(tmp_path / "zoo"), pole, replace=True)
    assert (pole / "mine.txt").read_text() == "kept"
    assert card_in(pole)["note"] == "better"
    assert pull_agent("cartpole", str(tmp_path / "zoo"), pole).same


def test_a_folder_that_is_no_agents_is_never_replaced(pole: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.tex").write_text("work of years")
    with pytest.raises(BadRequestError, match="no agent's folder"):
        pull_agent("cartpole", str(tmp_path), taken, replace=True)
    shutil.move(taken, tmp_path / "zoo" / "cartpole")
    with pytest.raises(BadRequestError, match="no agent's folder"):
        push(pole, tmp_path / "zoo", replace=True)
    assert [path.name for path in (tmp_path / "zoo" / "cartpole").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "missing", "link"])
@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_a_file_that_is_not_the_cards_leaves_nothing(
    damage: str, scheme: str, pole: Path, tmp_path: Path, memory: Any
) -> None:
    content = (pole / "cartpole.pt").read_bytes()
    changed = {
        "flip": bytes([content[0] ^ 1]) + content[1:],
        "cut": content[:-1],
        "longer": content + b"\0",
    }
    zoo = pole.parent
    (pole / "cartpole.pt").unlink()
    if damage == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        (pole / "cartpole.pt").symlink_to(tmp_path / "elsewhere")
    elif damage in changed:
        (pole / "cartpole.pt").write_bytes(changed[damage])
    address = str(zoo)
    if scheme:
        if damage == "link":
            pytest.skip("memory has no links")
        for path in pole.iterdir():
            memory.pipe_file(f"/zoo/cartpole/{path.name}", path.read_bytes())
        address = "memory://zoo"
    with pytest.raises(BadFileError, match=r"cartpole/cartpole\.pt: ") as error:
        pull_agent("cartpole", address, tmp_path / "back")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*back*"))
    if not scheme:
        assert list_agents(address).cards == ()
        assert "cartpole.pt" in list_agents(address).left_out[0]


HOSTILE = [
    "../up.pt",
    "/etc/passwd",
    "a/b.pt",
    "..",
    "",
    "card.json",
    "CON",
    "a\\b",
    "c:x",
    "\x1b[2J",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_card_names_files_of_its_own_folder_only(name: str, pole: Path, tmp_path: Path) -> None:
    files = card_in(pole)["files"]
    rewrite(pole, files={**files, name: files["training.jsonl"]})
    with pytest.raises(BadFileError, match=r"plain names|printable text") as error:
        pull_agent("cartpole", str(pole.parent), tmp_path / "back")
    assert str(error.value).isprintable()
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("name", ["../cartpole", "/tmp", "", ".", "a/b", "CON", "x\n", "nul.pt"])
def test_a_name_that_leads_elsewhere_is_refused(name: str, pole: Path, tmp_path: Path) -> None:
    for action in (
        lambda: pull_agent(name, str(pole.parent), tmp_path / "back"),
        lambda: push(pole, tmp_path / "zoo", name=name or " "),
    ):
        with pytest.raises(BadRequestError, match="agent name") as error:
            action()
        assert str(error.value).isprintable()
    assert not (tmp_path / "zoo").exists()


def test_a_linked_folder_is_no_agents(pole: Path, tmp_path: Path) -> None:
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    (zoo / "cartpole").symlink_to(pole)
    assert list_agents(str(zoo)).cards == ()
    with pytest.raises(BadFileError, match="is a link"):
        pull_agent("cartpole", str(zoo), tmp_path / "back")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("parameters", 7),
        ("time_steps", 2),
        ("score", 501.0),
        ("task", "Pong-v5"),
        ("seeds", [9]),
        ("hours", 0.001),
    ],
)
def test_a_card_that_says_more_than_its_file_is_refused(
    field: str, value: Any, pole: Path, tmp_path: Path
) -> None:
    card = card_in(pole)
    if field == "score":
        card["tasks"][0]["scores"][1]["value"] = value
    elif field == "task":
        card["tasks"][0]["name"] = value
    elif field in ("seeds", "hours"):
        card["training"][field] = value
    else:
        card[field] = value
    rewrite(pole, **card)
    with pytest.raises(BadFileError, match="the card and the agent's file differ in"):
        pull_agent("cartpole", str(pole.parent), tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"format": "other"}', b"[" * 100_000, b"{}" * 600_000],
    ids=["empty", "cut", "list", "bytes", "other", "deep", "large"],
)
def test_what_is_no_card_is_refused_in_one_line(content: bytes, pole: Path, tmp_path: Path) -> None:
    (pole / "card.json").write_bytes(content)
    with pytest.raises(BadFileError, match=r"card\.json: ") as error:
        pull_agent("cartpole", str(pole.parent), tmp_path / "back")
    assert str(error.value).isprintable()
    assert len(list_agents(str(pole.parent)).left_out) == 1


def test_a_remote_agent_gets_its_card_last(
    pole: Path, tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends a transfer, no reader finds a card of files that are not there."""
    steps: list[str] = []
    write, remove = memory.pipe_file, memory.rm_file

    def pipe(path: str, content: bytes, **options: Any) -> None:
        steps.append(f"write {Path(path).name}")
        if fail_at and len(steps) >= fail_at:
            write(path, content[:100])
            raise OSError("the line is dead")
        write(path, content, **options)

    def rm(path: str) -> None:
        steps.append(f"remove {Path(path).name}")
        remove(path)

    monkeypatch.setattr(type(memory), "pipe_file", lambda self, *a, **k: pipe(*a, **k))
    monkeypatch.setattr(type(memory), "rm_file", lambda self, path: rm(path))
    fail_at = 0
    push(pole, "memory://zoo")
    assert steps == ["write cartpole.pt", "write training.jsonl", "write card.json"]
    steps.clear()
    push(pole, "memory://zoo", note="new", replace=True)
    assert steps[0] == "remove card.json"
    assert steps[-1] == "write card.json"
    for fail_at in (1, 2, 3, 4):
        memory.store.clear()
        steps.clear()
        if fail_at == 4:
            fail_at = 0
            push(pole, "memory://zoo")
            steps.clear()
            fail_at = 3  # The card is removed first, then the second file fails.
            with pytest.raises(BadFileError, match="cannot be written"):
                push(pole, "memory://zoo", note="newer", replace=True)
        else:
            with pytest.raises(BadFileError, match="the line is dead"):
                push(pole, "memory://zoo")
        assert not [path for path in memory.store if path.endswith("card.json")]
        assert list_agents("memory://zoo").cards == () if memory.store else True


def test_a_local_agent_stays_whole_when_its_replacement_fails(
    pole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(pole, tmp_path / "zoo")
    before = {path: read_whole(path, places.current_policy().limits) for path in pole.iterdir()}

    def full(path: Path, content: bytes) -> None:
        if path.name == "card.json":
            raise OSError(28, "No space left on device")
        path.write_bytes(content)

    monkeypatch.setattr(places, "write_bytes", full)
    for call in (
        lambda: push(pole, tmp_path / "zoo", note="new", replace=True),
        lambda: pull_agent("cartpole", str(tmp_path / "zoo"), tmp_path / "back"),
    ):
        with pytest.raises(BadFileError, match="no space left"):
            call()
    assert not (tmp_path / "back").exists()
    there = tmp_path / "zoo" / "cartpole"
    assert {path.name: path.read_bytes() for path in there.iterdir()} == {
        path.name: content for path, content in before.items()
    }
    assert sorted(path.name for path in (tmp_path / "zoo").iterdir()) == ["cartpole"]


def test_an_address_that_cannot_be_opened_is_one_line(
    pole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address, kind, words in (
        ("nosuch://x", BadRequestError, "no known protocol"),
        ("", BadRequestError, "give a folder or an address"),
        (str(tmp_path / "missing"), BadFileError, "cannot be listed"),
        ("memory://missing", BadFileError, "no such folder"),
    ):
        with pytest.raises(kind, match=words) as error:
            list_agents(address)
        assert str(error.value).isprintable()
    monkeypatch.setitem(
        known_implementations,
        "lacking",
        {"class": "no_such_package.Thing", "err": "Install no_such_package"},
    )
    with pytest.raises(BackendMissingError, match=r"needs a library; .*no_such_package"):
        list_agents("lacking://agents")
    with pytest.raises(BadRequestError, match="no such agent; cartpole is there"):
        pull_agent("pole", str(pole.parent), tmp_path / "back")


def test_an_installed_mtspark_asks_for_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mtspark.workflows.zoo import listing

    assert shipped_folder() == SHIPPED
    monkeypatch.setattr(listing, "__file__", str(tmp_path / "a" / "b" / "c" / "listing.py"))
    with pytest.raises(BadRequestError, match="mtspark agents list ADDRESS"):
        list_agents()
