"""What a mapping says to a bill: cores, messages and time of a mean decision."""

from __future__ import annotations

from mtspark.deploy.mapping import ChipMapping
from mtspark.sim.energy import Device
from mtspark.sim.latency import DecisionTime
from mtspark.sim.messages import Traffic


def device_of(mapping: ChipMapping, traffic: Traffic, time: DecisionTime, decisions: int) -> Device:
    """The device of a bill.

    Args:
        mapping: of the network that is priced.
        traffic: messages over all decisions.
        time: modelled time of the mean decision.
        decisions: how many were counted.
    """
    return Device(
        cores=len(mapping.cores),
        chips=mapping.chips,
        step_time_us=time.step.total_us,
        messages=traffic.total / decisions,
        hops_east_west=traffic.total_hops_east_west / decisions,
        hops_north_south=traffic.total_hops_north_south / decisions,
        steps=time.steps,
    )
