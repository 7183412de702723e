"""Every rule of a chip network fires, alone, with a text that names object, value, limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mtspark.core.chip_network import rules
from mtspark.core.chip_network.encoding import Encoder
from mtspark.core.chip_network.network import ChipNetwork, SignMode
from mtspark.core.environments.environment import Environment, Observation
from mtspark.core.environments.protocol import Task

Change = Callable[[ChipNetwork], ChipNetwork]


def population(index: int, **changes: Any) -> Change:
    """Replace fields of a population; a function of its old value may stand for a value."""

    def change(network: ChipNetwork) -> ChipNetwork:
        parts = list(network.populations)
        parts[index] = replace(parts[index], **_values(parts[index], changes))
        return replace(network, populations=tuple(parts))

    return change


def connection(index: int, **changes: Any) -> Change:
    """Likewise for a connection."""

    def change(network: ChipNetwork) -> ChipNetwork:
        parts = list(network.connections)
        parts[index] = replace(parts[index], **_values(parts[index], changes))
        return replace(network, connections=tuple(parts))

    return change


def network(**changes: Any) -> Change:
    """Likewise for the network."""
    return lambda chip: replace(chip, **_values(chip, changes))


def _values(owner: Any, changes: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value(getattr(owner, key)) if callable(value) else value
        for key, value in changes.items()
    }


def put(value: int) -> Callable[[np.ndarray], np.ndarray]:
    """Set the last entry of an array."""

    def change(array: np.ndarray) -> np.ndarray:
        changed = array.copy()
        changed.flat[-1] = value
        return changed

    return change


CASES: list[tuple[Callable[..., Any], Change, str]] = [
    (rules.names_are_unique, connection(0, name="conv"), "name 'conv' is used 2 times"),
    (rules.names_are_unique, connection(0, name="input"), "name 'input' is used 2 times"),
    (
        rules.connections_join_known_populations,
        connection(1, source="nowhere"),
        "connection 'second' starts at unknown 'nowhere'",
    ),
    (
        rules.connections_join_known_populations,
        connection(1, target="nowhere"),
        "connection 'second' ends at unknown 'nowhere'",
    ),
    (
        rules.connections_join_known_populations,
        network(readout=lambda old: replace(old, population="input")),
        "readout of unknown population 'input'",
    ),
    (rules.steps_and_tasks_are_positive, network(time_steps=0), "0 time steps a decision"),
    (rules.steps_and_tasks_are_positive, network(tasks=()), "no task"),
    (
        rules.arrays_have_the_declared_shapes,
        population(0, thresholds=lambda old: old[:1]),
        r"population 'conv': thresholds \(1, 3, 3, 2\), must be \(2, 3, 3, 2\)",
    ),
    (
        rules.arrays_have_the_declared_shapes,
        population(0, bias_mantissa=lambda old: old.transpose(0, 2, 1)),
        r"population 'conv': biases \(3, 2, 3\), must be \(3, 3, 2\)",
    ),
    (
        rules.arrays_have_the_declared_shapes,
        connection(1, weights=lambda old: old.T),
        "connection 'second': makes nothing",
    ),
    (
        rules.arrays_have_the_declared_shapes,
        connection(0, weights=lambda old: old.transpose(0, 1, 3, 2)),
        r"connection 'first': makes \(3, 3, 0\)|connection 'first': makes nothing",
    ),
    (
        rules.arrays_have_the_declared_shapes,
        connection(0, padding=(0, 0)),
        r"connection 'first': makes \(3, 2, 2\), its target is \(3, 3, 2\)",
    ),
    (rules.arrays_have_the_declared_shapes, connection(0, stride=(0, 1)), "'first': makes nothing"),
    (
        rules.arrays_have_the_declared_shapes,
        connection(0, dilation=(1, 0)),
        "'first': makes nothing",
    ),
    (
        rules.arrays_have_the_declared_shapes,
        connection(0, padding=(-1, 0)),
        "'first': makes nothing",
    ),
    (rules.arrays_have_the_declared_shapes, connection(0, groups=2), "'first': makes nothing"),
    (
        rules.arrays_have_the_declared_shapes,
        network(readout=lambda old: replace(old, scale=old.scale[:3])),
        r"readout scale \(3,\), its population is \(4,\)",
    ),
    (
        rules.depths_are_defined,
        network(populations=lambda old: old[::-1]),
        "list sources before targets",
    ),
    (
        rules.weights_lie_on_the_grid_of_their_sign_mode,
        connection(0, weights=put(256)),
        r"connection 'first': weights -?\d+..256, mixed ones are -256..254",
    ),
    (
        rules.weights_lie_on_the_grid_of_their_sign_mode,
        connection(0, weights=put(3)),
        "connection 'first': weights must be multiples of 2",
    ),
    (
        rules.weights_lie_on_the_grid_of_their_sign_mode,
        connection(0, weight_bits=4, weights=lambda old: put(16)(0 * old)),
        "connection 'first': weights must be multiples of 32",
    ),
    (
        rules.weights_lie_on_the_grid_of_their_sign_mode,
        connection(1, weights=put(-1)),
        "connection 'second': weights -1..2.., excitatory ones are 0..255",
    ),
    (
        rules.weights_lie_on_the_grid_of_their_sign_mode,
        connection(1, sign_mode=SignMode.INHIBITORY),
        "connection 'second': weights .*, inhibitory ones are -255..0",
    ),
    (
        rules.weights_lie_on_the_grid_of_their_sign_mode,
        connection(1, weight_bits=9),
        "connection 'second': 9 weight bits, 1 to 8 exist",
    ),
    (
        rules.delays_exist_on_the_chip,
        connection(0, delay=63),
        "connection 'first': delay 63, 0 to 62 exist",
    ),
    (
        rules.exponents_exist_on_the_chip,
        connection(0, exponent=-9),
        "connection 'first': exponent -9, -8 to 7 exist",
    ),
    (
        rules.exponents_exist_on_the_chip,
        population(0, bias_exponent=8),
        "population 'conv': bias exponent 8, 0 to 7 exist",
    ),
    (
        rules.decays_thresholds_and_biases_are_in_range,
        population(1, current_decay=4096),
        "population 'out': current decay 4096, 0 to 4095 exist",
    ),
    (
        rules.decays_thresholds_and_biases_are_in_range,
        population(1, membrane_decay=-1),
        "population 'out': membrane decay -1, 0 to 4096 exist",
    ),
    (
        rules.decays_thresholds_and_biases_are_in_range,
        population(0, thresholds=put(2**17)),
        r"population 'conv': thresholds \d+..131072, 0 to 131071 exist",
    ),
    (
        rules.decays_thresholds_and_biases_are_in_range,
        population(0, thresholds=put(-1)),
        r"population 'conv': thresholds -1..\d+, 0 to 131071 exist",
    ),
    (
        rules.decays_thresholds_and_biases_are_in_range,
        population(0, bias_mantissa=put(-4096)),
        r"population 'conv': bias mantissas -4096..-?\d+, -4095 to 4095 exist",
    ),
    (
        rules.payloads_exist_on_the_chip,
        network(input=lambda old: replace(old, payload_bits=7)),
        "input payload of 7 bits",
    ),
    (
        rules.tasks_differ_by_name_and_have_actions_of_the_readout,
        network(tasks=lambda old: (replace(old[0], legal_actions=(0, 17)), *old[1:])),
        "task 'pong' has action 17, the readout has 4 outputs",
    ),
    (
        rules.stateful_networks_take_one_frame_a_decision,
        network(stateful=True, time_steps=2),
        "2 time steps a decision, a stateful network has 1",
    ),
    (
        rules.environments_show_what_the_input_takes,
        network(
            tasks=lambda old: (
                replace(
                    old[0],
                    game="",
                    environment=Environment(
                        "CartPole-v1", observation=Observation("box", 4, (0.0,) * 4, (1.0,) * 4)
                    ),
                ),
                *old[1:],
            )
        ),
        r"task '\w+' shows \(1, 4, 1\) of kind box, which the input of shape \(.*\) does not take",
    ),
    (
        rules.scales_are_finite,
        network(input=lambda old: replace(old, scale=0.0)),
        "input scale 0.0, a positive number is needed",
    ),
    (
        rules.encoders_hold_a_frame_whose_sums_fit,
        network(input=lambda old: replace(old, held=False, encoder=Encoder.HELD)),
        "the input is a series of slices, encoder held holds one frame",
    ),
    (
        rules.games_have_a_protocol,
        network(protocol=lambda old: None),
        "task 'pong' is a game, and no protocol says how it is played",
    ),
    (
        rules.decays_thresholds_and_biases_are_in_range,
        population(0, membrane_decay=lambda old: put(4097)(np.full((3, 3, 2), old))),
        r"population 'conv': membrane decay \d+..4097, 0 to 4096 exist",
    ),
    (
        rules.arrays_have_the_declared_shapes,
        population(0, current_decay=lambda old: np.zeros(3, np.int64)),
        r"population 'conv': current decays \(3,\), must be one number or \(",
    ),
    (
        rules.scales_are_finite,
        network(readout=lambda old: replace(old, scale=old.scale * np.nan)),
        "readout scale has values that are not finite",
    ),
]


@pytest.mark.parametrize(("rule", "change", "text"), CASES)
def test_rule_fires_with_a_readable_text(
    chip: ChipNetwork, rule: Callable[..., Any], change: Change, text: str
) -> None:
    assert list(rule(chip)) == []
    found = list(rule(change(chip)))
    assert len(found) == 1
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(found[0])
    assert "\n" not in found[0]
    assert found[0] in rules.violations(change(chip))


def test_every_rule_has_a_case() -> None:
    assert {case[0] for case in CASES} == {*rules.STRUCTURE_RULES, *rules.VALUE_RULES}


def test_values_are_not_judged_where_the_structure_is_broken(chip: ChipNetwork) -> None:
    broken = connection(0, exponent=99)(network(time_steps=0)(chip))
    assert rules.violations(broken) == ["0 time steps a decision, at least 1 is needed"]


def test_violations_of_many_objects_come_together(chip: ChipNetwork) -> None:
    broken = connection(0, exponent=99)(population(0, bias_exponent=9)(chip))
    broken = population(1, current_decay=5000)(broken)
    assert len(rules.violations(broken)) == 3


def test_extremes_of_every_range_are_allowed(chip: ChipNetwork) -> None:
    allowed = connection(0, exponent=-8, weights=lambda old: put(-256)(put(254)(old)))(chip)
    allowed = connection(1, exponent=7, sign_mode=SignMode.INHIBITORY, weights=np.negative)(allowed)
    allowed = population(0, membrane_decay=4096, thresholds=put(0), bias_exponent=7)(allowed)
    allowed = network(tasks=lambda old: (old[0], Task("x", "x", (3,))))(allowed)
    assert rules.violations(allowed) == []
