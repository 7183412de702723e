"""Orders, packages and answers, without any other process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtspark.core.errors import BackendFailedError, BadFileError, BadRequestError
from mtspark.core.executor import Job, Package, finished_jobs, kept, versions
from mtspark.core.executor import run as runner
from mtspark.core.executor.kept import KeptAnswers
from mtspark.core.executor.work import Answer, perform
from mtspark.core.files import Policy, current_policy, set_policy
from mtspark.core.progress import Progress
from tests.core.executor import work


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mtspark" / "jobs"


def ask(job: Job, package: bytes | None = None) -> Any:
    return Answer.from_bytes(perform(job.order(), package)).result(job.name)


def test_values_and_arrays_arrive_as_they_were() -> None:
    wide = np.arange(6, dtype=np.int64).reshape(2, 3) - 2**60
    (twice, given) = ask(Job("a", work.double, {"values": wide})).values()
    assert twice.dtype == np.int64
    assert np.array_equal(twice, wide * 2)
    assert np.array_equal(given[0], wide)
    assert given[1:] == (None, float("inf"))


def test_files_travel_by_their_content(tmp_path: Path) -> None:
    files = {"b.bin": bytes(range(256)), "a.json": b"{}"}
    package = Package(files)
    assert package.digest == Package(dict(reversed(files.items()))).digest
    assert package.digest != Package({**files, "a.json": b"{ }"}).digest
    job = Job("a", work.listed, {"name": "b.bin"}, package)
    for _ in range(2):
        assert ask(job, package.to_bytes()) == (["a.json", "b.bin"], files["b.bin"].hex())


def test_other_files_than_the_promised_ones_are_refused() -> None:
    job = Job("a", work.listed, {"name": "x"}, Package({"x": b"1"}))
    with pytest.raises(BadFileError, match="changed on their way"):
        ask(job, Package({"x": b"2"}).to_bytes())


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "", ".."])
def test_no_file_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises((BadFileError, OSError)):
        Package({name: b""}).write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_told_with_the_name_of_its_job() -> None:
    with pytest.raises(BadFileError, match=r"^pong, seed 3: y: no such thing$"):
        ask(Job("pong, seed 3", work.refuse, {"name": "y"}))
    with pytest.raises(RuntimeError, match=r"(?s)^a: failed on its worker.*ZeroDivisionError"):
        ask(Job("a", work.break_down, {}))


@pytest.mark.parametrize("name", ["mtspark", "Python", "torch", "ale-py", versions.CODE])
def test_a_worker_of_another_version_refuses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    order = Job("a", work.double, {"values": 1}).order()
    own = versions.own_versions()
    monkeypatch.setattr(versions, "own_versions", lambda: {**own, name: "0.0.1"})
    answer = perform(order)
    monkeypatch.undo()
    with pytest.raises(BackendFailedError) as refusal:
        Answer.from_bytes(answer).result("a")
    said = "other files of mtspark" if name == versions.CODE else f"{name} 0.0.1 instead of"
    assert said in str(refusal.value)
    assert "install there what is installed here" in str(refusal.value)


def test_a_worker_with_another_module_of_the_user_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its games would be others, and so would the answers that are kept."""
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "own_world.py"
    module.write_text("a = 1")
    (tmp_path / "own_package").mkdir()
    inside = tmp_path / "own_package" / "inside.py"
    inside.write_text("a = 1")
    (tmp_path / "own_package" / "__init__.py").touch()
    package = Package({}, ("own_world", "own_package"))
    job = Job("a", work.folder_name, {}, package)
    order, key = job.order(), job.key
    assert Answer.from_bytes(perform(order, package.to_bytes())).kind == "done"
    for path, said in ((module, "another module own_world"), (inside, "module own_package")):
        path.write_text("a = 2")
        answer = Answer.from_bytes(perform(order, package.to_bytes()))
        assert (answer.kind, said in answer.text) == ("refused", True)
        assert job.key != key
    module.unlink()
    assert "no module own_world" in Answer.from_bytes(perform(order)).text
    assert not {"own_world", "own_package"} & set(sys.modules)


