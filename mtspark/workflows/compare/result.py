"""What a comparison of training runs finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mtspark.core.digits import digits, percent, several
from mtspark.core.version import __version__
from mtspark.workflows.compare.statistics import Interval

FORMAT, VERSION = "mtspark-run-comparison", 1
WIDEST_TASKS = 40
"""Characters of all tasks' names that have a column each; more have a table of their own."""
FEW_PAIRS = 5
"""Fewer pairs of seeds decide little, whatever their interval."""


@dataclass(frozen=True)
class CurvePoint:
    """A method at some moment of training.

    Attributes:
        steps: decisions.
        iqm: interquartile mean over seeds and tasks.
        interval: 95 % of it; None of one seed.
        dormant_ratio, effective_rank: mean over the seeds; None where nothing was measured yet.
    """

    steps: int
    iqm: float
    interval: Interval | None
    dormant_ratio: float | None
    effective_rank: float | None


@dataclass(frozen=True)
class MethodScores:
    """The runs of one recipe.

    Attributes:
        name: of its folder.
        seeds: of its runs.
        scores: of each task, a score for each seed, in their order; scaled, where a range is given.
        iqm: interquartile mean over seeds and tasks.
        interval: 95 % of it by bootstrap over seeds; None of one seed.
        dormant_ratio: mean over the seeds; None where none was measured.
        effective_rank: likewise.
        curve: its course; empty where scores are of evaluations.
    """

    name: str
    seeds: tuple[int, ...]
    scores: dict[str, tuple[float, ...]]
    iqm: float
    interval: Interval | None
    dormant_ratio: float | None
    effective_rank: float | None
    curve: tuple[CurvePoint, ...]

    @property
    def mean(self) -> float:
        """Over seeds and tasks."""
        return _mean(tuple(map(_mean, self.scores.values())))


@dataclass(frozen=True)
class PairedDifference:
    """A method against the baseline, in pairs of runs of the same seed.

    Attributes:
        name: of the method.
        baseline: of the one that it is compared with.
        seeds: that both have.
        difference: of the interquartile means over these seeds, the method's minus the baseline's.
        interval: 95 % of it, pairs resampled; None of one pair.
        by_seed: of each seed, the difference of the mean over tasks.
    """

    name: str
    baseline: str
    seeds: tuple[int, ...]
    difference: float
    interval: Interval | None
    by_seed: tuple[float, ...]

    @property
    def better(self) -> int:
        """Pairs in which the method is above the baseline."""
        return sum(one > 0 for one in self.by_seed)


