"""netx files: PilotNet end to end against lava-dl's recordings, and files made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mtspark.convert.netx import import_netx
from mtspark.core.chip_network.network import ChipNetwork, ReadoutKind
from mtspark.core.chip_network.serialise import network_to_json
from mtspark.core.errors import BadNetworkError
from mtspark.sim.backends.reference import ReferenceChip

STEPS = 16
RECORDED_AT_A_SPIKE = 128
LAYERS = ["conv-0", "conv-1", "conv-2", "conv-3", "conv-4", "fc-0", "fc-1", "fc-2"]
WITH_MEMBRANES = [name for name in LAYERS if name != "conv-0"]


@pytest.fixture(scope="module")
def pilotnet_run(golden: Path) -> tuple[ChipNetwork, Any]:
    """One sample of 16 steps, from the picture to the last layer, on the reference."""
    network = import_netx(golden / "pilotnet_lif" / "network.net")
    image = np.load(golden / "pilotnet_lif" / "image.npy").T.astype(np.uint8)
    trace = ReferenceChip(network).decide(image[None], 0, trace=True).trace
    assert trace is not None
    return network, trace


def test_pilotnet_is_read_whole(pilotnet_run: tuple[ChipNetwork, Any]) -> None:
    network, _ = pilotnet_run
    assert [p.name for p in network.populations] == ["input-0", *LAYERS, "fc-3"]
    assert network.time_steps == STEPS
    assert network.input.shape == (3, 66, 200)
    assert network.input.payload_bits == 8
    assert network.input.held
    assert network.readout.kind is ReadoutKind.MEMBRANE
    assert network.population("conv-4").shape == (64, 2, 20)


@pytest.mark.parametrize("name", ["input", *LAYERS])
def test_pilotnets_spikes_are_those_that_lava_dl_recorded(
    golden: Path, pilotnet_run: tuple[ChipNetwork, Any], name: str
) -> None:
    """Nothing but the picture goes in; every layer's window is compared, spike by spike."""
    network, trace = pilotnet_run
    own = {"input": "input-0"}.get(name, name)
    recorded = np.load(golden / "pilotnet_lif" / f"{name}.npy").T
    # The recordings count from the input's first step, as our windows do from depth 1.
    start = network.depths[own] - 1
    found = trace.spikes[own][network.window(own)][:, 0]
    expected = recorded[start : start + STEPS].astype(bool)
    assert expected.any()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", WITH_MEMBRANES)
def test_pilotnets_membranes_are_those_that_lava_dl_recorded(
    golden: Path, pilotnet_run: tuple[ChipNetwork, Any], name: str
) -> None:
    network, trace = pilotnet_run
    recorded = np.load(golden / "pilotnet_lif" / f"{name}-v.npy").T
    start = network.depths[name] - 1
    own = network.window(name)
    shown = np.where(trace.spikes[name], RECORDED_AT_A_SPIKE, trace.membranes[name])[own][:, 0]
    np.testing.assert_array_equal(shown, recorded[start : start + STEPS])


def write(path: Path, layers: list[dict[str, Any]]) -> Path:
    with h5py.File(path, "w") as file:
        for index, layer in enumerate(layers):
            for key, value in layer.items():
                file[f"layer/{index}/{key}"] = value
    return path


NEURON = {
    "neuron/type": b"CUBA",
    "neuron/iDecay": 2048,
    "neuron/vDecay": 100,
    "neuron/vThMant": 20,
}


def dense_layer(weights: Any, **changes: Any) -> dict[str, Any]:
    array = np.asarray(weights)
    return {
        "type": np.array([b"dense"]),
        "shape": np.array([len(array), 1, 1]),
        "weight": array,
        **NEURON,
        **changes,
    }


def test_texts_beside_the_numbers_change_nothing(golden: Path, tmp_path: Path) -> None:
    """lava-dl's own file with what a later version or a user notes in it."""
    path = tmp_path / "network.net"
    path.write_bytes((golden / "pilotnet_lif" / "network.net").read_bytes())
    with h5py.File(path, "r+") as file:
        file["author"] = "somebody\r\nelse"
        for layer in file["layer"].values():
            layer["comment"] = "trained at 8 bits"
            layer["names"] = ["one", "two"]
            layer["loss"] = np.nan
            if "neuron" in layer:
                layer["neuron/activation"] = "spike"
    plain, noted = (import_netx(p) for p in (golden / "pilotnet_lif" / "network.net", path))
    (description, arrays), (other, others) = network_to_json(plain), network_to_json(noted)
    assert description == other
    assert all(np.array_equal(arrays[name], others[name]) for name in arrays | others)


