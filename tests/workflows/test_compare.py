"""Training runs side by side: by hand, beside SciPy and as a command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.workflows.compare import (
    as_markdown,
    compare_runs,
    rows_of,
    rows_of_tasks,
    sentences_of,
    write_comparison,
)
from mtspark.workflows.compare.statistics import (
    interquartile_mean,
    interval_of,
    interval_of_difference,
)
from tests.support.logs import Lines, write_run, write_runs


def test_the_mean_leaves_out_a_quarter_at_either_end() -> None:
    # Of 0 1 2 9, the middle two; of nine scores, two go at either end.
    assert interquartile_mean(np.array([[0.0, 9.0], [2.0, 1.0]])) == 1.5
    assert interquartile_mean(np.array([50.0, 1, 2, 3, 4, 5, 6, -7, -80])) == 3.0


def test_a_seed_is_resampled_with_all_of_its_tasks() -> None:
    # Each seed is good in one task; whichever seeds are drawn, the mean is 5. Were tasks drawn by
    # themselves, it would be between 0 and 10.
    assert interval_of(np.array([[0.0, 10.0], [10.0, 0.0]])) == (5.0, 5.0)
    # Two seeds are drawn as (first, first) in a quarter of all cases.
    assert interval_of(np.array([[0.0, 1.0], [2.0, 9.0]])) == (0.5, 5.5)
    assert interval_of(np.array([[1.0, 2.0]])) is None


def test_pairs_are_resampled_together() -> None:
    baseline = np.array([[0.0], [5.0], [40.0], [100.0]])
    # Seeds differ widely, and each pair by 1.
    assert interval_of_difference(baseline + 1, baseline) == (1.0, 1.0)
    low, high = interval_of(baseline) or (0.0, 0.0)
    assert high - low > 40


def test_methods_are_compared_by_hand(tmp_path: Path) -> None:
    dense = write_runs(tmp_path / "dense", {1: (0, 1), 2: (2, 9), 3: (4, 4)})
    sparse = write_runs(tmp_path / "sparse", {2: (4, 9), 1: (1, 1), 7: (3, 3)})
    found = compare_runs([dense, sparse])
    first, second = found.methods
    assert (first.name, first.seeds, first.scores) == (
        *("dense", (1, 2, 3)),
        {"a": (0.0, 2.0, 4.0), "b": (1.0, 9.0, 4.0)},
    )
    # 0 1 2 4 4 9 without one at either end; 1 1 3 3 4 9 likewise.
    assert first.iqm == 2.75
    assert second.iqm == 2.75
    # Seeds 1 and 2 are of both: 1 1 4 9 beside 0 1 2 9.
    (pair,) = found.differences
    assert (pair.name, pair.baseline, pair.seeds) == ("sparse", "dense", (1, 2))
    assert pair.difference == 2.5 - 1.5
    assert pair.by_seed == (0.5, 1.0)
    assert pair.better == 2
    # (1, 1): 1 - 0.5; (2, 2): 6.5 - 5.5.
    assert pair.interval == (0.5, 1.0)
    assert first.dormant_ratio is None


def test_the_verdict_names_the_best_and_what_pairs_say(tmp_path: Path) -> None:
    dense = write_runs(tmp_path / "dense", {1: (0, 1), 2: (2, 9), 3: (4, 4)})
    alone = compare_runs([dense])
    assert sentences_of(alone)[0] == (
        "The interquartile mean of the returns of dense is 2.75 (95 %: 0.5 to 5.5), over 3 seeds "
        "and 2 tasks."
    )
    assert "name the folder of another" in sentences_of(alone)[1]
    better = write_runs(tmp_path / "better", {1: (2, 1), 2: (3, 9), 3: (5, 5)})
    best, pairs = sentences_of(compare_runs([dense, better]))
    assert best.startswith("better has the highest interquartile mean of the returns of 2 methods")
    assert pairs == (
        "In pairs of the same seed the mean of better is 0.833 above that of dense, and above it "
        "in 3 of 3 pairs; so few decide little."
    )
    # The baseline is best: the nearest of the others stands beside it.
    best, pairs = sentences_of(compare_runs([better, dense]))
    assert best.startswith("better has the highest")
    assert "the mean of dense is 0.833 below that of better, and above it in 0 of 3 pairs" in pairs


@pytest.mark.parametrize(
    ("shift", "told"),
    [(1.0, "(1 to 1) leaves 0 out."), (0.0, "(0 to 0) holds 0, so these seeds tell no difference")],
)
def test_enough_pairs_decide(shift: float, told: str, tmp_path: Path) -> None:
    scores = {seed: (float(seed), 2.0 * seed) for seed in range(1, 7)}
    one = write_runs(tmp_path / "one", scores)
    two = write_runs(tmp_path / "two", {n: (a + shift, b + shift) for n, (a, b) in scores.items()})
    best, found = sentences_of(compare_runs([one, two]))
    assert best.startswith("two has" if shift else "one and two have the highest")
    assert told in found
    assert ("is as high as that of one" in found) == (shift == 0)


def test_many_tasks_have_rows_of_their_own(tmp_path: Path) -> None:
    names = [f"a task of a robot, number {n}" for n in range(3)]
    values = {name: float(n) for n, name in enumerate(names)}
    line = {"returns": dict.fromkeys(names, 0.0), "success": values}
    result = compare_runs([write_run(tmp_path / "runs", 1, [(10, line)])], score="success")
    assert result.methods[0].mean == 1.0
    assert not set(rows_of(result)[0]) & set(names)
    assert rows_of_tasks(result) == [{"task": name, "runs": str(n)} for n, name in enumerate(names)]
    assert f"| {names[2]} | 2 |" in as_markdown(result)
    assert result.to_json()["methods"][0]["mean"] == 1.0


def test_scores_are_scaled_task_by_task(tmp_path: Path) -> None:
    folder = write_runs(tmp_path / "one", {1: (-21, 0), 2: (21, 100)})
    found = compare_runs([folder], ranges={"a": (-21, 21), "b": (0, 200)})
    assert found.methods[0].scores == {"a": (0.0, 1.0), "b": (0.0, 0.5)}
    assert found.methods[0].iqm == 0.25
    assert not any("--range" in note for note in found.notes)
    assert any("--range" in note for note in compare_runs([folder]).notes)


def test_all_are_compared_where_the_slowest_is(tmp_path: Path) -> None:
    def measured(value: float | None, dormant: float, **others: Any) -> dict[str, Any]:
        taken = {"dormant_ratio": dormant, "effective_rank": 10 * dormant}
        return {"returns": {"a": value}, "plasticity": taken, **others}

    fast: Lines = [(10, {"returns": {"a": None}}), (20, measured(1, 0.2)), (40, measured(9, 0.9))]
    for seed in (1, 2):
        write_run(tmp_path / "fast", seed, fast)
        write_run(tmp_path / "slow", seed, [(15, measured(2, 0.1 * seed)), (30, measured(3, 0.4))])
    with (tmp_path / "slow" / "seed-1" / "log.jsonl").open("a") as file:
        file.write('{"steps": 50, "retu')
    found = compare_runs([tmp_path / "fast", tmp_path / "slow"])
    one, other = found.methods
    assert found.steps == 30
    assert one.scores["a"] == (1.0, 1.0)
    assert (one.dormant_ratio, one.effective_rank) == (0.2, 2.0)
    assert [point.steps for point in one.curve][:2] == [20, 21]
    assert [point.iqm for point in other.curve if point.steps in (15, 29, 30)] == [2.0, 2.0, 3.0]
    early = next(point for point in other.curve if point.steps == 15)
    assert early.dormant_ratio == pytest.approx(0.15)
    assert "between 30 and 40 decisions" in found.notes[0]


def test_success_counts_where_it_is_asked_for(tmp_path: Path) -> None:
    for seed in (1, 2):
        line = {"returns": {"a": 900.0}, "success": {"a": 0.25 * seed}}
        write_run(tmp_path / "runs", seed, [(10, line)])
    assert compare_runs([tmp_path / "runs"], score="success").methods[0].iqm == 0.375


def row(task: str, backend: str, score: float) -> dict[str, Any]:
    return {
        **{"task": task, "backend": backend, "network_sha256": "0", "mean_return": score},
        **{"sticky_action_probability": 0.0, "seed": 0, "episodes": 1, "distinct_episodes": 1},
        **{"unfinished_episodes": 0, "interval_95": [score, score], "returns": [score]},
        **{"decisions": 5, "action_agreement": None, "decisions_compared": None},
    }


def evaluated(folder: Path, seed: int, *rows: dict[str, Any]) -> None:
    write_run(folder, seed, [(100, {"returns": {one["task"]: None for one in rows}})])
    content = {"format": "mtspark-eval", "version": 1, "network_sha256": "0", "rows": list(rows)}
    (folder / f"seed-{seed}" / "eval.json").write_text(json.dumps(content))


def test_a_run_that_played_nothing_is_compared_by_its_evaluation(tmp_path: Path) -> None:
    folder = tmp_path / "offline"
    for seed in (1, 2):
        evaluated(folder, seed, row("a", "torch", seed), row("a", "engine", 10 * seed))
    with pytest.raises(BadRequestError, match=r"has finished no episode.*--scores eval.json"):
        compare_runs([folder])
    with pytest.raises(BadRequestError, match=r"was played by torch, engine; choose one"):
        compare_runs([folder], scores_file="eval.json")
    with pytest.raises(BadRequestError, match="has no success of a"):
        compare_runs([folder], scores_file="eval.json", backend="torch", score="success")
    found = compare_runs([folder], scores_file="eval.json", backend="engine")
    assert found.methods[0].scores == {"a": (10.0, 20.0)}
    assert found.methods[0].curve == ()
    assert (found.source, found.steps) == ("eval.json", 100)
    twice = {**row("a", "engine", 3), "sticky_action_probability": 0.25}
    evaluated(folder, 3, row("a", "engine", 20), twice)
    with pytest.raises(BadRequestError, match=r"has 2 rows of a \(sticky actions 0, 0.25\)"):
        compare_runs([folder], scores_file="eval.json", backend="engine")


def test_a_task_that_was_not_played_alike_everywhere_is_told_of(tmp_path: Path) -> None:
    whole = {seed: row("a", "engine", seed) for seed in (1, 2)}
    for seed in (1, 2):
        evaluated(tmp_path / "dense", seed, whole[seed], row("b", "engine", 1))
        evaluated(tmp_path / "same", seed, whole[seed], row("b", "engine", 2))
        cut = {**whole[seed], **({"max_decisions": 1000} if seed == 2 else {})}
        sticky = {**row("b", "engine", 3), "sticky_action_probability": 0.25}
        evaluated(tmp_path / "other", seed, cut, sticky)
    alike = compare_runs([tmp_path / "dense", tmp_path / "same"], scores_file="eval.json")
    assert not [note for note in alike.notes if "alike" in note]
    found = compare_runs([tmp_path / "dense", tmp_path / "other"], scores_file="eval.json")
    first, second = (note for note in found.notes if "alike" in note)
    dense, other = tmp_path / "dense" / "seed-1", tmp_path / "other"
    assert first == (
        f"a was not played alike, so its scores say little: whole episodes by engine ({dense}), "
        f"episodes of at most 1,000 decisions by engine ({other / 'seed-2'}); evaluate all with "
        "the same player, --max-decisions, --sticky and --sample"
    )
    with pytest.raises(BadRequestError, match="folders: none given"):
        compare_runs([])
    assert f"whole episodes by engine with sticky actions 0.25 ({other / 'seed-1'})" in second
    for seed in (1, 2):
        evaluated(tmp_path / "float", seed, row("a", "torch", seed), row("b", "torch", 1))
    mixed = compare_runs([tmp_path / "dense", tmp_path / "float"], scores_file="eval.json")
    assert sum("by torch" in note for note in mixed.notes) == 2


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"score": "speed"}, "score 'speed': choose return or success"),
        ({"score": "success"}, "no episode said whether its task was solved"),
        ({"ranges": {"c": (0, 1)}}, "range of c: the runs play a, b; name one of these"),
        ({"ranges": {"a": (1, 1)}}, "range of a: 1 to 1, must rise"),
        ({"backend": "engine"}, "add --scores FILE"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], problem: str, tmp_path: Path) -> None:
    folder = write_runs(tmp_path / "dense", {1: (0, 1)})
    with pytest.raises(BadRequestError, match=problem):
        compare_runs([folder], **arguments)


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    dense = write_runs(tmp_path / "dense", {1: (0, 1)})
    with pytest.raises(BadRequestError, match="named twice"):
        compare_runs([dense, tmp_path / "dense"])
    with pytest.raises(BadRequestError, match="holds no folder seed-N of a run"):
        compare_runs([dense, tmp_path])
    other = write_run(tmp_path / "other", 1, [(100, {"returns": {"a": 1.0}})])
    with pytest.raises(BadRequestError, match=r"seed-1: plays a, .*seed-1 plays a, b"):
        compare_runs([dense, other])
    stranger = write_runs(tmp_path / "stranger", {2: (0, 1)})
    with pytest.raises(BadRequestError, match="stranger and dense have no seed in common"):
        compare_runs([dense, stranger])
    young = write_run(tmp_path / "young", 1, [(100, {"returns": {"a": 1.0, "b": None}})])
    with pytest.raises(BadRequestError, match="no episode of b had finished after 100 decisions"):
        compare_runs([dense, young])
    wrong = write_run(tmp_path / "wrong", 1, [(9, {"returns": {"a": "x", "b": 1}})])
    with pytest.raises(BadFileError, match="a is 'x', must be a number"):
        compare_runs([wrong])
    both = {"returns": {"a": 1.0, "b": 1.0}}
    for name, (first, second) in {"again": (800, 600), "huge": (9, 10**13)}.items():
        joined = write_run(tmp_path / name, 1, [(first, both), (second, both)])
        with pytest.raises(BadFileError, match=rf"log.jsonl: line 2 is of {second} decisions"):
            compare_runs([joined])
    write_run(tmp_path / "padded", 1, [(100, both)])
    (tmp_path / "padded" / "seed-1").rename(tmp_path / "padded" / "seed-01")
    write_run(tmp_path / "padded", 1, [(100, both)])
    with pytest.raises(BadRequestError, match="seed-01 and seed-1 are of one seed"):
        compare_runs([tmp_path / "padded"])
    (tmp_path / "bare" / "seed-1").mkdir(parents=True)
    with pytest.raises(BadFileError, match=r"log.jsonl: no such file"):
        compare_runs([tmp_path / "bare"])


def test_a_page_has_a_row_for_each_method_and_each_pair(tmp_path: Path) -> None:
    dense = write_runs(tmp_path / "dense", {1: (0, 1), 2: (2, 9)})
    sparse = write_runs(tmp_path / "a|b", {1: (1, 1), 2: (4, 9)})
    found = compare_runs([dense, sparse])
    text = as_markdown(found)
    assert "| dense | 2 | 1 | 5 | 3 | 1.5 | 0.5 to 5.5 | - | - | - | - | - |" in text
    pairs = "+1 | 0.5 to 1 | 2 of 2"
    assert f"| a\\|b | 2 | 2.5 | 5 | 3.75 | 2.5 | 1 to 6.5 | {pairs} | - | - |" in text
    assert "| a\\|b | +0.5 | +1 |" in text
    page, picture = write_comparison(found, tmp_path / "page.md")
    assert page.read_text() == text
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(BadRequestError, match=r"page.html: must end in .md"):
        write_comparison(found, tmp_path / "page.html")
