"""Draws a Grafana dashboard as its JSON describes it: for the documentation, and for those options that ours uses."""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Series", "draw"]

mpl.use("agg")
mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 8, "text.color": "#24292e"})

_COLOURS: Final = ("#56a64b", "#e0a800", "#3274d9", "#ff780a", "#e02f44", "#a352cc", "#37872d", "#8f8f8f")
_NAMED: Final = {"green": "#37872d", "red": "#e02f44"}
_FAINT: Final = "#6b7280"

# Inches, of a grid of 24 columns.
_COLUMN, _ROW, _HEAD, _GAP, _DPI = 0.58, 0.29, 0.5, 0.06, 110


@dataclass(frozen=True, slots=True)
class Series:
    """What Prometheus answered for one set of labels.

    Attributes:
        labels: Those.
        points: Times, in seconds since 1970, and values; none where there is no sample, or no number.
    """

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


def draw(
    dashboard: Mapping[str, Any],
    ask: Callable[[Mapping[str, Any]], Sequence[Series]],
    times: tuple[float, float, float],
    path: Path,
) -> list[str]:
    """Draw a dashboard into a file.

    Args:
        dashboard: As Grafana imports it.
        ask: Answers one of its targets.
        times: From, to and step, in seconds since 1970 and in seconds.
        path: Of the file.

    Returns:
        The titles of panels, and what they name, that have nothing to show.
    """
    from matplotlib.figure import Figure  # needs the settings above

    panels = dashboard["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    size = 24 * _COLUMN, rows * _ROW + _HEAD
    figure = Figure(figsize=size, dpi=_DPI, facecolor="#f1f3f5")
    top = 1 - _HEAD / size[1] / 2
    figure.text(0.008, top, dashboard["title"], fontsize=13, fontweight="bold", va="center")
    span = " to ".join(datetime.fromtimestamp(time).strftime("%H:%M:%S") for time in times[:2])  # noqa: DTZ006  # as browsers show it
    figure.text(0.992, top, span, fontsize=9, color=_FAINT, ha="right", va="center")
    empty = []
    for panel in panels:
        found = [
            (_legend(target["legendFormat"], series.labels), series.points)
            for target in panel["targets"]
            for series in sorted(ask(target), key=lambda series: sorted(series.labels.items()))
        ]
        empty += [f"{panel['title']}: {name}" for name, points in found if not points]
        if not found:
            empty.append(panel["title"])
        _panel(figure, size, panel, found, times)
    image = io.BytesIO()
    figure.savefig(image)
    # Nobody sees the difference on surfaces so flat, and it takes a third of the bytes.
    few = Image.open(image).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    return empty


def _legend(form: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), form)


Lines = list[tuple[str, "Sequence[tuple[float, float]]"]]


def _panel(
    figure: Figure,
    size: tuple[float, float],
    panel: Mapping[str, Any],
    found: Lines,
    times: tuple[float, float, float],
) -> None:
    place = panel["gridPos"]
    left, width = place["x"] * _COLUMN + _GAP, place["w"] * _COLUMN - 2 * _GAP
    bottom = size[1] - _HEAD - (place["y"] + place["h"]) * _ROW + _GAP
    height = place["h"] * _ROW - 2 * _GAP

    def inside(*inches: float) -> tuple[float, float, float, float]:
        """Return a rectangle inside of the panel, by its four margins, as a part of the figure."""
        west, south, east, north = inches
        box = left + west, bottom + south, width - west - east, height - south - north
        return box[0] / size[0], box[1] / size[1], box[2] / size[0], box[3] / size[1]

    card = figure.add_axes(inside(0, 0, 0, 0), xticks=[], yticks=[])
    for spine in card.spines.values():
        spine.set_color("#d8dce1")
    card.text(0.1 / width, 1 - 0.17 / height, panel["title"], fontsize=9.5, va="center")
    defaults = panel["fieldConfig"]["defaults"]
    values = [value for _, points in found for _, value in points]
    if not values:
        card.text(0.5, 0.46, defaults.get("noValue", "No data"), color=_FAINT, ha="center", va="center")
        return
    if panel["type"] == "stat":
        _stat(card, values[-1], defaults)
        return
    axes = figure.add_axes(inside(0.72, 0.55, 0.15, 0.38))
    _plot(axes, found, defaults, times)
    axes.legend(
        *axes.get_legend_handles_labels(),
        loc="lower left",
        bbox_to_anchor=(-0.6 / (width - 0.87), -0.47 / (height - 0.93)),
        ncols=len(found),
        frameon=False,
        handlelength=1.2,
        columnspacing=1.4,
        handletextpad=0.5,
        borderaxespad=0,
    )


def _stat(card: Axes, value: float, defaults: Mapping[str, Any]) -> None:
    steps = defaults["thresholds"]["steps"]
    colour = next(
        step["color"] for step in reversed(steps) if step["value"] is None or value >= step["value"]
    )
    text = _format(value, defaults["unit"], defaults.get("decimals"))
    card.text(0.5, 0.46, text, fontsize=28, color=_NAMED[colour], ha="center", va="center")


def _plot(axes: Axes, found: Lines, defaults: Mapping[str, Any], times: tuple[float, float, float]) -> None:
    custom = defaults.get("custom", {})
    start, end, step = times
    grid = [start + step * number for number in range(round((end - start) / step) + 1)]
    below = [0.0] * len(grid)
    for (name, points), colour in zip(found, _COLOURS, strict=False):
        known = dict(points)
        values = [known.get(time, math.nan) for time in grid]
        if custom.get("drawStyle") == "bars":
            heights = [0 if math.isnan(value) else value for value in values]
            axes.bar(grid, heights, step * 0.8, below, label=name, color=colour, alpha=0.85)
            below = [low + height for low, height in zip(below, heights, strict=True)]
        else:
            axes.plot(grid, values, label=name, color=colour, linewidth=1.3)
    if custom.get("scaleDistribution", {}).get("type") == "log":
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    else:
        axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=defaults["unit"] == "short"))
        axes.set_ylim(defaults.get("min"), defaults.get("max", max(axes.get_ylim()[1], 1e-9)))
    if custom.get("thresholdsStyle", {}).get("mode") == "dashed":
        for threshold in defaults["thresholds"]["steps"][1:]:
            axes.axhline(threshold["value"], color=_NAMED[threshold["color"]], linewidth=1, linestyle="--")
    axes.set_xlim(start, end)
    axes.set_xticks([time for time in grid if time % 60 < step])
    axes.xaxis.set_major_formatter(lambda time, _: datetime.fromtimestamp(time).strftime("%H:%M"))  # noqa: DTZ006  # likewise
    axes.yaxis.set_major_formatter(
        lambda value, _: _format(value, defaults["unit"], defaults.get("decimals"))
    )
    axes.tick_params(length=0, colors=_FAINT)
    axes.grid(color="#e5e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _format(value: float, unit: str, decimals: int | None) -> str:
    """Return a value as Grafana words it."""
    match unit:
        case "s" if value and abs(value) < 1:
            value, suffix = value * 1000, " ms"
        case "s":
            suffix = " s"
        case "percentunit":
            value, suffix = value * 100, " %"
        case _:
            suffix = unit.replace("suffix:", " ") if unit.startswith("suffix:") else ""
    return (f"{value:.4g}" if decimals is None else f"{value:.{decimals}f}") + suffix
