"""Everything that the simulator, the fit, the notebook and the experiments share; it imports none of them.

In a script of your own three functions are enough, and none of them imports torch:

    import nsi
    rec = nsi.load("mine.npz")            # or nsi.simulate("ring", trials=100, seed=0)
    e = nsi.estimate(rec)                 # e.W, e.W_unbiased, e.W_se, e.total, e.gate, e.alpha, e.verdicts
    e.save("connectivity.npz")
"""

from importlib import import_module  # what the functions need takes a second to import


def load(path):
    """Read and check a recording (data/README.md has its format). Returns: nsi.recordings.Recording."""
    return import_module("nsi.recordings").load(path)


def simulate(circuit="ring", **settings):
    """Simulate a circuit. circuit: a name in nsi.simulation.circuits.CIRCUITS; settings: of simulate_recording,
    as trials, steps, seed, noise, amplitude (of pulses). Returns: nsi.recordings.Recording, without ground truth."""
    return import_module("nsi.simulation").simulate_by_name(circuit, **settings)


def estimate(rec, **settings):
    """Estimate the connections that made a recording. rec: Recording; settings: of nsi.estimation.estimate, as alpha
    (dt / tau, where the recording does not give tau), calibrated, and for circuits without geometry mask (N, N): which
    connections are possible, or how many anatomy counts. Returns: nsi.estimation.Estimate."""
    return import_module("nsi.estimation").estimate(rec, **settings)
