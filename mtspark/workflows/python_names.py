"""Error lines for a Python caller, who gives ``weight_bits=6`` and not ``--weight-bits 6``.

Errors of all rooms name options as the command line spells them. The functions of the door turn
these spellings into the names of their own arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from mtspark.core.errors import MtsparkError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

OTHER_NAMES = {"input": "sample", "if-gain-r": "if_gain_dt=False"}
"""By flag: the argument, where it is not the flag with underscores."""
WITH_VALUES = {
    "--max-pool or": "max_pool='or'",
    "--calibrate mse": "calibrate='mse'",
    "--encoder every-step": "encoder='every-step'",
    "add --one-frame": "add one_frame=True",
    "--input-bits 8": "input_bits=8",
}
"""Flags with the value that a text advises."""
ONLY_FLAGS = frozenset({"trust", "limit", "json", "force"})
"""Flags that no function of the door takes as an argument."""

_FLAG_OR_COMMAND = re.compile(r"`[^`]*`|(?<![\w-])--([a-z][a-z-]*)")


def in_python(text: str) -> str:
    """Spell the flags in a text as arguments; a whole command in backquotes stays as it is."""

    def spelled(match: re.Match[str]) -> str:
        flag = match[1]
        if flag is None or flag in ONLY_FLAGS:
            return match[0]
        return OTHER_NAMES.get(flag, flag.replace("-", "_"))

    for flag, argument in WITH_VALUES.items():
        text = text.replace(flag, argument)
    return _FLAG_OR_COMMAND.sub(spelled, text)


def with_python_names(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Make the errors of a function speak of arguments instead of flags."""

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except MtsparkError as error:
            error.args = (in_python(str(error)), *error.args[1:])
            raise

    return call
