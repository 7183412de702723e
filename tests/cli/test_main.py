"""The command line's frame: help without weight, one line an error, exit codes."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import types
from typing import get_args, get_type_hints

import pytest
import typer

import mtspark
from mtspark.cli import main as cli
from mtspark.core.errors import BadFileError, MtsparkError
from mtspark.deploy.bundle import write_bundle
from mtspark.train.config import TrainConfig
from mtspark.train.config.pruning import PruningMethod
from mtspark.train.config.tasks import TaskContext
from mtspark.train.networks.config import EXPERT_GATES
from tests.support.networks import three_neurons

HEAVY = ("torch", "snntorch", "lava", "numba", "matplotlib", "onnx", "gymnasium", "nir", "h5py")
HEAVY += ("starlette", "uvicorn")

HELP = """
import sys
from mtspark.cli.main import main
for command in sys.argv[1:] or [None]:
    sys.argv = ["mtspark", *filter(None, [command]), "--help"]
    try:
        main()
    except SystemExit as end:
        assert end.code == 0, (command, end.code)
    heavy = [name for name in {heavy!r} if name in sys.modules]
    assert not heavy, (command, heavy)
"""


def help_of(*commands: str, heavy: tuple[str, ...] = HEAVY) -> str:
    """What a fresh Python prints for the help of these commands; of mtspark where there is none."""
    code = [sys.executable, "-c", HELP.format(heavy=heavy), *commands]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_imports_nothing_heavy():
    texts = help_of(*cli.COMMANDS).split("Usage: ")[1:]
    for command, text in zip(cli.COMMANDS, texts, strict=True):
        assert text.startswith(f"mtspark {command}")


def test_the_list_of_commands_needs_no_numbers():
    """It is to cost under 0.3 s of processor time, of which numpy and pydantic take half."""
    assert "mtspark [OPTIONS] COMMAND" in help_of(heavy=(*HEAVY, "numpy", "pydantic"))


def run(monkeypatch, *arguments, entry=cli.main):
    """Run the console script in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["mtspark", *arguments])
    with pytest.raises(SystemExit) as end:
        entry()
    return end.value.code or 0


@pytest.fixture
def command(monkeypatch):
    """Register a command `planted` that runs the given function."""

    def register(function, name="planted"):
        module = types.ModuleType("planted_command")
        module.command = function
        monkeypatch.setitem(sys.modules, "planted_command", module)
        monkeypatch.setitem(cli.COMMANDS, name, "planted_command:command")

    return register


def raising(error):
    def function() -> None:
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MtsparkError("no such task"), "error: no such task"),
        (BadFileError("a\nb\x1b[31m.pt: bad"), "error: a\\nb\\x1b[31m.pt: bad"),
        (
            PermissionError(errno.EACCES, "Permission denied", "d/x"),
            "error: d/x: permission denied",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), "error: x: no such file"),
        (
            OSError(errno.EXDEV, "Cross-device link", "a", None, "b"),
            "error: a -> b: cross-device link",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "error: no space left on device"),
        (OSError(errno.EROFS, "Read-only file system", "r"), "error: r: read-only file system"),
    ],
)
def test_an_error_is_one_line_and_code_2(monkeypatch, capsys, command, error, line):
    command(raising(error))
    assert run(monkeypatch, "planted") == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == line + "\n"


def test_ctrl_c_is_one_line_and_code_130(monkeypatch, capsys, command):
    command(raising(KeyboardInterrupt()))
    assert run(monkeypatch, "planted") == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("error", [ValueError("bug"), OSError(errno.EBADF, "Bad descriptor")])
def test_a_bug_keeps_its_traceback(monkeypatch, command, error):
    command(raising(error))
    monkeypatch.setattr(sys, "argv", ["mtspark", "planted"])
    with pytest.raises(type(error)):
        cli.main()


def test_an_error_while_loading_a_command_is_one_line(monkeypatch, capsys):
    def load(name):
        raise MtsparkError(f"{name} is not for this machine")

    monkeypatch.setattr(cli.importlib, "import_module", load)
    assert run(monkeypatch, "run", "somewhere") == 2
    assert capsys.readouterr().err == "error: mtspark.cli.run is not for this machine\n"


