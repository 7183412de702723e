"""Training in environments: what a recipe may say, and what is learned from."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import mtspark
from mtspark.core.environments import (
    NOOP,
    Environment,
    GameProtocol,
    World,
    side_by_side,
    world_task,
)
from mtspark.core.errors import BadRequestError
from mtspark.sim.backends import ReferenceChip
from mtspark.train.checkpoint import load_agent, save_agent
from mtspark.train.config import TrainConfig, to_config
from mtspark.train.config.games import ReplayConfig
from mtspark.train.networks import MTSparkNetwork, NetworkConfig
from mtspark.train.rl.collect import Games, Step, TaskGames
from mtspark.train.rl.run import make_trainer, train
from mtspark.train.runs import check_request
from tests.support.worlds import Shows, cartpole, register, register_door

SMALL = {"games_per_task": 4, "rollout_steps": 8, "minibatches": 2, "total_steps": 64}


def config(**changes: Any) -> TrainConfig:
    made = to_config({"games": ["CartPole-v1"], **SMALL, **changes}, "recipe")
    assert isinstance(made, TrainConfig)
    return made


def test_the_network_follows_from_the_spaces() -> None:
    network = config().network
    assert network.observation_shape == (1, 4, 1)
    assert (network.convolutions, network.actions, network.input) == ((), 2, "values")
    index = to_config({"games": "FrozenLake-v1", **SMALL}, "recipe")
    assert isinstance(index, TrainConfig)
    assert index.network.observation_shape == (1, 16, 1)
    assert (index.network.actions, index.network.input) == (4, "spikes")


class Faint(Shows):
    """Shows a number that hardly changes, one that is always the same, and one that changes."""

    def __init__(self, faint: float = 1e-8) -> None:
        super().__init__(spaces.Box(-np.inf, np.inf, (3,), np.float64))
        self._faint = faint

    def observation(self) -> Any:
        """A draw of the seed's own."""
        one, other = self.np_random.normal(size=2)
        return np.array([one * self._faint, 0.1 + 0.2, other])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.taken.clear()
        return self.observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        _, *rest = super().step(action)
        return (self.observation(), *rest)


@pytest.mark.parametrize("faint", [1e-8, 0.0, 1.0])
def test_a_number_that_is_sent_as_a_constant_though_it_changes_is_told(faint: float) -> None:
    gymnasium.register("Faint-v0", lambda: Faint(faint), disable_env_checker=True)
    try:
        game = TaskGames(world_task(Environment("Faint-v0")), GameProtocol(), 2, 1, seed=1)
    finally:
        del gymnasium.registry["Faint-v0"]
    assert game.task.environment is not None
    sent = game.task.environment.found
    assert (sent.deviation[0] == 1) == (faint < 1)
    assert sent.deviation[1] == 1  # what the sums round off is no change
    if faint == 1e-8:
        (note,) = game.notes
        assert note.startswith("Faint-v0: of the numbers that it shows, those at 0 (from 0) have ")
    else:
        assert game.notes == ()


class Unseeded(Faint):
    """Ignores its seed from some decision on; or what it showed before changes what follows."""

    def __init__(self, after: int, *, counts: bool = False) -> None:
        super().__init__(1.0)
        self._after, self._counts, self._resets = after, counts, 0

    def observation(self) -> Any:
        if self.decisions == self._after:
            self.np_random = np.random.default_rng()
        return super().observation()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.decisions, self._resets = 0, self._resets + 1
        shift = self._resets if self._counts else 0
        return super().reset(seed=None if seed is None else seed + shift, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.decisions += 1
        return super().step(action)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (partial(Unseeded, 0), True),
        (partial(Unseeded, 2), True),
        (partial(Unseeded, -1), False),
        (partial(Unseeded, -1, counts=True), True),
    ],
)
def test_an_environment_that_ignores_its_seed_is_told(made: Any, told: bool) -> None:
    gymnasium.register("Unseeded-v0", made, disable_env_checker=True)
    try:
        game = TaskGames(world_task(Environment("Unseeded-v0")), GameProtocol(), 2, 1, seed=1)
    finally:
        del gymnasium.registry["Unseeded-v0"]
    notes = [note for note in game.notes if "another course from the same seed" in note]
    assert bool(notes) == told


