"""The README's schematic: recorded ring, hidden input units, velocity. Writes docs/schematic.png.

Run it from the top folder, as `python -m experiments.schematic`.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyArrowPatch

from experiments import runs
from nsi import figures

COUNT = 20  # neurons of each ring, as drawn
INNER, OUTER, GAP = 0.95, 1.5, 0.27  # radii
BUMP = 7  # the drawn neuron at the bump's centre


def ring(ax, radius, rates, edge):
    """A ring of neurons, filled by their rates. rates: (COUNT,)."""
    angle = np.arange(COUNT) * 2 * np.pi / COUNT
    ax.scatter(radius * np.cos(angle), radius * np.sin(angle), c=rates, cmap="Reds", vmin=0, vmax=1.2, s=75,
               edgecolors=edge, linewidths=0.9, zorder=3)  # fmt: skip


def place(radius, k):
    angle = k * 2 * np.pi / COUNT
    return radius * np.cos(angle), radius * np.sin(angle)


def arrow(ax, start, end, colour, bend=0.0):
    properties = {"arrowstyle": "-|>", "mutation_scale": 10, "lw": 1.3, "shrinkA": 6, "shrinkB": 6}
    style = f"arc3,rad={bend}"
    ax.add_patch(FancyArrowPatch(start, end, color=colour, connectionstyle=style, zorder=4, **properties))


def draw():
    """Returns: the figure."""
    drawn, ax = plt.subplots(figsize=(8.2, 4.1))
    distance = np.abs((np.arange(COUNT) - BUMP + COUNT / 2) % COUNT - COUNT / 2)
    bump = np.exp(-((distance / 2.6) ** 2))
    ring(ax, INNER, bump, figures.TRUE)
    ring(ax, OUTER, 0.75 * bump, figures.SIMPLE)
    ring(ax, OUTER + GAP, 0.2 * bump, "#d9a05b")
    arrow(ax, place(INNER, BUMP), place(OUTER, BUMP), "#888888")
    arrow(ax, place(OUTER, BUMP), place(INNER, BUMP - 3), figures.SIMPLE, -0.25)
    arrow(ax, place(OUTER + GAP, BUMP), place(INNER, BUMP + 3), "#d9a05b", 0.25)
    arrow(ax, place(INNER, BUMP), place(INNER, BUMP + 5), figures.FITTED, -0.3)
    for y, sign, colour, radius in ((0.55, "+", figures.SIMPLE, OUTER), (-0.55, "−", "#d9a05b", OUTER + GAP)):
        k = COUNT - 1 if sign == "−" else 1
        arrow(ax, (2.9, 0.45 * y), place(radius, k), colour)
        ax.text(2.45, 1.0 * y - 0.08, sign, color=colour, fontsize=13, ha="center")
    ax.text(2.95, 0, "velocity v", va="center", fontsize=11, weight="bold")
    ax.text(0.12, -0.05, "recorded\nneurons\n(response units)", ha="center", va="center", fontsize=9)
    notes = {
        1.45: ("hidden neurons (input units):\ndriven by turns to either side,\nnot recorded", figures.TRUE),
        -0.1: ("W: from recorded to recorded\n(red arrow)", figures.FITTED),
        -0.85: ("gate: what the velocity adds,\nthrough hidden neurons, to\neither side of the bump", figures.SIMPLE),
    }
    for y, (text, colour) in notes.items():
        ax.text(-2.05, y, text, ha="right", va="center", fontsize=9, color=colour)
    ax.set(xlim=(-4.6, 4.3), ylim=(-1.95, 1.95), aspect="equal")
    ax.set_axis_off()
    return drawn


def main():
    figures.set_style()
    draw().savefig(runs.ROOT / "docs" / "schematic.png", dpi=110)


if __name__ == "__main__":
    main()
