"""The protocerebral bridge, where left and right P-EN1 neurons lie apart: what a fit to E-PG alone says of them.

Leaving one fly out, networks are fitted to E-PG activity and velocity of the others, with the assumption that E-PG
neurons inhibit each other and without, and run along the fly's record. No P-EN1 neuron enters (*zero-shot*): an input
unit belongs to the side from which P-EN1 neurons send the way that it sends (in the connectome left ones send to higher
angles), is drawn at the angle from which it receives, as a patch of the ring, as strongly as it sends, and all is
filtered once more, as calcium is. Rivals: the velocity alone, a hand-made shifter, each glomerulus' E-PG activity times
turns to its side, both through the same filter; and a ridge fitted on P-EN1 of the other flies, from E-PG, v and their
product through three filters.

*left - right*: correlation of mean left minus mean right activity with the recorded; *pattern*: over all rows and time,
each row's mean taken away; *partial*: the same after E-PG at all relative angles through three filters, and for either
side its own, is taken from both. One value for each fly. The trials of another time step are resampled.

Writes bridge.json and the page's table. Run it from the top folder, as `python -m experiments.flies.bridge`.
"""

from pathlib import Path

import numpy as np
import torch

from experiments import runs
from experiments.flies.fit import fitted
from experiments.flies.neurons import FILTERS, input_units
from experiments.flies.prediction import BEFORE, vector
from experiments.flies.wiring import displacement
from nsi import recordings
from nsi.connectivity import correlation
from nsi.geometry import RING
from nsi.network import synaptic_state
from nsi.run import cli

FITS = {"nothing assumed": "none", "inhibition": "inhibition", "inhibition, shuffled velocity": "inhibition"}
PATCH, CALCIUM = 2.0, 0.25  # how narrow a patch is (of a von Mises density); alpha of the last filter
RIGHT, LEFT = slice(0, None, 2), slice(1, None, 2)  # rows, as nsi/recordings/flies.py puts them
MEASURES = "left - right", "pattern", "partial"


def drawn(net, states):
    """Input units as a picture of P-EN1's rows. states: (trials, steps, input units). Returns: (trials, steps, 16)."""
    n = net.n
    received, sent = vector(net.W[:n, n:].T), np.abs(vector(net.W[n:, :n]))
    left = np.sign(net.W_in[0, n:]) * np.sign(displacement(net)) > 0  # it drives the bump to higher angles
    picture = sent[:, None] * np.exp(PATCH * (np.cos(np.angle(received)[:, None] - RING.places(n)[:, 0]) - 1))
    picture[left, RIGHT] = picture[~left, LEFT] = 0.0
    return states @ picture


def scored(picture, pen, rec, lag=CALCIUM):
    """MEASURES of a picture of one fly, filtered. picture, pen: (trials, steps, 16). Returns: {measure: value}."""
    picture = synaptic_state(picture, lag)
    keep = rec.valid & (np.arange(rec.rates.shape[1]) >= BEFORE)
    aside = lambda x: (x[..., LEFT].mean(-1) - x[..., RIGHT].mean(-1))[keep]  # noqa: E731
    pair = np.stack([(x - x[keep].mean(0))[keep] for x in (picture, pen)], -1).astype(float)  # (samples, 16, 2)
    rest = np.empty_like(pair)
    for side in (LEFT, RIGHT):
        x, y = compass(rec)[keep][:, side].reshape(-1, 16 * len(FILTERS)), pair[:, side].reshape(-1, 2)
        G = x.T @ x
        left = y - x @ np.linalg.solve(G + 1e-6 * np.trace(G) / len(G) * np.eye(len(G)), x.T @ y)
        rest[:, side] = left.reshape(pair[:, side].shape)
    values = correlation(aside(picture), aside(pen)), *(correlation(*x.reshape(-1, 2).T) for x in (pair, rest))
    return {name: float(value) for name, value in zip(MEASURES, values, strict=True)}


def compass(rec):
    """E-PG activity seen from each row: at all relative angles, through FILTERS. (trials, steps, 16, 16 filters)."""
    keep = rec.valid & (np.arange(rec.rates.shape[1]) >= BEFORE)
    filtered = [synaptic_state(rec.rates, alpha) for alpha in FILTERS]
    filtered = [x - x[keep].mean(0) for x in filtered]
    return np.stack([np.roll(x, k, -1) for x in filtered for k in range(16)], -1).astype(float)


