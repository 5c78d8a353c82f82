"""The estimate: what connects to what, and how sure, by one convex calculation on signals known from the recording.

    e = estimate(rec)       rec: recordings.Recording
    e.W, e.W_unbiased, e.W_se, e.total, e.gate, e.alpha, e.verdicts, e.save("connectivity.npz")

The steps, each a module: kinetics (response function, scale, alpha, mechanism, by likelihood), signals (what the
currents are a linear combination of), copies (hidden neurons that copy the recorded activity), fitting (samples and
sums, a few trials at a time), regression (the unbiased estimate and its standard errors), prior (the best estimate),
intervals (calibration by a recording simulated from the estimate itself), gate (is there one at all); estimator has
them in order. Recordings with measurement noise are smoothed first (smoothing, observations). docs/method.md has the
equations.
"""

from importlib import import_module

NAMES = {"estimate": "observations", "Estimate": "estimator", "Fit": "fitting", "Pilot": "fitting"}


def __getattr__(name):
    """The names, imported when they are first asked for."""
    if name not in NAMES:
        raise AttributeError(name)
    return getattr(import_module(f"nsi.estimation.{NAMES[name]}"), name)
