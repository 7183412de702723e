"""The agents of a folder or an address, by their cards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.workflows.zoo.card import CARD, AgentCard
from mtspark.workflows.zoo.place import checked_files, open_place, read_card_at


@dataclass(frozen=True)
class Listing:
    """Agents of one address.

    Attributes:
        address: where they lie.
        cards: of the agents, by name.
        left_out: why a folder is not listed, a sentence each.
    """

    address: str
    cards: tuple[AgentCard, ...]
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "format": "mtspark-agents",
            "version": 1,
            "address": self.address,
            "agents": [card.to_json() for card in self.cards],
            "left_out": list(self.left_out),
        }


def shipped_folder() -> Path:
    """Return the folder of the agents that come with the repository.

    Raises:
        BadRequestError: mtspark was installed without its repository.
    """
    root = Path(__file__).resolve().parents[3]
    folder = root / "examples" / "agents"
    if not folder.is_dir():
        raise BadRequestError(
            "an installed mtspark has no agents of its own, they come with its repository; name a "
            "folder or an address: mtspark agents list ADDRESS"
        )
    return folder


def _shown(folder: Path) -> str:
    """A folder as its user would type it: relative where it lies below this one."""
    try:
        return str(folder.relative_to(Path.cwd()))
    except (OSError, ValueError):
        return str(folder)


def list_agents(address: str | None = None) -> Listing:
    """Read the cards of all agents at an address.

    Files on this computer are compared with their cards, remote ones when they are pulled.

    Args:
        address: a folder, or any address of fsspec; None: the agents that ship.

    Raises:
        BadRequestError: nothing ships here, or no such protocol.
        BackendMissingError: the library of the address is not installed.
        BadFileError: the address cannot be listed.
    """
    place = open_place(_shown(shipped_folder()) if address is None else address)
    names, others = place.folders()
    cards, left_out = [], []
    for name in names:
        try:
            card = read_card_at(place, name)
            if card is None:
                others += 1
                continue
            if place.local is not None:
                checked_files(place, name, card.files)
            cards.append(card)
        except BadFileError as error:
            left_out.append(str(error))
    if others:
        word = "folder has" if others == 1 else "folders have"
        left_out.append(f"{others} more {word} no {CARD}")
    return Listing(place.address, tuple(cards), tuple(left_out))
