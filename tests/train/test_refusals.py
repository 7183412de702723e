"""``mtspark train``: what it refuses, in one line, before anything is built."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

import pytest
import torch

from mtspark.core.environments.protocol import GameProtocol
from mtspark.core.errors import BadRequestError, MtsparkError
from mtspark.train.checkpoint.agent import Agent, save_agent
from mtspark.train.config import sizes
from mtspark.train.config.ablation import AblationSettings
from mtspark.train.config.games import TrainConfig
from mtspark.train.config.images import ImageConfig
from mtspark.train.config.recipe import to_config
from mtspark.train.networks.config import NetworkConfig
from mtspark.train.rl.distil import load_teachers
from mtspark.train.runs.setup import STATE, only_run_in
from tests.support.train_commands import call


@pytest.mark.parametrize(
    ("recipe", "option", "text"),
    [
        ("images", "threads=100000000", "threads is 100,000,000, must be at most 1,024"),
        ("images", "epochs=1000000000", "epochs is 1,000,000,000, must be at most"),
        ("images", "batch=1000000000", "batch is 1,000,000,000, must be at most"),
        ("images", "images_per_epoch=[1, 1000000000]", "images_per_epoch is 1,000,000,000, must"),
        ("images", "train_images=1000000000", "train_images is 1,000,000,000, must be at most"),
        ("ablation", "seeds=1000000000", "seeds is 1,000,000,000, must be at most 1,000"),
        ("ablation", "threads=100000000", "threads is 100,000,000, must be at most 1,024"),
        ("ablation", "images=1000000000", "images is 1,000,000,000, must be at most"),
        ("ablation", "test_images=1000000000", "test_images is 1,000,000,000, must be at most"),
        ("ablation", "epochs=1000000000", "epochs is 1,000,000,000, must be at most"),
    ],
)
def test_every_count_of_a_recipe_has_an_upper_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recipe: str, option: str, text: str
) -> None:
    assert call(tmp_path / "run", "--set", option, recipe=recipe) == 2
    assert text in capsys.readouterr().err


def whole_numbers(kind: Any, *above: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every field of a recipe that holds whole numbers, in all its tables, and how it is written.

    Yields:
        Its tables and name; a function of a number that gives what stands in the recipe.
    """
    for name, hint in get_type_hints(kind).items():
        if get_origin(hint) is ClassVar:
            continue
        path, parts = (*above, name), get_args(hint)
        if is_dataclass(hint):
            yield from whole_numbers(hint, *path)
        elif hint in (int, int | None):
            yield path, lambda number: number
        elif get_origin(hint) is tuple and int in parts:
            count = 1 if parts[-1] is Ellipsis else len(parts)
            yield path, lambda number, count=count: [number] * count
        elif get_origin(hint) is tuple and is_dataclass(parts[0]):
            least = {entry.name: 1 for entry in fields(parts[0])}
            for entry in least:
                yield path, lambda number, least=least, entry=entry: [{**least, entry: number}]