def rivals(rec, pen, fly):
    """Pictures of one fly without a network. fly: (trials,) bool. Returns: {name: picture, and alpha of its filter}."""
    v = rec.velocity[fly][..., :1]
    signed = np.zeros((*v.shape[:2], 16))
    signed[..., LEFT], signed[..., RIGHT] = -v, v  # turns to the right, v > 0, drive the right side
    here = rec.rates[fly]
    hand = np.zeros_like(signed)
    hand[..., LEFT], hand[..., RIGHT] = here[..., LEFT] * np.maximum(0, -v), here[..., RIGHT] * np.maximum(0, v)
    mapped = ridge(through(rec.rates, rec.velocity[..., :1]), pen, rec, fly)
    return {"velocity, filtered": (signed, CALCIUM), "E-PG times either side's turns": (hand, CALCIUM),
            "ridge on other flies' P-EN1": (mapped, 1.0)}  # fmt: skip


def through(rates, v):
    """Rates, the velocity and their product through FILTERS. (trials, steps, n) and 1 to (trials, steps, any)."""
    return np.concatenate([synaptic_state(a, alpha) for a in (rates, v, rates * v) for alpha in FILTERS], -1)


def ridge(x, y, rec, fly):
    """What a linear map from x to y, fitted on the other flies, makes of one fly's x.

    x, y: (trials, steps, any); fly: (trials,) bool. Returns: the fly's y, (its trials, steps, any).
    """
    x = np.concatenate([x, np.ones((*x.shape[:2], 1))], -1).astype(float)
    other = (rec.valid & (np.arange(x.shape[1]) >= BEFORE))[~fly]
    a, b = x[~fly][other], y[~fly][other].astype(float)
    G = a.T @ a
    return x[fly] @ np.linalg.solve(G + 1e-4 * np.trace(G) / len(G) * np.eye(len(G)), a.T @ b)


def left_out(rec, pen, *options):
    """Every fly, by networks fitted to the others and by rivals. Returns: {row: {measure: one value for each fly}}."""
    found = {}
    moved = recordings.shuffled(rec, 0)
    for k in np.unique(rec.animal):
        fly = rec.animal == k
        here, pictures = rec.trials(fly), rivals(rec, pen, fly)
        for name, assume in FITS.items():
            seen = moved if "shuffled" in name else rec
            nets = fitted(seen.trials(~fly), *options, "--assume", assume)
            pictures[name] = np.mean([drawn(net, input_units(net, here)[0]) for net in nets], 0), CALCIUM
            row = found.setdefault(name, {})
            row.setdefault("displacement", []).append(float(np.mean([abs(displacement(net)) for net in nets])))
        for name, (picture, lag) in pictures.items():
            for measure, value in scored(picture, pen[fly], here, lag).items():
                found.setdefault(name, {}).setdefault(measure, []).append(value)
        print(f"  left out fly {k + 1} of {rec.animal.max() + 1}", flush=True)
    return found


def table(results):
    """Markdown. results: of bridge.json."""
    rows, digits = [], {**dict.fromkeys(MEASURES, 3), "displacement": 0}
    for name, row in results.items():
        cells = [runs.spread(row[m], d) if m in row else "–" for m, d in digits.items()]
        rows.append([name, *cells])
        signs = np.array(row["left - right"]) > 0
        rows[-1][1] += f" ({signs.sum()}/{len(signs)} > 0)"
    return runs.markdown(["", *(f"`{m}`" for m in digits)], rows)


def main():
    p = cli.Parser("Test fits to E-PG of the protocerebral bridge on left and right P-EN1 neurons.")
    p.add_argument("--data", type=Path, default="data/bridge.npz", help="as experiments.flies.read writes of PEN1-PB")
    p.add_argument("--updates", type=int, default=800, help="of every fit")
    p.add_argument("--replicas", type=int, default=1, help="networks for each fly left out")
    options = p.parse_args()
    rec, folder = recordings.load(options.data), runs.folder_of(__file__)
    pen = recordings.load_held_out(options.data, rec)
    torch.set_flush_denormal(True)
    results = left_out(rec, pen, "--updates", str(options.updates), "--replicas", str(options.replicas))
    runs.write(folder, results, "bridge.json")
    runs.page(folder, bridge=table(results))
    print(table(results))


if __name__ == "__main__":
    cli.run(main)
