"""Simulate circuits: their connections, what an experiment does to them, and which of their neurons it records.

circuits: one function each; heterogeneity: weights that differ from pair to pair; stimulation: velocities and known
currents; simulator: the recording; observation: which neurons are recorded; physiology: what the bump does.
"""

from nsi.simulation.simulator import simulate, simulate_by_name, simulate_recording

__all__ = ["simulate", "simulate_by_name", "simulate_recording"]
