"""The tasks: recordings that methods are put to, what is true of them, and what is asked.

    rings, torus         84 neurons and 42 shifters a side with strengths of their own, 13 x 13 cells, the published
                         network: no setting of the estimate was chosen on the first two
    further circuits     of nsi/simulation at other lengths, of which intervals are asked, and what breaks them:
                         noise, few neurons, neurons that were not recorded, a wrong tau
    circuits of others   a zebrafish's and a larva's published connectivities, simulated by a script make_circuits.py of
                         yours in the folder OTHERS, called with a path, a circuit, a seed and NAME=VALUE
    gate or none         short recordings, with their own velocity, without shifters, or with other trials' velocity
    real animals         where data/ has them: no truth is known, prediction is asked

A task is an entry of TASKS: a function of (seed, trials, steps) that returns Data, and what it asks (ASKS in
methods.py). Nothing says where a neuron's place is (no `heading`).
"""

import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

import cann
from experiments import runs
from nsi import geometry, recordings
from nsi.evaluation.scores import true_effective_gate, true_total
from nsi.network import PUBLISHED_ALPHA, synaptic_state
from nsi.response import TANH, Response
from nsi.simulation import circuits
from nsi.simulation.heterogeneity import vary_weights
from nsi.simulation.observation import select_neurons

OTHERS = runs.ROOT / "data" / "others"  # make_circuits.py, which simulates published matrices that lie beside it
RING = partial(circuits.ring, 84, 42, cosine=0.115, displacement=1.6, amplitude=0.145, threshold=0.36, drive=0.045)
SATURATED = partial(circuits.ring, 84, 42, cosine=0.13, displacement=1.4, amplitude=0.206, threshold=0.45, drive=0.05)
HOLDING = partial(circuits.holding, 84, 42, cosine=0.085, displacement=1.1, amplitude=0.18, threshold=0.36, drive=0.065)
TORUS = partial(circuits.grid, 13, 7, cosine=0.21, amplitude=0.3)
OTHER_RING = partial(circuits.holding, 84, 36, tau=0.04)  # alpha 0.25
JITTER, SPARSE = {"jitter": 0.2}, {"jitter": 0.2, "jitter_hidden": 0.2, "sparse": 0.5}
OTHER_UNEVEN = {"jitter": 0.4, "sparse": 0.3}
PULSES = 4.0  # amplitude
CIRCUIT_SEED, TEST_SEED, TEST_TRIALS = 1000, 50_000, 20  # added to the recording's; trials that no method has


class Known(NamedTuple):
    """What rivals are given beside the recording. The estimate reads none of it, and `truth` is for the oracle."""

    alpha: float  # the circuit's
    mechanism: str  # by which velocity acts: "hidden neurons", "multiplied connections" or "direct drive"
    response: Response
    geometry: object  # None where there is none
    places: np.ndarray | None  # (n, D) rad
    truth: dict  # recordings.load_truth's
    updates: int | None = None  # of trained networks, None for their own number


class Data(NamedTuple):
    """A recording as an experimenter has it, and what it is scored by."""

    rec: recordings.Recording
    test: recordings.Recording | None  # other trials of the same circuit
    known: Known
    true: dict  # W, total (n, n), gate (D, n, n) as the velocity acts, of unscaled rates; {} where no truth is known
    pairs: np.ndarray  # (n, n) bool, that weights are scored over


class Absent(Exception):
    """A task's data are not here; the message says why."""


class Task(NamedTuple):
    make: object  # called with seed, trials, steps, gives Data
    asks: tuple = ("weights",)  # methods that give one of these are put to it
    share: float = 1.0  # of the trials
    gate: bool = True  # whether the velocity acts, where that is asked
    seeds: int = 1000  # at most: real animals have one recording


