"""Pages of the site that are not written by hand.

Commands, Python names, cards of the shipped agents, contributing, changes.
"""

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
    "mtspark.workflows.compare.result.RunComparison",
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
        "Options of all commands, as in `mtspark export net.nir --trust`:\n",
        _options(group, context),
    ]
    for name in COMMANDS:
        parts += _command(name, group.get_command(context, name), context)
    return "\n".join(parts)


def _command(name: str, command: Any, above: Any) -> list[str]:
    """Describe a command, and those below it."""
    own = command.make_context(name.split()[-1], [], parent=above, resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(own))
    parts = [
        f"{'##' if ' ' not in name else '###'} {name}\n",
        re.sub(r"[ \n]*\n\n[ \n]*", "\n\n", command.help or "") + "\n",
        f"```text\nmtspark {name} {usage}\n```\n",
        _options(command, own),
    ]
    for below, part in getattr(command, "commands", {}).items():
        parts += _command(f"{name} {below}", part, own)
    return parts


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


CARDS = "cards"
"""Folder of the site for the cards of agents."""


def card_pages() -> dict[str, str]:
    """Describe the shipped agents, a page each, from their cards."""
    from mtspark.workflows.zoo import list_agents

    listing = list_agents()
    if listing.left_out:
        raise ValueError("; ".join(listing.left_out))
    rows = ["| agent | task | score on the chip | µJ a decision | cheapest rival, µJ |"]
    rows.append("|---|---|---|---|---|")
    pages = {}
    for card in listing.cards:
        pages[f"{CARDS}/{card.name}.md"] = _card_page(card)
        for task in card.tasks:
            cost = "" if task.cost is None else f"{task.cost.micro_joules:.2g}"
            rival = "" if task.cost is None else task.cost.rival_micro_joules
            row = (f"[{card.name}]({card.name}.md)", task.name, task.headline, cost, rival)
            rows.append(f"| {' | '.join(row)} |")
    front = (
        "# Agent cards\n\n"
        "The agents in `examples/agents`, from the card that lies beside each; "
        "[the model zoo](../zoo.md) says what a card holds and who checks it.\n\n"
    )
    note = (
        "\nEnergy is an estimate for Loihi 2: events counted in an exact simulation, times "
        "published prices.\nThe rival is the cheapest network of the same layers without spikes.\n"
    )
    return {f"{CARDS}/index.md": front + "\n".join(rows) + "\n" + note, **pages}


def _card_page(card: Any) -> str:
    """Describe one agent."""
    text = [f"# {card.name}\n", *(f"{_escaped(line)}\n" for line in card.sentences)]
    text += ["## Scores\n", "| task | network | sticky actions | score | 95 % | of, distinct |"]
    text.append("|---|---|---|---|---|---|")
    for task in card.tasks:
        for row in task.scores:
            low, high = row.interval_95
            number = "{:.1%}" if row.kind == "accuracy" else "{:,.4g}"
            shown = [number.format(value) for value in (row.value, low, high)]
            sticky = "" if row.sticky_actions is None else f"{row.sticky_actions:g}"
            distinct = "" if row.distinct is None else f", {row.distinct}"
            cells = (task.name, row.player, sticky, shown[0], f"{shown[1]} to {shown[2]}")
            text.append(f"| {' | '.join(cells)} | {row.count:,}{distinct} |")
    text += ["", *(f"{_escaped(line)}\n" for line in card.protocols)]
    text += ["## Training\n", f"{_escaped(card.trained)}.\n"]
    text += [f"{_escaped(card.note)}\n"] if card.note else []
    text += ["## Files\n", f"Licence: {_escaped(card.licence)}.\n"]
    text += [f"{card.parameters:,} parameters, T = {card.time_steps}.\n"]
    text += ["| file | bytes | SHA-256 |", "|---|---|---|"]
    text += [f"| {name} | {one.bytes:,} | `{one.sha256}` |" for name, one in card.files.items()]
    return "\n".join(text) + "\n"


def repository_page(name: str) -> str:
    """Return a page at the top of the repository with its links as seen from docs/."""
    text = (ROOT / name).read_text(encoding="utf-8")
    text = re.sub(r"\]\(docs/", "](", text)
    return text.replace("](CHANGELOG.md)", "](changes.md)")


def on_config(config: Any) -> Any:
    """Add the cards of agents to the navigation, with the results."""
    names = [path.removesuffix(".md").split("/")[1] for path in card_pages()]
    pages = [{name: f"{CARDS}/{name}.md"} for name in names[1:]]
    for section in config.nav:
        if "Results" in section:
            section["Results"].append({"Agent cards": [f"{CARDS}/index.md", *pages]})
    return config


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
        **card_pages(),
    }
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Show the roles of docstrings, as in :meth:`run`, as plain code; mend links of notebooks."""
    if page.file.src_uri.endswith(".ipynb"):
        # Their Markdown is not that of a page, so its links are not turned into the site's.
        html = re.sub(r'href="(?!\w+:)([^"#]+)\.(?:ipynb|md)([#"])', r'href="\1.html\2', html)
    return re.sub(r":(?:func|meth|class|mod|attr):(?=<code>)", "", html)
