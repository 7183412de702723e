"""What an export may be asked: one dataclass, every option declared once.

The command line builds its options from these fields, with their help; a Python caller gives the
same names to :func:`mtspark.export`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import Enum
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from mtspark.core.errors import BadRequestError
from mtspark.core.files import (
    check_checkpoint_file,
    check_graph_file,
    current_policy,
    names_in,
    no_file,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from mtspark.convert.nir import ImportOptions
    from mtspark.core.environments import Task
    from mtspark.core.files import AnyPath
    from mtspark.train.checkpoint import Agent

IntegratorName = Literal["euler", "exponential", "exponential-decay", "rockpool"]
"""Values of :class:`mtspark.convert.nir.neurons.Integrator`."""
ResetName = Literal["zero", "zero-late", "subtract", "subtract-late", "subtract-guarded"]
"""Values of :class:`mtspark.core.float_network.network.FloatReset`, with dashes."""
OrderName = Literal["current-first", "membrane-first"]
"""Values of :class:`mtspark.convert.nir.neurons.Order`."""
StartName = Literal["zero", "rest"]
"""Values of :class:`mtspark.convert.nir.neurons.Start`."""
CalibrationName = Literal["largest", "percentile", "mse"]
"""Values of :class:`mtspark.deploy.quantise.calibration.Calibration`."""
MaxPoolName = Literal["or"]
"""What may be done with a maximum of currents."""
EncoderName = Literal["every-step", "held", "changes"]
"""Values of :class:`mtspark.core.chip_network.Encoder`."""
FormatName = Literal["nir", "onnx", "netx", "lava"]

AXES = 3
"""Most axes of one step's input: channels, rows, columns."""

WEIGHT_BITS = 8
"""Of a weight where nothing else is asked for."""


class Source(str, Enum):
    """What a network comes from."""

    AGENT = "a checkpoint of mtspark"
    NIR = "a NIR graph"
    NETX = "a netx network"
    MODULE = "an snntorch module"


FLOAT = (Source.NIR, Source.MODULE)
QUANTISED = (Source.AGENT, *FLOAT)


