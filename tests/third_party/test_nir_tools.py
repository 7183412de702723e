"""Networks that other tools made and exported fire here what they fire there.

Needs a Python that has the tools; MTSPARK_NIR_TOOLS names it (default: this one). Writes
docs/nir-support.md anew where MTSPARK_WRITE_SUPPORT is set.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtspark.convert.nir.neurons import ImportOptions, Integrator, Order, Start
from mtspark.convert.nir.reader import import_nir
from mtspark.core.errors import MtsparkError
from mtspark.core.float_network.network import FloatReset
from mtspark.core.float_network.simulator import run_float

pytestmark = pytest.mark.third_party

SCRIPT = Path(__file__).with_name("nir_tools.py")
PAGE = Path(__file__).parents[2] / "docs" / "nir-support.md"

# What does not come in as the tool runs it, and why: nobody could tell it from the file.
CROSSES = {
    ("norse", "LIFCell"): "the exporter omits the synapse's gain",
    ("sinabs", "IAF, several spikes a step"): "a neuron sends several spikes in one step",
    ("sinabs", "LIF, norm_input=False"): "the exporter omits norm_input",
    ("Rockpool", "LIFTorch, several spikes a step"): "a neuron sends several spikes in a step",
    ("spyx", "Flatten behind images"): "the exporter keeps weights in channels-last order",
    ("spyx", "LIF"): "the exporter writes r = beta where its neuron has r = tau / dt",
    ("spyx", "CuBaLIF"): "the exporter writes r = beta and omits w_in",
    ("nengo", "LIF, two layers"): "membranes have a minimum of 0, which NIR cannot express",
    ("spyx", "RIF"): "the exporter routes the input through the recurrent weights",
}


@dataclass
class Result:
    """One case: what the tool said, and how many values differ here."""

    entry: dict[str, Any]
    compared: int = 0
    different: int = -1
    active: float = 0.0
    refused: str = ""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    folder = tmp_path_factory.mktemp("nir")
    python = os.environ.get("MTSPARK_NIR_TOOLS", sys.executable)
    done = subprocess.run([python, SCRIPT, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [compare(entry, folder) for entry in json.loads((folder / "cases.json").read_text())]
    if os.environ.get("MTSPARK_WRITE_SUPPORT"):
        PAGE.write_text(page(found))
    return found


def compare(entry: dict[str, Any], folder: Path) -> Result:
    result = Result(entry)
    if not entry["file"]:
        return result
    file = folder / entry["file"]
    arrays = np.load(file.with_suffix(".npz"))
    options = dict(entry["options"])
    kinds = {"integrator": Integrator, "order": Order, "start": Start}
    for key, kind in kinds.items():
        if key in options:
            options[key] = kind(options[key])
    if "reset" in options:
        options["reset"] = FloatReset(options["reset"].replace("-", "_"))
    try:
        network = import_nir(file, ImportOptions(**options))
    except MtsparkError as error:
        result.refused = str(error).replace(str(folder), "")
        return result
    given = arrays["given"].astype(np.float64)
    # Rockpool's graphs have an input of (1, n).
    run = run_float(network, given.reshape(*given.shape[:2], *network.input.shape))
    name = network.output.population
    offset = network.population(name).membrane_offset
    ours = run.spikes[name] if name in run.spikes else run.membranes[name] + offset
    wanted = arrays["wanted"].reshape(ours.shape)
    # Where a tool shows its outputs some steps late, the last ones are not there.
    there = ~np.isnan(wanted)
    ours, wanted = ours[there], wanted[there]
    # The tools count in float32.
    result.different = int((np.abs(ours - wanted) > 1e-4 * np.maximum(1, np.abs(wanted))).sum())
    result.compared, result.active = wanted.size, float((wanted != 0).mean())
    return result


def test_every_case_comes_in_or_is_a_known_cross(results: list[Result]) -> None:
    if all("missing" in result.entry for result in results):
        pytest.skip("no tool is installed; set MTSPARK_NIR_TOOLS to a Python that has some")
    wrong = []
    for result in results:
        entry = result.entry
        if "missing" in entry:
            continue
        known = (entry["tool"], entry["name"]) in CROSSES
        good = result.different == 0 and result.active > 0
        if good == known:
            wrong.append(
                f"{entry['tool']} {entry['name']}: {result.different} of {result.compared} differ"
                f" {result.refused}{entry.get('failed', '')}"
            )
    assert not wrong, "\n".join(wrong)


def page(found: list[Result]) -> str:
    """The support matrix, from what was just measured."""
    lines = [
        "# NIR support",
        "",
        "mtspark imports NIR files of seven tools and reproduces every value, except where"
        " marked ✗.",
        "Each tool built, ran and exported the network itself.",
        "mtspark read the file with the options shown, and the test compared every output value"
        " of 60 steps and 2 samples with the tool's own.",
        "Every cross has an explanation below.",
        "",
        "```sh",
        "export MTSPARK_NIR_TOOLS=PYTHON      # a Python that has the tools",
        "MTSPARK_WRITE_SUPPORT=1 pytest -m third_party tests/third_party/test_nir_tools.py",
        "```",
        "",
        "| tool | network | NIR nodes | options of `mtspark export` | values compared | differ |",
        "|---|---|---|---|---:|---:|",
    ]
    for result in found:
        entry = result.entry
        told = [
            f"--{key.replace('_', '-')}" + ("" if value is True else f" {value}")
            for key, value in entry["options"].items()
        ]
        differ = f"{result.different}" + (" ✓" if result.different == 0 else " ✗")
        if "missing" in entry:
            differ = f"not measured: {entry['missing']}"
        elif "failed" in entry:
            differ = f"✗ its exporter: {entry['failed']}"
        elif result.refused:
            differ = f"✗ refused: {result.refused}"
        reason = CROSSES.get((entry["tool"], entry["name"]))
        if reason:
            differ += f" ({reason})"
        lines.append(
            f"| {entry['tool']} | {entry['name']} | {', '.join(entry['nodes'])} | "
            f"`{' '.join(told) or 'none'}` | {result.compared} | {differ} |"
        )
    tools = list(dict.fromkeys(result.entry["tool"] for result in found))
    nodes = list(dict.fromkeys(node for result in found for node in result.entry["nodes"]))
    lines += [
        "",
        "✓: the tool's file, unchanged, gives every value of the tool. ✗: it does not, see above.",
        "",
    ]
    lines += [f"| node | {' | '.join(tools)} |", f"|---|{'---|' * len(tools)}"]
    for node in nodes:
        cells = []
        for tool in tools:
            with_node = [
                result
                for result in found
                if result.entry["tool"] == tool
                and node in result.entry["nodes"]
                and not result.entry["mended"]
            ]
            good = [r for r in with_node if r.different == 0]
            cells.append("" if not with_node else "✓" if good else "✗")
        lines.append(f"| {node} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" + NOTES


NOTES = """
All node types of NIR 1.0.8 can be imported.
Tests compare every type above except `Conv1d` with an oracle in plain Python on random graphs, \
whichever tool wrote them (`tests/convert/nir/test_reader.py`).
They also cover `Scale`, `Delay`, `Threshold`, `I` and `CubaLI`, grouped, dilated, strided and \
'same' convolutions, subgraphs, loops and branches.

