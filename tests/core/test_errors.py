from __future__ import annotations

import pytest

from mtspark.core.errors import one_line


@pytest.mark.parametrize("length", range(8, 60))
def test_a_shortened_message_ends_with_a_whole_word(length: int) -> None:
    text = "weights only load failed, in this file nothing can be trusted at all"
    short = one_line(text, length)
    assert len(short) <= length
    assert short.endswith("...")
    kept = short.removesuffix("...")
    assert text.startswith(kept)
    assert text[len(kept)] in " ," or length < 16


def test_what_fits_stays_and_what_has_no_words_is_cut() -> None:
    assert one_line("a\nb  c", 5) == "a b c"
    assert one_line("x" * 50, 10) == "x" * 7 + "..."
    assert one_line("\x1b[1mred", 20) == "?[1mred"
    assert one_line(KeyError()) == "KeyError"
