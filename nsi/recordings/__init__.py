"""Recordings: the data file that the simulator writes, the fit reads, and you can make yourself (data/README.md).

A recording is an `.npz` file of plain arrays (no pickles), the fields of `Recording` without those that are worked out:
rates, or spikes in their place, velocity and dt, the others where there are any; and `recorded` (trials, N), which
neurons a trial recorded, where some are missing.

A simulation adds its ground truth (`true_W`, `true_W_in`, `true_b`, `true_gate`, `true_orders`, `hidden_rates`), and a
recording may hold other neurons back for a test (`held_out_rates`). `load` never reads these, so that no fit can;
`load_truth` reads them for scoring alone.
"""

import hashlib
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from nsi import files
from nsi.errors import BadInput
from nsi.files import whole
from nsi.geometry import RING

TRUTH = ("true_W", "true_W_in", "true_b", "true_gate", "true_orders", "hidden_rates")
AXES = {"rates": " (trials, steps, N)", "velocity": " (trials, steps, D)", "heading": " (trials, steps, D)"}
SPIKE_WINDOW, HIGH_RATE = 3, 0.8  # steps, s.d. of the smoothing; what a neuron's 99th percentile is scaled to


@dataclass
class Recording:
    """What an experimenter has: activity, velocity and time, and nothing of the truth behind them."""

    rates: np.ndarray  # (trials, steps, N) float32, firing rates of the observed neurons, >= 0, about 1 at most
    velocity: np.ndarray  # (trials, steps, D) float32, rad/s, the input that moves the activity
    dt: float  # s, one time step
    heading: np.ndarray | None = None  # (trials, steps, D or 1) float32, rad: places neurons (estimates: of a torus)
    tau: float | None = None  # s, synaptic time constant: the fit's alpha is dt / tau
    stimulus: np.ndarray | None = None  # (trials, steps, N) float32, a known current into the observed neurons
    lengths: np.ndarray | None = None  # (trials,) int, steps before the padding, which is zero
    animal: np.ndarray | None = None  # (trials,) int, which one: a bootstrap draws it whole
    driven: np.ndarray | None = None  # (N,) bool, which neurons receive the velocity themselves; None where none does
    decoded: bool = False  # whether the velocity is the activity's own turning
    spikes: np.ndarray | None = None  # (trials, steps, N) float32, counts, of which `rates` are a smoothed version
    measured: np.ndarray | None = None  # (trials, steps, N) bool, samples that were: the other rates are imputed
    decay: float | None = None  # s, of the indicator whose fluorescence `rates` are

    @property
    def valid(self):
        """Which steps are recorded, not padding. (trials, steps) bool."""
        return recorded_steps(self.rates.shape, self.lengths)

    def trials(self, index):
        """The same recording with only the trials of `index` (a slice or an index array)."""
        cut = {k: a if a is None else a[index] for k, a in self.arrays().items()}
        return replace(self, **cut)

    def arrays(self):
        """The arrays with a trial axis, by name; absent ones are None."""
        names = ("rates", "velocity", "heading", "stimulus", "lengths", "animal", "spikes", "measured")
        return {name: getattr(self, name) for name in names}


def recorded_steps(shape, lengths):
    """Which steps are not padding. shape: (trials, steps, ...); lengths: (trials,) or None. (trials, steps) bool."""
    return np.arange(shape[1]) < (np.full(shape[0], shape[1]) if lengths is None else lengths)[:, None]


