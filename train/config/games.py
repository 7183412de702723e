"""Configuration of a training run on games."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, ClassVar, Literal

from mtspark.core.environments import Environment, GameProtocol, why_not_playable
from mtspark.train.config.checks import (
    LARGEST_BATCH,
    MOST_PASSES,
    MOST_STEPS,
    MOST_THREADS,
    check_above_zero,
    check_at_most,
    check_finite,
    check_seed,
)
from mtspark.train.config.offline import OFFLINE, OfflineConfig
from mtspark.train.config.plasticity import PlasticityConfig
from mtspark.train.config.ppo import PpoConfig
from mtspark.train.config.pruning import PruningConfig
from mtspark.train.config.sac import SacConfig
from mtspark.train.config.tasks import TaskContext, are_worlds, run_environments
from mtspark.train.networks import NetworkConfig

PER_GAME = (
    *("games_per_task", "exploration_ladder", "reward_clipping", "reward_scales", "teachers"),
    "operation_penalties",
)
"""Fields that may have an entry for each game of a recipe."""
OF_CONSOLES = ("protocol", "training_sticky_actions", "life_loss_is_terminal")
"""Fields that only ALE's games have."""
POSITIVE = (
    *("total_steps", "rollout_steps", "epochs", "minibatches", "learning_rate", "gradient_norm"),
    *("exploration_fraction", "exploration_longest", "distillation_temperature"),
    *("switch_every_steps", "threads", "checkpoint_every_steps", "switch_episodes"),
)
LARGEST = {
    "total_steps": MOST_STEPS,
    "switch_every_steps": MOST_STEPS,
    "checkpoint_every_steps": MOST_STEPS,
    "switch_episodes": 10**6,
    "games_per_task": 4096,
    "exploration_longest": 10_000,
    "rollout_steps": 2**16,
    "epochs": MOST_PASSES,
    "minibatches": MOST_PASSES,
    "threads": MOST_THREADS,
}
LARGEST_ROLLOUT = 2**24
"""Decisions between two updates; a frame stack takes 28 kB of memory for each."""
LARGEST_REPLAY = {
    "capacity": 10**9,
    "batch_size": LARGEST_BATCH,
    "update_every": MOST_STEPS,
    "target_every": MOST_STEPS,
}
SHARES = (
    *("discount", "trace", "final_exploration", "target_rate", "final_distillation_fraction"),
    "final_learning_rate_fraction",
)


@dataclass(frozen=True)
class ReplayConfig:
    """The replays of double DQN and soft actor-critic, one a task.

    Attributes:
        capacity: decisions that a replay keeps.
        warmup: decisions of a task before it is learned.
        batch_size: transitions of each active task in a gradient step.
        update_every: decisions for one gradient step.
        target_every: gradient steps between two copies into the target network.

    Raises:
        ValueError: a number below 1, or a warmup above the capacity.
    """

    capacity: int = 100_000
    warmup: int = 5_000
    batch_size: int = 32
    update_every: int = 4
    target_every: int = 2_000

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("capacity", "batch_size", "update_every", "target_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1")
        check_at_most(self, LARGEST_REPLAY)
        if self.warmup < 0:
            raise ValueError(f"warmup is {self.warmup}, must be at least 0")
        if self.warmup > self.capacity:
            raise ValueError(f"warmup {self.warmup} is more than the capacity {self.capacity}")