def test_a_run_tells_of_a_rate_that_nobody_stated(tmp_path: Path) -> None:
    class Timeless(Shows):
        def __init__(self, seen: spaces.Space[Any]) -> None:
            super().__init__(seen)
            self.metadata = {"render_modes": []}

    seen = spaces.Box(-1, 1, (2,), np.float64)
    gymnasium.register("Timeless-v0", lambda: Timeless(seen), disable_env_checker=True)
    try:
        small: dict[str, Any] = {"games": ["Timeless-v0"], "total_steps": 64}
        silent = train(config(**small), tmp_path / "silent")
        asked = [{"id": "Timeless-v0", "decisions_per_s": 30.0}]
        told = train(config(**small, environments=asked), tmp_path / "told")
    finally:
        del gymnasium.registry["Timeless-v0"]
    assert next(note for note in silent.notes if "render_fps" in note).startswith("Timeless-v0: ")
    assert not [note for note in told.notes if "render_fps" in note]


def test_settings_of_an_environment_reach_its_spaces() -> None:
    wrapper = {"name": "TimeAwareObservation", "arguments": {"flatten": True}}
    made = config(environments=[{"id": "CartPole-v1", "wrappers": [wrapper], "max_steps": 9}])
    assert made.network.observation_shape == (1, 5, 1)
    assert made.environments[0].max_steps == 9


PICTURE = spaces.Dict({"place": spaces.Box(-1, 1, (2,)), "rgb": spaces.Box(0, 255, (8, 8, 3))})


@pytest.mark.parametrize("name", ["", "left"])
@pytest.mark.parametrize("context", ["dendrites", "one_hot"])
def test_a_run_begins_where_the_settings_make_an_environment_fit(
    name: str, context: str, tmp_path: Path
) -> None:
    """It is looked at with them: without, this one cannot be made, nor sent."""
    gymnasium.register(
        "Picture-v0", lambda *, side: Shows({"left": PICTURE}[side]), disable_env_checker=True
    )
    own = {"id": "Picture-v0", "arguments": {"side": "left"}, "entries": ["place"], "name": name}
    fields = {"games": [name or "Picture-v0", "CartPole-v1"], "task_context": context}
    try:
        check_request(config(**fields, environments=[own]), tmp_path / "run")
        del own["entries"]
        with pytest.raises(BadRequestError, match="entry rgb is Box"):
            config(**fields, environments=[own])
        with pytest.raises(BadRequestError, match=r"unknown environment 'None-v0'"):
            check_request(replace(config(), games=("None-v0",)), tmp_path / "run")
    finally:
        del gymnasium.registry["Picture-v0"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"games": ["CartPole-v1", "pong"]}, "ALE's games and environments see other things"),
        ({"network": {"input": "pixels"}}, "CartPole-v1 is seen as values or spikes"),
        ({"network": {"input": "sounds"}}, "choose pixels, values, spikes"),
        ({"environments": [{"id": "Acrobot-v1"}]}, "environments has ['Acrobot-v1']"),
        ({"environments": [{"id": "CartPole-v1", "gravity": 3}]}, "gravity: no such field"),
        ({"environments": [{"id": "CartPole-v1", "actions": 2}]}, "must be left out"),
        ({"games": ["Pendulum-v1"]}, "takes numbers (a Box of actions), algorithm pqn"),
        ({"algorithm": "sac"}, "takes one of a list of actions, algorithm sac"),
        (
            {"games": ["Pendulum-v1"], "algorithm": "sac", "quantisation_aware": True},
            "quantisation_aware: is of action values",
        ),
        (
            {"games": ["Pendulum-v1"], "algorithm": "sac", "sac": {"target_rate": 2.0}},
            "target_rate is 2.0, must be at most 1",
        ),
        ({"games": ["NoSuchThing-v1"]}, "unknown environment 'NoSuchThing-v1'"),
        (
            {"environments": [{"id": "CartPole-v1", "reward_range": [0, 1]}]},
            "reward_range of CartPole-v1: only the sign of its rewards is learned",
        ),
        ({"protocol": {"frame_skip": 2}}, "protocol: is of ALE's games, and CartPole-v1 is an"),
        ({"training_sticky_actions": 0.25}, "training_sticky_actions: is of ALE's games"),
        ({"life_loss_is_terminal": True}, "life_loss_is_terminal: is of ALE's games"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_one_line(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadRequestError) as error:
        config(**changes)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_tasks_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="more than one task would be called CartPole-v1; give"):
        TrainConfig(games=("CartPole-v1", "own:CartPole-v1"))