@pytest.mark.parametrize(
    ("arguments", "what", "see"),
    [
        (("nonsense",), "no such command 'nonsense'", "mtspark"),
        (("doctor", "--nonsense"), "--nonsense", "mtspark doctor"),
        (("--nonsense",), "--nonsense", "mtspark"),
        (("export",), "missing argument", "mtspark export"),
        (("diff", "somewhere"), "missing option '--against'", "mtspark diff"),
        (("run", "b", "--task", "pong", "--episodes", "many"), "'--episodes'", "mtspark run"),
        (("run", "b", "--task", "pong", "--episodes", "0"), "'--episodes'", "mtspark run"),
        (("run", "b", "--task", "pong", "--backend", "x"), "'reference'", "mtspark run"),
        (("diff", "b", "--against", "engine", "extra\nline"), "extra", "mtspark diff"),
    ],
)
def test_a_wrong_call_is_one_line_and_code_2(monkeypatch, capsys, arguments, what, see):
    assert run(monkeypatch, *arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(f"; see {see} --help")
    assert what in line.lower()


def test_no_arguments_show_the_help(monkeypatch, capsys):
    assert run(monkeypatch) == 2
    output = capsys.readouterr()
    assert "install-lava" in output.out + output.err
    assert "error:" not in output.err


def test_a_command_chooses_its_own_exit_code(monkeypatch, capsys, command):
    command(raising(typer.Exit(1)))
    assert run(monkeypatch, "planted") == 1
    command(raising(typer.Exit()))
    assert run(monkeypatch, "planted") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_no_help_text_is_lost_as_markup(name):
    # Typer reads [words in square brackets] as a style and shows nothing of them.
    planted = cli.LazyCommands().get_command(None, name)
    texts = [planted.help, *(getattr(option, "help", None) for option in planted.params)]
    assert not [text for text in texts if text and "[" in text]


def test_a_mistyped_command_is_recognised(monkeypatch, capsys):
    assert run(monkeypatch, "docter") == 2
    assert "'doctor'" in capsys.readouterr().err


def test_one_broken_command_leaves_the_others_alone(monkeypatch, capsys, command):
    monkeypatch.setitem(cli.COMMANDS, "broken", "no_such_module:command")
    command(lambda: print("fine"))
    assert run(monkeypatch, "planted") == 0
    assert capsys.readouterr().out == "fine\n"


def test_export_script_is_the_export_command(monkeypatch, capsys, command):
    def export(checkpoint: str) -> None:
        print(f"exported {checkpoint}")

    command(export, "export")
    assert run(monkeypatch, "model.pt", entry=cli.export_main) == 0
    assert capsys.readouterr().out == "exported model.pt\n"


def test_version(monkeypatch, capsys):
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"mtspark {mtspark.__version__}\n"


def test_help_documents_the_exit_codes(monkeypatch, capsys):
    assert run(monkeypatch, "--help") == 0
    assert "130 interrupted" in " ".join(capsys.readouterr().out.split())


@pytest.mark.skipif(os.name != "posix", reason="the closed pipe is a POSIX matter")
def test_a_closed_pipe_ends_without_a_traceback():
    code = (
        "import sys, types; from mtspark.cli import main as cli; m = types.ModuleType('planted')\n"
        "def command() -> None:\n    print('x' * 1_000_000, flush=True)\n"
        "m.command = command; sys.modules['planted'] = m\n"
        "cli.COMMANDS['planted'] = 'planted:command'; sys.argv = ['mtspark', 'planted']; cli.main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1


def test_a_shell_in_a_replaced_folder_is_told_so(tmp_path, monkeypatch, capsys):
    """`export -o . --force` leaves the shell in the old folder, which is removed."""
    bundle = write_bundle(tmp_path / "a", three_neurons())
    monkeypatch.chdir(bundle.folder)
    write_bundle(".", three_neurons(), replace=True)
    for arguments in (("map", "."), ("export", "x.nir", "-o", "y"), ("report", ".")):
        assert run(monkeypatch, *arguments) == 2
        told = capsys.readouterr().err
        assert told.endswith('enter it again: cd "$PWD"\n'), told
    # Where that is not what is wrong, it is not said.
    assert run(monkeypatch, "map", str(bundle.folder), "--chip", "none") == 2
    assert "enter it" not in capsys.readouterr().err
    monkeypatch.chdir(bundle.folder)
    assert run(monkeypatch, "map", "other") == 2
    assert "enter it" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("train", "-o", ""), "'-o'"),
        (("train", "pong", "--output="), "'--output'"),
        (("export", "", "--force"), "an argument"),
    ],
)
def test_an_empty_argument_is_not_the_folder_one_stands_in(monkeypatch, capsys, arguments, what):
    """A variable of the shell that is not set; a run would be trained among one's own files."""
    assert run(monkeypatch, *arguments) == 2
    assert f"invalid value for {what}: is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--executor", "processes"), "--executor: trains several seeds, one a worker; give"),
        (("--seeds", "1,2", "--seed", "1"), "--seed: --seeds names the seeds already; leave"),
        (("--seeds", "1,one"), "seeds '1,one': write numbers with commas between, as 1,2,5-8"),
        (("--seeds", "1,2", "--executor", "moon"), "--executor 'moon': "),
    ],
)
def test_seeds_that_cannot_be_trained_are_refused(monkeypatch, capsys, tmp_path, arguments, what):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "train", "cartpole", *arguments) == 2
    assert what in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_of_train_names_every_method():
    """Algorithms, sparse layers, backbones and interventions, as the recipe's fields have them."""
    names = {
        "algorithm": get_args(get_type_hints(TrainConfig)["algorithm"]),
        "pruning.method": get_args(PruningMethod),
        "pruning.scope": ("actor", "critics"),
        "expert_gate": EXPERT_GATES,
        "task_context": get_args(TaskContext),
        "plasticity": ("measure_every", "redo_every", "reset_every", "weight_decay"),
        "pruning": ("pretrain_steps", "gradual", "ranking", "reopen"),
        "network": ("experts", "heads", "layer_norm"),
    }
    text = help_of("train")
    for field, known in names.items():
        assert known, field
        for name in known:
            assert re.search(rf"\b{name}\b", text), f"{field}: {name}"
