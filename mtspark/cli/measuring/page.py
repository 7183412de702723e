"""Writing a page about a bundle, by the commands that do."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mtspark.cli._progress import progress_bar

if TYPE_CHECKING:
    from mtspark.workflows.report import ReportPage, ReportRequest


def typed_command() -> str:
    """Return the command that runs, as it was typed."""
    return shlex.join(["mtspark", *sys.argv[1:]])


def written_page(
    folder: Path,
    page: Path,
    request: ReportRequest,
    *,
    say_left_out: bool = False,
    verdict: bool = True,
) -> ReportPage:
    """Write the page of a bundle and print which files there are.

    Args:
        folder: of the bundle.
        page: to write.
        request: what it shows.
        say_left_out: name what the cards do not price, too.
        verdict: print it, where none has been printed of the same inputs.
    """
    from mtspark.cli.show import print_page
    from mtspark.workflows.report import write_page

    with progress_bar() as progress:
        written = write_page(folder, page, request, progress=progress)
    print_page(written, say_left_out=say_left_out, verdict=verdict)
    return written