def simulate(seed, trials, steps, circuit, changes=None, amplitude=0.0, noise=0.02):
    """Simulate one of the project's circuits. circuit: called without arguments, gives circuits.Circuit; changes: of
    heterogeneity.vary_weights, balanced; amplitude: of pulses; noise: s.d. of the currents'. Returns: Data."""
    circuit = circuit()
    if changes:
        circuit = vary_weights(circuit, np.random.default_rng(CIRCUIT_SEED + seed), **changes, balance=True)
    arrays = simulate_both(circuit, seed, trials, steps, amplitude=amplitude, noise=noise)
    return record(circuit, arrays, np.arange(circuit.network.n))


def simulate_both(circuit, seed, trials, steps, **options):
    """The arrays of a recording and of one that no method has. options: of simulate_recording. Returns: two dicts."""
    make = partial(cann.simulate_recording, circuit, steps=steps, **options)
    return make(seed, trials=trials), make(TEST_SEED + seed, trials=max(2, min(TEST_TRIALS, trials)))


def record(circuit, both, neurons):
    """The recording of some neurons of a circuit, and what is true of it. both: `simulate_both`'s; neurons: ascending
    indices. Returns: Data."""
    select = lambda data: data if len(neurons) == circuit.network.n else select_neurons(data, neurons)
    (rec, truth), (test, _) = (loaded(select(data)) for data in both)
    n, alpha, hidden = len(neurons), circuit.network.alpha, len(truth["b"]) > len(neurons)
    true = {
        "W": truth["W"][:n, :n],
        "total": true_total(truth, rec.rates, alpha),
        "gate": true_effective_gate(truth, rec),
    }
    mechanism, shape = "hidden neurons" if hidden else "multiplied connections", circuit.geometry
    known = Known(alpha, mechanism, Response(), shape, shape.places(circuit.network.n)[neurons], truth)
    rec, test = (replace(a, heading=None) for a in (rec, test))
    return Data(rec, test, known, true, np.ones((n, n), bool))


