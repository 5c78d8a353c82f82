"""The four published findings, each as numbers over seeds, on the default circuit; TABLES has the measures of each.

The fourth compares a fit to a fly at rest, where no velocity moves the activity, and fits to windows too short for the
network to sustain its activity. The truth is read for scoring only. Each seed simulates its own recordings and starts
its own fits. Writes results.json, tables.md and the page. Run it from the top folder, as
`python -m experiments.findings`.
"""

import numpy as np
from scipy.optimize import nnls

from experiments import runs
from experiments.benchmark.tasks import loaded
from nsi import network, recordings
from nsi.evaluation import tuning
from nsi.geometry import RING
from nsi.hidden.matching import match_units
from nsi.network import predict, predict_hidden
from nsi.simulation import simulate_recording, simulator
from nsi.simulation.circuits import ring
from nsi.sums import correlation, sum_products

NOISE = 0.02  # cann.py's default
NEAR = 0.3  # rad, within which of a unit's preferred heading its map is explained by neurons' maps

# name: the recording, and train.py's options; shorter windows come in larger batches, so that an update runs as many
# steps, those of the warm-up included
FITS = {
    "separated": ("moving", []),
    "control": ("moving", ["--control"]),
    "shuffled velocity": ("shuffled", []),
    "at rest": ("rest", []),
    "windows of 5 steps": ("moving", ["--window", 5, "--batch", 200]),
    "windows of 1 step": ("moving", ["--window", 1, "--batch", 270]),
}
TABLES = {  # finding: rows, columns, and caption
    "With input separation the connectivity is recovered": (
        ["separated", "control"], ["r_W", "r_W_near", "r_gate"],
        "Mean ± s.d. over recordings of the default circuit, each with its own fits.",
    ),
    "Without it response units mix compass and shifter neurons": (
        ["separated", "control", "true compass neurons", "true shifter neurons"],
        ["mixture", "mixture_blind", "selectivity"],
        "`mixture`: share of a response unit's tuning map that maps of true shifter neurons explain, by non-negative "
        "least squares; `mixture_blind`: the same of the map averaged over velocity.",
    ),
    "Shifter neurons emerge among the input units": (
        ["separated", "shuffled velocity"],
        ["r_match", "r_match_median", "r_turning", "left", "right", "same_direction", "pushes", "r_gate"],
        "Input units are matched one to one with true shifter neurons by their rates. `r_match`: correlation of "
        "matches; `r_turning`: the same without the mean at each heading; `pushes`: share that send to the side they "
        "should, units without a direction counting as failures; `same_direction`: high by chance, since the matching "
        "causes it.",
    ),
    "Two constraints do it": (
        ["separated", "at rest", "shuffled velocity", "windows of 5 steps", "windows of 1 step", "true circuit"],
        ["r_W", "r_W_near", "r_gate", "gate_size", "gate_slope", "persistence", "drift"],
        "`persistence`: share of bumps that outlast 5 s at rest; `drift`: rad, how far they move; `gate_slope`: "
        "against the true effective gate.",
    ),
}  # fmt: skip
COUNTS = "left", "right"


# finding in brief, measure, its row, and the row that it is compared with
MAIN = (
    ("1. W recovered", "r_W_near", "separated", "control"),
    ("2. shifters in response units' tuning", "mixture", "separated", "control"),
    ("3. input units push to the right side", "pushes", "separated", "shuffled velocity"),
    ("3. input units' rates match shifters'", "r_match", "separated", "shuffled velocity"),
    ("4. activity alone gives W", "r_W_near", "at rest", "separated"),
    ("4. but no gate", "r_gate", "at rest", "separated"),
    ("4. without sustained activity, W", "r_W_near", "windows of 1 step", "separated"),
    ("4. and the drift of the bump at rest, rad", "drift", "windows of 1 step", "true circuit"),
)


def cell(row, measure):
    """Mean ± s.d. over seeds of those that there are."""
    return runs.spread(row.get(measure, []), 0 if measure in COUNTS else 3)


def table(results):
    """The findings in brief, as Markdown. results: {row: {measure: values over seeds}}."""
    rows = [[finding, f"`{m}`", f"{cell(results[row], m)}, {row}", f"{cell(results[other], m)}, {other}"]
            for finding, m, row, other in MAIN]  # fmt: skip
    return runs.markdown(["finding", "measure", "found", "compared with"], rows)


made = runs.made


def tables(results):
    """All measures by finding, as the text of tables.md. results: as for `table`."""
    parts = {}
    for finding, (rows, measures, caption) in TABLES.items():
        columns = {f"`{m}`": [cell(results[row], m) for row in rows] for m in measures}
        parts[finding] = caption, runs.turned(rows, columns)
    return runs.sections("the four published findings", parts)