@pytest.mark.parametrize("number", [10**13, 2**63 - 1, -1, -(2**63)])
def test_no_whole_number_of_a_recipe_is_without_bounds(number: int) -> None:
    """Every field of every kind, set to a number that nothing can hold or have."""
    open_ended, seen = [], 0
    kinds = {"games": TrainConfig, "images": ImageConfig, "ablation": AblationSettings}
    for kind, schema in kinds.items():
        for path, written in whole_numbers(schema):
            seen += 1
            recipe: dict[str, Any] = {"kind": kind}
            table = recipe
            for name in path[:-1]:
                table = table.setdefault(name, {})
            table[path[-1]] = written(number)
            try:
                to_config(recipe, "recipe")
            except MtsparkError:
                continue
            if path != ("seed",) or number < 0:
                open_ended.append(".".join(path))
    assert not open_ended
    assert seen > 50


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--game", "chess"), "unknown game 'chess'"),
        (("--game", "pong", "--game", "pong"), "games ['pong', 'pong']: at least one, each once"),
        (("--seed", -1), "'--seed'"),
        (("--game", "joust"), "game 'joust': is for several players only"),
        (("--set", "seed=-1"), "seed is -1, must be from 0 to"),
        (("--set", "seed=9223372036854775808"), "seed is 9223372036854775808, must be from 0 to"),
        (("--set", "threads=0"), "threads is 0, must be above 0"),
        (("--set", "threads=100000000"), "threads is 100,000,000, must be at most 1,024"),
        (
            ("--set", "games_per_task=1000000000"),
            "games_per_task is 1,000,000,000, must be at most",
        ),
        (("--set", "rollout_steps=1000000000"), "rollout_steps is 1,000,000,000, must be at most"),
        (
            ("--set", "games_per_task=4096", "--set", "rollout_steps=65536"),
            "rollouts of 268,435,456 decisions, must be at most",
        ),
        (("--set", "epochs=9999999999"), "epochs is 9,999,999,999, must be at most"),
        (("--set", "minibatches=9999999999"), "minibatches is 9,999,999,999, must be at most"),
        (("--set", "total_steps=9999999999999"), "total_steps is 9,999,999,999,999, must be at"),
        (("--set", "replay.capacity=9999999999"), "capacity is 9,999,999,999, must be at most"),
        (("--set", "replay.batch_size=9999999999"), "batch_size is 9,999,999,999, must be at"),
        (("--set", f"seed={'7' * 5000}"), "seed: "),
        (("--set", f"seed={'[' * 5000}"), "seed: "),
        (("--set", "games_per_task=[0]"), "games_per_task is 0, must be at least 1"),
        (("--set", "games_per_task=[1, 2]"), "games_per_task has 2 entries for 1 games"),
        (("--set", "training_sticky_actions=1"), "training_sticky_actions is 1.0, must be from 0"),
        (("--set", "protocol.sticky_action_probability=1.5"), "1.5, 0 to 0.99 can be played"),
        (("--set", "protocol.noop_max=-1"), "protocol.noop_max is -1, 0 to 10000 can be played"),
        (("--set", "protocol.frame_skip=0"), "protocol.frame_skip is 0, 1 to 1000 can be played"),
        (("--set", "network.beta=nan"), "network.beta is nan, must be a finite number"),
        (("--set", "network.threshold=inf"), "network.threshold is inf, must be a finite number"),
        (("--set", "network.time_steps=100001"), "100,001 time steps, 100,000 is the limit"),
        (("--set", "network.hidden=5000000"), "5,000,000 neurons, 4,194,304 is the limit"),
        (("--set", "network.hidden=80000"), "hidden.synapses.weight: 501,760,000 array bytes"),
        (("--set", "network.context_size=-1"), "context_size -1 with context one_hot"),
        (("--set", "distillation_weight=nan"), "distillation_weight is nan, must be a finite"),
        (
            ("--set", "reward_scales=[nan]", "--set", "reward_clipping=false"),
            "reward_scales is nan, must be a finite number",
        ),
        (("--set", "reward_scales=[0.1]"), "reward_scales has 0.1 for pong, of whose rewards only"),
        (("--set", "weight_bits=4"), "weight_bits is 4, but the run learns on floats"),
        (
            ("--set", "algorithm=dqn", "--set", "rollout_steps=8", "--steps", 4999),
            "replay.warmup is 5000, total_steps 4999 gives a game 4999 decisions: nothing would",
        ),
        (("--set", "replay.warmup=-1"), "warmup is -1, must be at least 0"),
        (("--set", "discount=1.5"), "discount is 1.5, must be from 0 to 1"),
        (("--set", "reward_clipping=[true, false]"), "reward_clipping has 2 entries for 1 games"),
        (("--set", "minibatches=5000"), "a rollout has 2048 decisions for 5000 minibatches"),
        (("--set", "replay.update_every=0"), "update_every is 0, must be at least 1"),
        (("--set", "hiden=5"), "hiden: no such field"),
        (("--set", "network.hiden=5"), "network.hiden: no such field, did you mean hidden?"),
        (("--set", "network.observation_shape=[4, 80, 80]"), "gives frames of (4, 84, 84)"),
        (("--set", "kind=chess"), "kind 'chess': choose games, images, ablation"),
        (("--variant", "dqm"), "network.variant 'dqm': choose dqn, dueling-dqn, dsqn"),
        (("--set", "network.constants=mine"), "network.constants 'mine': choose mtspark"),
        (("--variant", "dsqn", "--set", "network.dueling=true"), "dueling is True, dsqn has False"),
        (("--data", "."), "--data: is of image sets"),
        (("--set", "network.hidden=wide"), "network.hidden: "),
        (("--set", "algorithm=a2c"), "algorithm: "),
        (("--set", "network"), "--set network: write name=value"),
        (("--set", "games.deep=1"), "--set games.deep=1: games is no table"),
        (("--device", "tpu"), "device tpu: PyTorch finds no such device here"),
        (("--steps", 0), "'--steps'"),
        (("--steps", "many"), "'--steps'"),
        (("--nonsense",), "--nonsense"),
    ],
)
def test_bad_options_are_one_line_and_code_2(
    options: tuple[object, ...],
    text: str,
    tmp_path: Path,
    trained: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(tmp_path / "run", *options) == 2
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith("error: ")
    assert text in line
    assert output.out == ""
    assert not trained
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"a poem", "not a PyTorch checkpoint"),
        (b"", "not a PyTorch checkpoint"),
        ({"format": "mtspark-agent"}, "no mtspark-training checkpoint"),
        ({"format": "mtspark-training"}, "without network, target"),
        ({"format": "mtspark-training", "state": [1]}, "without network, target"),
        (
            {"format": "mtspark-training", "state": dict.fromkeys(STATE[:-1], 0)},
            "without returns; remove it to start again",
        ),
    ],
    ids=["text", "empty", "agent", "bare", "list", "a key less"],
)
def test_a_corrupt_resume_file_is_one_line_and_code_2(
    content: Any,
    text: str,
    tmp_path: Path,
    trained: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    resume = tmp_path / "resume.pt"
    if isinstance(content, bytes):
        resume.write_bytes(content)
    else:
        torch.save(content, resume)
    assert call(tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(resume) in line
    assert text in line
    assert not trained


def test_an_agent_of_something_else_is_not_overwritten(
    tmp_path: Path, trained: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "agent.pt").write_bytes(b"precious")
    assert call(tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'agent.pt'}: an agent without the run that trained it" in line
    assert not trained
    assert (tmp_path / "agent.pt").read_bytes() == b"precious"


def test_a_second_run_in_a_folder_is_refused_while_the_first_is_there(
    tmp_path: Path, trained: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with only_run_in(tmp_path):
        assert call(tmp_path) == 2
        assert capsys.readouterr().err == (
            f"error: {tmp_path}: another run is training there; "
            "wait for it or choose another folder\n"
        )
        assert call(tmp_path / "other") == 0
        assert not any(folder == tmp_path for _, folder in trained)
    assert call(tmp_path) == 0


@pytest.mark.parametrize("inside", ["", "deeper/still"])
def test_a_file_where_the_folder_should_be(
    inside: str, tmp_path: Path, trained: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert call(tmp_path / "file" / inside) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'file'}: a file, not a folder; choose another folder\n"
    )
    assert not trained


def test_a_folder_that_cannot_be_written(
    tmp_path: Path,
    trained: list[Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Asked of the system, because a privileged user may write everywhere.
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    assert call(tmp_path / "run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}: no permission")
    assert not trained


@pytest.mark.parametrize(
    ("assignment", "text"),
    [
        ("seed=-1", "seed is -1, must be from 0 to"),
        ("learning_rate=-1", "learning_rate is -1.0, must be above 0"),
        ("learning_rate=inf", "learning_rate is inf, must be a finite number"),
        ("gradient_norm=0", "gradient_norm is 0.0, must be above 0"),
        ("images_per_epoch=-5", "images_per_epoch is -5, must be 0 (all of them) or more"),
        ("train_images=-5", "train_images is -5, must be 0 (all of them) or more"),
        ("network.beta=nan", "network.beta is nan, must be a finite number"),
        ("network.hidden=5000000", "5,000,000 neurons, 4,194,304 is the limit"),
    ],
)
def test_bad_options_of_images_are_one_line_and_code_2(
    assignment: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--set", "tasks=mnist", "--set", assignment, "--data", tmp_path / "none")
    assert call(tmp_path / "run", *words, recipe="images") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line
    assert not (tmp_path / "run").exists()


def test_a_grid_of_networks_that_could_not_be_read_again_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path / "run", "--set", "hidden=5000000", recipe="ablation") == 2
    assert "5,000,000 neurons, 4,194,304 is the limit" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_decisions_of_a_game_are_those_of_the_fewest_copies() -> None:
    config = TrainConfig(
        games=("pong", "breakout"),
        games_per_task=(1, 3),
        total_steps=400,
        minibatches=1,
        network=NetworkConfig(tasks=2),
    )
    assert config.decisions_of_a_game == 100
    assert replace(config, schedule="sequential").decisions_of_a_game == 200
    assert replace(config, schedule="interval").decisions_of_a_game == 400


TINY = [
    word
    for field in (
        *("games_per_task=1", "protocol.frame_stack=2", "protocol.screen_size=20"),
        *("minibatches=1", "network.convolutions=[{channels = 3, kernel = 5, stride = 3}]"),
    )
    for word in ("--set", field)
]


@pytest.mark.parametrize("there", [False, True], ids=["new", "existing"])
@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("start_from=nowhere.pt", "nowhere.pt: no such file"),
        ("teachers=nowhere.pt", "nowhere.pt: no such file"),
        ("network.actions=5", "network.actions is 5, pong needs 13"),
    ],
)
def test_a_run_that_cannot_begin_leaves_nothing(
    option: str, text: str, there: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "run"
    if there:
        folder.mkdir(parents=True)
        (folder / "mine.txt").touch()
    assert call(folder, *TINY, "--set", option) == 2
    progress, line = capsys.readouterr().err.splitlines()
    assert progress.startswith("preparing: ")
    assert text in line
    left = [path.name for path in tmp_path.rglob("*")]
    assert left == (["new", "run", "mine.txt"] if there else [])


@pytest.mark.parametrize("changes", [{"observation_shape": (3, 20, 20)}, {"actions": 15}])
def test_a_teacher_sees_and_does_what_its_student_does(
    changes: dict[str, Any], make_agent: Callable[..., Agent], tmp_path: Path
) -> None:
    agent = make_agent()
    path = tmp_path / "agent.pt"
    save_agent(agent, path)
    paths = (str(path), "")
    first, second = load_teachers(paths, agent.tasks, agent.network.config, GameProtocol())
    assert first is not None
    assert (first[1], second) == (0, None)
    student = replace(agent.network.config, **changes)
    with pytest.raises(BadRequestError, match=r"agent\.pt sees frames of \(2, 20, 20\) and has 18"):
        load_teachers(paths, agent.tasks, student, GameProtocol())


def test_a_teacher_of_another_delay_is_refused(
    make_agent: Callable[..., Agent], tmp_path: Path
) -> None:
    agent = make_agent()
    path = tmp_path / "agent.pt"
    save_agent(agent, path)
    delayed = GameProtocol(decision_delay=1)
    with pytest.raises(BadRequestError, match="delay of 0, this run has 1") as caught:
        load_teachers((str(path), ""), agent.tasks, agent.network.config, delayed)
    assert "protocol.decision_delay = 1" in str(caught.value)


def test_compiling_is_refused_where_it_cannot_work(
    trained: list[tuple[TrainConfig, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert call(tmp_path, "--compiled") == 2
    assert "no C++ compiler" in capsys.readouterr().err
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setattr(torch, "__file__", "/a folder/torch/__init__.py")
    assert call(tmp_path, "--compiled") == 2
    assert "a path with a space" in capsys.readouterr().err
    assert not trained


def test_the_program_itself_ends_with_one_line_and_code_2(tmp_path: Path) -> None:
    code = "from mtspark.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "-o", tmp_path / "run", "--game", "chess"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: unknown game 'chess'")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("replay.capacity=100_000_000", "total_steps=200_000_000"),
            ("of memory", "decisions in the replays", "lower replay.capacity"),
        ),
        (
            ("algorithm=pqn", "games_per_task=4096", "rollout_steps=4096"),
            ("of memory", "games_per_task or"),
        ),
    ],
)
def test_a_run_larger_than_memory_is_refused_before_it_begins(
    options: tuple[str, ...],
    words: tuple[str, ...],
    tmp_path: Path,
    trained: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = [word for option in options for word in ("--set", option)]
    assert call(tmp_path / "run", *settings, recipe="pong-dqn") == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert all(word in error for word in words)
    assert not trained
    assert not (tmp_path / "run").exists()


def test_a_large_capacity_that_is_never_filled_is_not_refused(
    tmp_path: Path, trained: list[Any]
) -> None:
    options = ("--set", "replay.capacity=100_000_000", "--steps", 30_000)
    assert call(tmp_path / "run", *options, recipe="pong-dqn") == 0


def test_checkpoints_larger_than_the_disk_are_refused_before_work_begins(
    tmp_path: Path,
    trained: list[Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sizes, "free_disk", lambda _: 10**9)
    assert call(tmp_path / "run", recipe="pong-dqn") == 2
    error = capsys.readouterr().err
    # 200,000 decisions of 84 x 84 pixels and 21 bytes, twice while one checkpoint replaces another.
    assert "checkpoints take 2.8 GB" in error
    assert "1.0 GB are free" in error
    assert call(tmp_path / "run", "--set", "replay.capacity=60_000", recipe="pong-dqn") == 0


def test_what_cannot_work_is_refused_before_pytorch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "resume.pt").write_text("no checkpoint")
    (tmp_path / "file").write_text("")
    refused = {
        ("--game", "nogame", "-o", str(tmp_path / "new")): "unknown game",
        ("--set", "games_per_task=4096", "--set", "rollout_steps=4096"): "of memory",
        ("-o", str(tmp_path / "file")): "not a folder",
        ("-o", str(tmp_path / "text")): "not a PyTorch checkpoint",
    }
    code = (
        "import json, sys\n"
        "from mtspark.cli.main import main\n"
        "for words in json.load(sys.stdin):\n"
        "    sys.argv = ['mtspark', 'train', 'pong', *words]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as end:\n"
        "        assert end.code == 2 and 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(list(refused)),
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    for line, text in zip(done.stderr.splitlines(), refused.values(), strict=True):
        assert text in line


def test_ctrl_c_while_libraries_load_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    code = (
        # In the background of a script, Ctrl-C is ignored.
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from mtspark.cli.start import quiet_interrupts\n"
        "with quiet_interrupts():\n"
        "    import slow\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