def load(path):
    """Read and check a recording. Returns: Recording, arrays float32. Raises: BadInput, naming the file, the key and
    what was expected there."""
    with files.Archive(path) as file:
        lengths = _lengths(file) if "lengths" in file else None
        rates, spikes = _activity(file, lengths)
        trials, steps, n = rates.shape
        dt = _seconds(file, "dt")
        decoded, incomplete = "velocity" not in file, np.isnan(rates).any()
        if decoded and incomplete:
            raise BadInput("has no key 'velocity'; expected it where neurons are missing in trials (recorded)")
        velocity = (
            own_turning(rates, dt, lengths) if decoded else _array(file, "velocity", (trials, steps, None), lengths)
        )
        if velocity.size == 0:
            raise BadInput(f"velocity is empty, shape {velocity.shape}; expected (trials, steps, D)")
        tau, decay = (_seconds(file, key) if key in file else None for key in ("tau", "decay"))
        heading = _array(file, "heading", (trials, steps, None), lengths) if "heading" in file else None
        if heading is not None and heading.shape[-1] not in (1, velocity.shape[-1]):  # on a ring others have no angle
            shapes = f"{heading.shape}; expected {velocity.shape}"
            raise BadInput(f"heading has shape {shapes} to agree with rates and velocity")
        stimulus = _array(file, "stimulus", rates.shape, lengths) if "stimulus" in file else None
        animal = next((_labels(file, key, trials) for key in ("animal", "fly") if key in file), None)
        driven = _flags(file, "driven", (n,), "for each neuron whether it is") if "driven" in file else None
        if tau is not None and tau < dt:
            raise BadInput(f"tau is {tau:g} s, shorter than dt = {dt:g} s; expected tau >= dt")
        if decay is not None and (spikes is not None or incomplete):
            raise BadInput("has decay, and spikes or missing neurons; expected rates of all: leave decay out")
    driven = driven if np.any(driven) else None
    return Recording(rates, velocity, dt, heading, tau, stimulus, lengths, animal, driven, decoded, spikes, decay=decay)


