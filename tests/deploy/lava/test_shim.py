"""The shim: what it changes in Lava's source, and that it says how to get Lava."""

import importlib.metadata
import multiprocessing
import subprocess
import sys
import textwrap

import pytest

from mtspark.core.errors import BackendFailedError, BackendMissingError
from mtspark.deploy.lava import install as lava_install
from mtspark.deploy.lava import shim as lava_shim

needs_lava = pytest.mark.skipif(
    lava_shim.installed_lava() is None, reason="lava-nc is missing: run `mtspark install-lava`"
)

PATTERN = """\
from dataclasses import dataclass, InitVar
@dataclass
class CoreEncoder:
    x: ByteEncoder = ByteEncoder()
    n: int = 0
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process, which has not imported any Lava."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_object_defaults_become_factories():
    mended = lava_shim.mended_source(PATTERN)
    assert "x: ByteEncoder = field(default_factory=ByteEncoder)" in mended
    assert "from dataclasses import field, dataclass, InitVar" in mended
    assert "n: int = 0" in mended


def test_source_without_the_pattern_stays_as_it_is():
    other = "from dataclasses import dataclass\nx: int = 0\n"
    assert lava_shim.mended_source(other) == other
    mended = lava_shim.mended_source(PATTERN)
    assert lava_shim.mended_source(mended) == mended


def test_missing_lava_is_one_line_that_names_the_command(monkeypatch):
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.delitem(sys.modules, lava_shim.MESSAGES, raising=False)
    with pytest.raises(BackendMissingError, match="mtspark install-lava") as caught:
        lava_shim.load_lava()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", [(3, 9), (3, 14)])
def test_pythons_that_lava_never_ran_on_are_refused(version):
    with pytest.raises(BackendFailedError, match=r"Python 3\.10 to 3\.13"):
        lava_install.check_python(version)


@pytest.mark.parametrize("version", [(3, 10), (3, 11), (3, 12), (3, 13)])
def test_pythons_that_lava_runs_on_are_accepted(version):
    lava_install.check_python(version)


def test_failing_pip_is_one_line(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "a\nERROR: no network\n")
    monkeypatch.setattr(lava_install, "_present", lambda _: False)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(BackendFailedError, match="pip failed: no network") as caught:
        lava_install.install_lava()
    assert "\n" not in str(caught.value)


@pytest.mark.third_party
@needs_lava
def test_lava_loads_twice_and_its_encoders_are_not_shared():
    done = python(
        """
        from mtspark.deploy.lava.shim import check_lava, load_lava
        load_lava()
        from lava.magma.compiler.var_model import ChipEncoder
        import lava.magma.compiler as package
        load_lava()
        assert package.var_model.ChipEncoder is ChipEncoder
        assert ChipEncoder().x is not ChipEncoder().x
        assert check_lava().version == "0.10.0"
        """
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.third_party
@needs_lava
def test_reshape_ports_reshape():
    done = python(
        """
        import numpy as np
        from mtspark.deploy.lava.shim import load_lava
        load_lava()
        from lava.magma.core.process.ports.ports import ReshapePort
        port = ReshapePort(new_shape=(6,), old_shape=(2, 3))
        forward, backward = port.get_transform_func_fwd(), port.get_transform_func_bwd()
        assert forward(np.zeros((2, 3))).shape == (6,)
        assert backward(np.zeros(6)).shape == (2, 3)
        """
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.third_party
@needs_lava
@pytest.mark.parametrize("method", [None, *multiprocessing.get_all_start_methods()])
def test_loading_lava_respects_how_the_host_starts_processes(method):
    done = python(
        f"""
        import multiprocessing
        if {method!r}:
            multiprocessing.set_start_method({method!r})
        from mtspark.deploy.lava.shim import load_lava
        load_lava()
        assert multiprocessing.get_start_method() == ({method!r} or "fork")
        """
    )
    assert done.returncode == 0, done.stderr
