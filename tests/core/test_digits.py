"""Numbers of any magnitude keep digits that say something."""

from __future__ import annotations

import pytest

from mtspark.core.digits import decimals, digits, percent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0178632, "0.0179"),
        (6.11e-05, "0.0000611"),
        (12.34, "12.3"),
        (70.0, "70"),
        (99.96, "100"),
        (12345.6, "12,346"),
        (0, "0"),
        (-0.5, "-0.5"),
    ],
)
def test_three_digits(value: float, text: str) -> None:
    assert digits(value) == text


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [
        (0.0178, 1, "0.0178"),
        (0.5, 1, "0.5"),
        (20.04, 1, "20.0"),
        (0.0026, 2, "0.0026"),
        (0.0, 2, "0.00"),
        (1234.5, 2, "1,234.50"),
    ],
)
def test_fixed_decimals(value: float, places: int, text: str) -> None:
    assert decimals(value, places) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.0%"),
        (1.0, "100.0%"),
        (0.5, "50.0%"),
        (0.9997, "99.97%"),
        (0.99999, "99.999%"),
        (0.0004, "0.04%"),
        (0.9994, "99.9%"),
    ],
)
def test_only_nothing_is_0_and_only_all_is_100_percent(share: float, text: str) -> None:
    assert percent(share) == text