@dataclass(frozen=True)
class TrainConfig:
    """One training run on games.

    Attributes:
        algorithm: pqn (vectorised games, no replay) or dqn (double DQN, a replay a task) where an
            action is one of a list; sac (soft actor-critic, a replay a task) where it is numbers;
            ppo (proximal policy optimisation, vectorised games, no replay) for either. iql
            (implicit Q-learning) for either and bcq (batch-constrained Q-learning) for a list learn
            from recorded data and play nothing.
        schedule: interleaved, sequential, interval or performance, see
            :class:`mtspark.train.rl.schedule.Schedule`.
        switch_every_steps: of the schedule interval.
        switch_episodes, switch_change: of the schedule performance.
        games: ALE games, or ids of gymnasium's environments, in the order of the task context.
        environments: settings of these environments, by their name or id; the others have their
            defaults.
        task_context: how the network is told which of several tasks it plays: dendrites
            (thresholds of its own; where the network has them), one_hot (a flag of each task in
            what it sees: an entry of the observation, or a block in the bottom rows of an ALE
            game's frames) or both.
        total_steps: agent decisions over all games; gradient steps of iql and bcq. Learning rate
            and lessons fall over all of them; with the schedule sequential, anew over each game's
            share. A run that is resumed with another number keeps the falls that it began with: in
            decisions beyond them, learning rate, lessons and exploration stay at their floors, and
            the last game plays.
        games_per_task: copies of each game that play together; one number for all games, or
            one for each.
        rollout_steps: decisions that a copy plays between two updates; of iql and bcq, gradient
            steps of an update.
        epochs: passes over a rollout (pqn, ppo).
        minibatches: minibatches an epoch (pqn, ppo).
        learning_rate: RAdam's, at the start; Adam's (sac, ppo).
        final_learning_rate_fraction: the learning rate falls linearly to this fraction.
        gradient_norm: gradients are clipped to this norm.
        discount: gamma, per decision.
        trace: lambda of the lambda returns (pqn) or advantages (ppo).
        final_exploration: epsilon after its fall from 1.
        exploration_fraction: epsilon falls linearly over this fraction of `total_steps`, or share.
        exploration_ladder: for each game, 0 or a rate; with a rate, its copies explore at rates
            spread geometrically from this one to a hundredth of it, instead of all at
            `final_exploration` (Horgan et al. 2018, arXiv:1803.00933). Empty: no game has one.
        exploration_longest: a random action is held for up to this many decisions, n of them with
            a chance proportional to 1 / n^2 (Dabney et al. 2020, arXiv:2006.01782); 1: for one.
        favoured_action: index of an action that the untrained network prefers; None: none. Of one
            game. Where rewards come only after seconds of one action, as in Enduro, whose car
            stands until FIRE (1) accelerates it, random actions seldom meet any.
        target_rate: share of the online network mixed into the target after each rollout (pqn).
        rescale_values: learn h(Q), h(x) = sign(x)(sqrt(|x|+1)-1) + 0.001x (Pohlen et al.
            2018, arXiv:1805.11593), so that games with large returns do not dominate the loss.
        reward_clipping: learn the sign of a reward; one value for all games, or one for each.
        reward_scales: without clipping, a factor for the rewards of each game; empty: 1.
        life_loss_is_terminal: a lost life ends the learned return, not the episode.
        teachers: an agent file for each game, or "" where the game is learned from its
            rewards; empty: no game has one. A taught game is learned by policy distillation
            on the student's own play (Rusu et al. 2016, arXiv:1511.06295).
        distillation_temperature: action values are divided by this before the softmax.
        distillation_weight: weight of a taught game's loss, times the temperature.
        final_distillation_fraction: the weight falls linearly to this fraction.
        taught_from_rewards: a taught game is learned from its rewards, too, so that the
            student can surpass its teacher (Schmitt et al. 2018, arXiv:1803.03835).
        replay: of dqn and sac; targets of sac follow `sac.target_rate`. Of iql and bcq, its
            batch_size counts.
        sac: of sac.
        ppo: of ppo.
        offline: of iql and bcq.
        operation_penalties: for each game, what 100,000 synaptic operations of a decision add to
            its loss; 0 counts operations without a price; empty: they are not counted.
        pruning: which synapses are cut, and when.
        quiet_biases: biases stay so low that no neuron fires without input; on the chip, a layer
            then sends nothing outside of its window, while the pipeline drains.
        plasticity: what is measured of it, and done for it.
        start_from: an agent file of the same games and network, whose weights the run starts with;
            its number of steps may differ.
        quantisation_aware: act and learn on the chip's integers, by
            :mod:`mtspark.train.quantised.twin`.
        weight_bits: of these integers, 2 to 8.
        device: cpu or cuda.
        seed: of weights, games and exploration.
        threads: CPU threads of PyTorch.
        bfloat16: products in bfloat16; membranes stay float32. With `quantisation_aware`, those of
            gradients alone: what acts stays the chip's integers.
        compiled: fuse the neurons' steps with torch.compile.
        checkpoint_every_steps: decisions between two checkpoints, fewer at the start of a run.
            Checkpoints do not change what is learned.
        protocol: how the games are played.
        training_sticky_actions: chance of a repeated action in the games that the run learns
            from; None: the protocol's. Sticky actions keep an agent from memorising one course of
            events (Machado et al. 2018, arXiv:1709.06009); its score is still by `protocol`.
        network: sizes of the network.
    """

    # An unknown field of a recipe, here or in a table, is an error.
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    games: tuple[str, ...] = ("pong",)
    environments: tuple[Environment, ...] = ()
    task_context: TaskContext = "dendrites"
    algorithm: Literal["pqn", "dqn", "sac", "ppo", "iql", "bcq"] = "pqn"
    schedule: Literal["interleaved", "sequential", "interval", "performance"] = "interleaved"
    switch_every_steps: int = 100_000
    switch_episodes: int = 25
    switch_change: float = 0.1
    total_steps: int = 2_500_000
    games_per_task: tuple[int, ...] = (64,)
    rollout_steps: int = 32
    epochs: int = 2
    minibatches: int = 12
    learning_rate: float = 5e-4
    final_learning_rate_fraction: float = 0.1
    gradient_norm: float = 10.0
    discount: float = 0.99
    trace: float = 0.65
    final_exploration: float = 0.01
    exploration_fraction: float = 0.15
    exploration_ladder: tuple[float, ...] = ()
    exploration_longest: int = 1
    favoured_action: int | None = None
    target_rate: float = 0.2
    rescale_values: bool = False
    reward_clipping: bool | tuple[bool, ...] = True
    reward_scales: tuple[float, ...] = ()
    life_loss_is_terminal: bool = False
    teachers: tuple[str, ...] = ()
    distillation_temperature: float = 0.02
    distillation_weight: float = 0.5
    final_distillation_fraction: float = 1.0
    taught_from_rewards: bool = False
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    sac: SacConfig = field(default_factory=SacConfig)
    ppo: PpoConfig = field(default_factory=PpoConfig)
    offline: OfflineConfig = field(default_factory=OfflineConfig)
    operation_penalties: tuple[float, ...] = ()
    pruning: PruningConfig = field(default_factory=PruningConfig)
    quiet_biases: bool = False
    plasticity: PlasticityConfig = field(default_factory=PlasticityConfig)
    start_from: str = ""
    quantisation_aware: bool = False
    weight_bits: int = 8
    device: str = "cpu"
    seed: int = 1
    threads: int = 1
    bfloat16: bool = True
    compiled: bool = False
    checkpoint_every_steps: int = 400_000
    protocol: GameProtocol = field(default_factory=GameProtocol)
    training_sticky_actions: float | None = None
    network: NetworkConfig = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        """Check the numbers, and how they fit the games.

        Raises:
            ValueError: numbers of entries that do not fit the games, or out of range.
        """
        check_finite(self)
        check_seed(self.seed)
        problem = why_not_playable(self.protocol)
        if problem is not None:
            raise ValueError(f"protocol.{problem}")
        games = len(self.games)
        if not games or len(set(self.games)) < games:
            raise ValueError(f"games {list(self.games)}: at least one, each once")
        self._check_worlds()
        for name in PER_GAME:
            if name == "reward_clipping":
                continue
            entries = len(getattr(self, name))
            allowed = {games, 1} if name == "games_per_task" else {games, 0}
            if entries not in allowed:
                raise ValueError(f"{name} has {entries} entries for {games} games")
        if len(self.clipped) != games:
            raise ValueError(f"reward_clipping has {len(self.clipped)} entries for {games} games")
        if self.network.tasks != games:
            raise ValueError(f"network.tasks is {self.network.tasks}, {games} games are given")
        check_above_zero(self, POSITIVE)
        check_at_most(self, LARGEST)
        if min(self.games_per_task) < 1:
            raise ValueError(f"games_per_task is {min(self.games_per_task)}, must be at least 1")
        if not all(0 <= rate <= 1 for rate in self.exploration_ladder):
            raise ValueError("exploration_ladder has rates outside 0 to 1")
        if not all(penalty >= 0 for penalty in self.operation_penalties):
            raise ValueError("operation_penalties has a number below 0")
        if self.operation_penalties and self.network.neuron != "lif":
            raise ValueError(
                f"operation_penalties: the neurons are {self.network.neuron}, and operations are "
                'counted of spikes; leave the penalties out, or set network.neuron = "lif"'
            )
        self._check_favoured_action()
        if self.quiet_biases and self.network.neuron != "lif":
            raise ValueError(
                f"quiet_biases: the neurons are {self.network.neuron} and do not fire; leave it out"
            )
        self._check_pruning()
        if not 2 <= self.weight_bits <= 8:
            raise ValueError(f"weight_bits is {self.weight_bits}, must be from 2 to 8")
        if not 0 <= (self.training_sticky_actions or 0) < 1:
            raise ValueError(
                f"training_sticky_actions is {self.training_sticky_actions}, "
                "must be from 0 up to below 1"
            )
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be from 0 to 1")
        if not self.worlds and self.protocol.observation_shape != self.network.observation_shape:
            raise ValueError(
                f"the protocol gives frames of {self.protocol.observation_shape}, "
                f"network.observation_shape is {self.network.observation_shape}"
            )
        self._check_rollout()
        self._check_effects()
        self._check_state()

    def _check_worlds(self) -> None:
        """Check that environments fit each other and the network."""
        names = [one.key for one in self.environments]
        strangers = [name for name in names if name not in self.games]
        if strangers or len(set(names)) < len(names):
            raise ValueError(f"environments has {names} for the games {list(self.games)}")
        worlds = are_worlds(self.games, self.environments)
        if any(worlds) and not all(worlds):
            raise ValueError(
                f"games {list(self.games)}: ALE's games and environments see other things; train "
                "an agent for each"
            )
        if any(worlds):
            self._check_names()
            self._check_of_consoles()
        self._check_context()
        if any(worlds) == (self.network.input == "pixels"):
            seen = "pixels" if self.network.input != "pixels" else "values or spikes"
            raise ValueError(
                f"network.input is {self.network.input!r}, {self.games[0]} is seen as {seen}"
            )

    def _check_names(self) -> None:
        """Check that each task in an environment has a name of its own."""
        found = run_environments(self.games, self.environments, self.task_context)
        names = [one.task_name for one in found]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(
                f"games {list(self.games)}: more than one task would be called {twice}; give them "
                "names in [[environments]]"
            )

    def _check_of_consoles(self) -> None:
        """Check for settings of ALE's games, which would have no effect in an environment."""
        standard = {"protocol": GameProtocol()}
        for name in OF_CONSOLES:
            if getattr(self, name) != standard.get(name, getattr(TrainConfig, name, None)):
                raise ValueError(
                    f"{name}: is of ALE's games, and {self.games[0]} is an environment, which has "
                    "decision_delay, max_steps and wrappers (StickyAction) of its own in "
                    "[[environments]]; leave it out"
                )

    def _check_context(self) -> None:
        """Check that what tells tasks apart is there, and is needed."""
        context, segments = self.task_context, self.network.dendrite_segments
        if context == "dendrites":
            return
        if len(self.games) == 1:
            raise ValueError(
                f"task_context is {context!r}, but one game has no other to be told from; leave it "
                "out"
            )
        if not self.worlds and len(self.games) > self.protocol.screen_size:
            raise ValueError(
                f"task_context is {context!r}: frames of {self.protocol.screen_size} pixels show "
                f"which of at most as many games it is, these are {len(self.games)}; use "
                "dendrites"
            )
        if (context == "both") != bool(segments):
            raise ValueError(
                f"task_context is {context!r}, network.dendrite_segments {segments}: one_hot has "
                "none, both at least 1"
            )

    def _check_favoured_action(self) -> None:
        if self.favoured_action is None:
            return
        if len(self.games) > 1 or self.start_from:
            raise ValueError(
                f"favoured_action is {self.favoured_action}, but this run "
                + (
                    "starts from a trained network"
                    if self.start_from
                    else f"has {len(self.games)} games, whose actions share a head"
                )
                + "; leave it out"
            )
        if not 0 <= self.favoured_action < self.network.actions:
            raise ValueError(
                f"favoured_action is {self.favoured_action}, must be from 0 to "
                f"{self.network.actions - 1}"
            )

    def _check_pruning(self) -> None:
        if self.network.experts and self.plasticity.redo_every:
            raise ValueError(
                "plasticity.redo_every: a neuron shares its weights of the head with those of the "
                "other experts, so they cannot be set to 0 for it; leave one out"
            )
        pruning, paths = self.pruning, self.pruning.method == "pathways"
        owner = "pathway_layers" if paths else "masked_layers"
        missing = sorted(set(pruning.layers) - set(getattr(self.network, owner)))
        if missing:
            raise ValueError(f"pruning.layers has {', '.join(missing)}, network.{owner} has not")
        if len(pruning.freeze_returns) not in (0, len(self.games)):
            raise ValueError(
                f"pruning.freeze_returns has {len(pruning.freeze_returns)} entries for "
                f"{len(self.games)} games"
            )
        if pruning.reopen and not self.start_from:
            raise ValueError(
                "pruning.reopen: a new network has all its synapses; set start_from to an agent "
                "that has cut some, or leave it out"
            )
        if pruning.scope == "critics" and self.algorithm not in ("sac", "ppo"):
            raise ValueError(
                f"pruning.scope is 'critics', algorithm {self.algorithm}: those of sac and ppo are "
                "cut; set another scope or leave it out"
            )
        renewing = self.plasticity.redo_every or self.plasticity.reset_every
        if pruning.scope == "critics" and self.algorithm == "sac" and renewing:
            raise ValueError(
                "pruning.scope is 'critics': plasticity.redo_every and reset_every give critics "
                "new weights where synapses are cut; leave one of them out"
            )
        self._check_cuts_happen()
        self._check_renewals_happen()
        self._check_pretraining()
        self._check_integers()
        if not self.network.pathway_layers:
            return
        if self.schedule != "interleaved" and len(self.games) > 1:
            raise ValueError(
                f"schedule is {self.schedule!r}: paths are chosen for all tasks of an update; use "
                "schedule = 'interleaved'"
            )
        if self.quantisation_aware:
            raise ValueError(
                "quantisation_aware: a chip holds one set of synapses, not a pathway for each "
                "task; leave it out, or export one task and fine-tune that agent, unless the tasks "
                "have places of their own in one frame"
            )

    def _check_integers(self) -> None:
        """Check that a run on integers learns what a chip holds for all of its tasks at once."""
        own = self.network.by_task
        if not self.quantisation_aware or not own or self.network.pathway_layers:
            return
        remedies = {
            "network.heads = 'shared'": self.network.heads == "task",
            "network.expert_gate = 'current'": bool(self.network.experts)
            and self.network.expert_gate != "current",
        }
        wanted = " and ".join(name for name, helps in remedies.items() if helps)
        raise ValueError(
            f"quantisation_aware: the tasks have {own}, and a chip holds one network for all of "
            f"them; set {wanted}, or leave it out"
        )

    def _check_cuts_happen(self) -> None:
        """Check that synapses are cut, exchanged or chosen while the run can still learn."""
        pruning = self.pruning
        if not pruning.layers or pruning.method == "static":
            return
        together, every = self._decisions_together(), pruning.every_updates
        updates = ceil(self.total_steps / together)
        last = updates // every * every
        learns = self._first_learning_update()
        ending = ceil(pruning.end * self.total_steps / together)
        begun = max(learns, ceil(pruning.start * self.total_steps / together))
        if learns > 1 and learns >= ending:
            raise ValueError(
                f"pruning.end is {pruning.end:g} of {self.total_steps:,} decisions, and nothing is "
                f"learned before update {learns:,}, after {learns * together:,} (replay.warmup); "
                "raise pruning.end or total_steps, or lower replay.warmup"
            )
        if pruning.method == "magnitude":
            # It also cuts in the first update after its end; after a single update nothing learns.
            first = min(ceil(learns / every) * every, ending)
            happens, what = first < max(updates, 2), "cut before the last update"
        elif self.schedule != "interleaved":
            happens, what = last > 0, "exchanged"
        elif pruning.method == "evolution":
            first = ceil(begun / every) * every
            happens = first <= updates and first * together < pruning.end * self.total_steps
            what = "exchanged between pruning.start and pruning.end"
        else:
            first = ceil(begun / every) * every
            if pruning.gradual:
                # As magnitude, it looks once more in the first update after its end.
                first = min(first, ending)
            # Otherwise a path that nobody has looked for until `end` is found at the next look.
            happens, what = first < max(updates, 2), "chosen before the last update"
        if not happens:
            raise ValueError(
                f"pruning.every_updates is {pruning.every_updates:,}: of {updates:,} updates of "
                f"{together:,} decisions, none comes at which synapses are {what}; use a smaller "
                "one, or more decisions (total_steps)"
            )

    def _check_renewals_happen(self) -> None:
        """Check that neurons are renewed and heads reset while the run can still learn."""
        updates = ceil(self.total_steps / self._decisions_together())
        learns = self._first_learning_update()
        filling = f", of which {learns - 1:,} only fill the replay," if learns > 1 else ""
        for name in ("redo_every", "reset_every"):
            every = getattr(self.plasticity, name)
            if every and ceil(learns / every) * every >= max(updates, 2):
                raise ValueError(
                    f"plasticity.{name} is {every:,}: the run has {updates:,} updates{filling} and "
                    "ends before it can learn with what is renewed; use a smaller one, or more "
                    "decisions (total_steps)"
                )

    def _decisions_together(self) -> int:
        """Decisions of an update; where one game plays at a time, the fewest that there may be."""
        playing = sum(self.copies) if self.schedule == "interleaved" else min(self.copies)
        return self.rollout_steps * (1 if self.learns_offline else playing)

    def _first_learning_update(self) -> int:
        """The first update that learns, at the earliest: off-policy ones fill a replay first."""
        if self.algorithm not in ("sac", "dqn") or self.schedule != "interleaved":
            return 1
        return max(1, *(ceil(self.replay.warmup / (self.rollout_steps * n)) for n in self.copies))

    def _check_pretraining(self) -> None:
        """Check that each task can find a path alone, and that all play together afterwards."""
        alone = self.pruning.pretrain_steps
        if not alone:
            return
        if not self.pruning.layers or len(self.games) == 1:
            raise ValueError(
                f"pruning.pretrain_steps is {alone}, but there is "
                f"{'one game' if self.pruning.layers else 'no layer with paths'}; leave it out"
            )
        least = self.pruning.every_updates * max(self.copies) * self.rollout_steps
        if alone < least:
            raise ValueError(
                f"pruning.pretrain_steps is {alone:,}: a path is chosen every {least:,} decisions "
                "of a game (every_updates, games_per_task, rollout_steps); use that many or more"
            )
        if alone * len(self.games) >= self.pruning.end * self.total_steps:
            raise ValueError(
                f"pruning.pretrain_steps is {alone:,} for each of {len(self.games)} games, and "
                f"paths stay after {self.pruning.end:g} of {self.total_steps:,} decisions "
                "(pruning.end, total_steps); lower it or raise these"
            )

    def _check_rollout(self) -> None:
        paths = bool(self.pruning.layers) and self.pruning.method == "pathways"
        if paths and self.rollout_steps < 2 and not self.learns_offline:
            raise ValueError(
                "rollout_steps is 1: pathways are scored on pairs of decisions; at least 2 are "
                "needed"
            )
        cared = self.plasticity.measure_every or self.plasticity.redo_every
        standing = self.algorithm == "sac" or self.learns_offline
        if cared and self.rollout_steps < 2 and not standing:
            raise ValueError(
                "rollout_steps is 1: plasticity is measured on pairs of decisions; at least 2 are "
                "needed"
            )
        together = sum(self.copies) if self.schedule == "interleaved" else min(self.copies)
        decisions = together * self.rollout_steps
        if decisions > LARGEST_ROLLOUT:
            raise ValueError(
                f"games_per_task and rollout_steps give rollouts of {decisions:,} decisions, must "
                f"be at most {LARGEST_ROLLOUT:,}"
            )
        if self.algorithm in ("pqn", "ppo") and decisions < self.minibatches:
            raise ValueError(
                f"a rollout has {decisions} decisions for {self.minibatches} minibatches"
            )
        stack = self.network.observation_shape[0]
        if self.algorithm == "dqn" and self.rollout_steps <= stack:
            raise ValueError(
                f"rollout_steps is {self.rollout_steps}, must be above the frames of a stack "
                f"({stack}) for a replay"
            )

    def _check_effects(self) -> None:
        """Check for fields that would have no effect on this run."""
        for game, scale, clipped in zip(self.games, self.reward_scales, self.clipped, strict=False):
            if scale != 1 and clipped:
                raise ValueError(
                    f"reward_scales has {scale:g} for {game}, of whose rewards only the sign is "
                    "learned; set reward_clipping = false or the scale to 1"
                )
        ranges = {one.key: one.reward_range for one in self.environments}
        for game, clipped in zip(self.games, self.clipped, strict=True):
            if clipped and ranges.get(game) is not None:
                raise ValueError(
                    f"reward_range of {game}: only the sign of its rewards is learned; set "
                    "reward_clipping = false or leave the range out"
                )
        if self.weight_bits != TrainConfig.weight_bits and not self.quantisation_aware:
            raise ValueError(
                f"weight_bits is {self.weight_bits}, but the run learns on floats; set "
                "quantisation_aware = true or leave it out"
            )
        self._check_sac()
        self._check_policy()
        self._check_offline()
        replayed = self.algorithm in ("dqn", "sac")
        if replayed and self.decisions_of_a_game < self.replay.warmup:
            raise ValueError(
                f"replay.warmup is {self.replay.warmup}, total_steps {self.total_steps} gives a "
                f"game {self.decisions_of_a_game} decisions: nothing would be learned; lower one "
                "or raise the other"
            )

    def _check_state(self) -> None:
        """Check for what a network cannot learn with whose state survives decisions."""
        if not self.network.stateful:
            return
        standard = PlasticityConfig()
        others = {
            f"algorithm {self.algorithm!r}": self.algorithm != "pqn",
            f"{len(self.games)} games": len(self.games) > 1,
            "teachers": any(self.teachers),
            "operation_penalties": bool(self.operation_penalties),
            "quantisation_aware": self.quantisation_aware,
            "plasticity": self.plasticity != standard,
            "compiled": self.compiled,
            "start_from": bool(self.start_from),
        }
        for name, is_given in others.items():
            if is_given:
                raise ValueError(
                    f"network.stateful: a network whose state survives decisions learns one game "
                    f"by pqn, without {name}; leave one of the two out"
                )
        if self.minibatches > self.copies[0]:
            raise ValueError(
                f"minibatches is {self.minibatches}: a stateful network learns from whole copies "
                f"of the game, of which games_per_task gives {self.copies[0]}; use no more"
            )

    def _check_sac(self) -> None:
        """Check for what only learners of action values have."""
        if self.algorithm != "sac":
            return
        given = {
            "teachers": any(self.teachers),
            "operation_penalties": bool(self.operation_penalties),
            "quantisation_aware": self.quantisation_aware,
            "rescale_values": self.rescale_values,
            "favoured_action": self.favoured_action is not None,
            "network.dueling": self.network.dueling,
        }
        for name, is_given in given.items():
            if is_given:
                raise ValueError(
                    f"{name}: is of action values, which algorithm sac does not learn; leave it out"
                )

    def _check_policy(self) -> None:
        """Check for what only learners of action values have."""
        if self.algorithm != "ppo" and not self.learns_offline:
            return
        given = {
            "teachers": any(self.teachers),
            "operation_penalties": bool(self.operation_penalties),
            "rescale_values": self.rescale_values,
            "favoured_action": self.favoured_action is not None,
            "network.dueling": self.network.dueling,
        }
        for name, is_given in given.items():
            if is_given:
                raise ValueError(
                    f"{name}: is of action values, which algorithm {self.algorithm} does not "
                    "learn; leave it out"
                )

    def _check_offline(self) -> None:
        """Check for data, and for what only runs have that play."""
        if not self.learns_offline:
            return
        folders, games = len(self.offline.data), len(self.games)
        if not folders:
            raise ValueError(
                f"algorithm {self.algorithm}: learns from recorded data; record some "
                "(mtspark record AGENT -o FOLDER) and set offline.data"
            )
        if folders not in (1, games):
            raise ValueError(f"offline.data has {folders} entries for {games} games")
        given = {
            "quantisation_aware": self.quantisation_aware,
            "training_sticky_actions": self.training_sticky_actions is not None,
            "life_loss_is_terminal": self.life_loss_is_terminal,
            "pruning.freeze_returns": bool(self.pruning.freeze_returns),
            "pruning.freeze_success": bool(self.pruning.freeze_success),
            "schedule performance": self.schedule == "performance",
        }
        for name, is_given in given.items():
            if is_given:
                raise ValueError(
                    f"{name}: is of runs that play, and algorithm {self.algorithm} plays nothing; "
                    "leave it out"
                )

    @property
    def learns_offline(self) -> bool:
        """Whether it learns from recorded data and plays nothing."""
        return self.algorithm in OFFLINE

    @property
    def data_folders(self) -> tuple[str, ...]:
        """Folder of the recorded data of each game; empty where it plays."""
        given = self.offline.data
        if not self.learns_offline:
            return ()
        return given * len(self.games) if len(given) == 1 else given

    @property
    def worlds(self) -> bool:
        """Whether the games are environments of gymnasium rather than ALE's."""
        return are_worlds(self.games[:1], self.environments)[0]

    @property
    def decisions_of_a_game(self) -> int:
        """Decisions of the game with the fewest; where games take turns, the most it can be."""
        if self.schedule == "interleaved":
            return self.total_steps * min(self.copies) // sum(self.copies)
        if self.schedule == "sequential":
            return self.total_steps // len(self.games)
        return self.total_steps

    @property
    def clipped(self) -> tuple[bool, ...]:
        """Whether only the sign of a reward is learned, in the order of `games`."""
        clipping = self.reward_clipping
        return (clipping,) * len(self.games) if isinstance(clipping, bool) else clipping

    @property
    def training_protocol(self) -> GameProtocol:
        """The protocol of the games that the run learns from."""
        sticky = self.training_sticky_actions
        if sticky is None:
            return self.protocol
        return replace(self.protocol, sticky_action_probability=sticky)

    @property
    def copies(self) -> tuple[int, ...]:
        """Copies of each game, in the order of `games`; one of each where nothing is played."""
        if self.learns_offline:
            return (1,) * len(self.games)
        per_game = self.games_per_task
        return per_game * len(self.games) if len(per_game) == 1 else per_game
