"""The watched game and the messages of its page; the page itself is in test_watch_page."""

from __future__ import annotations

import base64
import gc
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mtspark.core.backend import Moment
from mtspark.core.chip_network.network import ChipNetwork
from mtspark.core.errors import BackendFailedError, BackendMissingError, BadRequestError
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.counts import Counter
from mtspark.sim.device import mean_bill
from mtspark.sim.energy import DEFAULT_CARD, load_card
from mtspark.sim.hil import FaultKind, Faults, FaultyChip
from mtspark.sim.play import play
from mtspark.workflows.watch import Served, Session, WatchRequest, served_page, server
from mtspark.workflows.watch import session as session_code
from mtspark.workflows.watch.ring import KEPT, Ring
from mtspark.workflows.watch.session import _BreakableChip, _Ended
from tests.support.lamp import COLOURS, STEPS, lamp_network, registered_lamp

TASK = "Lamp-v0"
PATIENCE_S = 240.0


@pytest.fixture(autouse=True)
def lamp() -> Iterator[None]:
    with registered_lamp():
        yield


class Page:
    """What a page does, without a picture."""

    def __init__(self, channel: ClientConnection) -> None:
        self.channel = channel
        self.hello = self.read(shown=False)

    def read(self, *, shown: bool = True) -> Any:
        message = json.loads(self.channel.recv(timeout=PATIENCE_S))
        if shown and message["type"] != "refused":
            self.order("shown")
        return message

    def until(self, kind: str, **wanted: Any) -> Any:
        """Read on to the first message of a kind whose state has these values."""
        while True:
            message = self.read()
            state = message.get("state", {})
            if message["type"] == kind and all(state[key] == wanted[key] for key in wanted):
                return message

    def order(self, order: str, /, **content: Any) -> None:
        self.channel.send(json.dumps({"type": order, **content}))

    def end(self) -> ConnectionClosed:
        """Read on until the other side closes."""
        try:
            while True:
                self.channel.recv(timeout=PATIENCE_S)
        except ConnectionClosed as closed:
            return closed


@contextmanager
def watched(
    network: ChipNetwork | None = None, **request: Any
) -> Iterator[tuple[Session, Served, str]]:
    session = Session(network or lamp_network(), WatchRequest(TASK, **request))
    with served_page(session) as served:
        channel = served.address.replace("http", "ws").replace("/?", "/messages?")
        yield session, served, channel


def asked(served: Served, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE_S)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode(), dict(answer.getheaders())
    connection.close()
    return found


def test_a_page_needs_its_token_and_a_name_of_this_machine() -> None:
    with watched() as (_, served, channel):
        path = served.address.partition(str(served.port))[2]
        assert asked(served, path)[0] == 200
        for name in ("localhost:1", "127.0.0.1", "[::1]:8000"):
            assert asked(served, path, Host=name)[0] == 200
        for refused, headers in (
            ("/", {}),
            (path[:-1], {}),
            (path + "x", {}),
            ("/?token=%C3%A9", {}),
            (path, {"Host": "evil.example"}),
            (path, {"Host": f"evil.example:{served.port}"}),
            (path, {"Host": "127.0.0.1.evil.example"}),
            (path, {"Host": "["}),
            (path, {"Origin": "http://evil.example"}),
        ):
            status, text, _ = asked(served, refused, **headers)
            assert (status, "mtspark printed" in text) == (403, True), (refused, headers)
        for address, origin in ((channel[:-1], None), (channel, "http://evil.example")):
            with pytest.raises(InvalidStatus) as caught, connect(address, origin=origin):  # type: ignore[arg-type]
                pass
            assert caught.value.response.status_code == 403


def test_the_page_is_one_file_that_asks_nobody_else() -> None:
    with watched() as (_, served, _):
        _, text, headers = asked(served, served.address.partition(str(served.port))[2])
    headers = {name.lower(): value for name, value in headers.items()}
    policy = headers["content-security-policy"]
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert "default-src 'none'" in policy
    assert text.count(f'nonce="{nonce}"') == 3
    assert "src=" not in text.replace("image.src=", "")
    assert headers["referrer-policy"] == "no-referrer"
    assert (Path(server.__file__).parent / "page" / "uplot" / "LICENSE.txt").exists()


