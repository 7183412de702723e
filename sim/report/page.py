"""The report as one HTML file that needs nothing else, and asks no network for anything."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from mtspark.core.chip_network import ChipNetwork, Encoder
from mtspark.core.digits import digits
from mtspark.core.environments import ActionBox, box_of
from mtspark.sim.device import Devices
from mtspark.sim.energy import cheapest
from mtspark.sim.recording import ACTION_NAMES, Shot, Study, raster, sprite_sheet, video
from mtspark.sim.report.data import NOUNS, ReportData, TaskReport
from mtspark.sim.report.figures.density import DensityPoint, density_curves
from mtspark.sim.report.figures.energy import encoders, energy_by_card, step_time
from mtspark.sim.report.figures.episode import episode_curves
from mtspark.sim.report.figures.mapping import chip_picture
from mtspark.sim.report.style import colours, with_ids
from mtspark.sim.verdict import micro_joules

if TYPE_CHECKING:
    from jinja2 import Environment

SHEET_COLUMNS = 15
IMAGE_MS = 400.0
"""How long an image is shown; nothing asks for the next one at a time of its own."""


def report_html(report: ReportData, studies: Sequence[Study], chips: Mapping[str, Devices]) -> str:
    """Render the page.

    Args:
        report: of the same studies.
        studies: for the pictures, which the data leave out.
        chips: by task, for the pictures of the mappings.
    """
    from markupsafe import Markup

    environment = page_environment()
    shades = colours([population.name for population in report.network.populations])
    environment.globals.update(
        nouns=NOUNS,
        articles={kind: "an" if noun[0] in "aeiou" else "a" for kind, noun in NOUNS.items()},
        report=report.to_json(),
        dueling=report.dueling,
        held=report.network.input.held,
        colours=shades,
        nonce=secrets.token_urlsafe(16),
    )
    films = [
        {
            **_film(report.network, study),
            "verdict": _verdict(task),
            "bars": _bars(task),
            "figures": _figures(task, chips[study.task], report.encoder, shades, f"task{number}-"),
        }
        for number, (study, task) in enumerate(zip(studies, report.tasks, strict=True))
    ]
    return environment.get_template("report.html.j2").render(
        films=films,
        style=Markup(template_text("report.css")),
        script=Markup(template_text("report.js")),
    )


def comparison_html(
    data: Mapping[str, Any], scores: Sequence[tuple[str, str]], sentences: Sequence[str] = ()
) -> str:
    """Render a page of several bundles side by side.

    Args:
        data: JSON values of the comparison.
        scores: of each row for people, on the chip and of the float network.
        sentences: which is better, and what they cost.
    """
    from markupsafe import Markup

    names = _short_names([row["bundle"] for row in data["rows"]])
    rows = [
        {**row, "name": names[row["bundle"]], "score": chip, "float_score": beside}
        for row, (chip, beside) in zip(data["rows"], scores, strict=True)
    ]
    tasks: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        tasks.setdefault(row["task"], []).append(row)
    for own in tasks.values():
        most = max((row["dynamic_j"] or 0.0 for row in own), default=0.0) or 1.0
        for row in own:
            row["share"] = 100 * (row["dynamic_j"] or 0.0) / most
    return (
        page_environment()
        .get_template("comparison.html.j2")
        .render(
            data=data,
            names=list(names.values()),
            sentences=sentences,
            tasks=tasks,
            curves={
                task: Markup(_density_figure(own, f"density{number}"))
                for number, (task, own) in enumerate(tasks.items())
                # Networks of other neurons are others, not sparser ones.
                if len({row["weights"] for row in own}) > 1
                and len({row["neurons"] for row in own}) == 1
            },
            style=Markup(template_text("report.css")),
        )
    )


def _density_figure(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Draw the rows of a task against the share of weights that each network kept."""
    most = max(row["weights"] for row in rows)
    points = [
        DensityPoint(
            name=row["name"],
            density=row["weights"] / most,
            score=row["chip"] * (100 if row["kind"] == "accuracy" else 1),
            energy_uj=None if row["dynamic_j"] is None else row["dynamic_j"] * 1e6,
            memory_kib=row["memory_bits"] / 8192,
            cores=row["cores"],
        )
        for row in rows
    ]
    return density_curves(points, name)