## Missing information

NIR does not store the time step, the integrator and the reset: give `--dt`, `--integrator` and \
`--reset`, and for some tools `--start` and `--fires-at-threshold`.
norse's exporter writes `tau = dt / tau_mem_inv`, so its files need the product of both time \
steps, 1e-6 for the defaults.

## Other files

mtspark reads the trained Braille network of the NIR paper (recurrent CubaLIF with biases, as \
nirtorch 2.0 ships it), for which no test was written.
With `--reset subtract-late`, all 22,800 spikes of its recurrent layer and all 4,200 of its \
outputs in 200 steps equal snntorch's.

nengo has no NIR exporter: its graph was written beside the network, from the same arrays.
The published traces of `lif_norse.nir` by norse, snnTorch, SpiNNaker2, sinabs, Rockpool, nengo, \
spyx and Lava are reproduced with the options of each (`tests/convert/nir/test_reader.py`).

## Differences

Where a tool's exporter omits something or writes it wrong, the next row adds it to the file by \
hand and imports exactly, so the exporter's error is the only difference.

Neurons that send several spikes in one step (the defaults of sinabs and Rockpool) and membranes \
with a minimum value (nengo's default) exist neither in NIR nor on the chip.
Another row shows the same network with the tool's own switch set.

spyx compares with the threshold before it integrates, so its spikes come one step later for \
every layer of neurons; the comparison includes that shift.
"""
