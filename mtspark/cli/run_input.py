"""``mtspark run DIR --input FILE.npy``: a deployed network on recorded inputs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtspark.cli.show.recorded import print_recorded
from mtspark.core.errors import BadRequestError
from mtspark.core.files.atomic import writable_folder
from mtspark.sim.recording.inputs import as_messages, load_recording
from mtspark.workflows.backends import BackendName, open_backend

if TYPE_CHECKING:
    from mtspark.deploy.bundle import Bundle


def run_recorded(
    bundle: Bundle,
    recording: Path,
    output: Path | None,
    *,
    task: str | None = None,
    backend: BackendName = BackendName.ENGINE,
) -> dict[str, Any]:
    """Run a recording, print what came out, and write every spike where a file is named.

    Args:
        bundle: its network may take a series, or hold the first slice of the recording.
        recording: .npy, (T, ...) or (batch, T, ...); its length replaces the network's T.
        output: .npz to write: values, and of every population spikes and membranes in its own
            window, (T, batch, *shape).
        task: default: the first.
        backend: who runs it.

    Raises:
        BadFileError, BadRequestError: a file that cannot be read or written, or values that the
            network's input does not take.
    """
    import numpy as np

    if output is not None:
        if output.suffix != ".npz" or output.is_dir():
            raise BadRequestError(f"{output}: give -o the name of an .npz file")
        writable_folder(output.resolve().parent)
    network = bundle.network
    name = task or network.tasks[0].name
    row = network.task_index(name)
    series = load_recording(recording, network.input.shape)
    messages = as_messages(series, network, recording)
    if network.input.held:
        if not (messages == messages[:, :1]).all():
            raise BadRequestError(
                f"{recording}: changes from step to step, but this network holds one frame for "
                "all its steps; export it without --held"
            )
        frames = messages[:, 0]
    else:
        frames = messages
        network = replace(network, time_steps=messages.shape[1])
    with open_backend(backend, replace(bundle, network=network), name) as chip:
        decision = chip.decide(np.ascontiguousarray(frames), row, trace=True)
    trace = decision.trace
    assert trace is not None
    arrays: dict[str, Any] = {"values": decision.values}
    totals: dict[str, int] = {}
    for population in network.populations:
        own = network.window(population.name)
        arrays[f"spikes/{population.name}"] = trace.spikes[population.name][own]
        arrays[f"membranes/{population.name}"] = trace.membranes[population.name][own]
        totals[population.name] = int(trace.spikes[population.name][own].sum())
    if output is not None:
        temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                np.savez_compressed(file, **arrays)
            temporary.replace(output)
        finally:
            temporary.unlink(missing_ok=True)
    result = {
        "network_hash": bundle.network_hash,
        "backend": backend.value,
        "task": name,
        "recording": recording.name,
        "samples": len(frames),
        "time_steps": network.time_steps,
        "spikes": totals,
        "values": decision.values.tolist(),
    }
    print_recorded(result, output)
    return result
