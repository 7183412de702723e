"""Every limit of a chip that a network breaks, one line each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mtspark.core.chip_network.network import FrameInput
from mtspark.core.errors import BadFileError
from mtspark.deploy.mapping.limits import broken_limits
from tests.deploy.chips.test_rules import fitting
from tests.support.networks import three_neurons


def test_a_plain_network_breaks_none() -> None:
    assert broken_limits(fitting(), "loihi1") == broken_limits(fitting(), "") == []


def test_all_violations_come_together() -> None:
    net = fitting(exponent=-8, weight_bits=7)
    net = replace(net, input=FrameInput((1,), 8))
    found = broken_limits(net, "loihi1")
    assert [text.split(":")[0] for text in found] == ["input", "'input->p'", "'input->p'"]
    assert all("; " in text for text in found), "every one says what to do"


def test_the_three_neurons_break_one_limit_of_loihi_1() -> None:
    (text,) = broken_limits(three_neurons(), "loihi1")
    assert "membrane decay 4096, the limit is 4095" in text


def test_broken_limits_are_those_of_the_network_that_is_asked_for() -> None:
    good, bad = fitting(), fitting(weight_bits=7)
    assert [len(broken_limits(net, "loihi1")) for net in (good, bad, good, bad)] == [0, 1, 0, 1]
    assert broken_limits(bad, "loihi2") == []
    with pytest.raises(BadFileError, match="loihi9"):
        broken_limits(good, "loihi9")
