"""Bring what mtspark writes to a form that two versions of it can be compared in.

``stripped`` removes what may differ: version, date, host, times on this computer, module names,
provenance, and the sentences under ``note`` and ``assumptions``. The names of these fields stay.
``reduced`` makes a large result small enough to store: what is left out is counted and hashed.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

GONE = "(removed)"
REMOVED = (
    *("mtspark", "git_commit", "versions", "date", "host", "provenance", "repeat"),
    *("note", "assumptions", "module"),
)
"""Fields whose whole value is removed."""
TIMES = (
    *("host_time", "host_seconds", "host_s", "seconds", "chip_host_ms", "measured_host_us"),
    *("steps_per_s", "decisions_per_s"),
)
"""Fields that hold times on this computer: their numbers are removed, inner names stay."""
SHORT_LIST, SHORT_TABLE, SHORT_TEXT, HASH = 8, 3, 160, 16


def stripped(value: Any) -> Any:
    """What has to be equal in two versions of mtspark."""
    if isinstance(value, list):
        return [stripped(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for name, entry in value.items():
        if name in REMOVED:
            result[name] = GONE
        elif name in TIMES:
            result[name] = _without_values(entry)
        elif name == "checks":
            result[name] = [_check(check) for check in entry]
        else:
            result[name] = stripped(entry)
    if "network.safetensors" in value and "network.json" in value:
        # A manifest: this file has the version and the provenance in it, and is compared itself.
        result["network.json"] = GONE
    return result


def _without_values(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_values(entry) for name, entry in value.items()}
    return None if value is None else GONE


def _check(check: dict[str, str]) -> dict[str, Any]:
    """A check of a report page: NeuroBench's counts stay, the other ones tell of this computer."""
    counted = check["name"].startswith("NeuroBench")
    numbers = re.findall(r"\d[\d,]*(?:\.\d+)?", check["text"]) if counted else GONE
    return {"name": check["name"], "text": numbers}


def text_of(value: Any) -> str:
    """The value as the text that is stored and compared: 1, 1.0 and true are different."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def sha256(value: Any) -> str:
    """Hash of a JSON value, whatever the order of its fields."""
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()[:HASH]


def reduced(value: Any) -> Any:
    """The value with long lists and texts replaced by their length and hash, and a first entry."""
    if isinstance(value, dict):
        return {str(name): reduced(entry) for name, entry in value.items()}
    if isinstance(value, str) and len(value) > SHORT_TEXT:
        return f"text of {len(value)}, sha256 {sha256(value)}"
    if not isinstance(value, list):
        return value
    if not any(isinstance(entry, (dict, list)) for entry in value):
        if len(value) <= SHORT_LIST:
            return [reduced(entry) for entry in value]
        return f"list of {len(value)}, sha256 {sha256(value)}"
    if len(value) <= SHORT_TABLE:
        return [reduced(entry) for entry in value]
    return {
        "list of": len(value),
        "sha256": sha256(value),
        "first": reduced(value[0]),
    }


def hashed(value: Any, depth: int) -> Any:
    """The value with everything below some depth replaced by its hash."""
    if isinstance(value, (dict, list)) and not value:
        return value
    if depth and isinstance(value, dict):
        return {name: hashed(entry, depth - 1) for name, entry in value.items()}
    if depth and isinstance(value, list):
        return [hashed(entry, depth - 1) for entry in value]
    return f"sha256 {sha256(value)}" if isinstance(value, (dict, list)) else value


def network_json(bundle: Path) -> dict[str, Any]:
    """What network.json says of the network.

    The quantiser's options stand beside it since the golden files were written. The network's
    hash leaves them out; tests/deploy/quantise/test_options.py checks what they say.
    """
    data: dict[str, Any] = json.loads((bundle / "network.json").read_text())
    data.pop("quantiser", None)
    return data


def network_sha256(bundle: Path) -> str:
    """The hash that runs carry, computed from the files alone."""
    data = network_json(bundle)
    del data["provenance"]
    arrays = hashlib.sha256((bundle / "network.safetensors").read_bytes()).hexdigest()
    return hashlib.sha256((json.dumps(data, sort_keys=True) + arrays).encode()).hexdigest()


def bundle_files(bundle: Path) -> dict[str, Any]:
    """The JSON of a bundle, the names and types of its arrays, and its network's hash."""
    content = (bundle / "network.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    return {
        "network_sha256": network_sha256(bundle),
        "manifest": json.loads((bundle / "manifest.json").read_text()),
        "network": network_json(bundle),
        "fidelity": json.loads((bundle / "fidelity.json").read_text()),
        "arrays": {
            name: f"{entry['dtype']} {entry['shape']}"
            for name, entry in header.items()
            if name != "__metadata__"
        },
    }


def torch_content(path: Path, *, computed: bool = False) -> Any:
    """A file of torch.save as JSON values: a tensor is its type, shape and hash.

    Args:
        path: the file.
        computed: whether a training on this computer made its floats. Processors round
            differently, so that only their types and shapes are told.
    """
    import torch

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): plain(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(entry) for entry in value]
        if isinstance(value, torch.Tensor):
            kind = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
            if computed and value.is_floating_point():
                return kind
            data = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            return f"{kind} sha256 {sha256(data)}"
        return value

    return plain(torch.load(path, map_location="cpu", weights_only=True))


def log_of_run(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of a training log without what processors round differently."""
    return [{**line, "loss": GONE} for line in lines]


def numbers_of_run(folder: Path) -> dict[str, np.ndarray]:
    """What processors round differently in a training run: weights and losses, by their names."""
    import torch

    state = torch.load(folder / "agent.pt", map_location="cpu", weights_only=True)["state"]
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    weights = {name: entry.numpy() for name, entry in state.items() if entry.is_floating_point()}
    return {**weights, "loss": np.array([line["loss"] for line in lines], np.float32)}