def without_neurons(layer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in layer.items() if not key.startswith("neuron")}


NEVER_FORGETS = {"neuron/iDecay": 0, "neuron/vDecay": 4096, "neuron/vThMant": 1 << 17}


@pytest.mark.parametrize("explicit", [False, True])
def test_a_layer_without_neurons_holds_its_sum(tmp_path: Path, explicit: bool) -> None:
    """lava-dl's default is du = -1, dv = 4096 and vth = 2^17: u <- u + (a << 6), v <- u."""
    generator = np.random.default_rng(3)
    weights = generator.integers(-60, 60, (8, 5)) * 2
    layer = dense_layer(weights)
    last = {**layer, **NEVER_FORGETS} if explicit else without_neurons(layer)
    network = import_netx(write(tmp_path / "a.net", [last]), time_steps=80)
    series = generator.integers(0, 2, (80, 5))
    current, expected = np.zeros(8, np.int64), []
    for slice_ in series:
        current = current + (weights @ slice_ << 6)
        expected.append(current)
    assert np.array_equal(run(network, series)["fc-0"], expected)
    assert network.readout.kind is ReadoutKind.MEMBRANE
    assert "its sum over the steps is its membrane" in network.provenance["notes"]


def image_layer(kind: str, weights: Any, shape: tuple[int, ...], **changes: Any) -> dict[str, Any]:
    fields = {"stride": [2, 1], "padding": [1, 0], "dilation": [1, 2], "groups": 1}
    return {
        "type": np.array([kind.encode()]), "shape": np.array(shape), "weight": weights,
        **fields, **changes,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["convT", "unpool", "pool"])
def test_layers_that_slayer_trains_beside_convolutions(tmp_path: Path, kind: str) -> None:
    """Against torch, in which slayer computes them; the sum over one step is compared."""
    import torch
    from torch.nn import functional

    generator = np.random.default_rng(1)
    groups = 2 if kind == "convT" else 4
    size = (4, 3, 3, 2) if kind == "convT" else (1, 1, 3, 2)
    kernel = generator.integers(-50, 50, size) * 2
    spikes = generator.integers(0, 2, (4, 5, 4))
    given = torch.tensor(spikes[None]).double()
    full = torch.tensor(kernel if kind == "convT" else np.repeat(kernel, 4, 0)).double()
    function = functional.conv2d if kind == "pool" else functional.conv_transpose2d
    wanted = function(given, full, stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=groups)
    shape = tuple(wanted.shape[1:])
    first = {"type": np.array([b"input"]), "shape": np.array(spikes.shape)}
    layer = image_layer(kind, kernel, shape, groups=groups)
    network = import_netx(write(tmp_path / "a.net", [first, layer]), time_steps=1)
    (population,) = network.populations
    found = run(network, spikes[None])[population.name]
    np.testing.assert_array_equal(found[0], wanted[0].numpy() * 64)


def run(network: ChipNetwork, series: Any) -> dict[str, np.ndarray]:
    frames = np.asarray(series, np.uint8)[None]
    trace = ReferenceChip(network).decide(frames, 0, trace=True).trace
    assert trace is not None
    return {
        p.name: trace.membranes[p.name][network.window(p.name)][:, 0] for p in network.populations
    }


