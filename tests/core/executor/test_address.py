from __future__ import annotations

import subprocess
import sys

import pytest

from mtspark.core.errors import BackendMissingError, BadRequestError
from mtspark.core.executor import address
from mtspark.core.executor.address import ExecutorAddress, check_executor, parse_executor

GOOD = {
    "processes": ("processes", None, None, {}),
    "processes:3": ("processes", 3, None, {}),
    "ray": ("ray", None, None, {}),
    "ray:10.0.0.1:6379": ("ray", None, "10.0.0.1:6379", {}),
    "ray:[::1]:6379": ("ray", None, "[::1]:6379", {}),
    "ray://head.example.org:10001": ("ray", None, "ray://head.example.org:10001", {}),
    "slurm": ("slurm", None, None, {}),
    "slurm:partition=long,minutes=90": (
        *("slurm", None, None),
        {"partition": "long", "minutes": 90},
    ),
}
BAD = {
    "": "processes, processes:N",
    "threads": "'threads': processes",
    "Ray": "'Ray'",
    "processes:": "1 to 1024",
    "processes:0": "1 to 1024",
    "processes:1025": "1 to 1024",
    "processes:-1": "1 to 1024",
    "processes:2.5": "1 to 1024",
    "processes:٣": "1 to 1024",
    "processes:" + "9" * 5000: "1 to 1024",
    "ray:": "ray:HOST:PORT on a machine",
    "ray:6379": "ray:HOST:PORT on a machine",
    "ray://head": "ray:HOST:PORT on a machine",
    "ray:he\x1bad:1": "ray:HOST:PORT on a machine",
    "slurm:": "NAME=VALUE",
    "slurm:partition": "NAME=VALUE",
    "slurm:partition=": "NAME=VALUE",
    "slurm:minutes=long": "numbers: minutes",
    "slurm:minutes=0": "at least 1",
    "slurm:wrap=rm": "names are minutes",
}


@pytest.mark.parametrize("text", GOOD)
def test_what_an_executor_may_be(text: str) -> None:
    kind, workers, cluster, options = GOOD[text]
    assert parse_executor(text) == ExecutorAddress(text, kind, workers, cluster, options)


@pytest.mark.parametrize("text", BAD, ids=lambda text: ascii(text[:20]))
def test_what_none_may_be_is_said_in_a_line(text: str) -> None:
    with pytest.raises(BadRequestError) as refusal:
        parse_executor(text)
    message = str(refusal.value)
    assert BAD[text] in message
    assert message.startswith("--executor")
    assert message.isprintable()
    assert len(message) < 260


@pytest.mark.parametrize("kind", ["ray", "slurm"])
def test_a_missing_extra_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "find_spec", lambda _: None)
    with pytest.raises(BackendMissingError, match=rf'pip install "mtspark\[{kind}\]"'):
        check_executor(kind)
    check_executor("processes:2")
    check_executor(None)


def test_reading_an_executor_loads_none() -> None:
    program = (
        "import sys\nfrom mtspark.core.executor import check_executor, parse_executor\n"
        "parse_executor('ray:localhost:1'), check_executor('processes')\n"
        "assert not {'ray', 'submitit', 'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
