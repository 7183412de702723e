from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtspark.core.errors import BadRequestError
from mtspark.core.progress import Progress
from mtspark.deploy.bundle import Bundle
from mtspark.sim.hil import ChipBackend, FaultKind, Faults, Loop, StoredPoint, Timing
from mtspark.workflows.hil import HilRequest, hil
from mtspark.workflows.hil.request import FaultSweep, LatencySweep
from tests.support.hil_agent import pong_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return pong_bundle(tmp_path_factory.mktemp("hil"))


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
    assert reports[0].detail.startswith("starting the chip")
    assert [(one.done, one.total) for one in (reports[0], reports[-1])] == [(0, 2), (2, 2)]
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
