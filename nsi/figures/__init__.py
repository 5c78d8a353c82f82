"""Figures drawn from arrays.

style: colours and matrices; ring, torus: of simulations and fits to them; animation: activity in time; run: of one run;
report: the page that shows these.
"""

from nsi.figures.animation import animate, animate_sheet
from nsi.figures.ring import (
    connectivity,
    integration,
    orders,
    profiles,
    recovered,
    shifters,
    trust,
    tuning,
    wedges,
)
from nsi.figures.style import DIVERGING, FITTED, SIMPLE, TRUE, draw_matrix, draw_standard_errors, set_style

__all__ = [
    "DIVERGING", "FITTED", "SIMPLE", "TRUE", "animate", "animate_sheet", "connectivity", "draw_matrix",
    "draw_standard_errors", "integration", "orders", "profiles", "recovered", "set_style", "shifters", "trust",
    "tuning", "wedges",
]  # fmt: skip
