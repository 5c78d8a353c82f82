"""The reverse: from P-EN1 neurons of the protocerebral bridge alone, where is the bump of the E-PG neurons?

Leaving one fly out, networks are fitted to P-EN1 and velocity of the others. P-EN1's 16 rows are recorded and driven by
the velocity; hidden units that are not driven stand for E-PG. P-EN1 do not connect to each other, so that what moves
them is the velocity and the hidden units, which may only excite them. Along the record of the fly left out the state of
P-EN1 is *pulled*: at each step it moves the fraction f of the way to the record, so that the network is an observer
that weighs what it foresees against what is seen. It is trained under a pull of PULL throughout.

A hidden unit's place is the angle at which it sends to P-EN1's rows, whose angles are those of the wedge from which
E-PG neurons come to their glomerulus (nsi/recordings/flies.py): anatomy, and no angle is free. The rows turned around
the ring by an even number, so that left stays left, are fitted as well: the circuit is taken to be alike all around.
No E-PG neuron enters the fit, the places or f: of PULLS, f is the one that foresees P-EN1's population vector best, at
the HORIZONS of prediction.py, on the flies that are fitted. A null model is fitted to the velocity of other trials.

Rivals without E-PG: the population vector of P-EN1, filtered; a rotating leaky integrator, z turned by gain times v and
moved by a leak towards that vector; the same with a bump that turns as far as the fly does. Filter, leak and gain are
chosen as f is. Rivals and network with a map, fitted on the other flies' E-PG: ridge from P-EN1, v and their product
through three filters; ridge from the hidden units; the integrator, its gain and leak those that suit their E-PG best.

Measures: mean |angle| to E-PG's recorded bump over all samples and over the half in which that bump is clearer; share
of E-PG's variance explained. One value for each fly. Chance is about pi / 2.

Writes reverse.json and the page's table. Run it from the top folder, as `python -m experiments.flies.reverse`.
"""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from experiments import runs
from experiments.flies.bridge import ridge, through
from experiments.flies.fit import fitted
from experiments.flies.prediction import BEFORE, EVERY, ahead, vector
from nsi import recordings
from nsi.geometry import RING
from nsi.network import run, synaptic_state
from nsi.run import cli
from nsi.unrecorded import explained

HIDDEN, PULL = 64, 0.2  # hidden units, and the pull of the training
SETTINGS = (
    *("--alpha", "0.5", "--window", "20", "--batch", "80", "--lr", "2e-2"),
    *("--response-units", str(HIDDEN), "--assume", "excited,apart", "--favour", "neither", "--forcing", str(PULL)),
)
PULLS = 0.1, 0.2, 0.3
GAINS, LEAKS = np.arange(-15, 16) / 10, (0.5, 0.3, 0.2, 0.1, 0.05, 0.03)
TURNS = -1.0  # gain of a bump that turns as the fly does: v > 0, to the right, moves it to lower angles of the rows
RIVALS = "population vector, filtered", "rotating integrator", "rotating integrator, gain -1"
NETWORKS = "network, held", "network, pulled", "network, pulled, shuffled velocity"
MAPPED = "rotating integrator, mapped"  # its gain and leak are; the first row of those that have seen E-PG
RIDGES = "ridge from P-EN1 and velocity", "ridge from the hidden units"
MEASURES = {"all": 3, "clearer half": 3, "explained": 3}  # digits


def around(rec):
    """A recording of P-EN1 with the rows turned around the ring by every even number, as further trials."""
    count = rec.rates.shape[-1] // 2
    again = rec.trials(np.tile(np.arange(len(rec.rates)), count))
    return replace(again, rates=np.concatenate([np.roll(rec.rates, 2 * k, -1) for k in range(count)]))


def observe(net, rec, pull):
    """Run a network along the record, pulled. Returns: rates and states, (trials, steps, units) float32."""
    recorded = synaptic_state(rec.rates, net.alpha)
    u = np.zeros((len(recorded), len(net.b)), np.float32)
    u[:, : net.n] = recorded[:, 0]
    r = np.empty((*recorded.shape[:2], len(net.b)), np.float32)
    states = np.empty_like(r)
    steps = run(net, rec.velocity, u, recorded=recorded, held=len(recorded[0]), pull=pull)
    for t, (before, rates) in enumerate(steps):
        states[:, t], r[:, t] = before, rates
    return r, states