# ---- recordings -------------------------------------------------------------------------------------------------


def simulate(seed, trials, steps):
    """Arrays of a moving recording, of the same with the velocity of the trial before in each, and at rest, where bumps
    start evenly around the ring, also those of the held-out trials. Returns: {name: dict}."""
    data, rng = simulate_recording(ring(), seed, trials, steps, NOISE), np.random.default_rng(seed)
    n, rest = data["rates"].shape[-1], np.zeros_like(data["velocity"])
    start = RING.places(trials) + rng.uniform(0, 2 * np.pi)
    rates = simulator.simulate(ring(), rest, start, rng, NOISE)
    heading = rest + RING.difference(start, 0)[:, None].astype(np.float32)
    still = {"rates": rates[..., :n], "hidden_rates": rates[..., n:], "velocity": rest, "heading": heading}
    return {"moving": data, "shuffled": data | {"velocity": np.roll(data["velocity"], 1, 0)}, "rest": data | still}


# ---- measures ---------------------------------------------------------------------------------------------------


def mixture(maps, compass, shifter):
    """The share of each unit's tuning map that true shifter neurons' maps explain, the rest being compass neurons'.

    A unit's map is fitted by non-negative least squares with those neurons' maps, scaled to equal norm, whose
    preferred heading is within NEAR of its own: map = c + s, from compass and from shifter neurons. The share is
    s . (c + s) / |c + s|^2, which with the compass neurons' adds up to 1: 0 for a compass neuron, 1 for a shifter.

    maps: (units, velocity, heading); compass, shifter: (neurons, velocity, heading), of other trials than `maps`.
    Returns: (units,) in [0, 1]; NaN for a silent unit.
    """
    neurons = np.concatenate([compass, shifter])
    is_shifter = np.arange(len(neurons)) >= len(compass)
    sampled = np.isfinite(maps).all(0) & np.isfinite(neurons).all(0)  # (velocity, heading)
    ours, theirs = (tuning.preferred_heading(np.where(sampled, m, 0)) for m in (maps, neurons))
    atoms = neurons[:, sampled] / np.maximum(np.linalg.norm(neurons[:, sampled], axis=1, keepdims=True), 1e-12)
    shares = np.full(len(maps), np.nan)
    for k, unit in enumerate(maps[:, sampled]):
        near = np.abs(RING.difference(theirs, ours[k])) < NEAR
        if unit.any() and near.any():
            weights = nnls(atoms[near].T, unit)[0]
            whole, s = weights @ atoms[near], (weights * is_shifter[near]) @ atoms[near]
            shares[k] = s @ whole / max(whole @ whole, 1e-12)
    return shares


def tuned(maps, compass, shifter):
    """The measures of finding 2, means over units.

    `mixture_blind` is the mixture of the maps averaged over velocity: what is due to their width and shape alone.
    """
    mean = np.nansum(maps, 1, keepdims=True) / np.maximum(np.isfinite(maps).sum(1, keepdims=True), 1)
    blind = np.broadcast_to(mean, maps.shape)
    return {
        "mixture": np.nanmean(mixture(maps, compass, shifter)),
        "mixture_blind": np.nanmean(mixture(blind, compass, shifter)),
        "selectivity": np.abs(tuning.direction_selectivity(maps)).mean(),
    }


def matched(net, rec, places, hidden, W_in):
    """The measures of finding 3: input units matched one to one with the shifter neurons, by their rates.

    `r_turning`: correlation of what is left of matched rates when the mean at each heading is taken away, since any
    unit tuned to heading resembles some shifter; `left`, `right`: how many matched units prefer which direction of
    turning; `pushes`: share of matched units whose weights onto the response units lie to that side of the heading they
    prefer, as every shifter's do and by chance one half.

    rec: held-out trials, at whose states the response units are held; places: (n, 1) rad; hidden: (trials, steps,
    shifters) their rates; W_in: (shifters,) their velocity weights.
    """
    rates = predict_hidden(net, rec)
    units, neurons, r = match_units(rates, hidden)
    heading = RING.decode(rec.rates, places)[..., 0]
    maps = tuning.tuning_maps(rates, heading, rec.velocity[..., 0])
    direction = np.sign(tuning.direction_selectivity(maps))
    sent = RING.decode(net.W[net.n :, : net.n], places)[..., 0]
    aside = RING.difference(sent, tuning.preferred_heading(np.nan_to_num(maps)))
    pairs = zip(*(beyond_heading(x, heading)[:, k].T for x, k in ((rates, units), (hidden, neurons))), strict=True)
    return {
        "r_match": r.mean(),
        "r_match_median": np.median(r),
        "r_turning": np.mean([np.nan_to_num(correlation(*pair)) for pair in pairs]),
        "left": int((direction[units] < 0).sum()),
        "right": int((direction[units] > 0).sum()),
        "same_direction": np.mean(direction[units] == np.sign(W_in[neurons])),
        "pushes": np.mean(direction[units] == np.sign(aside[units])),
    }


