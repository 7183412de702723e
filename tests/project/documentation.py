"""Code blocks of the documentation, and how they are run.

All blocks of a page run in order, in one folder that also shows the repository's `examples`,
`deploy`, `sim` and `benchmarks`. Python blocks share their variables; one with a title is only
written to the file of that name. A `text` block after a block is what that prints: numbers and
line breaks may differ. Four comments above a block say more:

    <!-- not run: WHY -->            the reason why it cannot run in a test
    <!-- run instead: COMMANDS -->   the same with options that make it short
    <!-- run with: OLD -> NEW -->    the same with NEW where OLD stands, as for a shorter training
    <!-- run first: COMMANDS -->     what the page does not show, such as a file of the reader's
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for page in ROOT.joinpath("docs").rglob("*.md"))],
    key=lambda page: page.relative_to(ROOT).as_posix(),
)
SHOWN = ("benchmarks", "deploy", "examples", "sim")
_BLOCK = re.compile(
    r"(?P<notes>(?:^<!--(?:(?!-->).)*-->\n+)*)"
    r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?[^\n]*\n(?P<code>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
_NOTE = re.compile(r"<!-- (not run|run instead|run with|run first):\s*(.*?)\s*-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: path below the repository.
        line: of its first fence.
        language: after the fence.
        title: of a file that it is.
        code: its lines.
        notes: comments above it, by kind.
        printed: text that the page shows as its output.
    """

    page: str
    line: int
    language: str
    title: str | None
    code: str
    notes: dict[str, str]
    printed: str = ""

    @property
    def runs(self) -> bool:
        """Whether a test runs it."""
        return self.language in ("sh", "python") and "not run" not in self.notes


def blocks_of(page: Path, root: Path = ROOT) -> list[Block]:
    """Read the blocks of a page, each with the output that follows it."""
    text, blocks = page.read_text(encoding="utf-8"), []
    for match in _BLOCK.finditer(text):
        if match["language"] == "text" and blocks:
            last = blocks.pop()
            blocks.append(Block(**{**vars(last), "printed": last.printed + match["code"]}))
            continue
        blocks.append(
            Block(
                page=page.relative_to(root).as_posix(),
                line=text[: match.start("language")].count("\n") + 1,
                language=match["language"],
                title=match["title"],
                code=match["code"],
                notes=dict(_NOTE.findall(match["notes"])),
            )
        )
    return blocks


def plain(text: str) -> str:
    """Return a text without line breaks and with `#` for every number."""
    return re.sub(r"\d[\d,.]*", "#", " ".join(text.split()))


def run_page(blocks: list[Block], folder: Path, *, timeout_s: float) -> None:
    """Run the blocks of a page in a folder.

    Raises:
        AssertionError: a block fails, or does not print what the page shows.
    """
    for name in SHOWN:
        folder.joinpath(name).symlink_to(ROOT / name)
    jobs = folder / "blocks.json"
    jobs.write_text(json.dumps([{**vars(block), "runs": block.runs} for block in blocks]))
    binaries = Path(sys.executable).parent
    done = subprocess.run(
        [sys.executable, Path(__file__), jobs],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
            "COLUMNS": "80",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    outputs = dict(re.findall(r"^== line (\d+)\n(.*?)(?=^== line |\Z)", done.stdout, re.M | re.S))
    for block in blocks:
        if not block.runs:
            continue
        output = plain(outputs[str(block.line)])
        for line in block.printed.splitlines():
            assert plain(line) in output, f"{block.page}:{block.line} no longer prints: {line}"


def main(jobs: Path) -> None:
    """Run blocks in this process, with one set of variables; announce the line of each."""
    names = {"__name__": "__main__"}
    for block in json.loads(jobs.read_text()):
        print(f"\n== line {block['line']}", flush=True)
        notes = block["notes"]
        if "run first" in notes:
            _shell(notes["run first"])
        code = block["code"]
        if "run with" in notes:
            old, new = notes["run with"].split(" -> ")
            before, after = code.split(old)
            code = before + new + after
        if block["title"]:
            Path(block["title"]).write_text(block["code"])
        elif not block["runs"]:
            continue
        elif "run instead" in notes:
            _shell(notes["run instead"])
        elif block["language"] == "sh":
            _shell(code)
        else:
            exec(compile(code, f"{block['page']}:{block['line']}", "exec"), names)


def _shell(commands: str) -> None:
    sys.stdout.flush()
    subprocess.run(["bash", "-euo", "pipefail", "-c", commands], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