def _activity(file, lengths):
    """The rates, and the counts of spikes where these are in their place, else None."""
    key, missing = "spikes" if "spikes" in file and "rates" not in file else "rates", None
    if "recorded" in file:
        missing = ~_flags(file, "recorded", (None, None), "for each trial which neurons it has")
        if missing.all(0).any() or missing.all(1).any():
            raise BadInput("recorded has a neuron or a trial without any; expected every one at least once")
        if key == "spikes" and missing.any():
            raise BadInput("recorded says that neurons are missing; expected all of them in a file of spikes")
    array = _array(file, key, (None, None, None), lengths, missing)
    if array.size == 0:
        raise BadInput(f"{key} is empty, shape {array.shape}; expected (trials, steps, N)")
    if key == "spikes" and (array.min() < 0 or (array != np.round(array)).any()):
        raise BadInput(
            "spikes has values that are no counts; expected whole numbers >= 0, the spikes of each step: give firing "
            "rates as `rates`"
        )
    if np.nanmax(array) == 0:
        raise BadInput(f"{key} is 0 everywhere; expected neurons that fire")
    if key == "spikes":
        return rates_of_counts(array, lengths), array
    lowest, (low, high) = np.nanmin(array), np.nanquantile(array[:: max(1, len(array) // 20)], [0.01, 0.99])
    if lowest < -high or low < min(0, -high / 2):  # more, or larger, than noise about 0
        raise BadInput(
            f"rates has negative values (down to {lowest:.3g}); expected firing rates >= 0, but for measurement noise "
            "about 0"
        )
    return array, None


def rates_of_counts(counts, lengths=None):
    """Counts of spikes smoothed over SPIKE_WINDOW steps, each neuron scaled so that its high rates come to HIGH_RATE,
    for what takes rates; the estimate itself reads the counts. counts: (trials, steps, N); lengths: (trials,) or None.
    Returns: float32 of the same shape."""
    rates = gaussian_filter1d(counts.astype(np.float32), SPIKE_WINDOW, axis=1)
    recorded = recorded_steps(counts.shape, lengths)
    high = np.quantile(rates[recorded], 0.99, axis=0)
    rates *= np.float32(HIGH_RATE) / np.where(high > 0, high, np.inf).astype(np.float32)
    rates[~recorded] = 0
    return rates


def own_turning(rates, dt, lengths=None):
    """How fast activity on a ring turns, in the place of a velocity that was not recorded: from one step to the next,
    not smoothed, so that it says nothing of what comes after. Its direction is that of the neurons' places, which
    activity alone leaves free. rates: (trials, steps, N); lengths: (trials,) or None. Returns: (trials, steps, 1)
    float32 rad/s, 0 in the first step, in silence and in the padding."""
    valid = recorded_steps(rates.shape, lengths)
    heading = RING.decode(rates, RING.find(rates[valid]))
    velocity = np.zeros_like(heading, np.float32)
    velocity[:, 1:] = RING.difference(heading[:, 1:], heading[:, :-1]) / dt
    active = valid & (rates.max(-1) > 0)
    velocity[:, 1:][~(active[:, 1:] & active[:, :-1])] = 0
    return velocity


def split(rec):
    """Set every tenth trial aside (the last one of fewer than ten; a single trial is cut into ten first). Returns: the
    recording to train on, the held-out one, and the held-out trials' indices."""
    if len(rec.rates) == 1:
        length = int(rec.valid.sum()) // 10
        cut = {k: a[0, : 10 * length].reshape(10, length, -1) for k, a in rec.arrays().items() if np.ndim(a) == 3}
        rec = replace(rec, lengths=None, animal=None, **cut)
    index = np.arange(len(rec.rates))
    held_out = index[9::10] if len(index) >= 10 else index[-1:]
    return rec.trials(np.setdiff1d(index, held_out)), rec.trials(held_out), held_out


def shuffled(rec, seed):
    """The same recording with the velocity of other trials: what a fit finds in it, velocity does not explain. Each
    trial gets that of the next in a random circle of all trials, of more than one where it is shorter; that of a single
    trial is moved on by half of it. Returns: Recording."""
    ends, velocity = rec.valid.sum(1), np.zeros_like(rec.velocity)
    if len(ends) == 1:
        velocity[0, : ends[0]] = np.roll(rec.velocity[0, : ends[0]], ends[0] // 2, 0)
    order = np.random.default_rng(seed).permutation(len(ends))
    for k, trial in enumerate(order if len(ends) > 1 else ()):
        others = [rec.velocity[j, : ends[j]] for j in np.roll(order, -k - 1)[:-1]]
        length = min(ends[trial], sum(map(len, others)))
        velocity[trial, :length] = np.concatenate(others)[:length]
    return replace(rec, velocity=velocity)


def never_together(rec):
    """Pairs of neurons that no step measured both of. rec: Recording with `measured`. Returns: (N, N) bool."""
    measured = rec.measured[rec.valid].astype(np.float32)
    return measured.T @ measured == 0


def load_truth(path, rec):
    """Read the ground truth that a simulation left in its file, for scoring. rec: the Recording of the same file.

    Returns: {"W" (M, M), "W_in" (D, M), "b" (M,), "gate" (D, N, N), "orders" (K + 1, N, N), "hidden_rates" (trials,
    steps, M - N), "held_out_rates"}, each only where the file has it; observed neurons come first. Raises: BadInput
    where a shape does not agree with the recording."""
    (trials, steps, n), d = rec.rates.shape, rec.velocity.shape[-1]
    with files.Archive(path) as file:
        size = (None, *file["true_W"].shape)[-1] if "true_W" in file else None
        shapes = ((size, size), (d, size), (size,), (d, n, n), (None, n, n), (trials, steps, None))
        keys = ((key, shape) for key, shape in zip(TRUTH, shapes, strict=True) if key in file)
        truth = {key.removeprefix("true_"): _array(file, key, shape) for key, shape in keys}
        if "held_out_rates" in file:
            truth["held_out_rates"] = _array(file, "held_out_rates", (trials, steps, None), rec.lengths)
        if "W" in truth and size < n:
            has = truth["W"].shape
            raise BadInput(f"true_W has shape {has}; expected at least the {n} neurons of rates, which come first")
    return truth


def digest(rec):
    """SHA-256 of what a fit reads: equal for equal data, whatever ground truth lies in the same file, whose last bits
    differ between processors. rec: Recording. Returns: str, 64 hexadecimal digits."""
    sha256 = hashlib.sha256()
    for field in fields(rec):
        value = getattr(rec, field.name)
        if value is None or (field.name == "velocity" and rec.decoded):  # what was decoded follows from the rates
            continue
        array = np.asarray(value)
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        sha256.update(f"{field.name} {array.dtype.str} {array.shape} ".encode())
        sha256.update(array.tobytes())
    return sha256.hexdigest()


def save(path, **arrays):
    """Write a recording (keys as in data/README.md), whole or not at all."""
    with whole(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def _array(file, key, like, lengths=None, missing=None, dtype=np.float32):
    """One finite array of the file, of a shape like the one given, where None is any size; its padding is zeroed.

    missing: (trials, N) bool, neurons whose values become NaN; others' may then be NaN as well."""
    file.require([key], "rates, velocity and dt")
    array = file[key]
    shape = array.shape
    if array.dtype.kind not in "fiub":
        raise BadInput(f"{key} has type {array.dtype.str}; expected real numbers")
    if len(shape) != len(like):
        raise BadInput(f"{key} has shape {shape}; expected {len(like)} axes{AXES.get(key, '')}")
    if any(want not in (None, has) for want, has in zip(like, shape, strict=True)):
        want = tuple("any" if size is None else size for size in like)
        raise BadInput(f"{key} has shape {shape}; expected {want} to agree with rates and velocity")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is refused
        array = np.ascontiguousarray(array, dtype=dtype).reshape(shape)
    if lengths is not None:
        if len(lengths) != shape[0] or (lengths < 1).any() or (lengths > shape[1]).any():
            raise BadInput(
                f"lengths has shape {lengths.shape}, or values out of range; expected {shape[0]} of them, from 1 to "
                f"{shape[1]}, to agree with rates"
            )
        array[~recorded_steps(shape, lengths)] = 0
    if missing is not None:
        if missing.shape != (shape[0], shape[2]):
            raise BadInput(f"recorded has shape {missing.shape}; expected {(shape[0], shape[2])}, as rates")
        array[np.broadcast_to(missing[:, None], shape)] = np.nan
        empty = np.flatnonzero(np.isnan(array).all((0, 1)))
        if len(empty):
            raise BadInput(f"{key} of neuron {empty[0]} is NaN throughout; expected numbers: leave it out")
    wrong = ~np.isfinite(array) if missing is None else np.isinf(array)
    if wrong.any():
        raise BadInput(f"{key} has values that are not finite (NaN or infinite){_where(wrong)}")
    return array


def _where(wrong):
    """Where an array is not finite and what to do, in a clause. wrong: bool, of its shape."""
    if wrong.ndim < 3:
        return "; expected finite numbers"
    missing = wrong.any(-1)  # (trials, steps)
    trial, step = np.argwhere(missing)[0]
    at_end = np.array_equal(missing, np.logical_and.accumulate(missing[:, ::-1], 1)[:, ::-1])
    remedy = "as padding is: give `lengths`" if at_end else "cut the trial there, and use `lengths`"
    return (
        f" at {missing.sum()} steps of {missing.any(1).sum()} trials, first at trial {trial}, step {step}; "
        f"expected finite numbers: {remedy}"
    )


def _seconds(file, key):
    value = float(_array(file, key, (), dtype=np.float64))
    if value <= 0:
        raise BadInput(f"{key} is {value:g}; expected seconds > 0")
    return value


def _lengths(file):
    """The valid steps of each trial, whole numbers."""
    lengths = _array(file, "lengths", (None,), dtype=np.float64)
    if (lengths != np.round(lengths)).any():
        raise BadInput("lengths has values that are not whole; expected the steps of each trial")
    return lengths.astype(int)


def _flags(file, key, like, expected):
    """An array of 0 and 1 as bool. expected: what it says, in words."""
    flags = _array(file, key, like)
    if not np.isin(flags, (0, 1)).all():
        raise BadInput(f"{key} has values other than 0 and 1; expected {expected}")
    return flags.astype(bool)


def _labels(file, key, trials):
    """One label per trial, any numbers or strings, as 0, 1, ... in their sorted order."""
    labels = file[key]
    if labels.shape != (trials,):
        raise BadInput(f"{key} has shape {labels.shape}; expected ({trials},), one label per trial")
    return np.unique(labels, return_inverse=True)[1]
