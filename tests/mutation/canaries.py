"""Mistakes that the tests must see: ``python tests/mutation/canaries.py [NAME ...]``.

Each canary is one wrong line in a copy of the sources: a transposed kernel, a dropped bias,
another reset, time shifted by one; in the NIR importer, the tracer of snntorch modules, the
linear maps of both and the lowering to the chip. Its tests, all of them among the default ones,
must then fail. Prints a table; exit code 1 where a mistake went unseen.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("mtspark", "tests", "pyproject.toml")

IMPORTER = ("tests/convert/nir/test_reader.py",)
TRACER = ("tests/convert/snntorch/test_trace.py", "tests/convert/snntorch/test_layers.py")
POOLS = ("tests/convert/snntorch/test_max_pool.py",)
LINEAR = ("tests/convert/linear/test_maps.py",)
LOWERING = ("tests/deploy/test_lower.py", "tests/deploy/quantise/test_network.py")

NODES, NEURONS = "convert/nir/nodes.py", "convert/nir/neurons.py"
LOOPS = "convert/nir/loops.py"
MAPS, FUSE = "convert/linear/maps.py", "convert/linear/fuse.py"
COMPOSE = "convert/linear/composition.py"
LAYERS, TRACE = "convert/snntorch/layers.py", "convert/snntorch/trace.py"
CONSTANTS, MAXIMA = "convert/snntorch/neurons.py", "convert/snntorch/maxima.py"
LOWER, LAYER = "deploy/lower.py", "deploy/quantise/layer.py"


@dataclass(frozen=True)
class Canary:
    """One mistake.

    Attributes:
        name: what is wrong.
        tests: files, one of which must fail.
        file: below mtspark/.
        right: text that stands there once.
        wrong: what stands there instead.
    """

    name: str
    tests: tuple[str, ...]
    file: str
    right: str
    wrong: str

    def mutated(self, source: str) -> str:
        """The source with the mistake in it.

        Raises:
            ValueError: the right text is not there exactly once.
        """
        if source.count(self.right) != 1:
            raise ValueError(f"{self.name}: {self.file} has it {source.count(self.right)} times")
        return source.replace(self.right, self.wrong)


def _square(weight: str) -> str:
    """Rows and columns of square kernels swapped."""
    return f"{weight}.swapaxes(2, 3) if {weight}.shape[2] == {weight}.shape[3] else {weight}"


def _adding(text: str, more: str) -> tuple[str, str]:
    return text, text + more


CONVOLVED = "    image = _image(name, node, shape, weight.shape[1] * groups, dimensions)\n"
RESET = "    reset = choices.resets.get(name, _own_reset(name, node) or choices.reset)\n"
OTHER = "{FloatReset.ZERO: FloatReset.SUBTRACT, FloatReset.SUBTRACT: FloatReset.ZERO}"
CHIP_WEIGHTS = "        weights=link.weights,\n        **link.conv_fields,"
CHIP_DELAY = "        delay=depths[link.target] - depths[link.source] - 1 + link.delay * whole,\n"
CHIP_BIAS = "        return np.asarray(current + population.membrane_bias / self.gain)\n"

CANARIES = (
    Canary("NIR: a kernel transposed", IMPORTER, NODES,
           *_adding(CONVOLVED, f"    weight = {_square('weight')}\n")),
    Canary("NIR: dense weights transposed", IMPORTER, NODES,
           "    return Effect(Dense(weight), bias, (len(weight),))\n",
           "    weight = weight.T if weight.shape[0] == weight.shape[1] else weight\n"
           "    return Effect(Dense(weight), bias, (len(weight),))\n"),
    Canary("NIR: the bias of convolutions dropped", IMPORTER, NODES,
           "    if node.bias is not None:\n        channels", "    if False:\n        channels"),
    Canary("NIR: the bias of dense layers dropped", IMPORTER, NODES,
           "if isinstance(node, nir.Affine) and node.bias is not None:", "if False:"),
    Canary("NIR: the other reset", IMPORTER, NEURONS,
           *_adding(RESET, f"    reset = {OTHER}.get(reset, reset)\n")),
    Canary("NIR: delays a step longer", IMPORTER, NODES,
           "    whole = np.round(steps)\n", "    steps = steps + 1\n    whole = np.round(steps)\n"),
    Canary("NIR: loops a step longer", IMPORTER, LOOPS,
           "loops.notional[(source, delay, target)] = 1",
           "loops.notional[(source, delay, target)] = 2"),
    Canary("snntorch: a kernel transposed", TRACER, LAYERS,
           *_adding("    pads = _pair(padding)\n", f"    weight = {_square('weight')}\n")),
    Canary("snntorch: dense weights transposed", TRACER, LAYERS,
           *_adding("    matrix = _double(weight)\n",
                    "    matrix = matrix.T if matrix.shape[0] == matrix.shape[1] else matrix\n")),
    Canary("snntorch: the bias of dense layers dropped", TRACER, LAYERS,
           "return Dense(matrix), None if bias is None else _double(bias)",
           "return Dense(matrix), None"),
    Canary("snntorch: the bias of convolutions dropped", TRACER, LAYERS,
           "_convolution(weight, shape, stride, padding, dilation, groups, where)\n"
           "    return conv, None if bias is None else _double(bias)",
           "_convolution(weight, shape, stride, padding, dilation, groups, where)\n"
           "    return conv, None"),
    Canary("snntorch: late subtraction made a reset to zero", TRACER, CONSTANTS,
           "return FloatReset.SUBTRACT_LATE  #", "return FloatReset.ZERO  #"),
    Canary("snntorch: the quirk of subtraction without delay lost", TRACER, CONSTANTS,
           "return FloatReset.SUBTRACT_GUARDED\n", "return FloatReset.SUBTRACT\n"),
    Canary("snntorch: reset to zero made a subtraction", TRACER, CONSTANTS,
           "        return FloatReset.ZERO\n", "        return FloatReset.SUBTRACT\n"),
    Canary("snntorch: recurrence a step longer", TRACER, TRACE,
           "_Arrow(name, 1, linear", "_Arrow(name, 2, linear"),
    Canary("snntorch: all layers a step late", TRACER, TRACE,
           "return replace(link, delay=arrow.late)",
           "return replace(link, delay=arrow.late + (arrow.source != 'input'))"),
    Canary("maps: convolutions that reach into padding made one", LINEAR, FUSE,
           "first_tap_after < inside.input_shape[1 + axis]",
           "first_tap_after < inside.input_shape[1 + axis] - 1"),
    Canary("maps: convolutions kept apart for nothing", LINEAR, FUSE,
           "first_tap_after < inside", "first_tap_after <= inside"),
    Canary("maps: the first stride forgotten in the padding of two", LINEAR, FUSE,
           "outside.padding[1] * step_x", "outside.padding[1]"),
    Canary("maps: groups of the second forgotten", LINEAR, FUSE,
           "    groups = outside.groups if depthwise else 1\n", "    groups = 1\n"),
    Canary("maps: a transposed convolution without its gaps", LINEAR, MAPS,
           "taps[row, column] @ sent", "taps[-1 - row, column] @ sent"),
    Canary("maps: a value that is selected twice counted once", LINEAR, MAPS,
           "np.add.at(result.T, self.index[taken], rows[:, taken].T)",
           "result.T[self.index[taken]] += rows[:, taken].T"),
    Canary("maps: zeros of a selection filled by the one before", LINEAR, COMPOSE,
           "np.where(second.index < 0, -1, first.index[second.index])",
           "first.index[second.index]"),
    Canary("chip: a kernel transposed", LOWERING, LOWER, CHIP_WEIGHTS,
           CHIP_WEIGHTS.replace(
               "link.weights,", "link.weights.swapaxes(2, 3) if link.weights.ndim == 4 and "
               "link.weights.shape[2] == link.weights.shape[3] else link.weights,")),
    Canary("chip: dense weights transposed", LOWERING, LOWER, CHIP_WEIGHTS,
           CHIP_WEIGHTS.replace(
               "link.weights,", "link.weights.T if link.weights.ndim == 2 and "
               "link.weights.shape[0] == link.weights.shape[1] else link.weights,")),
    Canary("snntorch: a max pool that needs two spikes", POOLS, MAXIMA,
           "np.where(self.worth < 0, all_of_them, 0.5)",
           "np.where(self.worth < 0, all_of_them, 1.5)"),
    Canary("snntorch: a maximum of negative spikes as any of them", POOLS, MAXIMA,
           "np.where(self.worth < 0, all_of_them, 0.5)", "np.full(self.worth.shape, 0.5)"),
    Canary("snntorch: a max pool that forgets what spikes are worth", POOLS, MAXIMA,
           "np.where(empty, 0.0, largest)[0]", "np.where(empty, 0.0, np.sign(largest))[0]"),
    Canary("chip: the bias of the current dropped", LOWERING, LAYER,
           CHIP_BIAS, CHIP_BIAS.replace("(current", "(0 * current")),
    Canary("chip: the bias of the membrane dropped", LOWERING, LAYER,
           CHIP_BIAS, CHIP_BIAS.replace("population", "0 * population")),
    Canary("chip: the bias of currents with memory dropped", LOWERING, LOWER,
           "columns[CONSTANT] += population.bias_current.reshape(-1)",
           "columns[CONSTANT] += 0 * population.bias_current.reshape(-1)"),
    Canary("chip: another reset", LOWERING, LAYER,
           *_adding("        reset = RESETS[population.reset]\n",
                    "        reset = Reset.SUBTRACT if reset is Reset.ZERO else Reset.ZERO\n")),
    Canary("chip: delayed connections a step longer", LOWERING, LOWER, CHIP_DELAY,
           CHIP_DELAY.replace("+ link.delay * whole", "+ link.delay * whole + (link.delay > 0)")),
    Canary("chip: connections over several layers a step shorter", LOWERING, LOWER, CHIP_DELAY,
           CHIP_DELAY.replace("delay=depths", "delay=max(0, depths").replace(
               "- 1 + link.delay * whole", "- 2 + link.delay * whole)")),
)  # fmt: skip


def seen(canary: Canary, copy: Path) -> str:
    """The test that fails with the mistake in the copy; empty where none does."""
    path = copy / "mtspark" / canary.file
    source = path.read_text()
    path.write_text(canary.mutated(source))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider"]
    environment = {**os.environ, "CI": "1", "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    environment.setdefault("MTSPARK_GOLDEN", str(ROOT.parent / "shared" / "golden"))
    try:
        done = subprocess.run(
            [*command, *canary.tests],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        path.write_text(source)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{canary.name}: pytest ended with {done.returncode}: {done.stdout}")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split(" ")[1] if failed else ""


def main() -> int:
    """Try the canaries whose names hold one of the words, or all."""
    parser = argparse.ArgumentParser(prog="python tests/mutation/canaries.py", description=__doc__)
    parser.add_argument("words", nargs="*", help="Only canaries with one of these in their name.")
    words = parser.parse_args().words
    missed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in COPIED:
            source, target = ROOT / name, Path(scratch, name)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        for canary in CANARIES:
            if not words or any(word in canary.name for word in words):
                test = seen(canary, Path(scratch))
                missed += not test
                print(f"{canary.name:<58} {test or 'NOT SEEN'}", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
