"""How well a network does its task: on the chip, beside the float network, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mtspark.core.digits import percent
from mtspark.sim.verdict import listed


@dataclass(frozen=True)
class Score:
    """A score of the chip, beside that of the float network where it is known.

    Attributes:
        kind: "return" of games, "accuracy" of inputs with labels.
        task: by name.
        chip: mean return, or share of right answers.
        float_network: likewise; None where nobody measured it.
        agreement: share of decisions with the same answer; None where nobody measured it.
        count: games, or inputs.
        origin: of the inputs; empty for games.
        interval_95: of the chip's score; None where it is not known.
        cut_off: games that were cut off by the user.
        sticky: probability of sticky actions, of games.
        who: whose score it is, in words.
        success: share of games whose task was solved; None where the environment does not say.
        numbers: actions are numbers, which are the same within 5 % of their range.
        drawn: the games' actions were drawn; the same is then what both think best.
    """

    kind: str
    task: str
    chip: float
    float_network: float | None
    agreement: float | None
    count: int
    origin: str = ""
    interval_95: tuple[float, float] | None = None
    cut_off: int = 0
    sticky: float = 0.0
    who: str = "the chip"
    success: float | None = None
    numbers: bool = False
    drawn: bool = False

    @property
    def sentence(self) -> str:
        """Say it in plain words."""
        if self.kind == "accuracy":
            who = self.who[0].upper() + self.who[1:]
            text = f"{who} names {percent(self.chip)} of {self.count:,} samples{self._of()} rightly"
        else:
            games = f"{self.count:,} game" + "s" * (self.count != 1)
            sticky = f", sticky actions {self.sticky:g}" if self.sticky else ""
            drawn = " of drawn actions" if self.drawn else ""
            text = f"{self.task}{sticky}: {self.who} scores {self.chip:,.4g} over {games}{drawn}"
        if self.interval_95 is not None:
            low, high = (self._number(value) for value in self.interval_95)
            text += f" (95 %: {low} to {high})"
        if self.success is not None:
            text += f", success rate {self.success:.1%}"
        text += self._beside()
        if self.cut_off:
            which = "it" if self.count == 1 else f"{self.cut_off:,} of them"
            text += f"; {which} was cut off" if self.cut_off == 1 else f"; {which} were cut off"
        return text + "."

    def _of(self) -> str:
        return f" of {self.origin}" if self.origin else ""

    def _number(self, value: float) -> str:
        if self.kind == "accuracy":
            return percent(value)
        # Of returns from 0 to 1, one decimal would say nothing.
        return f"{value:,.1f}" if abs(self.chip) >= 2 else f"{value:.3f}"

    def _beside(self) -> str:
        if self.float_network is None:
            return ""
        text = f", the float network {self._number(self.float_network)}"
        if self.kind != "accuracy":
            text = f", the float network {self.float_network:,.4g}"
        if self.agreement is not None:
            same = "answer" if self.kind == "accuracy" else "action"
            if self.numbers:
                same += " (within 5 % of its range)"
            verb = "both think the same" if self.drawn else "both give the same"
            best = " best" if self.drawn else ""
            text += f"; {verb} {same}{best} to {percent(self.agreement)}"
        return text

    @property
    def shown(self) -> str:
        """The number alone."""
        return percent(self.chip) if self.kind == "accuracy" else f"{self.chip:,.4g}"

    @property
    def shown_beside(self) -> str:
        """The float network's number alone, in brackets; empty where nobody measured it."""
        if self.float_network is None:
            return ""
        number = self.float_network
        return f" ({percent(number)})" if self.kind == "accuracy" else f" ({number:,.4g})"

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        values = asdict(self)
        if not self.numbers:
            del values["numbers"]
        if not self.drawn:
            del values["drawn"]
        if self.success is None:
            del values["success"]
        return values


def scores_sentence(scores: Sequence[Score]) -> str:
    """Say in one sentence how well a network does all of its tasks.

    Args:
        scores: of one network, at least one; of a task, that of its own rules comes first, and
            others differ in sticky actions.
    """
    tasks: dict[str, list[Score]] = {}
    for score in scores:
        tasks.setdefault(score.task, []).append(score)
    first = scores[0]
    if len(tasks) == 1:
        more = "".join(
            f"; with sticky actions {score.sticky:g} it scores {score.shown}{score._beside()}"
            for score in scores[1:]
        )
        return first.sentence.removesuffix(".") + more + "."
    parts = [
        f"{own[0].shown}{own[0].shown_beside} in {task}{_sticky(own[1:])}"
        for task, own in tasks.items()
    ]
    who = first.who[0].upper() + first.who[1:]
    beside = any(score.float_network is not None for score in scores)
    text = f"{who} scores {listed(parts)}"
    counts = {score.count for score in scores}
    texts = []
    if len(counts) == 1:
        (count,) = counts
        each = "one game or sample" if count == 1 else f"{count:,} games or samples"
        texts.append(f"over {each} each")
    texts += ["in brackets the float network's"] if beside else []
    known = [score.agreement for score in scores if score.agreement is not None]
    drawn = any(score.drawn for score in scores)
    if drawn:
        texts.append("actions of games are drawn")
    if known:
        same = "think the same best" if drawn else "answer the same"
        texts.append(f"both {same} to {percent(min(known))} at least")
    cut = sum(score.cut_off for score in scores)
    if cut:
        texts.append(f"{cut:,} of them were cut off")
    return "; ".join([text, *texts]) + "."


def _sticky(scores: Sequence[Score]) -> str:
    texts = (
        f"{score.shown}{score.shown_beside} with sticky actions {score.sticky:g}"
        for score in scores
    )
    return "".join(f", {text}" for text in texts)
