from __future__ import annotations

from mtspark.sim.report.page import page_environment


def test_no_control_character_of_a_file_reaches_the_page() -> None:
    """Provenance is any text: a terminal that shows the page must not obey it."""
    template = page_environment().from_string(
        "<td>{{ text }}</td>{% for x in many %}{{ x }}{% endfor %}"
    )
    page = template.render(text="a\x1b[2J\x9b<b>\u202e\n", many=["\x07", 3, "b"])
    assert page == "<td>a\ufffd[2J\ufffd&lt;b&gt;\ufffd\n</td>\ufffd3b"
