"""The recordings that the estimators are put to, and what is true of them.

Rings of 84 neurons and 42 shifters a side with strengths of their own, a torus of 13 x 13 cells and the published
network: no setting of the estimate was chosen on the first two. Nothing says where a neuron's place is (no `heading`).
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

import cann
from nsi import recordings
from nsi.evaluation.scores import true_effective_gate, true_total
from nsi.simulation import circuits
from nsi.simulation.heterogeneity import vary_weights

RING = partial(circuits.ring, 84, 42, cosine=0.115, displacement=1.6, amplitude=0.145, threshold=0.36, drive=0.045)
SATURATED = partial(circuits.ring, 84, 42, cosine=0.13, displacement=1.4, amplitude=0.206, threshold=0.45, drive=0.05)
HOLDING = partial(circuits.holding, 84, 42, cosine=0.085, displacement=1.1, amplitude=0.18, threshold=0.36, drive=0.065)
TORUS = partial(circuits.grid, 13, 7, cosine=0.21, amplitude=0.3)
JITTER, SPARSE = {"jitter": 0.2}, {"jitter": 0.2, "jitter_hidden": 0.2, "sparse": 0.5}
PULSES = 4.0  # amplitude
CIRCUIT_SEED, TEST_SEED, TEST_TRIALS = 1000, 50_000, 20  # added to the recording's; trials that no estimator has


class Case(NamedTuple):
    circuit: object  # called without arguments, gives a circuits.Circuit
    changes: dict | None = None  # of heterogeneity.vary_weights, balanced
    amplitude: float = 0.0  # of pulses
    share: float = 1.0  # of the trials
    factor: float = 1.0  # that the rates are multiplied by
    tau: bool = True  # whether the recording has it


CASES = {
    "ring": Case(RING),
    "ring, saturated": Case(SATURATED),  # a tenth of the rates lies above 0.99
    "holding": Case(HOLDING),
    "sparse": Case(RING, SPARSE),
    "sparse, pulses": Case(RING, SPARSE, PULSES),
    "jitter, pulses": Case(RING, JITTER, PULSES),
    "jitter, pulses, 22 trials": Case(RING, JITTER, PULSES, 0.22),
    "gain": Case(circuits.gain),
    "ring, rates x 0.82, no tau": Case(RING, factor=0.82, tau=False),
    "torus": Case(TORUS, share=0.5),
}
UNEVEN = [name for name, case in CASES.items() if case.changes]
NULL_TRIALS = 20  # of recordings without a gate, at most
NULLS = {  # where no velocity acts on shifters, and where the velocity is that of other trials
    "no shifters": Case(partial(RING, drive=0.0)),
    "ring, others' velocity": Case(RING),
    "holding, others' velocity": Case(HOLDING),
    "sparse, others' velocity": Case(RING, SPARSE),
    "jitter, pulses, others' velocity": Case(RING, JITTER, PULSES),
    "gain, others' velocity": Case(circuits.gain),
}


class Data(NamedTuple):
    """A recording as an experimenter has it, and what only the simulation knows."""

    rec: recordings.Recording
    test: recordings.Recording  # other trials of the same circuit
    alpha: float  # the circuit's
    hidden: bool  # whether velocity acts through neurons
    geometry: object
    places: np.ndarray  # (n, D) rad
    true: dict  # W, total (n, n), gate (D, n, n) as the velocity acts, of unscaled rates
    truth: dict  # recordings.load_truth's


def simulate(case, seed, trials, steps, folder):
    """Simulate a case. folder: Path, which gets the recording as recording.npz, and its truth. Returns: Data."""
    circuit = case.circuit()
    if case.changes:
        circuit = vary_weights(circuit, np.random.default_rng(CIRCUIT_SEED + seed), **case.changes, balance=True)
    path, test = folder / "recording.npz", folder / "test.npz"
    make = partial(cann.simulate_recording, circuit, steps=steps, amplitude=case.amplitude)
    data = make(seed, trials=max(2, round(case.share * trials)))
    recordings.save(path, **data)
    recordings.save(test, **make(TEST_SEED + seed, trials=max(2, min(TEST_TRIALS, trials))))
    whole = recordings.load(path)
    truth, alpha, n = recordings.load_truth(path, whole), circuit.network.alpha, whole.rates.shape[-1]
    true = {
        "W": truth["W"][:n, :n],
        "total": true_total(truth, whole.rates, alpha),
        "gate": true_effective_gate(truth, whole),
    }
    factor = np.float32(case.factor)
    unsaid = {"heading"} if case.tau else {"heading", "tau"}
    recordings.save(path, **{k: v for k, v in data.items() if k not in unsaid} | {"rates": factor * data["rates"]})
    rec, test = recordings.load(path), recordings.load(test)
    test = replace(test, rates=factor * test.rates, heading=None, tau=rec.tau)
    places = circuit.geometry.places(n)
    hidden = len(truth["b"]) > n
    return Data(rec, test, alpha, hidden, circuit.geometry, places, true, truth)


def others_velocity(rec, seed):
    """The recording with the velocity of another trial in each. Returns: Recording."""
    shift = np.random.default_rng(seed).integers(1, len(rec.rates))
    return replace(rec, velocity=np.roll(rec.velocity, shift, 0))
