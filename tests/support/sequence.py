"""Lists of commands, each run one after the other in a process of its own, side by side.

    python -m tests.support.sequence COMMANDS.json ANSWERS.json GO

A process loads what commands load, creates ``ANSWERS.json.ready``, and begins when the file GO is
there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.full_disk import run

ROOT = Path(__file__).parents[2]

Commands = Sequence[Sequence[object]]
Answer = tuple[int, str, str]
"""Exit code, output and errors of a command."""


def side_by_side(
    folder: Path,
    commands: Mapping[str, Commands],
    variables: Mapping[str, Mapping[str, str | None]] | None = None,
) -> dict[str, list[Answer]]:
    """Run lists of commands at the same time.

    Args:
        folder: for what the processes say.
        commands: by a name.
        variables: of the environment of each, by that name; None removes one.

    Returns:
        The answers to each list's commands.
    """
    processes = {}
    for name, rows in commands.items():
        asked = folder / f"{name}.asked.json"
        asked.write_text(json.dumps([[str(word) for word in row] for row in rows]))
        environment = {**os.environ, **((variables or {}).get(name) or {}), "COLUMNS": "80"}
        processes[name] = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.support.sequence", str(asked)),
                *(str(folder / f"{name}.answers.json"), str(folder / "go")),
            ],
            cwd=ROOT,
            env={key: value for key, value in environment.items() if value is not None},
        )
    ready = [folder / f"{name}.answers.json.ready" for name in commands]
    while not all(path.exists() for path in ready):
        assert all(process.poll() is None for process in processes.values())
        time.sleep(0.02)
    (folder / "go").touch()
    assert [process.wait() for process in processes.values()] == [0] * len(commands)
    return {
        name: [tuple(row) for row in json.loads((folder / f"{name}.answers.json").read_text())]
        for name in commands
    }


def _stop_when_there(path: Path) -> None:
    """Send this process Ctrl-C once a command has written a file, as `watch` its address."""

    def wait() -> None:
        while not path.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Run all commands and write what each answers."""
    # A shell's background jobs begin with Ctrl-C ignored, and so would their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asked, answers, go = map(Path, sys.argv[1:])
    import torch

    from mtspark.sim.engine import EngineChip

    assert torch is not None
    assert EngineChip is not None
    answers.with_name(f"{answers.name}.ready").touch()
    while not go.exists():
        time.sleep(0.01)
    results = []
    for words in json.loads(asked.read_text(encoding="utf-8")):
        if words[0] == "watch":
            _stop_when_there(Path(words[-1]))
        results.append(run(words))
    answers.write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