def test_how_files_are_read_travels_along() -> None:
    before = current_policy()
    try:
        set_policy(Policy(before.limits, trust=True))
        order = Job("a", work.double, {"values": 1}).order()
        set_policy(Policy(before.limits, trust=False))
        perform(order)
        assert current_policy().trust
    finally:
        set_policy(None)


class Here:
    """A pool of this process; stops after some answers."""

    def __init__(self, most: int = 1000) -> None:
        self.most, self.asked = most, list[str]()

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def answers(self, jobs: Any) -> Any:
        for index, job in reversed(list(enumerate(jobs))):
            if self.most == 0:
                raise KeyboardInterrupt
            self.most -= 1
            self.asked.append(job.name)
            yield index, perform(job.order())


def jobs_of(count: int, offset: int = 0) -> list[Job]:
    return [
        Job(str(index), work.double, {"values": index + offset}, weight=2) for index in range(count)
    ]


def test_a_stopped_command_goes_on(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Here(most=2), Here()
    monkeypatch.setattr(runner, "_open", lambda _: first)
    with pytest.raises(KeyboardInterrupt):
        list(finished_jobs("processes", jobs_of(5)))
    assert len(list(own_cache.iterdir())) == 2
    monkeypatch.setattr(runner, "_open", lambda _: second)
    reports: list[Progress] = []
    results = dict(finished_jobs("processes", jobs_of(5), progress=reports.append))
    assert {index: int(value["twice"]) for index, value in results.items()} == {
        index: 2 * index for index in range(5)
    }
    assert (first.asked, second.asked) == (["4", "3"], ["2", "1", "0"])
    assert [report.done for report in reports] == [0, 4, 6, 8, 10]
    assert "2 from a command that was stopped" in reports[-1].detail
    assert list(own_cache.iterdir()) == []


def test_a_question_of_other_values_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {job.key for job in jobs_of(3)} | {job.key for job in jobs_of(3, offset=100)}
    keys |= {Job("0", work.double, {"values": 0}, Package({"a": b""})).key}
    own = versions.own_versions()
    monkeypatch.setattr(versions, "own_versions", lambda: {**own, "torch": "9"})
    keys |= {jobs_of(1)[0].key}
    assert len(keys) == 8
    assert jobs_of(1)[0].key == Job("named", work.double, {"values": 0}, weight=9).key


def test_a_damaged_answer_is_asked_for_again(own_cache: Path) -> None:
    answers, whole = KeptAnswers(), Answer("done", 3).to_bytes()
    answers.put("key", whole)
    assert answers.get("key") == whole
    content = (own_cache / "key").read_bytes()
    for damaged in (content[:-1], content[:20], b"", content[:40] + b"x" + content[41:]):
        (own_cache / "key").write_bytes(damaged)
        assert answers.get("key") is None
    answers.put("key", Answer("error", text="a", error="BadFileError").to_bytes())
    assert answers.get("key") is None


def test_without_a_place_nothing_is_kept_and_said_once(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own_cache.parent.parent.write_text("a file where the cache should be")
    monkeypatch.setattr(runner, "_open", lambda _: Here())
    assert len(list(finished_jobs("processes", jobs_of(3)))) == 3
    assert len([one for one in caplog.records if "are not kept" in one.message]) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(kept.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError))
    assert len(list(finished_jobs("processes", jobs_of(3)))) == 3


def test_the_first_report_comes_before_any_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[Progress] = []

    def opened(_: object) -> Here:
        assert reports[0].done == 0
        assert reports[0].total == 10
        return Here()

    monkeypatch.setattr(runner, "_open", opened)
    assert len(list(finished_jobs("processes", jobs_of(5), progress=reports.append))) == 5
    with pytest.raises(BadRequestError):
        list(finished_jobs("nowhere", jobs_of(1)))
