"""A network as it runs on the chip: one object for everything that can be done with it."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from functools import cached_property
from numbers import Real
from operator import index
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from mtspark.core.environments import sampling_of
from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.files import AnyPath, write_bytes
from mtspark.core.progress import ProgressCallback, no_progress
from mtspark.deploy import bundle as bundles
from mtspark.sim.energy import DEFAULT_CARD
from mtspark.workflows.backends import BackendName
from mtspark.workflows.evaluate import (
    DataEvaluation,
    EvaluationRequest,
    evaluate_bundle,
    evaluate_checkpoint,
    evaluate_data,
    evaluation_json,
    keep_evaluation,
    stored_evaluation,
)
from mtspark.workflows.export import (
    Export,
    ExportRequest,
    Fidelity,
    check_given,
    chosen_formats,
    declared_options,
    fidelity_of,
    former_names,
    run_steps,
    shown_to_module,
    write_export,
)
from mtspark.workflows.python_names import in_python, with_python_names
from mtspark.workflows.run import BATCH, InputsResult, first_batch, run_games, run_inputs, store_run

if TYPE_CHECKING:
    from torch import nn

    from mtspark.core.backend import Moment
    from mtspark.core.chip_network import ChipNetwork
    from mtspark.core.environments import Task
    from mtspark.core.float_network import FloatNetwork
    from mtspark.sim.energy import Bill
    from mtspark.sim.hil import ChipBackend, Hold, Jitter
    from mtspark.sim.results import RunResult
    from mtspark.train.checkpoint import Agent
    from mtspark.workflows.diff import DiffResult
    from mtspark.workflows.evaluate import Evaluation
    from mtspark.workflows.explain import Explanation
    from mtspark.workflows.hil import HilResult
    from mtspark.workflows.map import MapResult
    from mtspark.workflows.report import ReportPage

log = logging.getLogger(__name__)
Counted = TypeVar("Counted", InputsResult, DataEvaluation)
Choice = TypeVar("Choice", bound=Enum)


class Deployment:
    """A network in the chip's integers, in memory or in the folder of a bundle.

    :func:`export` and :func:`load_bundle` return it. It keeps the counts of what it ran last, for
    :meth:`energy`.

    Args:
        export: a finished export, in memory.
        bundle: a bundle that was read.
    """

    def __init__(
        self, *, export: Export | None = None, bundle: bundles.Bundle | None = None
    ) -> None:
        if (export is None) == (bundle is None):
            raise TypeError("Deployment takes an export or a bundle; call export or load_bundle")
        self._export, self._stored = export, bundle
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._last: Callable[[AnyPath], Bill] | None = None
        self._evaluated: DataEvaluation | None = None

    def __repr__(self) -> str:
        """Name, sizes, and where it lies."""
        network = self.network
        neurons = sum(population.size for population in network.populations)
        place = "in memory" if self.folder is None else str(self.folder)
        return f"<Deployment {network.name}: {neurons:,} neurons, {place}>"

    @property
    def network(self) -> ChipNetwork:
        """The integers."""
        if self._stored is not None:
            return self._stored.network
        assert self._export is not None
        assert self._export.network is not None
        return self._export.network

    @property
    def folder(self) -> Path | None:
        """Where the bundle lies; None while it is in memory."""
        return None if self._stored is None else self._stored.folder

    @property
    def bundle(self) -> bundles.Bundle:
        """The bundle on the disk; of a deployment in memory, one in a temporary folder."""
        return self._stored if self._stored is not None else self._temporary

    @cached_property
    def _temporary(self) -> bundles.Bundle:
        assert self._export is not None
        self._scratch = tempfile.TemporaryDirectory(prefix="mtspark-")
        return write_export(self._export, Path(self._scratch.name, "unsaved.deploy"))

    @cached_property
    def float_network(self) -> FloatNetwork:
        """The network before quantisation, all tasks in one.

        Raises:
            BadFileError: the bundle does not hold it.
        """
        if self._export is not None and self._export.float_network is not None:
            return self._export.float_network
        from mtspark.workflows.whole import float_side

        return float_side(self.bundle)[0]

    @property
    def fidelity(self) -> Fidelity:
        """What conversion and quantisation did, as in fidelity.json; empty without that file.

        Raises:
            BadFileError: the bundle's file is damaged.
        """
        return fidelity_of(self.bundle) if self._export is None else self._export.fidelity()

    @property
    def warnings(self) -> list[str]:
        """What went badly wrong in a layer, a sentence each."""
        return list(self.fidelity.warnings)

    @with_python_names
    def save(self, folder: AnyPath, *, overwrite: bool = False) -> Path:
        """Write the bundle, as ``mtspark export`` does; later work uses that folder.

        Args:
            folder: must not exist, or with `overwrite` hold a bundle.
            overwrite: replace an existing bundle.

        Returns:
            The folder.

        Raises:
            BadRequestError: the folder is taken.
            BadFileError: it cannot be written.
        """
        target = Path(folder)
        if self._export is not None:
            self._stored = write_export(self._export, target, overwrite=overwrite)
            return self._stored.folder
        source = self.bundle

        def copy(into: Path) -> None:
            for name in source.files:
                write_bytes(into / name, source.content(name))

        self._stored = bundles.write_bundle(
            target, source.network, copy, replace=overwrite, quantiser=source.quantiser
        )
        return self._stored.folder

    @with_python_names
    def run(
        self,
        x: Any,
        *,
        task: str | None = None,
        backend: BackendName | str = BackendName.ENGINE,
        record: bool = False,
        batch_size: int = BATCH,
        time_first: bool = False,
        progress: ProgressCallback = no_progress,
    ) -> InputsResult:
        """Run inputs on the chip.

        Args:
            x: numpy array, torch tensor, dataset or DataLoader of frames (batch, *shape), or of
                series (batch, T, *shape) where the network takes a slice a step. Where state
                survives decisions, (batch, T, *shape) are episodes of T decisions, each from rest.
            task: row of the thresholds; default: the first.
            backend: engine, reference, lava, lava-stock, or torch for agents.
            record: keep every spike and membrane.
            batch_size: samples that are simulated together.
            time_first: series are (T, batch, *shape), as snntorch has them.
            progress: called before every batch.

        Returns:
            Values, spike counts, and with `record` every spike and membrane.

        Raises:
            BadRequestError: a ValueError that says what was given and what is allowed.
            TypeError: no numbers.
        """
        result = run_inputs(
            self.bundle,
            x,
            task=task,
            backend=_backend(backend),
            record=record,
            batch_size=batch_size,
            time_first=time_first,
            progress=progress,
        )
        return self._counted(result)

    @with_python_names
    def evaluate(
        self,
        x: Any,
        y: Any = None,
        *,
        task: str | None = None,
        backend: BackendName | str = BackendName.ENGINE,
        batch_size: int = BATCH,
        time_first: bool = False,
        progress: ProgressCallback = no_progress,
    ) -> DataEvaluation:
        """Compare the class of the largest value with labels, in floats and on the chip.

        :meth:`report` shows the latest result.

        Args:
            x, task, backend, batch_size, time_first, progress: as for :meth:`run`.
            y: an index of a class for each sample; left out where `x` has pairs.

        Returns:
            Accuracy of float network and chip, their agreement, and the counts of the chip.

        Raises:
            BadRequestError: inputs or labels that do not fit the network.
            TypeError: no numbers.
        """
        try:
            float_network: FloatNetwork | None = self.float_network
        except BadFileError as error:
            log.warning("the chip is evaluated alone: %s", error)
            float_network = None
        result = evaluate_data(
            self.bundle,
            float_network,
            x,
            y,
            task=task,
            backend=_backend(backend),
            batch_size=batch_size,
            time_first=time_first,
            progress=progress,
        )
        self._evaluated = result
        return self._counted(result)

    @with_python_names
    def energy(self, x: Any = None, *, card: AnyPath = DEFAULT_CARD) -> Bill:
        """Price the mean sample or decision.

        Args:
            x: inputs to run, as for :meth:`run`; None: what ran last on this object.
            card: prices, a name or a file.

        Raises:
            BadRequestError: nothing has run yet.
            BadFileError: no such card.
        """
        if x is not None:
            self.run(x)
        if self._last is None:
            raise BadRequestError("nothing has run yet; give inputs, chip.energy(x), or run first")
        return self._last(card)

    @with_python_names
    def play(
        self,
        task: str | None = None,
        *,
        episodes: int = 1,
        backend: BackendName | str = BackendName.ENGINE,
        seed: int = 0,
        max_decisions: int | None = None,
        sticky: float | None = None,
        sample: int | None = None,
        temperature: float = 1.0,
        observe: Callable[[Moment], None] | None = None,
        executor: str | None = None,
        progress: ProgressCallback = no_progress,
    ) -> RunResult:
        """Play whole games; a saved bundle keeps the run in its folder, for :meth:`report`.

        Args:
            task: the game; default: the first.
            episodes: full games.
            backend: who decides.
            seed: of the first game; the next has seed + 1.
            max_decisions: cut every game off after this many.
            sticky: sticky action probability; default: the agent's own.
            sample: seed by which actions are drawn, of a list with the softmax of their values;
                None takes the best.
            temperature: of the drawing; values are divided by it.
            observe: called after every decision.
            executor: workers that play: processes, processes:N, ray, ray:HOST:PORT, ray://HOST:PORT,
                slurm or slurm:NAME=VALUE,...; None: this process. The results are the same.
            progress: called at every decision.

        Raises:
            BadRequestError: unknown task, or a network that plays no game.
        """
        result = run_games(
            self.bundle,
            task or self.network.tasks[0].name,
            backend=_backend(backend),
            episodes=episodes,
            seed=seed,
            max_decisions=max_decisions,
            sticky=sticky,
            observe=observe,
            executor=executor,
            progress=progress,
            sampling=sampling_of(sample, temperature),
        )
        run, network = result.run, self.network

        def bill(card: AnyPath) -> Bill:
            from mtspark.sim.device import mean_bill
            from mtspark.sim.energy import load_card

            return mean_bill(run.counts, network, load_card(card), run.sent)

        self._last = bill
        if self._stored is not None:
            store_run(self._stored, result)
        return result

    @with_python_names
    def hil(
        self,
        task: str | None = None,
        *,
        latency_ms: float | Sequence[float] = 0.0,
        faults: Mapping[str, float | Sequence[float]] = MappingProxyType({}),
        fault_seed: int = 0,
        episodes: int = 1,
        seed: int = 0,
        max_decisions: int | None = None,
        sticky: float | None = None,
        sample: int | None = None,
        temperature: float = 1.0,
        backend: ChipBackend | str = "engine",
        chip: AnyPath | None = None,
        card: AnyPath | None = None,
        times: str | None = None,
        measured: bool = False,
        input_ms: float = 0.0,
        output_ms: float = 0.0,
        jitter_ms: float = 0.0,
        jitter: Jitter | str = "exponential",
        io_step_ms: float = 0.0,
        pixel_bits: int = 8,
        overlap: bool = False,
        hold: Hold | str = "last",
        realtime: bool = False,
        refresh_every: int | Sequence[int | None] | None = None,
        away_ms: float = 1000.0,
        connect: str | None = None,
        key: str | None = None,
        silence_s: float = 5.0,
        into: AnyPath | None = None,
        executor: str | None = None,
        progress: ProgressCallback = no_progress,
    ) -> HilResult:
        """Play with the chip in another process, in the game's own time, with latency and faults.

        Args:
            task: the game; default: the first.
            latency_ms: of a decision on the chip; several make a curve.
            faults: rates by kind, for example ``{"weight-bits": 1e-3}``; several rates of one kind
                make a curve.
            fault_seed: of the draws of faults and jitter.
            episodes: full games for each point.
            seed: of the first game; the next has seed + 1.
            max_decisions: cut every game off after this many.
            sticky: sticky action probability; default: the agent's own.
            sample: seed by which actions are drawn, as :meth:`play` draws them; None takes the
                best.
            temperature: of the drawing; values are divided by it.
            backend: engine, reference, lava, lava-stock or loihi2.
            chip: model the latency for it: loihi1, loihi2, or the path of a description.
            card: prices, a name or a file, of the mean decision of the first game, which is played
                once more without latency; default: the main card of `chip`, none without one.
            times: which of the chip's sets of times; default: its first.
            measured: take the time of the simulation on this computer as latency.
            input_ms: from the observation to the chip.
            output_ms: from the chip to the pressed button.
            jitter_ms: scale of a random time on the way back.
            jitter: its distribution: uniform, exponential or normal.
            io_step_ms: answers arrive only at multiples of this time.
            pixel_bits: upper bits of a pixel that are sent.
            overlap: the chip takes every observation at once, as a pipeline does.
            hold: last or noop: what the game gets while no new action has come.
            realtime: play by the wall clock, not in simulated time.
            refresh_every: of an encoder that sends changes: a whole frame at least every so many
                decisions; several make a curve each, None among them for never.
            away_ms: how long a chip that died is gone.
            connect: address of a chip that is served there, tcp://HOST:PORT.
            key: of that chip.
            silence_s: seconds in which a chip that starts, or is connected to, may be silent.
            into: file of the result, written point by point; points that it has are not played
                again.
            executor: workers that play a point each, as for :meth:`play`; None: this process.
            progress: called at every decision.

        Returns:
            What ``mtspark hil --json`` writes: the points, and in each its games.

        Raises:
            BadRequestError: unknown task, or settings that cannot be.
            BadNetworkError: the network plays no game.
            BadFileError: no such chip, or `into` cannot be written.
            BackendFailedError: no chip answers, or it is gone for good.
            TypeError: no numbers.
        """
        from mtspark.sim.hil import ChipBackend, Hold, Jitter, Loop, Timing
        from mtspark.workflows.hil import HilRequest, hil, refreshes_of, varied

        latency, fixed, sweep = varied(latency_ms, faults, fault_seed)
        timing = Timing(
            input_ms=input_ms,
            chip_ms=latency,
            output_ms=output_ms,
            jitter_ms=jitter_ms,
            jitter=_choice(Jitter, jitter, "jitter"),
            io_step_ms=io_step_ms,
            measured=measured,
            overlap=overlap,
            seed=fault_seed,
        )
        loop = Loop(
            timing=timing,
            faults=fixed,
            away_ms=away_ms,
            hold=_choice(Hold, hold, "hold"),
            pixel_bits=pixel_bits,
            realtime=realtime,
            max_decisions=max_decisions,
            sticky=sticky,
            sampling=sampling_of(sample, temperature),
        )
        request = HilRequest(
            task=task or self.network.tasks[0].name,
            loop=loop,
            episodes=episodes,
            seed=seed,
            backend=_choice(ChipBackend, backend, "backend"),
            chip=None if chip is None else os.fspath(chip),
            card=card,
            times=times,
            sweep=sweep,
            connect=connect,
            key=key,
            refreshes=refreshes_of(refresh_every),
            silence_s=silence_s,
        )
        return hil(self.bundle, request, into=into, executor=executor, progress=progress)

    @with_python_names
    def diff(
        self,
        against: BackendName | AnyPath = BackendName.LAVA,
        task: str | None = None,
        *,
        decisions: int | None = None,
        seed: int = 0,
        card: AnyPath | None = None,
        progress: ProgressCallback = no_progress,
    ) -> DiffResult:
        """Find the first spike or membrane in which another simulation differs.

        Arguments, result and errors as for :func:`mtspark.workflows.diff.comparison.diff`.
        """
        from mtspark.workflows.diff import diff

        return diff(
            self.bundle,
            against,
            task,
            decisions=decisions,
            seed=seed,
            card=card,
            progress=progress,
        )

    @with_python_names
    def explain(
        self,
        task: str | None = None,
        *,
        decisions: int = 500,
        episodes: int = 0,
        weight_bits: Sequence[int] | None = None,
        by_layer: bool = False,
        inputs: AnyPath | None = None,
        seed: int = 0,
        card: AnyPath = DEFAULT_CARD,
        progress: ProgressCallback = no_progress,
    ) -> Explanation:
        """Switch each effect of the integers on alone, and compare with the float network.

        Arguments, result and errors as for
        :func:`mtspark.workflows.explain.explanation.explain`.
        """
        from mtspark.workflows.explain import explain

        return explain(
            self.bundle,
            task,
            decisions=decisions,
            episodes=episodes,
            weight_bits=weight_bits,
            by_layer=by_layer,
            inputs=inputs,
            seed=seed,
            card=card,
            progress=progress,
        )

    @with_python_names
    def map(
        self,
        chip: AnyPath | None = None,
        *,
        task: str | None = None,
        seed: int = 0,
        max_decisions: int | None = None,
        card: AnyPath | None = None,
        progress: ProgressCallback = no_progress,
    ) -> MapResult:
        """Divide the network over the cores of a chip.

        Args:
            chip: loihi1, loihi2, or the path of a description; default: that of the card, else
                loihi2.
            task: game to play first, to count messages and model the time of a decision.
            seed: of that game.
            max_decisions: of that game; None for all of it.
            card: prices of its mean decision, a name or a file; default: the chip's main one.
            progress: reports the game.

        Returns:
            Cores, what each holds, the limits that are broken, messages and time.

        Raises:
            BadFileError: no such chip.
            BadRequestError: unknown task.
        """
        from mtspark.workflows.map import MapRequest, map_bundle

        request = MapRequest(
            chip=None if chip is None else os.fspath(chip),
            task=task,
            seed=seed,
            decisions=max_decisions,
            card=card,
        )
        return map_bundle(self.bundle, request, progress=progress)

    @with_python_names
    def report(
        self,
        page: AnyPath,
        *,
        tasks: str | Sequence[str] = (),
        episodes: int = 1,
        seed: int | None = None,
        max_decisions: int | None = None,
        cards: AnyPath | Sequence[AnyPath] = (),
        data: AnyPath | None = None,
        labels: AnyPath | None = None,
        images: int = 300,
        progress: ProgressCallback = no_progress,
    ) -> ReportPage:
        """Play an agent's tasks with everything recorded and write a page about them.

        Args:
            page: an .html file; its data are written beside it, as .json.
            tasks: one name or several; empty: all.
            episodes: games that are recorded.
            seed: of the first game.
            max_decisions: cut every game off after this many.
            cards: prices, one or several, names or files; empty: those that ship.
            data: where the task is no game, inputs with labels as for ``mtspark eval --data``, or
                the folder of an image set; None: what was evaluated last, else it is downloaded.
            labels: a .npy file, beside a .npy file of inputs.
            images: how many of them are recorded.
            progress: called at every decision.

        Raises:
            BadRequestError: there is nothing to show: no game, no data, and nothing was evaluated;
                or a task that does not exist.
            BadFileError: the page cannot be written.
        """
        if self._evaluated is not None and data is None:
            # What this object evaluated is as good as what the bundle keeps of the command line.
            values = evaluation_json(self._evaluated, "data in memory", DEFAULT_CARD)
            keep_evaluation(self.bundle, self._evaluated, values)
            self._evaluated = None
        elif data is None and bundles.AGENT not in self.bundle.files:
            names = [task.name for task in self.network.tasks]
            if not any(stored_evaluation(self.bundle, name) for name in names):
                raise BadRequestError(
                    f"{self.network.name}: plays no game and was not evaluated yet; call "
                    "evaluate(x, y) first, or give data"
                )
        from mtspark.workflows.report import report

        return report(
            self.bundle,
            page,
            tasks=tasks,
            episodes=episodes,
            seed=seed,
            max_decisions=max_decisions,
            cards=cards,
            data=data,
            labels=labels,
            images=images,
            progress=progress,
        )

    def _counted(self, result: Counted) -> Counted:
        self._last = result.energy
        return result


@with_python_names
def export(
    source: AnyPath | nn.Module | Agent,
    *,
    sample: Any = None,
    environment: Task | None = None,
    input_shape: tuple[int, ...] | None = None,
    time_steps: int | None = None,
    name: str | None = None,
    progress: ProgressCallback = no_progress,
    **options: Any,
) -> Deployment:
    """Turn a trained network into the chip's integers, in memory.

    Args:
        source: a torch.nn.Module with snntorch neurons, an agent, or the path of a checkpoint
            (.pt), a NIR graph (.nir), a netx network (.net) or ``file.py:factory``.
        sample: a batch of the network's inputs (array, tensor, dataset or DataLoader): frames
            (batch, *shape of a step), or series, (T, batch, ...) or (batch, T, ...) as the module's
            own loop has them, or as `time_steps` says. It gives the
            shape of the input, how it is sent (`one_frame`, `input_bits`, `input_scale`, where they
            are not given), and the inputs that float network and chip are compared on.
        environment: of :func:`mtspark.environment_task`, in which a module acts: its outputs are
            the values of the actions, its input (batch, numbers) what the environment shows. It
            takes the place of a sample.
        input_shape: of one step, without batch; where a module has no sample.
        time_steps: T, steps of one run; where the module does not say it.
        name: of the network; default: that of the file, or of the module's class.
        progress: called at the start of every step.
        **options: fields of :class:`mtspark.workflows.export.request.ExportOptions`, for example
            ``weight_bits=6`` or ``formats=("onnx",)``; as the options of ``mtspark export``.

    Raises:
        TypeError: no such option, or a source that is nothing of the above.
        BadRequestError: a ValueError: an option that means nothing for this source, or cannot be.
        BadFileError: a file that cannot be read.
        BadNetworkError: what the chip cannot run; says where and what to write instead.
    """
    for option, value in (("input_shape", input_shape), ("time_steps", time_steps)):
        if value is not None:
            options[option] = value
    fields = _checked_options(options)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name: {name!r} is {type(name).__name__}; give a str")
    if name is not None and not name.isprintable():
        raise BadRequestError(f"name: {name!r} has characters that cannot be printed")
    inputs, labels = (None, None) if sample is None else first_batch(sample, "sample")
    given = frozenset(options)
    if environment is not None:
        kind = ExportRequest(source=source).kind
        asked = {*given, *(["sample"] if sample is not None else [])}
        inputs, sent = shown_to_module(environment, kind, asked)
        fields, given = {**fields, **sent}, given | set(sent)
    request = ExportRequest(
        source=source,
        name=name,
        sample=inputs,
        labels=labels,
        environment=environment,
        given=given,
        **fields,
    )
    # One that is given as it is anyway asks for nothing.
    anyway = {one.name for one in declared_options() if options.get(one.name) is one.default}
    check_given(options.keys() - anyway, request.kind)
    finished = run_steps(request, progress=progress)
    for warning in finished.warnings:
        log.warning("%s: %s", finished.name, in_python(warning))
    return Deployment(export=finished)


@with_python_names
def load_bundle(folder: AnyPath) -> Deployment:
    """Read a bundle and verify every file in it.

    Raises:
        BadFileError: missing, incomplete, altered, or of another version.
        BadNetworkError: its network breaks a rule.
    """
    bundle = bundles.load_bundle(Path(folder))
    # The caller may change the working directory before the bundle's files are read.
    return Deployment(bundle=replace(bundle, folder=bundle.folder.absolute()))


@with_python_names
def evaluate(
    agent: AnyPath | Agent | Deployment,
    *,
    tasks: str | Sequence[str] = (),
    episodes: int = 30,
    seed: int = 0,
    sticky: float = 0.25,
    data: AnyPath | None = None,
    images: int = 0,
    store: AnyPath | None = None,
    max_decisions: int | None = None,
    executor: str | None = None,
    card: AnyPath = DEFAULT_CARD,
    sample: int | None = None,
    temperature: float = 1.0,
    progress: ProgressCallback = no_progress,
) -> Evaluation:
    """Score an agent in its games and image sets: float network and chip on the same starts.

    Args:
        agent: a bundle; or an agent or its file (.pt), whose float network then plays alone.
        tasks: one name or several; empty: all.
        episodes: full games of each row, at least 2.
        seed: of the first game of every row.
        sticky: sticky actions of the second pair of rows.
        data: folder with test images, for image tasks; None downloads them.
        images: test images of each task; 0: all.
        store: file that gets the rows as they come; a run that was stopped goes on with it.
        max_decisions: cut every game off after this many.
        executor: workers that play, as for :meth:`Deployment.play`; None: this process.
        card: prices of the mean decision on the chip, a name or a file.
        sample, temperature: draw actions, as for :meth:`Deployment.play`; None takes the best.
        progress: called at every decision.

    Raises:
        BadRequestError: unknown task, or numbers that cannot be.
        BadFileError: a file that cannot be read or written.
    """
    names = (tasks,) if isinstance(tasks, str) else tuple(tasks)
    request = EvaluationRequest(
        tasks=names,
        episodes=episodes,
        seed=seed,
        sticky=sticky,
        data=data,
        images=images,
        store=store,
        max_decisions=max_decisions,
        executor=executor,
        card=card,
        sampling=sampling_of(sample, temperature),
    )
    if isinstance(agent, Deployment):
        return evaluate_bundle(agent.bundle, request, progress=progress)
    if not isinstance(agent, (str, os.PathLike)):
        return _evaluate_agent(agent, request, progress)
    path = Path(agent)
    if path.is_file():
        return evaluate_checkpoint(path, request, progress=progress)
    return evaluate_bundle(bundles.load_bundle(path), request, progress=progress)


def _evaluate_agent(
    agent: Agent, request: EvaluationRequest, progress: ProgressCallback
) -> Evaluation:
    """Score an agent in memory as the file that it would be saved to.

    Raises:
        TypeError: no agent.
    """
    from mtspark.train.checkpoint import Agent, agent_bytes

    if not isinstance(agent, Agent):
        raise TypeError(f"agent is {type(agent).__name__}; give a path, an agent or a deployment")
    return evaluate_checkpoint(
        bundles.AGENT, request, content=agent_bytes(agent), progress=progress
    )


def _checked_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options with paths and names of the right types.

    Raises:
        TypeError: no such option, or a value of another type.
        BadRequestError: a choice that does not exist.
    """
    known = {option.name: option for option in declared_options()}
    former = former_names()
    fields = dict(options)
    for name, value in options.items():
        if name in former:
            raise TypeError(f"export() has no option {name!r} any more; it is {former[name].name}")
        if name not in known:
            raise TypeError(
                f"export() has no option {name!r}; it has sample, name, {', '.join(known)}"
            )
        kinds = get_args(known[name].type) or (known[name].type,)
        texts = [part for kind in kinds for part in get_args(kind) if isinstance(part, str)]
        if name == "formats":
            fields[name] = chosen_formats(value)
        elif value is None and type(None) in kinds:
            continue
        elif texts:
            if value not in texts:
                raise BadRequestError(f"{name} {value!r}: {', '.join(texts)} exist")
        else:
            convert, wanted = _TYPES[kinds[0]]
            try:
                fields[name] = convert(value)
            except (TypeError, LookupError) as error:
                raise TypeError(
                    f"{name}: {value!r} is {type(value).__name__}; give {wanted}"
                ) from error
    return fields


def _number(value: Any) -> float:
    if not isinstance(value, Real):
        raise TypeError
    return float(value)


def _sizes(value: Any) -> tuple[int, ...]:
    return tuple(index(size) for size in value)


_TYPES: dict[Any, tuple[Callable[[Any], Any], str]] = {
    bool: ({True: True, False: False}.__getitem__, "True or False"),
    int: (index, "a whole number"),
    float: (_number, "a number"),
    str: (os.fspath, "a str"),
    Path: (Path, "a path"),
    tuple[int, ...]: (_sizes, "a tuple of sizes, for example (2, 34, 34)"),
}
"""By type of an option: what brings a value to it, and its name in errors."""


def _backend(name: BackendName | str) -> BackendName:
    return _choice(BackendName, name, "backend")


def _choice(kind: type[Choice], name: Choice | str, what: str) -> Choice:
    """A choice by its name.

    Raises:
        BadRequestError: there is none.
    """
    try:
        return kind(name)
    except ValueError as error:
        known = ", ".join(one.value for one in kind)
        raise BadRequestError(f"{what} {name!r}: {known} exist") from error