def test_a_decision_is_told_as_the_reference_plays_it() -> None:
    network = lamp_network()
    moments: list[Moment] = []
    play(
        ReferenceChip(network),
        network,
        TASK,
        episodes=1,
        seed=0,
        trace=True,
        observe=moments.append,
    )
    with watched(speed=1000.0) as (_, _, address), connect(address) as channel:
        page = Page(channel)
        told = [page.until("decision", seed=0) for _ in moments]
        over = page.until("game")
    assert (over["score"], over["decisions"]) == (2.0 * STEPS, STEPS)
    assert [layer["name"] for layer in page.hello["layers"]] == ["hidden"]
    assert page.hello["actions"] == ["0", "1"]
    legal = network.tasks[0].legal_actions
    for number, (message, moment) in enumerate(zip(told, moments, strict=True)):
        assert (message["number"], message["score"]) == (number, 2.0 * (number + 1))
        assert message["values"] == moment.decision.values[0].reshape(-1)[list(legal)].tolist()
        assert message["chosen"] == legal.index(int(moment.actions[0]))
        assert moment.decision.trace is not None
        spikes = moment.decision.trace.spikes["hidden"][:, 0]
        assert message["spikes"] == {"hidden": int(spikes.sum())}
        bits = np.frombuffer(base64.b64decode(message["rasters"]["hidden"]), np.uint8)
        assert np.array_equal(np.unpackbits(bits)[: spikes.size].reshape(spikes.shape), spikes)
        head, _, data = message["picture"].partition(",")
        assert head == "data:image/png;base64"
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        assert (picture == COLOURS[number]).all()
        assert message["view"] == ""
        counter = Counter(network)
        counter.add(moment.decision.activity)
        bill = mean_bill(counter.result(), network, load_card(DEFAULT_CARD), counter.sent)
        assert message["energy_uj"] == pytest.approx(1e6 * bill.dynamic_j_per_decision, rel=1e-9)


def test_a_paused_game_waits_and_a_step_is_one_decision() -> None:
    session = Session(lamp_network(), WatchRequest(TASK, speed=1000.0))
    passed: list[int] = []

    def turns() -> None:
        with suppress(_Ended):
            while True:
                session.take_turn()
                passed.append(len(passed))

    session.pause()
    thread = threading.Thread(target=turns)
    thread.start()
    for steps in range(4):
        # A game that did not wait would have passed many turns by then.
        thread.join(0.1)
        assert len(passed) == steps
        session.step()
        wait_until(lambda steps=steps: len(passed) == steps + 1)
    session.resume()
    wait_until(lambda: len(passed) > 10)
    session.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


@pytest.mark.slow
def test_a_page_pauses_steps_and_goes_on() -> None:
    with watched(speed=1000.0) as (_, _, address), connect(address) as channel:
        page = Page(channel)
        assert page.hello["state"] == {"paused": False, "faults": {}, "seed": 0}
        page.order("pause")
        page.until("state", paused=True)
        page.order("step")
        first = page.until("decision", paused=True)["number"]
        page.order("step")
        assert page.until("decision", paused=True)["number"] == (first + 1) % STEPS
        page.order("resume")
        page.until("decision", paused=False)


@pytest.mark.slow
def test_a_broken_chip_plays_from_the_next_decision_on_and_is_healed() -> None:
    network = lamp_network()
    with watched(network, speed=1000.0) as (_, _, address), connect(address) as channel:
        page = Page(channel)
        healthy = page.until("decision")
        page.order("fault", kind="stuck-1", rate=1)
        page.until("state", faults={"stuck-1": 1.0})
        page.order("fault", kind="weight-bits", rate=0.5)
        both = {"stuck-1": 1.0, "weight-bits": 0.5}
        page.until("decision", faults=both)
        broken = page.until("decision", faults=both)
        # Every neuron sends in every step that a decision has.
        assert broken["spikes"] == {"hidden": 3 * network.steps_per_decision}
        page.order("fault", kind="weight-bits", rate=0)
        page.until("state", faults={"stuck-1": 1.0})
        page.order("heal")
        page.until("state", faults={})
        page.until("decision", faults={})
        while (message := page.until("decision", faults={}))["number"] != healthy["number"]:
            continue
        assert message["spikes"] == healthy["spikes"]
        assert message["values"] == healthy["values"]