def beyond_heading(rates, heading, bins=36):
    """Rates less their mean at each heading. rates: (..., units); heading: (...) rad. Returns: (samples, units)."""
    rates = rates.reshape(-1, rates.shape[-1])
    where = (heading.ravel() % (2 * np.pi) / (2 * np.pi) * bins).astype(int) % bins
    sums, count = sum_products(np.eye(bins)[where], rates), np.bincount(where, minlength=bins)
    return rates - (sums / np.maximum(count, 1)[:, None])[where]


def free_running_error(net, rec, places):
    """Whether a network holds a bump at rest for 5 s, clamped to recorded states for 20 steps and then left to itself.

    rec: the trials that the states are taken from, at 10 moments of each; places: (n, 1) rad, of the response units.
    Returns: dict with `persistence`, the share of bumps whose population vector is in the end at least half as long as
    that of the recorded state, and `drift`, rad, the mean |angle| between the two (pi / 2 if nothing is left of them).
    """
    u = network.synaptic_state(rec.rates, net.alpha)
    start = u[:, np.linspace(0, u.shape[1] - 1, 10).astype(int)].reshape(-1, u.shape[-1])  # (starts, n)
    state = np.repeat(start[:, None], 21 + round(5 / rec.dt), 1)
    still = recordings.Recording(state, np.zeros((*state.shape[:2], rec.velocity.shape[-1]), np.float32), rec.dt)
    end = predict(net, still, 20)[:, -1, : net.n]
    before, after = (rates @ np.exp(1j * places[:, 0]) for rates in (start, end))
    return {
        "persistence": np.mean(np.abs(after) >= np.abs(before) / 2),
        "drift": np.abs(RING.difference(np.angle(after), np.angle(before))).mean(),
    }


# ---- one seed ---------------------------------------------------------------------------------------------------


def one_seed(_, seed, sizes, updates):
    """Simulate, train and score. Returns: {row: {measure: value}}."""
    simulated = {name: loaded(arrays) for name, arrays in simulate(seed, *sizes).items()}
    rec, truth = simulated["moving"]
    _, test_trials, held_out = recordings.split(rec)
    places, n, hidden = RING.find(rec.rates), rec.rates.shape[-1], truth["hidden_rates"]
    fits, results, measures = {}, {}, TABLES["Two constraints do it"][1]
    for name, (data, options) in FITS.items():
        own, own_truth = simulated[data]
        train, test, _ = recordings.split(own)
        fits[name] = net = runs.train_network(train, "--seed", seed, *options, *updates)
        found = runs.score_network(net, own, test, own_truth) | free_running_error(net, test_trials, places)
        if len(net.b) > n:
            found["gate_size"] = np.linalg.norm(net.gate()) / np.linalg.norm(fits["separated"].gate())
        results[name] = {m: found[m] for m in measures if m in found}
    for name in ("separated", "shuffled velocity"):
        results[name] |= matched(fits[name], test_trials, places, hidden[held_out], truth["W_in"][0, n:])

    def maps(rates, half, bump=None):  # over the heading of the bump that the network itself has
        heading = RING.decode(rates if bump is None else bump, places)[..., 0]
        return tuning.tuning_maps(rates[half], heading[half], rec.velocity[half, :, 0])

    even, odd = slice(0, None, 2), slice(1, None, 2)
    neurons = maps(rec.rates, even), maps(hidden, even, rec.rates)
    for name in ("separated", "control"):
        free = predict(fits[name], rec, warmup=20)[..., :n]
        results[name] |= tuned(maps(free, odd), *neurons)
    results["true compass neurons"] = tuned(maps(rec.rates, odd), *neurons)
    results["true shifter neurons"] = tuned(maps(hidden, odd, rec.rates), *neurons)
    results["true circuit"] = free_running_error(runs.circuit_of(rec, truth), test_trials, places)
    return {row: {m: float(value) for m, value in measured.items()} for row, measured in results.items()}


def main():
    args = runs.options(__doc__, 5).parse_args()
    results, folder = runs.run_seeds(__file__, "one_seed", ["ring"], args), runs.folder_of(__file__)
    runs.write(folder, results)
    runs.publish(folder, results, table, made, tables=tables)


if __name__ == "__main__":
    main()