def record_half(seed, trials, steps, circuit):
    """A random half of a circuit's neurons, of which nothing says that it is a half. Returns: Data."""
    circuit = circuit()
    n, rng = circuit.network.n, np.random.default_rng(seed)
    return record(circuit, simulate_both(circuit, seed, trials, steps), np.sort(rng.choice(n, n // 2, False)))


def misstate_tau(seed, trials, steps, circuit, factor):
    """`simulate`, with a tau that is wrong by a factor. Returns: Data."""
    data = simulate(seed, trials, steps, circuit)
    return data._replace(rec=replace(data.rec, tau=factor * data.rec.tau))


def rescale(seed, trials, steps, circuit, factor):
    """`simulate`, the rates multiplied by a factor, and tau not given. Returns: Data."""
    data = simulate(seed, trials, steps, circuit)
    rec, test = (replace(a, rates=np.float32(factor) * a.rates, tau=None) for a in (data.rec, data.test))
    return data._replace(rec=rec, test=test, known=data.known._replace(response=Response(scale=1 / factor)))


def take_others_velocity(seed, *sizes_and_circuit):
    """`simulate`, each trial with another one's velocity. Returns: Data, of which no truth is known."""
    data = simulate(seed, *sizes_and_circuit)
    shift = np.random.default_rng(seed).integers(1, len(data.rec.rates))
    return data._replace(rec=replace(data.rec, velocity=np.roll(data.rec.velocity, shift, 0)), true={})


def loaded(arrays):
    """A recording as its file gives it. arrays: of the file. Returns: Recording, truth."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording.npz"
        recordings.save(path, **arrays)
        rec = recordings.load(path)
        return rec, recordings.load_truth(path, rec)


def circuit_of_others(seed, trials, steps, name, *options):
    """Simulate a published connectivity by the script that comes with it. options: its own. Returns: Data."""
    script = OTHERS / "make_circuits.py"
    if not script.exists():
        raise Absent(f"the circuits of others are not here ({OTHERS})")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording.npz"
        sizes = f"trials={trials}", f"steps={steps}"
        subprocess.run(
            [sys.executable, script, path, name, str(seed), *sizes, *options], check=True, capture_output=True
        )
        rec = recordings.load(path)
        truth = recordings.load_truth(path, rec)
        with np.load(path) as file:
            response = Response(str(file["response"]))
    recorded = np.isfinite(rec.rates).all(1)
    together = (recorded[:, :, None] & recorded[:, None]).any(0)
    pairs = together & ~np.eye(rec.rates.shape[-1], dtype=bool)
    known = Known(rec.dt / rec.tau, "direct drive", response, None, None, truth)
    return Data(rec, None, known, {"W": truth["W"]}, pairs)


def real(seed, trials, steps, name):
    """A recording of real animals: every tenth trial is the test. Returns: Data."""
    path = runs.ROOT / "data" / name
    if not path.exists():
        raise Absent(f"there is no data/{name}")
    rec, test, _ = recordings.split(recordings.load(path))
    shape, alpha = geometry.of(rec), rec.dt / rec.tau if rec.tau else PUBLISHED_ALPHA
    known = Known(alpha, "hidden neurons", TANH, shape, geometry.places_of(rec, shape), {})
    return Data(rec, test, known, {}, np.ones((rec.rates.shape[-1],) * 2, bool))


def simulated(*circuit, asks=("weights",), share=1.0, gate=True, make=simulate):
    """A task of `simulate`, or of another function that takes the same after the sizes."""
    return Task(lambda seed, trials, steps: make(seed, trials, steps, *circuit), asks, share, gate)


def half_recorded(seed, trials, steps, *circuit, sessions=10):
    """`simulate`, half of the neurons recorded in each of some sessions. Returns: Data."""
    data, rng = simulate(seed, trials, steps, *circuit), np.random.default_rng(seed)
    n = len(data.pairs)
    halves = np.stack([np.isin(np.arange(n), rng.choice(n, n // 2, False)) for _ in range(sessions)])
    recorded = halves[np.arange(trials) * sessions // trials]
    rec = replace(data.rec, rates=np.where(recorded[:, None], data.rec.rates, np.float32(np.nan)))
    return data._replace(rec=rec, test=None, pairs=(halves[:, :, None] & halves[:, None]).any(0))


def observe(seed, trials, steps, circuit, noise=0.0, hz=0.0, decay=None):
    """`simulate`, its rates with white noise of an s.d., through an indicator of a decay (s) if there is one, or
    as counts of spikes, of hz at rate 1."""
    data, rng = simulate(seed, trials, steps, circuit), np.random.default_rng(seed)
    rec = data.rec
    known = {key: getattr(rec, key) for key in ("velocity", "dt", "tau")}
    if hz:
        rec, _ = loaded(known | {"spikes": rng.poisson(hz * rec.dt * rec.rates)})
    else:
        observed_rates = rec.rates
        if decay:  # c[t] = g c[t - 1] + (1 - g) r[t]
            later = np.concatenate([rec.rates, rec.rates[:, -1:]], 1)
            observed_rates = synaptic_state(later, 1 - np.exp(-rec.dt / decay))[:, 1:]
        observed_rates = observed_rates + np.float32(noise) * rng.standard_normal(rec.rates.shape, np.float32)
        rec, _ = loaded(known | {"rates": observed_rates} | ({"decay": decay} if decay else {}))
    return data._replace(rec=rec, test=None)


further = partial(simulated, asks=("intervals",))
short = partial(simulated, asks=("gate",), share=0.2)
absent = partial(short, gate=False)


def observed(circuit, **options):
    """A task of `observe`."""
    return Task(partial(observe, circuit=circuit, **options), ("observations",))


def of_others(*options, asks=("weights", "anatomy")):
    return Task(lambda seed, trials, steps: circuit_of_others(seed, trials, steps, *options), asks, 1.0)


TASKS = {
    "ring": simulated(RING),
    "ring, saturated": simulated(SATURATED),  # a tenth of the rates lies above 0.99
    "holding": simulated(HOLDING),
    "sparse": simulated(RING, SPARSE),
    "sparse, pulses": simulated(RING, SPARSE, PULSES),
    "jitter, pulses": simulated(RING, JITTER, PULSES),
    "jitter, pulses, 22 trials": simulated(RING, JITTER, PULSES, share=0.22),
    "jitter, pulses, half in each session": Task(
        lambda *sizes: half_recorded(*sizes, RING, JITTER, PULSES), ("observations",)
    ),
    "ring, noise 0.1": observed(RING, noise=0.1),
    "ring, spikes 40 Hz": observed(RING, hz=40.0),  # at rate 1
    "ring, spikes 10 Hz": observed(RING, hz=10.0),
    "ring, calcium 0.2 s": observed(RING, noise=0.03, decay=0.2),
    "gain": simulated(circuits.gain),
    "ring, rates x 0.82, no tau": simulated(RING, 0.82, make=rescale),
    "torus": simulated(TORUS, share=0.5),
    "zebrafish, linear": of_others("zebrafish", "neurons=120", "phi=linear"),
    "zebrafish, tanh": of_others("zebrafish", "neurons=120", "phi=tanh"),
    "zebrafish, tanh, pulses": of_others("zebrafish", "neurons=120", "phi=tanh", "pulses=0.5"),
    "zebrafish, 20 sessions": of_others(
        "zebrafish", "neurons=120", "phi=linear", "sessions=20", "share=0.4", asks=("missing neurons",)
    ),
    "larva, tanh": of_others("larva", "phi=tanh"),
    "uniform, passive": further(circuits.ring),
    "uniform, passive, 30 trials": further(circuits.ring, share=0.3),
    "uniform, passive, 300 trials": further(circuits.ring, share=3),
    "uniform, pulses": further(circuits.ring, None, PULSES),
    "jitter 0.2, passive": further(circuits.ring, JITTER),
    "jitter 0.2, pulses": further(circuits.ring, JITTER, PULSES),
    "sparse, passive": further(circuits.ring, SPARSE),
    "sparse, passive, 300 trials": further(circuits.ring, SPARSE, share=3),
    "sparse, pulses, 30 trials": further(circuits.ring, SPARSE, PULSES, share=0.3),
    "sparse, pulses, 100 neurons": further(circuits.ring, SPARSE, PULSES),
    "holding, passive": further(circuits.holding),
    "holding, pulses": further(circuits.holding, None, PULSES),
    "gain, passive": further(circuits.gain),
    "gain, pulses": further(circuits.gain, None, PULSES),
    "coupled, passive": further(circuits.coupled),
    "coupled, pulses": further(circuits.coupled, None, PULSES),
    "even, passive": further(circuits.even),
    "even, pulses": further(circuits.even, None, PULSES),
    "other ring, passive": further(OTHER_RING),
    "other ring, pulses": further(OTHER_RING, None, PULSES),
    "sparse 0.3, jitter 0.4, passive": further(circuits.ring, OTHER_UNEVEN),
    "sparse 0.3, jitter 0.4, pulses": further(circuits.ring, OTHER_UNEVEN, PULSES),
    "uniform, 10 x the noise": further(circuits.ring, None, 0.0, 0.2),
    "uniform, 48 neurons": further(partial(circuits.ring, 48, 24)),
    "uniform, 32 neurons": further(partial(circuits.ring, 32, 16)),
    "uniform, half of the neurons": further(circuits.ring, make=record_half),
    "uniform, twice tau": further(circuits.ring, 2.0, make=misstate_tau),
    "uniform, half of tau": further(circuits.ring, 0.5, make=misstate_tau),
    "no shifters": absent(partial(RING, drive=0.0)),
} | {
    f"{name}, {velocity} velocity": kind(circuit, changes, amplitude)
    for name, circuit, changes, amplitude in (
        ("ring", RING, None, 0.0), ("holding", HOLDING, None, 0.0), ("sparse", RING, SPARSE, 0.0),
        ("jitter, pulses", RING, JITTER, PULSES), ("gain", circuits.gain, None, 0.0),
    )
    for velocity, kind in (("own", short), ("others'", partial(absent, make=take_others_velocity)))
} | {
    "flies": Task(partial(real, name="fly.npz"), ("prediction",), seeds=1),
    "mouse": Task(partial(real, name="mouse.npz"), ("prediction",), seeds=1),
}  # fmt: skip