def _short_names(folders: Sequence[str]) -> dict[str, str]:
    """Names of folders, whole where two have the same last part."""
    last = {folder: folder.rstrip("/").rpartition("/")[2] for folder in folders}
    known = list(last.values())
    return {folder: name if known.count(name) == 1 else folder for folder, name in last.items()}


def page_environment() -> Environment:
    """Make what fills the templates: it escapes markup, and shows no control characters."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(template_text),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment


def _shown(value: Any) -> Any:
    """Stand-ins for control characters: a page is also opened in terminals and editors."""
    if type(value) is not str:
        return value
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in value)


def template_text(name: str) -> str:
    """Return a file of the folder of templates."""
    folder = resources.files("mtspark.sim.report") / "templates"
    return (folder / name).read_text(encoding="utf-8")


def _figures(
    task: TaskReport, devices: Devices, encoder: Encoder, shades: dict[str, str], prefix: str
) -> dict[str, Any]:
    """Draw the figures of one task; their ids get a prefix.

    Returns:
        Markup by name; under ``chips`` the pictures of the mappings by chip.
    """
    from markupsafe import Markup

    def markup(picture: str) -> Markup:
        return Markup(with_ids(picture, prefix))

    fires = [layer.name for layer in task.layers if layer.fires]
    shown = [on for (_, sent_by), on in devices.items() if sent_by is encoder]
    mappings = {}
    for number, on in enumerate(shown):
        mesh = on.chip.mesh
        picture = chip_picture(on.mapping, mesh.columns, mesh.rows, shades, f"chip{number}")
        mappings[on.chip.key] = markup(picture)
    return {
        "energy": markup(energy_by_card(task.energy)),
        "encoders": markup(encoders(task.encoders, task.energy[0]))
        if len(task.encoders) > 1
        else "",
        "curve": markup(episode_curves(task.curve, fires, shades)),
        "step_time": markup(_step_time(task)),
        "chips": mappings,
    }


def _verdict(task: TaskReport) -> list[str]:
    """Return two sentences: does it work, what does it cost."""
    score = [] if task.score is None else [task.score.sentence]
    return [*score, task.cost.sentence(task.priced)]


def _bars(task: TaskReport) -> list[dict[str, Any]]:
    """Return the energy of the network, of its cheapest rival and of the int8 network."""
    main = task.energy[0]
    best = cheapest(main.baselines)
    rows = [("this network, spiking", main.bill.dynamic_j_per_decision, True)]
    for number, bill in enumerate(main.baselines):
        joules = bill.energy_j_per_decision
        if joules is not None and (bill is best or not number):
            rows.append((bill.baseline.name, joules, False))
    most = max(joules for _, joules, _ in rows) or 1.0
    return [
        {"name": name, "joules": joules, "share": 100 * joules / most, "own": own}
        for name, joules, own in rows
    ]


def _film(network: ChipNetwork, study: Study) -> dict[str, Any]:
    """Return the pictures of one task's film, and what the player needs."""
    shots = study.shots
    height, width = shots[0].frame.shape[:2]
    shades = colours([population.name for population in network.populations])
    kind = network.tasks[network.task_index(study.task)]
    legal = list(kind.legal_actions or range(network.readout.scale.size))
    return {
        "width": width,
        "height": height,
        "video": video(shots, 1000 / (study.interval_ms or IMAGE_MS)),
        "actions": _actions(legal) if kind.is_ale else [_plain(str(action)) for action in legal],
        "rasters": [
            {
                "name": name,
                "neurons": network.population(name).size,
                "shown": len(rows),
                "colour": shades[name],
                "picture": raster(shots, name, shades[name]),
            }
            for name, rows in study.shown.items()
        ],
        "data": _player(study, legal, box_of(kind)),
    }


