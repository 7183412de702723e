from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mtspark
from mtspark.core.errors import BadRequestError
from mtspark.core.progress import Progress
from mtspark.deploy.bundle import Bundle
from mtspark.sim.hil import ChipBackend, FaultKind, Faults, Loop, StoredPoint, Timing
from mtspark.workflows.hil import HilRequest, HilResult, hil
from mtspark.workflows.hil.request import FaultSweep, LatencySweep
from tests.support.hil_agent import pong_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return pong_bundle(tmp_path_factory.mktemp("hil"))


@pytest.mark.slow
def test_a_sweep_reports_its_games_and_goes_on_from_its_file(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "curve.json"
    loop = Loop(max_decisions=3)

    def request(*latencies_ms: float) -> HilRequest:
        return HilRequest(
            "pong", loop, 2, backend=ChipBackend.REFERENCE, sweep=LatencySweep(latencies_ms)
        )

    first = hil(bundle, request(0), into=out)
    assert json.loads(out.read_text())["points"] == first.to_json()["points"]
    reports: list[Progress] = []
    whole = hil(bundle, request(0, 80), into=out, progress=reports.append)
    assert (whole.resumed, whole.complete, whole.losses) == (1, True, ())
    assert isinstance(whole.points[0], StoredPoint)
    assert whole.points[0].to_json() == first.points[0].to_json()
    assert [point["place"] for point in json.loads(out.read_text())["points"]] == [0, 80]
    assert reports[0].stage == "pong, waiting for the chip"
    assert reports[0].total is None
    assert [(one.done, one.total) for one in (reports[1], reports[-1])] == [(0, 2), (2, 2)]
    assert "6 decisions" in reports[-1].detail
    again = hil(bundle, request(0, 80), into=out, progress=reports.append)
    assert again.resumed == 2
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"chip": "loihi2", "sweep": LatencySweep((0,))}, "choose one"),
        ({"chip": "loihi2", "loop": Loop(Timing(measured=True))}, "choose one"),
        ({"times": "fitted"}, "add --chip"),
        ({"connect": "here"}, "write tcp://HOST:PORT"),
        (
            {"backend": ChipBackend.LAVA, "sweep": FaultSweep(FaultKind.STUCK_1, (0, 0.1))},
            "simulated by the reference",
        ),
        (
            {
                "connect": "tcp://127.0.0.1:9",
                "loop": Loop(faults=Faults({FaultKind.CHIP_DEATH: 0.1})),
            },
            "ordered where it is served",
        ),
    ],
)
def test_a_request_that_cannot_be_is_refused_before_any_work(
    settings: dict[str, object], says: str
) -> None:
    with pytest.raises(BadRequestError, match=says):
        HilRequest("pong", **settings)  # type: ignore[arg-type]


# The door


@pytest.mark.slow
def test_the_door_plays_what_the_command_plays(bundle: Bundle, tmp_path: Path) -> None:
    deployment = mtspark.load_bundle(bundle.folder)
    options: dict[str, Any] = {"backend": "reference", "max_decisions": 4, "seed": 3}
    into = tmp_path / "door.json"
    rates = {"lost-messages": 0.3, "stuck-1": [0.0, 0.2]}
    result = deployment.hil(
        faults=rates, fault_seed=7, hold="noop", latency_ms=20, into=into, **options
    )
    assert isinstance(result, HilResult)
    assert json.loads(into.read_text())["points"] == result.to_json()["points"]
    words = "--task pong --backend reference --max-decisions 4 --seed 3 --latency-ms 20 --hold noop"
    faults = "--fault lost-messages=0.3 --fault-sweep stuck-1=0,0.2 --fault-seed 7"
    out = tmp_path / "command.json"
    code = "from mtspark.cli.main import main; main()"
    command = ["hil", bundle.folder, *words.split(), *faults.split(), "--json", out]
    subprocess.run([sys.executable, "-c", code, *map(str, command)], check=True)
    both = [result.to_json(), json.loads(out.read_text())]
    for one in both:
        one.pop("date")
        for point in one["points"]:
            for episode in point["episodes"]:
                episode.pop("chip_host_ms")
    assert both[0] == both[1]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"latency_ms": [0, 10], "faults": {"stuck-0": [0, 1]}}, ValueError, "two sweeps"),
        ({"latency_ms": []}, ValueError, "latency_ms: no values"),
        ({"latency_ms": "10"}, TypeError, "latency_ms: '10' is str; give a number"),
        ({"faults": {"stuck-0": [0.1, None]}}, TypeError, r"faults\['stuck-0'\]: None is NoneType"),
        ({"faults": {"rust": 0.1}}, ValueError, "unknown fault 'rust'; there are stuck-0"),
        ({"faults": {"stuck-0": 2}}, ValueError, "a rate from 0 to 1"),
        ({"faults": {"stuck-0": [0, 2]}}, ValueError, "a rate from 0 to 1"),
        ({"jitter": "much"}, ValueError, "jitter 'much': uniform, exponential, normal exist"),
        ({"backend": "gpu"}, ValueError, "backend 'gpu': engine, reference"),
        ({"latency_ms": 5, "measured": True}, ValueError, "^latency_ms and measured say how long"),
        ({"connect": "tcp://127.0.0.1:9"}, ValueError, "^connect needs the key that `mtspark hil"),
        ({"task": "chess"}, ValueError, "unknown task 'chess'"),
        ({"refresh_every": 5}, ValueError, "^refresh_every: this bundle's encoder is every-step"),
        ({"refresh_every": [5, None]}, ValueError, "^several values of refresh_every"),
        ({"refresh_every": "often"}, TypeError, "refresh_every: 'o' is str; give a whole number"),
        ({"refresh_every": 2.5}, TypeError, "refresh_every: 2.5 is float"),
        ({"faults": {"lost-changes": 0.1}}, ValueError, "export the agent with encoder changes"),
    ],
)
def test_a_wrong_call_at_the_door_is_one_line(
    bundle: Bundle, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as found:
        mtspark.load_bundle(bundle.folder).hil(**options)
    assert "\n" not in str(found.value)
