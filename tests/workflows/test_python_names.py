"""Flags in errors become arguments for a Python caller; commands stay commands."""

from __future__ import annotations

import pytest

from mtspark.core.errors import BadNetworkError
from mtspark.workflows.python_names import in_python, with_python_names


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("--weight-bits 9: 2 to 8 exist", "weight_bits 9: 2 to 8 exist"),
        ("need recorded inputs: --input FILE", "need recorded inputs: sample FILE"),
        ("`mtspark map DIR --chip loihi2` or --chip", "`mtspark map DIR --chip loihi2` or chip"),
        ("export with --max-pool or, it is", "export with max_pool='or', it is"),
        ("add --trust if you trust it", "add --trust if you trust it"),
        ("a -- b, x--y, --", "a -- b, x--y, --"),
    ],
)
def test_flags_become_arguments(line: str, wanted: str) -> None:
    assert in_python(line) == wanted


def test_errors_keep_their_type_and_other_errors_their_text() -> None:
    @with_python_names
    def fail(error: Exception) -> None:
        raise error

    with pytest.raises(BadNetworkError, match=r"^use reset zero$"):
        fail(BadNetworkError("use --reset zero"))
    with pytest.raises(KeyError, match="--reset"):
        fail(KeyError("--reset"))
