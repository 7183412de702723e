"""Load lava-nc 0.10.0, unmodified on disk, with newer Pythons and numpys than it supports.

Two incompatibilities stop Lava there. Python 3.11 refuses its dataclasses whose defaults are
objects (``lava/magma/compiler/var_model.py``), and numpy 2.4 dropped the ``newshape`` argument
that its reshaping ports pass (``lava/magma/core/process/ports/ports.py``). Both are corrected in
memory, before anything else of Lava's compiler is imported; where the pattern is absent
(another Lava, an older Python) nothing is changed.

Nothing else in mtspark may import Lava before :func:`load_lava` has returned.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.metadata
import importlib.util
import multiprocessing
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from mtspark.core.errors import BackendMissingError

LAVA_VERSION = "0.10.0"
"""The release of lava-nc that mtspark is tested with."""

VAR_MODEL = "lava.magma.compiler.var_model"
MESSAGES = "lava.magma.runtime.message_infrastructure.multiprocessing"

_OBJECT_DEFAULT = re.compile(r"= (ByteEncoder|CoreEncoder|ChipEncoder|AxonEncoder)\(\)")


def load_lava() -> None:
    """Make ``import lava...`` work in this process; a second call does nothing.

    Raises:
        BackendMissingError: lava-nc is not installed, or another package is called lava.
    """
    if MESSAGES in sys.modules:
        return
    if installed_lava() is None:
        raise BackendMissingError(
            "the Lava backend needs lava-nc, which is not installed; run `mtspark install-lava`"
        )
    try:
        _load_var_model()
        _keep_start_method()
        _mend_reshape_ports()
    except ImportError as error:
        raise BackendMissingError(
            f"lava-nc is installed but cannot be imported ({error}); run `mtspark install-lava`"
        ) from error


def installed_lava() -> str | None:
    """Version of lava-nc in this environment, None where it is missing."""
    try:
        return importlib.metadata.version("lava-nc")
    except importlib.metadata.PackageNotFoundError:
        return None


def mended_source(source: str) -> str:
    """Give dataclass fields whose default is an encoder object a factory instead.

    Args:
        source: text of Lava's ``var_model.py``.

    Returns:
        The same text where the pattern is absent.
    """
    mended = _OBJECT_DEFAULT.sub(r"= field(default_factory=\1)", source)
    if mended == source or re.search(r"^from dataclasses import .*\bfield\b", source, re.M):
        return mended
    return re.sub(
        r"^from dataclasses import ", "from dataclasses import field, ", mended, flags=re.M
    )


def _load_var_model() -> None:
    """Import the mended module under its own name; the file stays as it is."""
    if VAR_MODEL in sys.modules:
        return
    spec = importlib.util.find_spec(VAR_MODEL)
    if spec is None or spec.origin is None:
        raise ImportError(f"no module {VAR_MODEL}")
    source = Path(spec.origin).read_text(encoding="utf-8")
    mended = mended_source(source)
    if mended == source:
        return
    module = types.ModuleType(VAR_MODEL)
    module.__file__ = spec.origin
    module.__package__ = spec.parent
    module.__spec__ = spec
    # Dataclasses look their own module up while it is executed.
    sys.modules[VAR_MODEL] = module
    try:
        exec(compile(mended, spec.origin, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[VAR_MODEL]
        raise
    setattr(sys.modules[str(spec.parent)], VAR_MODEL.rpartition(".")[2], module)


def _keep_start_method() -> None:
    """Import the module that insists on being the first to choose how processes start.

    Without a choice so far, Lava's (fork) stays. Where the host has chosen, importing Lava
    neither fails nor changes that choice; Lava itself only runs in processes of its own.
    """
    # Typed loosely: type stubs older than Python 3.13 leave out that None is possible.
    chosen: Any = multiprocessing.get_start_method(allow_none=True)
    if chosen is None:
        importlib.import_module(MESSAGES)
        return
    multiprocessing.set_start_method(None, force=True)
    try:
        importlib.import_module(MESSAGES)
    finally:
        multiprocessing.set_start_method(chosen, force=True)


def _mend_reshape_ports() -> None:
    """Hand the new shape to ``np.reshape`` by position, which every numpy understands."""
    ports: Any = importlib.import_module("lava.magma.core.process.ports.ports")

    def forward(self: Any) -> functools.partial[Any]:
        return functools.partial(_reshape, shape=self.shape)

    def backward(self: Any) -> functools.partial[Any]:
        return functools.partial(_reshape, shape=self.old_shape)

    ports.ReshapePort.get_transform_func_fwd = forward
    ports.ReshapePort.get_transform_func_bwd = backward


def _reshape(data: Any, shape: tuple[int, ...]) -> Any:
    return np.reshape(data, shape)


@dataclasses.dataclass(frozen=True)
class LavaCheck:
    """What importing Lava through the shim showed.

    Attributes:
        version: of lava-nc.
        numpy: version that it was loaded with.
    """

    version: str
    numpy: str


def check_lava() -> LavaCheck:
    """Import the parts of Lava that the backend uses.

    Raises:
        BackendMissingError: Lava is missing or does not import.
    """
    load_lava()
    try:
        for name in ("lif", "dense", "sparse"):
            importlib.import_module(f"lava.proc.{name}.models")
        importlib.import_module("lava.magma.core.run_configs")
        importlib.import_module("lava.magma.compiler.compiler")
    except ImportError as error:
        raise BackendMissingError(
            f"lava-nc is installed but cannot be imported ({error}); run `mtspark install-lava`"
        ) from error
    return LavaCheck(version=str(installed_lava()), numpy=np.__version__)