def test_input_neurons_take_the_frame_as_their_bias(tmp_path: Path) -> None:
    """netx sets bias_mant of these neurons, so that their currents' memory hears nothing."""
    first = {"type": np.array([b"input"]), "shape": np.array([2, 1, 1]), **NEURON}
    path = write(tmp_path / "a.net", [first, dense_layer([[40, 2]])])
    network = import_netx(path, time_steps=6)
    frame = np.array([3, 25])
    trace = (
        ReferenceChip(network)
        .decide(frame.reshape(1, 2, 1, 1).astype(np.uint8), 0, trace=True)
        .trace
    )
    assert trace is not None
    membrane, expected = np.zeros(2, np.int64), []
    for _ in range(6):
        membrane = membrane * (4096 - 100) // 4096 + (frame << 6)
        expected.append(membrane > 20 << 6)
        membrane = np.where(expected[-1], 0, membrane)
    assert np.any(expected)
    found = trace.spikes["input-0"][network.window("input-0")][:, 0]
    np.testing.assert_array_equal(found.reshape(6, 2), expected)


def test_thresholds_out_of_reach_are_the_largest(tmp_path: Path) -> None:
    """lava-dl's Affine layer, read by its membranes, declares (1 << 18) - 1."""
    weights, series = np.array([[30, -8], [4, 6]]), np.array([[1, 0], [1, 1], [0, 1]])
    layer = dense_layer(weights, **{"neuron/vThMant": (1 << 18) - 1, "neuron/iDecay": 4096})
    network = import_netx(write(tmp_path / "a.net", [layer]), time_steps=3)
    membrane, expected = np.zeros(2, np.int64), []
    for slice_ in series:
        kept = np.sign(membrane) * (np.abs(membrane) * (4096 - 100) // 4096)
        membrane = kept + (weights @ slice_ << 6)
        expected.append(membrane)
    np.testing.assert_array_equal(run(network, series)["fc-0"], expected)
    assert network.readout.kind is ReadoutKind.MEMBRANE
    assert "131,071" in network.provenance["notes"]


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_first_without_an_input_layer(tmp_path: Path, stride: int) -> None:
    """slayer writes no input layer unless it has neurons; stride 1 leaves one shape."""
    import torch
    from torch.nn import functional

    generator = np.random.default_rng(2)
    kernel, spikes = (
        generator.integers(-50, 50, (4, 1, 3, 3)) * 2,
        generator.integers(0, 2, (2, 7, 6)),
    )
    wanted = functional.conv2d(
        torch.tensor(spikes[None]).double(),
        torch.tensor(kernel).double(),
        stride=stride, padding=1, dilation=2, groups=2,
    )[0].numpy()  # fmt: skip
    changes = {"stride": stride, "padding": 1, "dilation": 2, "groups": 2}
    path = write(tmp_path / "a.net", [image_layer("conv", kernel, wanted.shape, **changes)])
    shape = None if stride == 1 else (2, 7, 6)
    network = import_netx(path, time_steps=1, input_shape=shape)
    assert network.input.shape == (2, 7, 6)
    np.testing.assert_array_equal(run(network, spikes[None])["conv-0"][0], wanted * 64)
    if shape is not None:
        with pytest.raises(BadNetworkError, match=r"kernels for 2 channels after .* \(3, 7, 6\)"):
            import_netx(path, input_shape=(3, 7, 6))


def test_an_input_layer_that_contradicts_the_shape_that_was_given(tmp_path: Path) -> None:
    first = {"type": np.array([b"input"]), "shape": np.array([2, 1, 1])}
    path = write(tmp_path / "a.net", [first, dense_layer([[40, 2]])])
    with pytest.raises(BadNetworkError, match=r"\(2, 1, 1\), not \(3, 1, 1\); leave out"):
        import_netx(path, input_shape=(3, 1, 1))


def test_odd_mixed_weights_keep_their_sums(tmp_path: Path) -> None:
    """3 and -5 are on no grid of the chip; 6 and -10 at exponent -1 are."""
    network = import_netx(write(tmp_path / "a.net", [dense_layer([[3, -5]])]), time_steps=1)
    (link,) = network.connections
    assert link.weights.tolist() == [[6, -10]]
    assert link.exponent == -1
    assert run(network, [[1, 0]])["fc-0"].tolist() == [[3 * 64]]
    assert run(network, [[0, 1]])["fc-0"].tolist() == [[-5 * 64]]


def test_decays_biases_and_delays_by_hand(tmp_path: Path) -> None:
    """du = iDecay - 1, so half of the current stays; bias << 6; delay 2 comes two steps later."""
    layer = dense_layer([[10, 4]], bias=np.array([2.0]), delay=np.array([0, 2]))
    network = import_netx(write(tmp_path / "a.net", [layer]), time_steps=4)
    series = [[1, 1], [0, 0], [0, 0], [0, 0]]
    # u: 640, 320, 160 + 256, 208; v keeps 3996 of 4096 and gains u + 128.
    u, v, expected = 0, 0, []
    for arriving in (640, 0, 256, 0):
        u = u * 2048 // 4096 + arriving
        v = v * 3996 // 4096 + u + 128
        v = 0 if v > 20 * 64 else v
        expected.append([v])
    assert run(network, series)["fc-0"].tolist() == expected


def test_a_recurrent_layer_hears_its_own_last_spikes(tmp_path: Path) -> None:
    layer = dense_layer(
        [[40, 0], [-2, 0]],
        type=np.array([b"dense_rec"]),
        weight_rec=[[0, 0], [30, 0]],
        **{"neuron/iDecay": 4096},
    )
    network = import_netx(write(tmp_path / "a.net", [layer]), time_steps=3)
    found = run(network, [[1, 0], [0, 0], [0, 0]])["fc-0"]
    # Neuron 0 fires at once (40 > 20), neuron 1 hears 30 a step later and fires.
    trace = ReferenceChip(network).decide(
        np.array([[[1, 0], [0, 0], [0, 0]]], np.uint8), 0, trace=True
    )
    assert trace.trace is not None
    spikes = trace.trace.spikes["fc-0"][network.window("fc-0")][:, 0]
    assert spikes.tolist() == [[True, False], [False, True], [False, False]]
    assert found.shape == (3, 2)


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ([{"type": np.array([b"average"])}], "type 'average'; must be input, conv, convT, pool"),
        ([dense_layer([[2, -3]], **{"neuron/type": b"SDNN"})], "type 'SDNN'"),
        (
            [dense_layer([[2, -3]], **{"neuron/type": "SDNN", "neuron/activation": "relu"})],
            "neurons of type 'SDNN'; only LOIHI and CUBA",
        ),
        ([dense_layer([[2, -3]], **{"neuron/vDecay": "slow"})], "vDecay is a text"),
        ([dense_layer([[2, np.inf]])], "weight has values that are no whole numbers"),
        ([dense_layer([[2, -3]], **{"neuron/iDecay": 0})], "never decays, in neurons that fire"),
        ([without_neurons(dense_layer([[2, -3]], bias=[1.0]))], "a bias beside a current"),
        ([dense_layer([[2, -3]], **{"neuron/messageBits": 8})], "messages"),
        ([dense_layer([[201, -3]])], "mixed ones are even"),
        ([dense_layer([[2.5, -3]])], "no whole numbers"),
        ([dense_layer([[2, 4]]), dense_layer([[2, 4]])], "after a signal of shape"),
        ([{"type": np.array([b"dense"])}], "layer 0: has no field 'weight'"),
        ([{"shape": [3, 1, 1]}], "layer 0: has no field 'type'"),
        ([dense_layer([[2, -3]], **{"neuron/gradedSpike": True})], "graded spikes"),
        (
            [
                {
                    **{key: value for key, value in dense_layer([[2]]).items() if key != "weight"},
                    "neuron/type": "RF_PHASE",
                    "weight/real": [[2]],
                    "weight/imag": [[3]],
                }
            ],
            "neurons of type 'RF_PHASE'; only LOIHI and CUBA",
        ),
        (
            [image_layer("conv", np.ones((1, 2, 2, 2)), (1, 3, 3), **{"neuron/type": "SDNN"})],
            "neurons of type 'SDNN'; only LOIHI and CUBA",
        ),
        (
            [image_layer("conv", np.ones((1, 2, 2, 2)), (1, 3, 3), **NEURON)],
            "nothing says the shape of its input; give it, --input-shape",
        ),
        ([{"type": np.array([b"input"]), "shape": [3, 2, 2]}], "no layer with neurons"),
    ],
)
def test_what_cannot_be_deployed_is_refused_by_layer(
    tmp_path: Path, layers: list[dict[str, Any]], text: str
) -> None:
    with pytest.raises(BadNetworkError, match=text):
        import_netx(write(tmp_path / "a.net", layers))