def _player(study: Study, legal: list[int], box: ActionBox | None) -> dict[str, Any]:
    """Return what the page's script shows of every decision, as JSON values."""
    shots = study.shots
    height, width = shots[0].frame.shape[:2]
    return {
        "sheet": sprite_sheet(shots, SHEET_COLUMNS),
        "columns": SHEET_COLUMNS,
        "width": width,
        "height": height,
        "decisions": len(shots),
        "first": shots[0].number,
        "poster": _poster(shots),
        "interval_ms": round(study.interval_ms or IMAGE_MS, 2),
        "scored": "score" if study.interval_ms else "right so far:",
        "shots": [
            {
                # Of numbers no one is chosen: they are shown all.
                "action": legal.index(shot.action) if shot.action in legal else -1,
                "values": (
                    _shares(shot.action, box)
                    if box is not None and isinstance(shot.action, tuple)
                    else _scaled([float(shot.values[action]) for action in legal])
                ),
                "score": f"{shot.score:g}",
                "reward": shot.reward,
                "spikes": [int(shot.spikes[name].sum()) for name in study.shown],
            }
            for shot in shots
        ],
    }


ARROWS = {
    "up": "↑",
    "right": "→",
    "left": "←",
    "down": "↓",
    "upright": "↗",
    "upleft": "↖",
    "downright": "↘",
    "downleft": "↙",
}
ROOM_FOR_WORDS = 9
"""Actions that still leave each bar as wide as the word "fire"."""


def _actions(legal: list[int]) -> list[dict[str, Any]]:
    """Return names, and labels that fit under narrow bars: an arrow, and whether it fires."""
    shown = []
    for name in (ACTION_NAMES[action] for action in legal):
        direction = name.removesuffix("fire")
        lines = [ARROWS[direction]] if direction in ARROWS else []
        if name.endswith("fire"):
            lines.append("fire" if len(legal) <= ROOM_FOR_WORDS else "●")
        still = "noop" if len(legal) <= ROOM_FOR_WORDS else "·"
        shown.append({"name": name, "label": lines or [still]})
    return shown


def _plain(name: str) -> dict[str, Any]:
    return {"name": name, "label": [name]}


def _poster(shots: Sequence[Shot]) -> int:
    """Return the decision that is shown first: a little before a point, if there is one."""
    points = [index for index, shot in enumerate(shots) if shot.reward > 0]
    return max((points[0] if points else len(shots) // 2) - 3, 0)


def _shares(numbers: tuple[float, ...], box: ActionBox) -> list[float]:
    """Place numbers between their lowest (0) and their highest (1)."""
    bounds = zip(numbers, box.low, box.high, strict=True)
    return [round((number - low) / (high - low), 3) for number, low, high in bounds]


def _scaled(values: list[float]) -> list[float]:
    """Scale action values to between 0 (the worst one) and 1."""
    low, high = min(values), max(values)
    return [round((value - low) / (high - low), 3) if high > low else 0.5 for value in values]


def _step_time(task: TaskReport) -> str:
    """Draw static against dynamic energy; empty where the main card has no static power."""
    main = task.energy[0]
    equal = main.break_even[0].static_equals_dynamic_us
    if not equal:
        return ""
    return step_time(task.encoders, main, main.bill.dynamic_j_per_decision * 1e6 / equal)


def thousands(value: float) -> str:
    """Write an integer with separators."""
    return f"{value:,.0f}"


def count_of(value: float) -> str:
    """Write a count for people, 3 digits."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            return f"{digits(value / (1e3 if unit == ' k' else size))}{unit}"
    return thousands(value) if value >= 100 or value == int(value) else digits(value)


def joules(value: float) -> str:
    """Write joules in the unit that suits them."""
    for size, unit in ((1, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ")):
        if abs(value) >= size:
            return f"{digits(value / size)} {unit}"
    return f"{digits(value * 1e12)} pJ"


def time_of(microseconds: float) -> str:
    """Write microseconds in the unit that suits them."""
    if microseconds >= 1e6:
        return f"{digits(microseconds / 1e6)} s"
    if microseconds >= 1e3:
        return f"{digits(microseconds / 1e3)} ms"
    return f"{digits(microseconds)} µs"


def percent(share: float) -> str:
    """Write a share in percent."""
    return f"{digits(100 * share)} %"


def byte_count(size: float) -> str:
    """Write bytes in the unit that suits them."""
    for limit, unit in ((2**20, "MiB"), (2**10, "KiB")):
        if size >= limit:
            return f"{digits(size / limit)} {unit}"
    return f"{thousands(size)} bytes"


FILTERS = {
    "micro": micro_joules,
    "thousands": thousands,
    "count_of": count_of,
    "digits": digits,
    "joules": joules,
    "time": time_of,
    "percent": percent,
    "bytes": byte_count,
}