@dataclass(frozen=True)
class RunComparison:
    """Training runs side by side.

    Attributes:
        kind: return or success.
        source: "" where scores are those of the log, otherwise the name of the file of
            ``mtspark eval`` that holds them.
        steps: decisions at which all are compared.
        tasks: names.
        ranges: of tasks whose scores are scaled, what becomes 0 and what becomes 1.
        methods: in the order in which they were named; the first is the baseline.
        differences: of the others.
        notes: what a reader should know.
    """

    kind: str
    source: str
    steps: int
    tasks: tuple[str, ...]
    ranges: dict[str, Interval]
    methods: tuple[MethodScores, ...]
    differences: tuple[PairedDifference, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        head = {"format": FORMAT, "version": VERSION, "mtspark": __version__}
        content = asdict(self)
        for row, one in zip(content["differences"], self.differences, strict=True):
            row["better"] = one.better
        for row, method in zip(content["methods"], self.methods, strict=True):
            row["mean"] = method.mean
        return {**head, **content, "verdict": list(sentences_of(self))}


def sentences_of(result: RunComparison) -> tuple[str, str]:
    """Say which method is best, and what it is against the baseline.

    Success is judged by its mean, as benchmarks of it are; returns by the interquartile mean.
    """
    success = result.kind == "success"
    what = "mean success rate" if success else "interquartile mean of the returns"

    def value(method: MethodScores) -> float:
        return method.mean if success else method.iqm

    def written(method: MethodScores) -> str:
        spread = "" if success or method.interval is None else between(method.interval)
        return digits(value(method)) + (f" (95 %: {spread})" if spread else "")

    baseline, *others = result.methods
    if not others:
        return (
            f"The {what} of {baseline.name} is {written(baseline)}, over "
            f"{several(len(baseline.seeds), 'seed')} and {several(len(result.tasks), 'task')}.",
            "Nothing stands beside it: name the folder of another method's runs, too.",
        )
    best = max(result.methods, key=value)
    rival = best if best is not baseline else max(others, key=value)
    alike = [one.name for one in result.methods if value(one) == value(best)]
    who = f"{' and '.join(alike)} have" if len(alike) > 1 else f"{best.name} has"
    first = f"{who} the highest {what} of {len(result.methods)} methods: {written(best)}."
    pair = next(one for one in result.differences if one.name == rival.name)
    apart, pairs = _mean(pair.by_seed), several(len(pair.seeds), "pair")
    side = "above" if apart > 0 else "below"
    course = f"{digits(abs(apart))} {side}" if apart else "as high as"
    second = (
        f"In pairs of the same seed the mean of {rival.name} is {course} that of {baseline.name}, "
        f"and above it in {pair.better} of {pairs}"
    )
    if pair.interval is None or len(pair.seeds) < FEW_PAIRS:
        return first, f"{second}; so few decide little."
    low, high = pair.interval
    told = "leaves 0 out" if low > 0 or high < 0 else "holds 0, so these seeds tell no difference"
    return first, (
        f"{second}; the interval of the difference of interquartile means "
        f"({between(pair.interval)}) {told}."
    )


def rows_of(result: RunComparison) -> list[dict[str, str]]:
    """Write a row for each method, for people: column by column."""
    against = {one.name: one for one in result.differences}
    rows = []
    for method in result.methods:
        own = against.get(method.name)
        row = {
            "method": method.name,
            "seeds": str(len(method.seeds)),
            **(
                {}
                if _apart(result)
                else {task: digits(_mean(method.scores[task])) for task in result.tasks}
            ),
            "mean": digits(method.mean),
            "IQM": digits(method.iqm),
            "95 % interval": between(method.interval),
            "minus baseline": "-" if own is None else f"{own.difference:+.3g}",
            "95 % of pairs": "-" if own is None else between(own.interval),
            "pairs above": "-" if own is None else f"{own.better} of {len(own.seeds)}",
            "dormant": "-" if method.dormant_ratio is None else percent(method.dormant_ratio),
            "rank": "-" if method.effective_rank is None else digits(method.effective_rank),
        }
        rows.append(row)
    return rows


def rows_of_tasks(result: RunComparison) -> list[dict[str, str]]:
    """Write a row for each task, method by method; none where tasks are columns of the methods."""
    if not _apart(result):
        return []
    return [
        {"task": task, **{one.name: digits(_mean(one.scores[task])) for one in result.methods}}
        for task in result.tasks
    ]


def _apart(result: RunComparison) -> bool:
    return sum(map(len, result.tasks)) > WIDEST_TASKS


def title_of(result: RunComparison) -> str:
    """Say what is compared, and when."""
    scaled = " (scaled)" if result.ranges else ""
    what = f"mean {result.kind}{scaled}" if result.kind == "return" else "success rate"
    if result.source:
        return f"{what} by {result.source}"
    return f"{what} of the last episodes after {result.steps:,} decisions"


def as_markdown(result: RunComparison) -> str:
    """Write the table, the pairs of each seed and the notes as Markdown."""
    rows = rows_of(result)
    lines = [" ".join(sentences_of(result)), ""]
    lines += [f"{title_of(result)[0].upper()}{title_of(result)[1:]}.", ""]
    lines += _table([list(rows[0]), *(list(row.values()) for row in rows)])
    tasks = rows_of_tasks(result)
    if tasks:
        lines += ["", *_table([list(tasks[0]), *(list(row.values()) for row in tasks)])]
    if result.differences:
        seeds = sorted({seed for one in result.differences for seed in one.seeds})
        head = [f"minus {result.methods[0].name}, mean over tasks", *(f"seed {n}" for n in seeds)]
        body = []
        for one in result.differences:
            of_seed = dict(zip(one.seeds, one.by_seed, strict=True))
            cells = (f"{of_seed[seed]:+.3g}" if seed in of_seed else "-" for seed in seeds)
            body.append([one.name, *cells])
        lines += ["", *_table([head, *body])]
    lines += [line for note in result.notes for line in ("", f"{note[0].upper()}{note[1:]}.")]
    return "\n".join(lines) + "\n"


def between(interval: Interval | None) -> str:
    """Write an interval for people."""
    return "-" if interval is None else f"{digits(interval[0])} to {digits(interval[1])}"


def _table(rows: list[list[str]]) -> list[str]:
    # A bar would end a cell.
    texts = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    ruled = [texts[0], ["---"] * len(texts[0]), *texts[1:]]
    return [f"| {' | '.join(row)} |" for row in ruled]


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)
