"""Figures drawn from arrays.

style: colours and matrices; ring, torus: of simulations and fits to them; animation: activity in time; run: of one run;
report: the page that shows these.
"""

from nsi.figures.animation import animate, animate_sheet
from nsi.figures.ring import (
    draw_connectivity,
    draw_integration,
    draw_profiles,
    draw_recovered,
    draw_shifters,
    draw_trust,
    draw_tuning,
)
from nsi.figures.style import DIVERGING, FITTED, SIMPLE, TRUE, draw_matrix, draw_standard_errors, set_style

__all__ = [
    "DIVERGING", "FITTED", "SIMPLE", "TRUE", "animate", "animate_sheet", "draw_connectivity", "draw_integration",
    "draw_matrix", "draw_profiles", "draw_recovered", "draw_shifters", "draw_standard_errors",
    "draw_trust", "draw_tuning", "set_style",
]  # fmt: skip