def test_a_broken_chip_is_that_of_hardware_in_the_loop() -> None:
    network, faults = lamp_network(), Faults({FaultKind.DROPPED_SPIKES: 0.5})
    healthy, broken = ReferenceChip(network), FaultyChip(network, faults, 1)
    orders = [(Faults(), 0), *[(faults, 1)] * 8, (Faults(), 2)]
    turns = iter(orders)
    chip = _BreakableChip(SimpleNamespace(take_turn=lambda: next(turns)), network, healthy)  # type: ignore[arg-type]
    chip.start(1)
    draw = np.random.default_rng(0)
    for number, (now, _) in enumerate(orders):
        frames = draw.integers(0, 2, (1, *network.input.shape)).astype(np.uint8)
        found = chip.decide(frames, 0, trace=True)
        if now.rates:
            broken.begin(number)
            wanted = broken.decide(frames, 0, trace=True)
        else:
            wanted = ReferenceChip(network).decide(frames, 0, trace=True)
        assert found.trace is not None
        assert wanted.trace is not None
        for name, spikes in wanted.trace.spikes.items():
            assert np.array_equal(found.trace.spikes[name], spikes), number


@pytest.mark.slow
def test_orders_that_cannot_be_are_refused_in_words() -> None:
    with watched() as (session, _, address), connect(address) as channel:
        page = Page(channel)
        for content, words in (
            ({"type": "fault", "kind": "chip-death", "rate": 0.1}, "must be one of"),
            ({"type": "fault", "kind": "stuck-0", "rate": 2}, "from 0 to 1"),
            ({"type": "fault", "kind": "stuck-0", "rate": "1"}, "a number from 0 to 1"),
            ({"type": "fault", "kind": "stuck-0", "rate": True}, "a number from 0 to 1"),
            ({"type": "fault", "kind": ["x"], "rate": 0.1}, "unknown fault"),
            ({"type": ["pause"]}, "unknown order"),
            ([1], "unknown order"),
        ):
            channel.send(json.dumps(content))
            while (message := page.read())["type"] != "refused":
                continue
            assert words in message["text"]
        channel.send("no JSON")
        while page.read()["type"] != "refused":
            continue
        assert session.state()["faults"] == {}
        channel.send("x" * 2 * server.LONGEST_ORDER)
        closed = page.end()
        assert closed.rcvd is not None
        assert closed.rcvd.code == 1009


@pytest.mark.slow
def test_a_page_that_shows_nothing_is_sent_little_and_misses_the_rest() -> None:
    with watched() as (session, _, address):
        session.pause()
        with connect(address) as channel:
            page = Page(channel)
            page.read(shown=False)  # that it is paused
            for number in range(1000):
                session.messages.add(json.dumps({"type": "test", "number": number}))
            seen = [page.read(shown=False)["number"] for _ in range(server.UNREAD - 1)]
            page.order("shown")
            after = page.read(shown=False)["number"]
            with pytest.raises(TimeoutError):
                channel.recv(timeout=0.2)
    assert seen == sorted(seen)
    assert after >= 1000 - KEPT


def test_a_ring_keeps_the_last_messages() -> None:
    ring, woken = Ring(3), []
    assert ring.after(0) is None
    end = ring.listen(lambda: woken.append(1))
    for text in "abcde":
        ring.add(text)
    end()
    ring.add("f")
    assert len(woken) == 5
    assert [ring.after(number) for number in (0, 3, 4, 5)] == [
        *((4, "d"), (4, "d")),
        *((5, "e"), (6, "f")),
    ]
    assert ring.after(6) is None
    ring.clear()
    assert ring.after(0) is None
    ring.add("g")
    assert ring.after(0) == (7, "g")


def test_memory_is_given_back_after_each_game_and_the_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(session_code, "give_back_memory", lambda: calls.append("game"))
    monkeypatch.setattr(server, "give_back_memory", lambda: calls.append("page"))
    with watched(speed=1000.0, max_decisions=2) as (session, _, _):
        session.look()
        wait_until(lambda: session.state()["seed"] >= 3)
        assert session.messages.after(0) is not None
    assert calls[-1] == "page"
    assert calls[:-1].count("game") == len(calls) - 1 >= 3
    assert session.messages.after(0) is None