def test_rewards_are_clipped_to_their_range_where_they_are_learned() -> None:
    made = config(
        environments=[{"id": "CartPole-v1", "reward_range": [-0.5, 0.25]}],
        reward_clipping=False,
        reward_scales=[2.0],
    )
    task = cartpole(reward_range=(-0.5, 0.25))
    games = Games(made, (task,))
    none = np.zeros(4, dtype=bool)
    step = Step(np.array([1.0, -3.0, 0.1, 0.0]), none, none, ~none)
    assert games.learned_rewards((0,), (step,)).tolist() == pytest.approx([0.5, -1.0, 0.2, 0.0])


@pytest.mark.parametrize("far", [1e20, 1e200, 1e307])
@pytest.mark.filterwarnings("error:.*encountered:RuntimeWarning")
def test_statistics_that_no_file_could_hold_are_refused(far: float) -> None:
    register("Far-v0", spaces.Box(-far, far, (2,), np.float64))
    with pytest.raises(BadRequestError, match=r"Far-v0: shows numbers .* at most 1e\+18 can be"):
        TaskGames(world_task(Environment("Far-v0")), config().training_protocol, 3, 1, seed=4)
    gymnasium.registry.pop("Far-v0")


def test_statistics_change_between_updates_only_and_are_those_of_all_that_was_seen() -> None:
    task = world_task(Environment("CartPole-v1"))
    games = TaskGames(task, config().training_protocol, 3, 1, seed=4)
    games.start()
    assert games.statistics is not None
    assert games.task.environment is not None
    before, measured = games.task.environment.found, games.statistics.count
    assert measured == 8 * 64
    world = games._games
    rows = []
    for step in range(40):
        games.send(np.full(3, step % 2))
        games.receive(life_loss_is_terminal=False)
        rows.append(world.values.copy())  # type: ignore[attr-defined]
        seen = np.rint((rows[-1] - before.mean) / before.deviation * 32).clip(-127, 127)
        assert np.array_equal(games.frames.numpy()[:, 0, :, 0], seen)
    games.take_statistics()
    after = games.task.environment.found
    assert after != before
    first, new = np.array(before.mean), np.concatenate(rows)
    expected = (first * measured + new.sum(0)) / (measured + len(new))
    assert np.allclose(after.mean, expected, rtol=1e-9, atol=1e-12)
    assert games.statistics.count == measured + len(new)


AGENT = Path(__file__).parents[2] / "examples" / "agents" / "cartpole" / "cartpole.pt"


def test_a_run_starts_from_the_statistics_of_its_agent() -> None:
    small = {"hidden": 128, "dendrite_segments": 0, "time_steps": 8}
    trainer = make_trainer(config(start_from=str(AGENT), network=small))
    known = load_agent(AGENT).tasks[0]
    assert trainer.games.tasks == (known,)
    trainer.update()
    assert known.environment is not None
    (task,) = trainer.games.tasks
    assert task.environment is not None
    now, before = task.environment.found, known.environment.found
    assert now != before
    assert np.allclose(now.mean, before.mean, atol=2e-3)
    assert np.allclose(now.deviation, before.deviation, rtol=2e-3)


def test_a_teacher_with_statistics_of_its_own_is_refused() -> None:
    with pytest.raises(BadRequestError, match="statistics of its own"):
        make_trainer(config(teachers=[str(AGENT)]))


def test_signed_frames_are_deviations_to_the_network() -> None:
    """One neuron by hand: 32 messages are one deviation, and no mean is taken off the weights."""
    shape = NetworkConfig(
        observation_shape=(1, 4, 1),
        convolutions=(),
        hidden=1,
        actions=2,
        dendrite_segments=0,
        time_steps=1,
        input="values",
    )
    network = MTSparkNetwork(shape)
    with torch.no_grad():
        network.hidden.synapses.weight[:] = torch.tensor([[3.0, 3.0, 3.0, 3.0]])
        network.hidden.synapses.bias[:] = 0
    # 2 w / (rms sqrt(fan in)) = 1 for equal weights of four inputs.
    assert torch.allclose(network.hidden.folded_weight(), torch.ones(1, 4))
    frames = torch.tensor([[-32, 32, 16, 0], [32, 0, 16, 0], [127, -127, 0, 0]], dtype=torch.int8)
    current = network.hidden.current(frames.float() / 32)
    assert current.flatten().tolist() == pytest.approx([0.5, 1.5, 0.0])
    with torch.no_grad():
        network.advantage.weight[:] = torch.tensor([[1.0], [0.0]])
        assert network.value is not None
        network.value.weight[:] = 0
        values = network(frames.view(3, 1, 4, 1), torch.zeros(3, dtype=torch.long))
    # Only the second frame's current, 1.5, is above the threshold of 1.
    assert values[:, 0].tolist() == pytest.approx([0.0, 0.5, 0.0])


