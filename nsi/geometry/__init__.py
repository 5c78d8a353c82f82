"""Where neurons are, how far apart, and which manifold their activity moves on.

shapes: the ring and the torus; detect: which of them made a recording, and where its neurons are; classify: a ring, a
torus, two rings or a sheet of place cells; plane_waves: phases from activity alone; rate_maps: where grid cells fire.
"""

from nsi.geometry.detect import Evidence, decoding_error, lacks_geometry, of, places_of
from nsi.geometry.factors import fill_missing, interpolate
from nsi.geometry.shapes import RING, SYMMETRIES, TORUS, Ring, Torus

__all__ = [
    "RING", "SYMMETRIES", "TORUS", "Evidence", "Ring", "Torus", "decoding_error", "fill_missing", "interpolate",
    "lacks_geometry", "of", "places_of",
]  # fmt: skip