@dataclass(frozen=True)
class Option:
    """What the command line says of an option, and what the option has a meaning for.

    Attributes:
        help: its text.
        sources: kinds of networks that it is for.
        flag: on the command line, where it is not the name of the field.
        heading: whether the help lists it among the options of networks that are no agents.
        min, max: of a number.
        formerly: the field's name of before, which is refused by the new one.
    """

    help: str
    sources: tuple[Source, ...] = tuple(Source)
    flag: str | None = None
    heading: bool = True
    min: int | None = None
    max: int | None = None
    formerly: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a network becomes a bundle; see the help text of each field."""

    weight_bits: Annotated[
        int | None,
        Option(
            "Bits of a weight, 2 to 8 (8; or those that the agent was trained on).",
            QUANTISED,
            heading=False,
        ),
    ] = None
    scale_per_layer: Annotated[
        bool, Option("One weight scale a layer instead of one a channel.", QUANTISED, heading=False)
    ] = False
    round_nearest: Annotated[
        bool,
        Option(
            "Round each weight alone instead of keeping each kernel's sum.",
            QUANTISED,
            heading=False,
        ),
    ] = False
    encoder: Annotated[
        EncoderName | None,
        Option(
            "How a frame is sent: at every step (every-step), once a decision (held), or only what "
            "changed since the last one (changes); same spikes, fewer messages. Default: changes "
            "for the frames of games where their sums fit the chip, otherwise every-step.",
            QUANTISED,
            heading=False,
        ),
    ] = None
    advantage_only: Annotated[
        bool,
        Option("Leave out the value stream: same greedy actions.", (Source.AGENT,), heading=False),
    ] = False
    task: Annotated[
        str | None,
        Option(
            "Export this task's network alone: its pathway, experts and head. Needed where tasks "
            "differ in more than thresholds.",
            (Source.AGENT,),
            heading=False,
        ),
    ] = None
    side_by_side: Annotated[
        bool,
        Option(
            "Of tasks with synapses of their own, give each neurons of its own, too: one network, "
            "and a task switch writes thresholds alone.",
            (Source.AGENT,),
            flag="--side-by-side",
            heading=False,
        ),
    ] = False
    prune: Annotated[
        bool,
        Option(
            "Remove neurons that no input makes fire, and those without a synapse to a neuron that "
            "matters; every spike that remains is proven to stay.",
            (Source.AGENT,),
            flag="--prune",
            heading=False,
        ),
    ] = False
    palette: Annotated[
        int | None,
        Option(
            "At most so many distinct thresholds (one for each task) in a layer; 8 are what a "
            "core of Loihi 1 holds.",
            QUANTISED,
            heading=False,
            min=1,
            max=2**20,
        ),
    ] = None
    palette_chip: Annotated[
        str | None,
        Option(
            "With --palette: so many on each core of this chip (loihi1, loihi2, or a "
            "description) instead of in a layer, which changes them less.",
            QUANTISED,
            heading=False,
        ),
    ] = None
    formats: Annotated[
        tuple[FormatName, ...],
        Option(
            "Further files in the folder, for example onnx,netx: nir (always there), onnx, "
            "netx (.net of lava-dl), lava (a check: its processes are made from the bundle).",
            heading=False,
        ),
    ] = ()
    dt: Annotated[
        float | None,
        Option(
            "Time step in the unit of the graph's time constants (default: 1e-4).", (Source.NIR,)
        ),
    ] = None
    integrator: Annotated[
        IntegratorName | None,
        Option(
            "How neurons step (default: euler). exponential is exact (nengo); exponential-decay "
            "keeps e^(-dt/tau) and counts dt/tau (sinabs); rockpool also corrects what Rockpool's "
            "exporter leaves out.",
            (Source.NIR,),
        ),
    ] = None
    reset: Annotated[
        ResetName | None,
        Option(
            "What a spike does to the membrane (default: zero, to v_reset). subtract-late is "
            "snntorch's default, subtract-guarded its reset_delay=False.",
            (Source.NIR,),
        ),
    ] = None
    order: Annotated[
        OrderName | None,
        Option(
            "Whether a current-based membrane sees the input of its own step (default: "
            "current-first, as all known tools).",
            (Source.NIR,),
        ),
    ] = None
    start: Annotated[
        StartName | None,
        Option("Where membranes start (default: zero; rest: at v_leak).", (Source.NIR,)),
    ] = None
    if_gain_dt: Annotated[
        bool | None,
        Option(
            "IF and I nodes count dt * r of their input a step, or r (default: what is nearer to "
            "1).",
            (Source.NIR,),
            flag="--if-gain-dt/--if-gain-r",
        ),
    ] = None
    fires_at_threshold: Annotated[
        bool,
        Option(
            "A membrane that equals its threshold fires, too.",
            (Source.NIR,),
            flag="--fires-at-threshold",
        ),
    ] = False
    time_steps: Annotated[
        int | None,
        Option(
            "Steps of one run (default: the file's own, the recording's, or 100).",
            (*FLOAT, Source.NETX),
            min=1,
        ),
    ] = None
    input_bits: Annotated[
        int,
        Option(
            "Input messages: 0 (spikes) or 8 (values; default: as the inputs of --input are).",
            FLOAT,
            min=0,
            max=8,
        ),
    ] = 0
    input_scale: Annotated[
        float | None,
        Option("What an input message of 1 stands for (default: as --input says, or 1).", FLOAT),
    ] = None
    one_frame: Annotated[
        bool,
        Option(
            "A run is given one frame for all its steps, not a series of one slice a step.",
            FLOAT,
            flag="--one-frame",
            formerly="held",
        ),
    ] = False
    stateful: Annotated[
        bool,
        Option(
            "State survives decisions: each is one step, and neurons are at rest only where an "
            "episode starts. Of snntorch modules that take a step or a series, and of graphs.",
            (*FLOAT, Source.AGENT),
            flag="--stateful",
        ),
    ] = False
    output_node: Annotated[
        str | None, Option("Name of the output to read, where a graph has several.", (Source.NIR,))
    ] = None
    recording: Annotated[
        Path | None,
        Option(
            "Some of the network's inputs, .npy: frames (batch, ...), which are shown in every "
            "step, or series (batch, T, ...). They say shape, kind and scale of the input, and "
            "float network and chip are compared on them.",
            FLOAT,
            flag="--input/--sample",
        ),
    ] = None
    calibrate: Annotated[
        CalibrationName | None,
        Option(
            "Choose weight limits on the recorded inputs (of an agent: on frames of its games).",
            QUANTISED,
        ),
    ] = None
    bound_currents: Annotated[
        bool,
        Option(
            "Bound currents by the recorded inputs, not by proof.", FLOAT, flag="--bound-currents"
        ),
    ] = False
    input_shape: Annotated[
        tuple[int, ...] | None,
        Option(
            "Shape of one step's input, as 2,34,34: of snntorch modules, and of NIR and netx files "
            "that do not say it.",
            (*FLOAT, Source.NETX),
        ),
    ] = None
    weights: Annotated[
        Path | None, Option("snntorch modules: a saved state_dict.", (Source.MODULE,))
    ] = None
    readout: Annotated[
        str | None,
        Option(
            "snntorch modules: the layer to read, where several are returned.", (Source.MODULE,)
        ),
    ] = None
    max_pool: Annotated[
        MaxPoolName | None,
        Option(
            "snntorch modules with a max pool before neurons (Conv2d, MaxPool2d, Leaky): or lets "
            "the neurons fire before the pool, an approximation whose cost is printed. Behind "
            "neurons a max pool is exact and needs no option.",
            (Source.MODULE,),
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ExportRequest(ExportOptions):
    """What to export, and how.

    Attributes:
        source: path of a checkpoint, a NIR graph or a netx network, ``file.py:factory``, an
            nn.Module or an agent in memory.
        name: of the network; default: that of the file, or of the module's class.
        sample: a batch of inputs in memory: frames (batch, *shape of a step), or series
            (T, batch, ...) or (batch, T, ...); takes the place of the option `recording`.
        origin: what a sample in memory was read from, with samples along its first axis; None: it
            is an argument, whose first axis may be time.
        labels: (batch,) classes of the sample, where its loader has them.
        environment: the task in which a module acts; its frames are the sample.
        given: names of the options that the caller gave. A sample decides of the others how
            inputs are sent: `one_frame`, `input_bits` and `input_scale`.
    """

    source: AnyPath | nn.Module | Agent
    name: str | None = None
    sample: NDArray[Any] | None = None
    origin: str | None = None
    labels: NDArray[Any] | None = None
    environment: Task | None = None
    given: frozenset[str] = frozenset()

    @property
    def path(self) -> Path | None:
        """The source as a path; None for what is in memory."""
        from os import PathLike

        return Path(self.source) if isinstance(self.source, (str, PathLike)) else None

    @property
    def sample_name(self) -> str:
        """What the sample is called in messages: its file, or the argument."""
        if self.recording is not None:
            return str(self.recording)
        return self.origin or "sample"

    @property
    def batch_first(self) -> bool:
        """Whether the first axis of the sample is known to be no time."""
        return self.recording is not None or self.origin is not None

    @property
    def kind(self) -> Source:
        """What the network comes from.

        Raises:
            BadRequestError: a path to something that is not read.
            TypeError: an object that is neither a path, nor a module, nor an agent.
        """
        path = self.path
        return source_of(path) if path is not None else _kind_in_memory(self.source)


@dataclass(frozen=True)
class DeclaredOption:
    """A field of :class:`ExportOptions`: its name, type, default and what is said of it."""

    name: str
    type: Any
    default: Any
    about: Option

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return (self.about.flag or "--" + self.name.replace("_", "-")).split("/")[0]


def declared_options() -> tuple[DeclaredOption, ...]:
    """Return the options in the order of the help."""
    hints = get_type_hints(ExportOptions, include_extras=True)
    return tuple(
        DeclaredOption(field.name, hints[field.name].__origin__, field.default, about)
        for field in fields(ExportOptions)
        for about in hints[field.name].__metadata__
    )


def former_names() -> dict[str, DeclaredOption]:
    """Return the options that had another name before, by that name."""
    return {option.about.formerly: option for option in declared_options() if option.about.formerly}


def source_of(path: Path) -> Source:
    """Return what a source is, by its name.

    Raises:
        BadRequestError: it is nothing that is read.
    """
    if path.suffix in (".nir", ".net"):
        return Source.NIR if path.suffix == ".nir" else Source.NETX
    file, _, function = path.name.rpartition(":")
    if file.endswith(".py") and function.isidentifier():
        return Source.MODULE
    if path.suffix == ".py" or ".py:" in path.name:
        name = path.name.partition(":")[0]
        there = names_in(path.with_name(name))
        raise BadRequestError(
            f"{path}: name the function that makes the module, {name}:FUNCTION, or the module "
            f"itself{there and '; ' + there}"
        )
    if path.suffix == ".onnx" or path.is_dir():
        raise BadRequestError(
            f"{path}: folders and ONNX graphs are what an export makes; give what it was made of: "
            "a checkpoint (.pt), .nir, .net or file.py:factory"
        )
    return Source.AGENT


def _kind_in_memory(source: object) -> Source:
    from torch import nn

    from mtspark.train.checkpoint import Agent

    if isinstance(source, nn.Module):
        return Source.MODULE
    if isinstance(source, Agent):
        return Source.AGENT
    raise TypeError(
        f"source is {type(source).__name__}; give a path, a torch.nn.Module or an mtspark agent"
    )


def plain_name(source: Path) -> str:
    """Return the name of a network that a file or a factory in one makes: net-make of net.py:make.

    Bundles of several networks in one file do not share a folder so.
    """
    file, _, factory = source.name.partition(":")
    stem = file.rsplit(".", 1)[0]
    return f"{stem}-{factory}" if factory else stem


def check_source(request: ExportRequest) -> None:
    """Refuse what cannot work, by its files and shapes, before anything large is imported.

    Raises:
        BadFileError: a file that is missing, or of another kind than its name says.
        BadRequestError: a module without the shape of its input.
    """
    path = request.path
    if path is None:
        return
    if request.kind is Source.AGENT:
        check_checkpoint_file(path)
    elif request.kind is not Source.MODULE:
        check_graph_file(path)
    else:
        name = Path(str(path).rpartition(":")[0])
        if not name.is_file():
            raise no_file(name, "give file.py:factory")
        if request.input_shape is None and request.sample is None and request.recording is None:
            raise BadRequestError(
                f"{path}: give some of its inputs, --input x.npy, or the shape of one step's "
                "input, --input-shape 2,34,34"
            )
        if request.weights is not None:
            check_checkpoint_file(request.weights)
    if request.recording is not None and not Path(request.recording).is_file():
        raise no_file(Path(request.recording), "give a .npy file of inputs, (batch, ...)")


def check_given(names: Iterable[str], source: Source) -> None:
    """Refuse an option that a source has no use for, rather than ignore it.

    Args:
        names: of the options that were given.
        source: what the network comes from.

    Raises:
        BadRequestError: there is one.
    """
    wanted = set(names)
    for option in declared_options():
        sources = option.about.sources
        if option.name in wanted and source not in sources:
            *others, last = [kind.value for kind in sources]
            taken = f"{', '.join(others)} or {last}" if others else last
            raise BadRequestError(f"{option.flag} is for {taken}; this is {source.value}")


def check_weight_bits(bits: int) -> None:
    """Refuse a number of bits that no weight of the chip has.

    Raises:
        BadRequestError: it is one.
    """
    if not 2 <= bits <= 8:
        raise BadRequestError(f"--weight-bits {bits}: 2 to 8 exist on the chip")


def check_shape(shape: tuple[int, ...], text: str) -> None:
    """Refuse a shape of no sizes, or of more values than a layer may have.

    Args:
        shape: of one step's input.
        text: names it in the error.

    Raises:
        BadRequestError: it is one.
    """
    most = current_policy().limits.neurons
    if not 1 <= len(shape) <= AXES or min(shape) < 1 or prod(shape) > most:
        raise BadRequestError(
            f"{text}: must be 1 to {AXES} sizes from 1, and at most {most:,} values; for example "
            "2,34,34"
        )


def check_options(options: ExportOptions) -> None:
    """Refuse numbers that no network has, before anything is read.

    Raises:
        BadRequestError: there is one.
    """
    for option in declared_options():
        value, least = getattr(options, option.name), option.about.min
        if least is not None and value is not None and value < least:
            raise BadRequestError(f"{option.flag} {value}: must be at least {least}")
    if options.input_shape is not None:
        check_shape(options.input_shape, f"--input-shape {','.join(map(str, options.input_shape))}")
    if options.weight_bits is not None:
        check_weight_bits(options.weight_bits)
    if options.side_by_side and options.task is not None:
        raise BadRequestError("--side-by-side is for all tasks; leave it or --task out")
    if options.palette_chip is not None and options.palette is None:
        raise BadRequestError("--palette-chip says whose cores get a palette; add --palette N")
    if options.input_bits not in (0, 8):
        raise BadRequestError(f"--input-bits {options.input_bits}: 0 (spikes) or 8 (bytes) exist")
    if options.stateful and options.time_steps not in (None, 1):
        raise BadRequestError(
            f"--time-steps {options.time_steps}: with --stateful a decision is one step, and a run "
            "as long as its episode; leave --time-steps out"
        )
    scale = options.input_scale
    if scale is not None and not (isfinite(scale) and scale > 0):
        raise BadRequestError(f"--input-scale {scale}: must be above 0")
    most = current_policy().limits.time_steps
    if options.time_steps is not None and options.time_steps > most:
        raise BadRequestError(
            f"--time-steps {options.time_steps}: {most:,} is the limit; raise it with "
            "`mtspark --limit time_steps=N ...`"
        )


def import_options(request: ExportRequest) -> ImportOptions:
    """The choices that NIR does not store."""
    from mtspark.convert.nir import ImportOptions, Integrator, Order, Start
    from mtspark.core.float_network import FloatReset

    return ImportOptions(
        dt=request.dt,
        integrator=None if request.integrator is None else Integrator(request.integrator),
        reset=None if request.reset is None else FloatReset(request.reset.replace("-", "_")),
        order=None if request.order is None else Order(request.order),
        start=None if request.start is None else Start(request.start),
        if_gain_dt=request.if_gain_dt,
        fires_at_threshold=request.fires_at_threshold or None,
        input_scale=request.input_scale,
        time_steps=1 if request.stateful else request.time_steps,
        stateful=request.stateful or None,
        output=request.output_node,
        input_shape=request.input_shape,
    )
