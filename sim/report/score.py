"""How well a network does its task: on the chip, beside the float network, in one sentence."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


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

    @property
    def sentence(self) -> str:
        """Say it in plain words."""
        if self.kind == "accuracy":
            who = self.who[0].upper() + self.who[1:]
            text = f"{who} names {self.chip:.1%} of {self.count:,} samples{self._of()} rightly"
        else:
            games = f"{self.count:,} game" + "s" * (self.count != 1)
            sticky = f", sticky actions {self.sticky:g}" if self.sticky else ""
            text = f"{self.task}{sticky}: {self.who} scores {self.chip:,.4g} over {games}"
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
            return f"{value:.1%}"
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
            text += f"; both give the same {same} to {self.agreement:.1%}"
        return text

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        values = asdict(self)
        if self.success is None:
            del values["success"]
        return values
