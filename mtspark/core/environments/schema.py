"""What a file may say of an environment, checked by pydantic."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen
from pydantic import ConfigDict, Field, Strict

from mtspark.core.environments.environment import LONGEST_ID, MOST_ACTIONS, MOST_VALUES
from mtspark.core.files import Count, Entry, Number, Text, VersionOne

STRICT = ConfigDict(extra="forbid")


Size = Annotated[int, Strict(), Ge(1), Le(MOST_VALUES)]


class PartEntry(Entry):
    """As :class:`mtspark.core.environments.environment.Part`."""

    model_config = STRICT
    name: Annotated[Text, MaxLen(LONGEST_ID)]
    kind: Literal["box", "discrete", "multibinary", "multidiscrete"]
    size: Size
    choices: Annotated[list[Size], MaxLen(MOST_VALUES)]


class ObservationEntry(Entry):
    """As :class:`mtspark.core.environments.environment.Observation`."""

    model_config = STRICT
    kind: Literal["box", "discrete", "multibinary", "parts"]
    size: Size
    mean: Annotated[list[Number], MaxLen(MOST_VALUES)]
    deviation: Annotated[list[Number], MaxLen(MOST_VALUES)]
    parts: Annotated[list[PartEntry], MaxLen(MOST_VALUES)] = Field(default_factory=list)
    frame: Annotated[int, Strict(), Ge(0), Le(MOST_VALUES)] = 0
    start: Annotated[int, Strict(), Ge(0), Le(MOST_VALUES)] = 0
    as_numbers: Annotated[bool, Strict()] = False


class WrapperEntry(Entry):
    """As :class:`mtspark.core.environments.environment.Wrapper`."""

    model_config = STRICT
    name: Text
    arguments: dict[Text, Any] = Field(default_factory=dict)


class BoxEntry(Entry):
    """As :class:`mtspark.core.environments.environment.ActionBox`."""

    model_config = STRICT
    low: Annotated[list[Number], MaxLen(MOST_ACTIONS)]
    high: Annotated[list[Number], MaxLen(MOST_ACTIONS)]
    deviation: Annotated[list[Number], MaxLen(MOST_ACTIONS)] = Field(default_factory=list)


class EnvironmentEntry(Entry):
    """As :class:`mtspark.core.environments.environment.Environment`."""

    model_config = STRICT
    version: VersionOne
    id: Annotated[Text, MaxLen(LONGEST_ID)]
    arguments: dict[Text, Any] = Field(default_factory=dict)
    wrappers: Annotated[list[WrapperEntry], MaxLen(16)] = Field(default_factory=list)
    max_steps: Count = 0
    reward_range: Annotated[list[Number], MaxLen(2), Field(min_length=2)] | None = None
    decisions_per_s: Number
    decision_delay: Count = 0
    entries: Annotated[list[Text], MaxLen(MOST_VALUES)] = Field(default_factory=list)
    symbols: Annotated[list[Size], MaxLen(16)] = Field(default_factory=list)
    observation: ObservationEntry
    actions: Annotated[int, Strict(), Ge(1), Le(MOST_ACTIONS)]
    choices: Annotated[list[Size], MaxLen(MOST_ACTIONS)] = Field(default_factory=list)
    box: BoxEntry | None = None
    masked: Annotated[bool, Strict()] = False
    name: Annotated[Text, MaxLen(64)] = ""
