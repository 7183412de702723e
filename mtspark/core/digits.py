"""Numbers for people: digits that say something, whatever the magnitude."""

from __future__ import annotations

import math


def digits(value: float) -> str:
    """Write three significant digits, without an exponent; from 100 on all whole ones."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    places = max(2 - math.floor(math.log10(abs(value))), 0)
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def decimals(value: float, places: int) -> str:
    """Write a fixed number of decimals; three significant digits where they would lose most.

    Args:
        value: any number.
        places: decimals of a number that is large enough.
    """
    if value != 0 and abs(value) < 10.0 ** (1 - places):
        return digits(value)
    return f"{value:,.{places}f}"


def several(count: int, noun: str) -> str:
    """Write how many there are of a thing whose plural ends in s."""
    return f"{count:,} {noun}" + "s" * (count != 1)


def percent(share: float, places: int = 1) -> str:
    """Write a share in percent: one that is not 0 is never 0 %, and one below 1 never 100 %.

    Args:
        share: usually 0 to 1.
        places: decimals of a share that they do not round to an end.
    """
    text = f"{share:.{places}%}"
    if 0 < share < 1 and text in (f"{0:.{places}%}", f"{1:.{places}%}"):
        if share < 0.5:
            return f"{digits(100 * share)}%"
        # As many decimals as tell it from 1.
        longer = (f"{share:.{more}%}" for more in range(places + 1, 14))
        return next((text for text in longer if not text.startswith("100")), text)
    return text
