"""The seeds of several runs of one recipe, as people write them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mtspark.core.errors import BadRequestError, one_line

MOST_SEEDS, LARGEST_SEED = 1000, 2**63 - 1


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds from a list like ``1,2,5-8``.

    Raises:
        BadRequestError: no such list, or seeds that :func:`check_seeds` refuses.
    """
    chosen: list[int] = []
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdigit() and len(end) < 20 for end in ends):
            raise BadRequestError(
                f"seeds {one_line(text, 60)!r}: write numbers with commas between, as 1,2,5-8"
            )
        begin, end = map(int, ends)
        if end < begin:
            raise BadRequestError(f"seeds {first}-{last}: the first must not be above the last")
        # One more than are allowed is refused below, and takes no memory.
        chosen += range(begin, min(end, begin + MOST_SEEDS) + 1)
    return check_seeds(chosen)


def check_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """Return the seeds of several runs, if they can be.

    Raises:
        BadRequestError: none, too many, one twice, or one beyond its range.
    """
    if not 1 <= len(seeds) <= MOST_SEEDS:
        raise BadRequestError(f"seeds: {len(seeds):,} or more; must be 1 to {MOST_SEEDS:,}")
    for seed, times in Counter(seeds).items():
        if times > 1:
            raise BadRequestError(f"seeds: {seed} stands {times} times; name each seed once")
        if not 0 <= seed <= LARGEST_SEED:
            raise BadRequestError(f"seeds: {seed}; must be 0 to {LARGEST_SEED}")
    return tuple(seeds)
