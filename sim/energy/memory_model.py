"""The memory-aware model of Lemaire et al. 2022 (arXiv 2210.13107), in a corrected form.

Per decision and layer, with theta_in messages of the source, theta_out spikes, S synaptic
operations, N neurons and T updates of each::

    reads       input theta_in; weights S; biases T N; potentials S + T N
    writes      potentials S + T N; output theta_out
    operations  S + T N + theta_out additions; T N multiplications where membranes leak
    addresses   convolution theta_in (2 multiply-additions + k k additions); else S additions;
                a kernel without its zeros both

The article counts input reads too often and leaves the reset's theta_out additions out (its
authors say so in their code); its rule for addresses of dense layers takes a rate where it
means a number of spikes. Three departures: S is exact (borders and strides), where the article has
theta_in Cout k k; a graded message multiplies at each synapse; what the chip spends outside
of the window counts, too. An access to a memory of n words of b bits costs
`access_pj_per_bit` n b + `access_pj`.
"""

from __future__ import annotations

from collections.abc import Iterator

from mtspark.sim.energy.cards import PriceCard, TermPrice
from mtspark.sim.energy.events import Events, Line

Access = tuple[str, float, int]
"""Term, accesses, words of the memory."""


def access_pj(card: PriceCard, words: int) -> float:
    """Picojoules of one access to a memory of so many words."""
    price = card.parameters
    return price["access_pj_per_bit"] * words * price["word_bits"] + price["access_pj"]


def memory_terms(events: Events, card: PriceCard) -> Iterator[Line]:
    """Terms of a bill, layer by layer."""
    add, multiply = card.parameters["add_pj"], card.parameters["multiply_pj"]
    for layer in events.layers:
        synops = sum(part.operations for part in layer.operations)
        graded = sum(part.operations for part in layer.operations if part.graded)
        accesses: list[Access] = []
        address_additions, address_products = 0.0, 0.0
        for part in layer.operations:
            accesses.append(("read_input", part.messages, part.sources))
            accesses.append(("read_weights", part.operations, part.weights))
            if part.kind in ("conv", "sparse_conv"):
                address_products += 2 * part.messages
                address_additions += (2 + part.taps) * part.messages
            if part.kind != "conv":
                address_additions += part.operations
        accesses.append(("read_biases", layer.updates, layer.neurons))
        accesses.append(("read_potentials", synops + layer.updates, layer.neurons))
        accesses.append(("write_potentials", synops + layer.updates, layer.neurons))
        accesses.append(("write_output", layer.spikes, layer.neurons))
        for term, count, words in accesses:
            yield Line(term, layer.name, count, _price(access_pj(card, words)))
        additions = synops + layer.updates + layer.spikes
        products = graded + (layer.updates if layer.leaky else 0.0)
        yield Line("additions", layer.name, additions, _price(add))
        yield Line("multiplications", layer.name, products, _price(multiply))
        yield Line("address_additions", layer.name, address_additions, _price(add))
        yield Line("address_multiplications", layer.name, address_products, _price(multiply))


def _price(price_pj: float) -> TermPrice:
    return TermPrice(price_pj, price_pj, price_pj, None, None, "", "", "")


def memory_baseline_terms(
    products: dict[str, float],
    neurons: dict[str, int],
    weights: dict[str, int],
    sources: dict[str, int],
    card: PriceCard,
) -> Iterator[Line]:
    """Terms of a network without spikes, run once; all arguments by population.

    Input and weights are read at every multiply-accumulate, biases are read and outputs are
    written once a neuron. The article gives no addresses for it.
    """
    add, multiply = card.parameters["add_pj"], card.parameters["multiply_pj"]
    for name, count in products.items():
        size = neurons[name]
        yield Line("read_input", name, count, _price(access_pj(card, sources[name])))
        yield Line("read_weights", name, count, _price(access_pj(card, weights[name])))
        yield Line("read_biases", name, float(size), _price(access_pj(card, size)))
        yield Line("write_output", name, float(size), _price(access_pj(card, size)))
        yield Line("additions", name, count + size, _price(add))
        yield Line("multiplications", name, count, _price(multiply))
