"""The documentation runs: its blocks, the options that it names, and the pages of the site."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

import mtspark
from mtspark.cli.main import COMMANDS, app
from tests.project.documentation import PAGES, ROOT, Block, blocks_of, plain, run_page

BLOCKS = {page: blocks_of(page) for page in PAGES}
ALL = [block for blocks in BLOCKS.values() for block in blocks]
WITH_CODE = [page for page, blocks in BLOCKS.items() if any(block.runs for block in blocks)]


def _name(value: Any) -> str:
    return value.relative_to(ROOT).as_posix() if isinstance(value, Path) else str(value)


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE, ids=_name)
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    run_page(BLOCKS[page], tmp_path, timeout_s=1800)


def test_a_block_that_does_not_run_says_why() -> None:
    assert len(WITH_CODE) >= 8
    for block in ALL:
        where = f"{block.page}:{block.line}"
        assert len(block.notes.get("not run", "a reason of some words").split()) >= 3, where
        # Written by hand: a misspelt comment would run nothing, or everything.
        assert block.language in ("sh", "python", "text", "toml", ""), where


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """Options of every command, with those below it, and of all of them under an empty name."""
    group = typer.main.get_command(app)
    context: Any = group.make_context("mtspark", [], resilient_parsing=True)

    def names(command: Any) -> set[str]:
        own = {
            name
            for parameter in command.params
            for name in (*parameter.opts, *parameter.secondary_opts)
            if name.startswith("-") and not getattr(parameter, "hidden", False)
        }
        below = command.commands.values() if hasattr(command, "commands") else ()
        return own.union(*(names(part) for part in below if part is not None))

    found = {name: names(group.get_command(context, name)) for name in COMMANDS}  # type: ignore[attr-defined]
    top = {name for parameter in group.params for name in parameter.opts}
    return {"": top, **found}


def _calls(block: Block) -> list[list[str]]:
    """Every call of mtspark in a block, also in one that is not run."""
    text = "\n".join([block.code, *block.notes.values()]).replace("\\\n", " ")
    lines = [line.replace("mtspark-export", "mtspark export") for line in text.splitlines()]
    calls = [re.search(r"(?:^|[ /])mtspark (.*)", line.split(" #")[0]) for line in lines]
    return [shlex.split(call[1]) for call in calls if call]


def test_commands_of_the_documentation_exist(options: dict[str, set[str]]) -> None:
    seen = 0
    for block in ALL:
        for words in _calls(block) if block.language == "sh" else []:
            where = f"{block.page}:{block.line}: mtspark {' '.join(words)}"
            while words and words[0].startswith("-"):
                assert words.pop(0) in options[""], where
            if not words or words[0] == "COMMAND":
                continue
            name, *rest = words
            assert name in COMMANDS, where
            given = {word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
            assert given <= options[name], where
            seen += 1
    assert seen > 50


def test_output_is_compared_without_its_numbers() -> None:
    assert plain("chip 92.9%,\n  same") == plain("chip 1%, same") == "chip #%, same"


def test_the_runner_fails_where_a_page_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "page.md"

    def run(text: str, name: str) -> None:
        page.write_text(text)
        folder = tmp_path / name
        folder.mkdir()
        run_page(blocks_of(page, tmp_path), folder, timeout_s=60)

    right = (
        '```python title="m.py"\na = 4\n```\n\n```python\nimport m\nb = m.a\n```\n\n'
        "```sh\necho hi\n```\n\n"
    )
    run(right + "```python\nprint('b is', b)\n```\n\n```text\nb is 5\n```\n", "right")
    with pytest.raises(AssertionError, match="no longer prints: c is 4"):
        run(right + "```python\nprint('b is', b)\n```\n\n```text\nc is 4\n```\n", "other-output")
    with pytest.raises(AssertionError, match="CalledProcessError"):
        run("```sh\nfalse\ntrue\n```\n", "fails")
    run("<!-- not run: it would fail here -->\n```sh\nfalse\n```\n", "left-out")
    run("<!-- run instead:\ntrue\n-->\n```sh\nfalse\n```\n", "short")
    run("<!-- run with: false -> true -->\n```sh\nfalse\n```\n", "other-words")
    with pytest.raises(AssertionError, match="ValueError"):
        run("<!-- run with: 60 -> 6 -->\n```sh\nls\n```\n", "no-such-words")
    run("<!-- run first: touch file -->\n```sh\nls file\n```\n", "prepared")


@pytest.fixture(scope="module")
def hooks() -> Any:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_references_have_every_command_and_name(
    hooks: Any, options: dict[str, set[str]]
) -> None:
    commands = hooks.commands_page()
    for name in COMMANDS:
        assert f"\n## {name}\n" in commands
        for option in options[name] - {"--help"}:
            assert option in commands, (name, option)
    for below in ("list", "push", "pull"):
        assert f"\n### agents {below}\n" in commands
    python = hooks.python_page()
    for name in set(mtspark.__all__) - {"__version__"}:
        assert re.search(rf"^::: mtspark\.[\w.]*\.{name}$", python, re.M), name


def test_every_agent_has_a_card_on_the_site(hooks: Any) -> None:
    agents = sorted(path.name for path in ROOT.joinpath("examples", "agents").iterdir())
    pages = hooks.card_pages()
    assert sorted(pages) == sorted(f"cards/{name}.md" for name in ["index", *agents])
    page = pages["cards/cartpole.md"]
    for words in ("500", "0.189 µJ", "Apache-2.0", "200,704 decisions", "cartpole.pt"):
        assert words in page
    config = type("Config", (), {"nav": [{"Home": "index.md"}, {"Results": []}]})()
    (_, results) = hooks.on_config(config).nav
    (section,) = results["Results"]
    named = {name for one in section["Agent cards"][1:] for name in one}
    assert named == set(agents)


def test_every_page_stands_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    named = set(re.findall(r": (\S+\.md)$", navigation, re.M))
    written = {
        page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.parts[-2] != ROOT.name
    }
    generated = {"contributing.md", "changes.md", "reference/commands.md", "reference/python.md"}
    assert named == written | generated


def test_the_glossary_has_every_column_that_is_printed() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    terms = {
        term.strip()
        for row in re.findall(r"^\| (.+?) \|", glossary, re.M)
        for term in row.split(",")
    }
    printed: set[str] = set()
    for path in ROOT.glob("mtspark/cli/show/*.py"):
        text = path.read_text()
        printed |= set(re.findall(r'add_column\(\s*"([^"]+)"', text))
        for names in re.findall(r"for column in \(([^)]*)\)", text):
            printed |= set(re.findall(r'"([^"]+)"', names))
    assert len(printed) > 20
    assert printed - terms == set()
