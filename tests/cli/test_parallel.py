"""Several commands on one bundle at the same time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mtspark.deploy.bundle import load_bundle
from tests.support.sequence import ROOT, side_by_side

CARTPOLE = ROOT / "examples" / "agents" / "cartpole" / "cartpole.pt"
CUT = ("--max-decisions", 3)
TIMES = 6


@pytest.mark.slow
def test_commands_on_one_bundle_at_the_same_time(tmp_path: Path, call: Callable[..., int]) -> None:
    """Two that store runs, one that replaces the bundle, and those that read it."""
    bundle = tmp_path / "there" / "cart.deploy"
    bundle.parent.mkdir()
    assert call("export", CARTPOLE, "-o", bundle) == 0
    assert call("run", bundle, *CUT) == 0
    asked: dict[str, list[tuple[object, ...]]] = {
        "one": [("run", bundle, *CUT, "--json", tmp_path / f"one{n}.json") for n in range(TIMES)],
        "two": [("run", bundle, *CUT, "--seed", n) for n in range(TIMES)],
        "exports": [
            ("export", CARTPOLE, "-o", bundle, "--force", "--weight-bits", 8 - n % 2)
            for n in range(TIMES)
        ],
        "readers": [
            *[("report", bundle), ("explain", bundle, "--decisions", 3)] * 2,
            ("eval", bundle, *CUT, "--episodes", 2, "--json", tmp_path / "eval.json"),
            ("map", bundle),
            ("report", bundle, "-o", tmp_path / "page.html", *CUT, "--card", "loihi2_pilotnet"),
        ],
    }
    answers = side_by_side(tmp_path, asked)
    assert [row for name in ("one", "two", "exports") for row in answers[name] if row[0]] == []
    # A reader may meet two bundles, of 8 and of 7 bits, and says so rather than mix them.
    mixed = "changed since the bundle was read; read it again"
    failed: dict[str, str] = {}
    for (command, *_), (code, _, said) in zip(asked["readers"], answers["readers"], strict=True):
        if code:
            failed[str(command)] = said
            # Also one that nothing has played yet, of which there is nothing to report.
            unplayed = command == "report" and "no runs of this network yet" in said
            assert mixed in said or unplayed, (command, code, said)
            assert "Traceback" not in said
    told = [
        Path(re.findall(r"^wrote (.*-seed\d+(?:-\d+)?\.json)$", out, re.MULTILINE)[-1])
        for name in ("one", "two")
        for _, out, _ in answers[name]
    ]
    stored = sorted((bundle / "runs").iterdir())
    assert len(set(told)) == 2 * TIMES
    # What each run said it wrote is there, whole, and of an agent that stood under the name.
    assert {path.name for path in told} | {stored[0].name} == {path.name for path in stored}
    runs = [json.loads(path.read_text()) for path in stored]
    assert len({run["network_sha256"] for run in runs}) <= 2
    for number in range(TIMES):
        assert json.loads((tmp_path / f"one{number}.json").read_text()) in runs
    for command, name, has in (("eval", "eval.json", '"rows"'), ("report", "page.html", "</html>")):
        assert command in failed or has in (tmp_path / name).read_text()
    assert load_bundle(bundle).files["agent.pt"]
    # No leftovers, of a bundle or of a file.
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]
    assert list(bundle.rglob(".*")) == []
