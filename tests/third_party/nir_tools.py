"""Make small networks with other tools, export them with the tools' own exporters, and run them.

A program of its own, for an interpreter that has the tools (norse, sinabs, snntorch,
SpikingJelly, Rockpool, spyx, nengo): python nir_tools.py FOLDER writes, for every case, NAME.nir
and NAME.npz (what went in, what the tool itself gave), and cases.json with what happened. It
imports nothing of mtspark.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from pathlib import Path

import numpy as np
import tools_norse_sinabs  # noqa: F401
import tools_others  # noqa: F401
import tools_snntorch  # noqa: F401
from nir_cases import CASES

warnings.simplefilter("ignore")


def main(folder: Path) -> None:
    """Make every case; what fails is written down, not hidden."""
    import nir

    results = []
    for number, (about, function) in enumerate(CASES):
        entry = {**about, "file": ""}
        try:
            graph, given, wanted = function()
            file = folder / f"case{number}.nir"
            nir.write(str(file), graph)
            np.savez(file.with_suffix(".npz"), given=given, wanted=np.asarray(wanted))
            entry["file"] = file.name
        except ModuleNotFoundError as error:
            entry["missing"] = str(error)
        except Exception as error:
            traceback.print_exc()
            entry["failed"] = f"{type(error).__name__}: {str(error).splitlines()[:1]}"
        results.append(entry)
    (folder / "cases.json").write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
