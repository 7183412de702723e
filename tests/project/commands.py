"""Call the installed command line, many times and quickly.

A child process imports the large libraries once and forks for every command, which then runs
the console script that the installed package declares. No module of mtspark is named here.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

ENVIRONMENT = {
    # One order of floating-point sums, on every x86 processor with AVX2.
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    **dict.fromkeys(("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "COLUMNS": "200",
    "PYTHONHASHSEED": "0",
}
"""Of every command whose numbers are compared."""

LIBRARIES = (
    # Optimisers bring _dynamo.
    *("torch", "torch._dynamo", "snntorch"),
    *("numba", "nir", "h5py", "onnx", "onnx.helper", "onnxruntime", "safetensors.numpy"),
    *("gymnasium", "ale_py", "ale_py.vector_env", "sklearn.cluster", "pydantic", "tensorboardX"),
    *("matplotlib.figure", "jinja2", "PIL.Image", "rich.progress", "typer", "msgpack"),
)
"""Of other projects, to be imported once; one that is missing is left to the commands."""
REPLY = "reply: "


class Commands:
    """Calls of ``mtspark`` in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Commands:
        self._child = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            cwd=self.folder,
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(timeout=60)

    def call(self, *words: object, code: int | tuple[int, ...] = 0) -> str:
        """Run ``mtspark WORDS``; return what it printed.

        Args:
            words: the arguments; paths are relative to the folder.
            code: the exit code, or those that are allowed.

        Raises:
            AssertionError: another exit code.
        """
        child = self._child
        assert child is not None
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps([str(word) for word in words]) + "\n")
        child.stdin.flush()
        for line in child.stdout:
            if line.startswith(REPLY):
                reply = json.loads(line.removeprefix(REPLY))
                break
        else:
            raise AssertionError("the process that runs the commands has ended")
        text = Path(reply["output"]).read_text(encoding="utf-8", errors="replace")
        allowed = (code,) if isinstance(code, int) else code
        assert reply["code"] in allowed, f"mtspark {words} gave {reply['code']}:\n{text[-3000:]}"
        return text

    def json(self, *words: object, code: int | tuple[int, ...] = 0) -> Any:
        """Run ``mtspark WORDS --json FILE``; return the content of the file."""
        out = self.folder / "result.json"
        out.unlink(missing_ok=True)
        self.call(*words, "--json", out.name, code=code)
        return json.loads(out.read_text())


def serve() -> None:
    """Run the commands that come in, one JSON list of words a line."""
    from importlib.metadata import entry_points

    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    (script,) = entry_points(group="console_scripts", name="mtspark")
    for number, line in enumerate(sys.stdin):
        output = Path(f"output-{number}.txt").resolve()
        child = os.fork()
        if child == 0:
            _run(script, json.loads(line), output)
        _, status = os.waitpid(child, 0)
        reply = {"code": os.waitstatus_to_exitcode(status), "output": str(output)}
        print(REPLY + json.dumps(reply), flush=True)


def _run(script: Any, words: list[str], output: Path) -> None:
    """Run one command in this process, which ends with it."""
    target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["mtspark", *words]
    code = 1
    try:
        script.load()()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