def decoded(net, r):
    """The bump of the hidden units, each at the angle that it sends to and as strong as it sends.

    r: (trials, steps, units). Returns: (trials, steps) complex.
    """
    return r[..., net.n :] @ vector(net.W[net.n :, : net.n])


def starts(rec):
    """Steps from which P-EN1 is foreseen."""
    return np.arange(BEFORE, rec.rates.shape[1] - ahead(rec.dt).max(), EVERY)


def wrong(bump, rec):
    """How far a foreseen bump is from the recorded population vector. bump: (trials, starts, horizons) angles.

    Returns: mean |angle| over samples and then horizons, for each fly, rad.
    """
    then = starts(rec)[:, None] + ahead(rec.dt)
    error, seen = np.abs(RING.difference(bump, np.angle(vector(rec.rates))[:, then])), rec.valid[:, then]
    ours = [rec.animal == k for k in np.unique(rec.animal)]
    return [float(np.mean([error[k, :, h][seen[k, :, h]].mean() for h in range(then.shape[1])])) for k in ours]


def foresee(nets, rec, pull):
    """Where networks, pulled up to a moment and then free, see P-EN1's vector. (trials, starts, horizons) angles."""
    first, far = starts(rec), ahead(rec.dt)
    velocity = rec.velocity[:, first[:, None] + np.arange(far.max() + 1)].reshape(-1, far.max() + 1, 1)
    total = 0
    for net in nets:
        u = observe(net, rec, pull)[1][:, first].reshape(len(velocity), -1)
        free = np.stack([vector(r[:, : net.n]) for t, (_, r) in enumerate(run(net, velocity, u)) if t in far], -1)
        total = total + free.reshape(len(rec.rates), len(first), -1)
    return np.angle(total)


def integrate(rec, gain, leak):
    """P-EN1's population vector, leaky, and turned by the velocity. Returns: (trials, steps) complex."""
    p, turn = vector(rec.rates), np.exp(1j * gain * rec.dt * rec.velocity[..., 0])
    z = p.copy()
    for t in range(1, p.shape[1]):
        z[:, t] = (1 - leak) * z[:, t - 1] * turn[:, t] + leak * p[:, t]
    return z


def integrated(rec, gain, leak):
    """Where an integrator sees P-EN1's vector ahead. Returns: (trials, starts, horizons) angles."""
    first = starts(rec)[:, None]
    turned = np.cumsum(rec.velocity[..., 0], 1) * rec.dt
    more = turned[:, first + ahead(rec.dt)] - turned[:, first]
    return np.angle(integrate(rec, gain, leak))[:, first] + gain * more


def best(errors):
    """The key of the least error. errors: {key: rad}."""
    return min(errors, key=errors.get)


def settled(rec):
    """Samples that count. Returns: (trials, steps) bool."""
    return rec.valid & (np.arange(rec.rates.shape[1]) >= BEFORE)


def each(bump, rec):
    """How far a bump is from E-PG's. bump: (trials, steps) complex; rec: E-PG.

    Returns: mean |angle| over "all" samples and the "clearer half" of each fly's, one value for each fly, rad.
    """
    recorded, found = vector(rec.rates), {"all": [], "clearer half": []}
    error = np.abs(RING.difference(np.angle(bump), np.angle(recorded)))
    clearness = np.abs(recorded) / np.maximum(rec.rates.sum(-1), 1e-12)
    for k in np.unique(rec.animal):
        keep = settled(rec) & (rec.animal == k)[:, None]
        clear = keep & (clearness > np.median(clearness[keep]))
        found["all"].append(float(error[keep].mean()))
        found["clearer half"].append(float(error[clear].mean()))
    return found


def integrators(rec, pen):
    """Gain and leak of the rivals, for every fly left out. Returns: {name: [(gain, leak) for each fly]}."""
    grid = list(itertools.product(GAINS.tolist(), LEAKS))
    foreseen = {o: wrong(integrated(pen, *o), pen) for o in grid}
    known = {o: each(integrate(pen, *o), rec)["all"] for o in grid}
    of = lambda gain: {o: errors for o, errors in foreseen.items() if o[0] == gain}  # noqa: E731
    from_which = dict(zip((*RIVALS, MAPPED), (of(0.0), foreseen, of(TURNS), known), strict=True))
    others = [np.arange(rec.animal.max() + 1) != k for k in np.unique(rec.animal)]
    return {name: [best({o: np.array(e)[other].mean() for o, e in errors.items()}) for other in others]
            for name, errors in from_which.items()}  # fmt: skip