@pytest.mark.slow
def test_sessions_leave_nothing_behind() -> None:
    """Counted in Python's blocks and objects: what a system's allocator keeps is no leak."""

    def kept() -> tuple[int, int]:
        # A lookup of a name that was made by C code stays in a cache of types.
        sys._clear_type_cache()
        gc.collect()
        return sys.getallocatedblocks(), len(gc.get_objects())

    def turn(decisions: int) -> None:
        with watched(speed=1000.0, max_decisions=decisions) as (session, _, _):
            session.look()
            wait_until(lambda: session.state()["seed"] >= 4)

    for _ in range(3):
        turn(2)
    before = kept()
    for _ in range(4):
        turn(50)
    after = kept()
    # One object kept for each of these 800 decisions would be more.
    assert after[0] - before[0] < 400
    assert after[1] - before[1] < 100


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        session = Session(lamp_network(), WatchRequest(TASK))
        with (
            pytest.raises(BadRequestError, match=f"port {port}: is in use; choose another"),
            served_page(session, port),
        ):
            pass
    with pytest.raises(BadRequestError, match="port 70000"), served_page(session, 70000):
        pass


def test_only_this_machine_reaches_the_page() -> None:
    with watched() as (_, served, _):
        assert served.address.startswith(f"http://127.0.0.1:{served.port}/?token=")
        # Another address of the same machine: of loopback, so that no network is needed.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", served.port), timeout=PATIENCE_S)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(lamp_network(), WatchRequest(TASK))
    monkeypatch.setattr(server, "find_spec", lambda name: None if name == "uvicorn" else name)
    with (
        pytest.raises(BackendMissingError, match=r'needs uvicorn; pip install "mtspark\[watch\]"'),
        served_page(session),
    ):
        pass


@pytest.mark.slow
def test_a_game_that_fails_ends_the_session_with_its_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise BackendFailedError("broke")

    with watched() as (session, _, address):
        monkeypatch.setattr(session._teller, "decision", fail)
        with connect(address) as channel:
            page = Page(channel)
            page.until("failed")
            with pytest.raises(BackendFailedError, match="broke"):
                session.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "view"),
    [
        ({"draws": False}, "Lamp-v0: draws no picture: no display"),
        ({"dice": True}, "a second copy of the game differs: not deterministic"),
    ],
)
def test_a_game_without_pictures_shows_what_the_agent_sees(
    arguments: dict[str, bool], view: str
) -> None:
    with (
        watched(lamp_network(**arguments), speed=1000.0) as (_, _, address),
        connect(address) as channel,
    ):
        page = Page(channel)
        assert page.until("decision")["view"] == view


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"seed": -1}, "seed -1: must be"),
        ({"speed": 0.0}, "speed 0: must be 0.01 to 1000"),
        ({"speed": float("nan")}, "speed nan"),
        ({"max_decisions": 0}, "at least 1"),
        ({"sticky": 0.5}, "sticky"),
    ],
)
def test_what_cannot_be_watched_is_refused(request_: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequestError, match=words):
        Session(lamp_network(), WatchRequest(TASK, **request_))


@pytest.mark.slow
def test_the_command_prints_its_address_and_ends_by_ctrl_c(tmp_path: Path) -> None:
    agent = Path(__file__).parents[2] / "examples" / "agents" / "cartpole" / "cartpole.pt"
    folder, out = tmp_path / "a.deploy", tmp_path / "address.json"
    start = "from mtspark.cli.start import main; main()"
    program = [sys.executable, "-c", start]
    subprocess.run([*program, "export", agent, "-o", folder], check=True, capture_output=True)
    order = [*program, "watch", folder, "--no-browser", "--json", out]
    with subprocess.Popen(
        order, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(out.exists)
        told = json.loads(out.read_text())
        served = Served(**told)
        with connect(served.address.replace("http", "ws").replace("/?", "/messages?")) as channel:
            page = Page(channel)
            page.until("decision")
            taken = subprocess.run(
                [*order, "--port", str(served.port)], capture_output=True, text=True
            )
            assert (taken.returncode, taken.stderr.count("error:")) == (2, 1)
            assert f"port {served.port}: is in use" in taken.stderr
            process.send_signal(signal.SIGTERM)
            page.end()
        output, errors = process.communicate(timeout=PATIENCE_S)
    assert served.address in output
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors


def wait_until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)
