"""Pages of the site that are not written by hand: commands, Python names, contributing, changes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

RESULTS = (
    "mtspark.workflows.evaluate.data.DataEvaluation",
    "mtspark.workflows.run.inputs.InputsResult",
    "mtspark.workflows.export.fidelity.Fidelity",
    "mtspark.sim.energy.pricing.Bill",
)
"""What the methods of a deployment return most often."""


def commands_page() -> str:
    """Describe every command, as the command line describes itself."""
    import typer

    from mtspark.cli.main import COMMANDS, EPILOG, app

    group = typer.main.get_command(app)
    context = group.make_context("mtspark", [], resilient_parsing=True)
    parts = [
        "# Commands\n",
        "This page is generated from the command line; `mtspark COMMAND --help` prints the same.\n",
        EPILOG + "\n",
        "Options before the command, as in `mtspark --trust export net.nir`:\n",
        _options(group, context),
    ]
    for name in COMMANDS:
        command: Any = group.get_command(context, name)
        own = command.make_context(name, [], parent=context, resilient_parsing=True)
        usage = " ".join(command.collect_usage_pieces(own))
        parts += [
            f"## {name}\n",
            re.sub(r"[ \n]*\n\n[ \n]*", "\n\n", command.help or "") + "\n",
            f"```text\nmtspark {name} {usage}\n```\n",
            _options(command, own),
        ]
    return "\n".join(parts)


def _options(command: Any, context: Any) -> str:
    rows = ["| option | meaning |", "|---|---|"]
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None or "--help" in parameter.opts:
            continue
        name, text = (re.sub(r"\s+", " ", str(part)).replace("|", "\\|") for part in record)
        rows.append(f"| `{name.strip()}` | {_escaped(text)} |")
    return "\n".join(rows) + "\n" if len(rows) > 2 else "No options.\n"


def _escaped(text: str) -> str:
    return re.sub(r"([<>*_\[\]])", r"\\\1", text)


def python_page() -> str:
    """List every name of `import mtspark` for mkdocstrings, which reads its docstring."""
    import mtspark

    names = [name for name in mtspark.__all__ if name != "__version__"]
    errors = [name for name in names if name.endswith("Error")]
    functions = [name for name in names if name[0].islower()]
    classes = [name for name in names if name not in (*errors, *functions)]
    parts = ["# Python\n", "Every name of `import mtspark`, from its docstring.\n"]
    for title, group in (("Functions", functions), ("Classes", classes), ("Errors", errors)):
        parts.append(f"## {title}\n")
        for name in group:
            value = getattr(mtspark, name)
            parts.append(f"::: {value.__module__}.{value.__qualname__}\n")
    parts.append("## Results\n")
    parts += [f"::: {path}\n" for path in RESULTS]
    return "\n".join(parts)


def repository_page(name: str) -> str:
    """Return a page at the top of the repository with its links as seen from docs/."""
    text = (ROOT / name).read_text(encoding="utf-8")
    text = re.sub(r"\]\(docs/", "](", text)
    return text.replace("](CHANGELOG.md)", "](changes.md)")


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    # The help of a command is as wide as it needs to be, and without colours.
    os.environ.setdefault("NO_COLOR", "1")
    pages = {
        "reference/commands.md": commands_page(),
        "reference/python.md": python_page(),
        "contributing.md": repository_page("CONTRIBUTING.md"),
        "changes.md": repository_page("CHANGELOG.md"),
    }
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Show the roles of docstrings, as in :meth:`run`, as plain code."""
    return re.sub(r":(?:func|meth|class|mod|attr):(?=<code>)", "", html)