def left_out(rec, pen, *options):
    """Every fly, by networks fitted to P-EN1 of the others and by rivals.

    rec: with E-PG's rates; pen: the same flies' P-EN1. Returns: {row: {measure: one value for each fly}}.
    """
    chosen = integrators(rec, pen)
    found = {name: {} for name in (*RIVALS, *NETWORKS, MAPPED, *RIDGES)}
    for k in np.unique(rec.animal):
        fly = rec.animal == k
        bumps = {name: (integrate(pen.trials(fly), *option[k]), option[k]) for name, option in chosen.items()}
        theirs = pen.trials(~fly)
        given = theirs, recordings.shuffled(theirs, 0)
        nets, null = (fitted(around(one), *options, bootstrap=False, settings=SETTINGS, steady=True) for one in given)
        pull = best({f: np.mean(wrong(foresee(nets, theirs, f), theirs)) for f in PULLS})
        for name, some, f in zip(NETWORKS, (nets, nets, null), (1.0, pull, pull), strict=True):
            bumps[name] = sum(decoded(net, observe(net, pen.trials(fly), f)[0]) for net in some), (f,)
        units = np.concatenate([observe(net, pen, pull)[0][..., net.n :] for net in nets], -1)
        for name, x in zip(RIDGES, (through(pen.rates, pen.velocity[..., :1]), units), strict=True):
            rates, keep = ridge(x, rec.rates, rec, fly), settled(rec)[fly]
            found[name].setdefault("explained", []).append(explained(rates[keep], rec.rates[fly][keep]))
            bumps[name] = vector(rates), ()
        for name, (bump, option) in bumps.items():
            for measure, value in each(bump, rec.trials(fly)).items():
                found[name].setdefault(measure, []).extend(value)
            found[name].setdefault("chosen", []).append(list(option))
        print(f"  left out fly {k + 1} of {rec.animal.max() + 1}", flush=True)
    return found


def table(results):
    """Markdown; in brackets, on how many flies a row is nearer than the rotating integrator. results: its file's."""
    rows = []
    for name, row in results.items():
        if name == MAPPED:
            rows.append(["*with a map fitted on other flies' E-PG*", "", "", "", ""])
        cells = [runs.spread(row[m], digits) if m in row else "–" for m, digits in MEASURES.items()]
        if name != RIVALS[1]:
            nearer = np.array(row["all"]) < results[RIVALS[1]]["all"]
            cells[0] += f" ({nearer.sum()}/{len(nearer)})"
        rows.append([name, *cells, told(row["chosen"])])
    return runs.markdown(["", *(f"`{m}`" for m in MEASURES), "chosen"], rows)


def told(chosen):
    """What was chosen for the flies, in words. chosen: (flies, any), of f, or of gain and leak."""
    names = ("f",) if len(chosen[0]) == 1 else ("gain", "leak")
    values = [", ".join(f"{x:g}" for x in sorted(set(column))) for column in zip(*chosen, strict=True)]
    return "; ".join(f"{name} {value}" for name, value in zip(names, values, strict=False)) or "–"


def main():
    p = cli.Parser("Infer the bump of E-PG from P-EN1 neurons of the protocerebral bridge alone.")
    p.add_argument("--data", type=Path, default="data/bridge.npz", help="as experiments.flies.read writes of PEN1-PB")
    p.add_argument("--updates", type=int, default=1600, help="of every fit")
    p.add_argument("--replicas", type=int, default=2, help="networks for each fly left out")
    p.add_argument("--seed", type=int, default=0, help="of the first of them")
    options = p.parse_args()
    rec, folder = recordings.load(options.data), runs.folder_of(__file__)
    rates = recordings.load_held_out(options.data, rec)
    pen = replace(rec, rates=rates, driven=np.ones(rates.shape[-1], bool))
    torch.set_flush_denormal(True)
    more = (f"--{name}={getattr(options, name)}" for name in ("updates", "replicas", "seed"))
    results = left_out(rec, pen, *more)
    runs.write(folder, results, "reverse.json")
    runs.page(folder, reverse=table(results))
    print(table(results))


if __name__ == "__main__":
    cli.run(main)
