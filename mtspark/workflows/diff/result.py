"""The result of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mtspark.core.digits import percent
from mtspark.sim.compare import Agreement, Divergence
from mtspark.sim.verdict import Cost, costs_sentence

NO_NETWORK = "Neither of the two is a chip network (a bundle, a .net file), so nothing is priced."


@dataclass(frozen=True)
class DiffResult:
    """How far two sides agree.

    Attributes:
        expected, against: names of the two sides, as the user knows them.
        task: whose frames and thresholds were used; None where neither side has tasks.
        seed: of the frames.
        agreement: what was compared and where the first difference is.
        exact: whether the two sides ought to be equal; floats and integers never are.
        read_as: how an ambiguous file was read, by name of the side; None where the sides are
            backends of bundles and not files.
        costs: of a mean decision, by the chip networks among the sides; empty where nothing was
            priced.
        unit: what is answered: a decision of a game, or a random input.
        removed: by population, neurons that ``--prune`` removed from one side and the other has;
            they are not compared, and neurons have their places of before.
        compared_as: what is the same or not where floats are a side: actions, or answers.
    """

    expected: str
    against: str
    task: str | None
    seed: int
    agreement: Agreement
    exact: bool = True
    read_as: dict[str, str] | None = None
    costs: Mapping[str, Cost] = field(default_factory=dict)
    unit: str = "decision"
    removed: Mapping[str, int] = field(default_factory=dict)
    compared_as: str = "actions"

    @property
    def sentences(self) -> tuple[str, str]:
        """Whether the two agree, and what a decision costs."""
        cost = costs_sentence(self.costs, self.unit) if self.costs else NO_NETWORK
        left_out = ""
        if self.removed:
            count = sum(self.removed.values())
            left_out = f"; {count:,} neurons that --prune removed from one side are not compared"
        return f"{self._agreement()}{left_out}.", cost

    def _agreement(self) -> str:
        found = self.agreement
        sides = f"{self.expected} and {self.against}"
        task = "" if self.task is None else f" of {self.task}"
        over = f"{found.decisions:,} {self.unit}{'s' * (found.decisions != 1)}{task}"
        share = percent(found.different / max(found.compared, 1))
        differ = f"{found.different:,} of {found.compared:,}"
        if found.action_agreement is not None:
            return (
                f"{sides} {self._same} in {percent(found.action_agreement)} of {over}; "
                f"the spike counts of {differ} neurons differ ({share}), as those of floats and "
                "integers do"
            )
        if self.equal:
            return f"{sides} are equal in all {found.compared:,} spikes and membranes of {over}"
        if not found.compared:
            return f"{sides} have no layer that could be compared in {over}"
        what = "spikes and membranes" if self.exact else "spikes, as floats and integers do,"
        return f"{sides} differ in {differ} {what} of {over} ({share}){_place(found.first)}"

    @property
    def _same(self) -> str:
        kind, _, within = self.compared_as.partition(" ")
        same = "give the same answer" if kind == "answers" else "choose the same action"
        return f"{same} {within}".rstrip()

    @property
    def equal(self) -> bool:
        """Whether something was compared and nothing differed."""
        return self.agreement.equal

    @property
    def fault(self) -> bool:
        """Whether the sides differ although they ought to be equal."""
        return self.exact and not self.equal

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``mtspark diff --json``."""
        names = {
            "expected": self.expected,
            "against": self.against,
            "task": self.task,
            "seed": self.seed,
        }
        data = {**names, **self.agreement.to_json()}
        if self.read_as is not None:
            data["exact"] = self.exact
            data["by_layer"] = self.agreement.layers_to_json()
            data["read_as"] = self.read_as
        elif self.agreement.action_agreement is not None:
            data["action_agreement"] = self.agreement.action_agreement
            data["layers"] = self.agreement.layers_to_json()
        return {**data, **({"removed": dict(self.removed)} if self.removed else {})}


def _place(first: Divergence | None) -> str:
    """Say where the first difference is, behind a sentence."""
    if first is None:
        return ""
    step = "" if first.step is None else f", step {first.step}"
    return f", first in decision {first.decision}{step}, layer {first.layer}"
