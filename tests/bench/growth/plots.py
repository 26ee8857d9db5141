"""Pictures for the documentation: small, and the same bytes for the same figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.growth.ground import Chart

__all__ = ["draw"]

mpl.use("svg")
mpl.rcParams.update(
    {
        "svg.fonttype": "none",  # text as text, a tenth of the bytes
        "svg.hashsalt": "prefsync",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
    }
)


def draw(chart: Chart, folder: Path) -> Path:
    """Draw a chart as SVG, and return where it is."""
    from matplotlib import pyplot as plt  # needs the settings above

    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    for label, points in chart.lines.items():
        axes.plot(
            *zip(*points, strict=True), marker="o" if len(points) < 12 else "", markersize=4, label=label
        )
    if chart.is_logarithmic:
        axes.set_xscale("log")
    if chart.ticks:
        axes.set_xticks(chart.ticks, [f"{tick:g}" for tick in chart.ticks])
        axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_title(chart.title, fontsize=10)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    axes.legend(frameon=False)
    path = folder / f"{chart.name}.svg"
    figure.savefig(path, metadata={"Date": None, "Creator": None}, facecolor="white")
    plt.close(figure)
    return path
