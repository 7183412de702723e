"""Rewrite the golden files of tests/project/test_formats.py from the code as it is now.

    python -m tests.project.write_golden            # all
    python -m tests.project.write_golden run-pong   # only these

Run it from the root of the checkout, in the environment that has mtspark, and read what git says
has changed: a field that is renamed or a number that moves is a change of a format. Cases that
need the golden vectors beside the checkout (MTSPARK_GOLDEN) are left out where there are none.

Never rewritten, since they show that files from before the package was rearranged still work
(written by commit 68db3cd): ``tiny.pt``, ``run-before``, ``dqn-run-before``, ``images-run-before``
(training runs that were killed at their first checkpoint) and ``bundle-before.zip`` (the bundle
of tiny.pt with two stored runs).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.project.canonical import numbers_of_run
from tests.project.formats import CASES, GOLDEN, NUMBERS, OUTSIDE, Workshop, golden_text, vectors


def main(names: list[str]) -> None:
    """Write the golden files of these cases, or of all."""
    unknown = sorted(set(names) - set(CASES))
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(CASES)}")
    chosen = [name for name in CASES if not names or name in names]
    with tempfile.TemporaryDirectory() as folder, Workshop(Path(folder)) as workshop:
        for name in chosen:
            if name in OUTSIDE and vectors() is None:
                print(f"{name}: left out, no golden vectors")
                continue
            path = GOLDEN / f"{name}.json"
            text = golden_text(CASES[name](workshop))
            same = path.exists() and path.read_text() == text
            path.write_text(text)
            if name in NUMBERS:
                numbers = numbers_of_run(workshop.folder / NUMBERS[name])
                np.savez_compressed(path.with_suffix(".npz"), allow_pickle=False, **numbers)
            print(f"{name}: {len(text)} bytes, {'as before' if same else 'CHANGED'}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
