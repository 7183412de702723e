"""What of Gymnasium's spaces an agent on the chip can see and do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mtspark.core.environments.environment import MOST_ACTIONS, MOST_VALUES, Observation
from mtspark.core.errors import BadRequestError, one_line

if TYPE_CHECKING:
    from gymnasium import Space


def observation_of(space: Space[Any], where: str) -> Observation:
    """Describe what an environment shows; a box still lacks its statistics.

    Args:
        space: its observation space.
        where: names the environment in errors.

    Raises:
        BadRequestError: a space that cannot be sent as a frame; one line with its limit.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        seen = Observation("discrete", int(space.n))
    elif isinstance(space, spaces.MultiBinary):
        seen = Observation("multibinary", math.prod(space.shape))
    elif isinstance(space, spaces.Box) and space.dtype is not None and space.dtype.kind in "fiu":
        if len(space.shape) == 3:
            raise _refused(where, "observation", space, "of pictures, ALE's games alone are read")
        seen = Observation("box", math.prod(space.shape))
    else:
        raise _refused(
            where, "observation", space, "Box of numbers, Discrete or MultiBinary can be sent"
        )
    if not 1 <= seen.size <= MOST_VALUES:
        raise _refused(where, "observation", space, f"{MOST_VALUES:,} values is the limit")
    return seen


def actions_of(space: Space[Any], where: str) -> int:
    """Return the number of actions of an environment.

    Raises:
        BadRequestError: a space whose actions are not chosen from a list; one line with its limit.
    """
    from gymnasium import spaces

    if not isinstance(space, spaces.Discrete):
        raise _refused(where, "action", space, "Discrete is needed, one action a decision")
    if space.n > MOST_ACTIONS:
        raise _refused(where, "action", space, f"{MOST_ACTIONS} actions is the limit")
    return int(space.n)


def _refused(where: str, kind: str, space: Space[Any], limit: str) -> BadRequestError:
    return BadRequestError(f"{where}: {kind} space {one_line(str(space), 120)}; {limit}")