@pytest.mark.slow
def test_tasks_that_see_different_things_have_places_of_their_own(tmp_path: Path) -> None:
    """CartPole's numbers, FrozenLake's square and Taxi's state in one network, to the chip."""
    names = ("CartPole-v1", "FrozenLake-v1", "CliffWalking-v1")
    made = config(games=names, final_exploration=1.0, network={"hidden": 16, "time_steps": 3})
    assert made.network.observation_shape == (1, 4 + 16 + 48, 1)
    assert (made.network.input, made.network.actions) == ("values", 4)
    trainer = make_trainer(made)
    trainer.update()
    frames = trainer.observe().view(3, 4, 68)
    assert frames.dtype == torch.int8
    places = [(0, 4), (4, 20), (20, 68)]
    for task, (start, end) in enumerate(places):
        elsewhere = [place for place in range(68) if not start <= place < end]
        assert not frames[task][:, elsewhere].any()
    # One flag, the number 1: 32 messages are a deviation.
    assert (frames[1:].abs().sum(2) == 32).all()
    save_agent(trainer.agent(), tmp_path / "agent.pt")
    agent = load_agent(tmp_path / "agent.pt")
    assert [task.environment.found.start for task in agent.tasks if task.environment] == [0, 4, 20]
    chip = mtspark.export(agent)
    for row, name in enumerate(names):
        played = chip.play(name, max_decisions=5, seed=3, backend="reference")
        (task,) = [one for one in agent.tasks if one.name == name]
        assert task.environment is not None
        world = World(task.environment)
        world.reset(3)
        for action in played.run.episodes[0].actions:
            answer = ReferenceChip(chip.network).decide(world.observe()[None], row)
            assert int(answer.values[0, list(task.legal_actions)].argmax()) == action
            world.act(action)


def test_tasks_that_see_too_much_together_are_refused() -> None:
    pole, taxi = (world_task(Environment(name)) for name in ("CartPole-v1", "Taxi-v4"))
    assert side_by_side((taxi, taxi)) == (taxi, taxi)
    with pytest.raises(BadRequestError, match=r"1,504 values together \(CartPole-v1 4, Taxi-v4 5"):
        side_by_side((pole, taxi, taxi, taxi))


def test_masked_actions_are_never_played_also_when_a_run_goes_on() -> None:
    """The environment fails at an action that it did not allow."""
    register_door()
    fields = {"games": ["Door-v0"], **SMALL, "final_exploration": 0.5, "exploration_longest": 4}
    made = to_config(fields, "recipe")
    assert isinstance(made, TrainConfig)
    trainer = make_trainer(made)
    allowed = []
    for _ in range(4):
        rollout = trainer.roll_out()  # type: ignore[attr-defined]
        # A state's best next action is one of those that it allows.
        states = rollout["next_frames"].flatten(0, 1)[:, 0, :, 0].argmax(1)
        allowed.append((states + rollout["next_greedy"].flatten()) % 3 != 0)
    state = trainer.state()
    again = make_trainer(made)
    assert again.restore(state) == ()
    assert torch.equal(again.observe(), trainer.observe())
    again.update()
    with pytest.raises(BadRequestError, match="Door-v0 allows some of its actions at a time"):
        make_trainer(replace(made, algorithm="dqn", replay=ReplayConfig(warmup=8)))
    gymnasium.registry.pop("Door-v0")
    assert torch.cat(allowed).float().mean() > 0.7  # all but the last states of episodes


def test_an_environment_has_an_action_that_fills_replays() -> None:
    """Resumed runs press it before their episodes begin."""
    assert NOOP in cartpole().legal_actions
    assert Environment("CartPole-v1").max_steps == 0
