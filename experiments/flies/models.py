"""Which observation model for real flies? One network per fly left out, for each variant of fit.py's settings.

Calcium is a slow, noisy readout of rate. The variants: the time constant of the network's state, dt / alpha, by which
calcium is filtered once more; calcium taken as filtered rate and deconvolved first (time constant DECAY); velocity
delayed by a step; fewer input units; one baseline and gain for all wedges of a trial instead of each wedge's own, for
which the authors' files are needed (`--folder`). Rows are errors of free-running prediction, mean |angle| in rad,
mean ± s.d. over flies, on the recording as it is. Run it from the top folder, as `python -m experiments.flies.models`,
which writes models.json and the page's table.
"""

from pathlib import Path

import numpy as np
import torch

from experiments import runs
from experiments.flies import prediction
from experiments.flies.fit import fitted
from nsi import recordings
from nsi.recordings import flies
from nsi.run import cli

DECAY = 0.3  # s, of GCaMP6f's fluorescence in fly neurons, roughly


def deconvolved(rec, _):
    """Rates whose filtered sum is the calcium: c[t + 1] = c[t] + dt / DECAY * (r[t] - c[t]), where that is positive."""
    later = np.concatenate([rec.rates[:, 1:], rec.rates[:, -1:]], 1)
    rates = np.maximum(0, rec.rates + (later - rec.rates) * DECAY / rec.dt)
    return recordings.Recording(**vars(rec) | {"rates": (rates / np.quantile(rates, 0.99)).astype(np.float32)})


def together(rec, folder):
    """One baseline and gain for all wedges of a trial. folder: with the authors' files, all of them."""
    trials = [flies.read_trial(path, together=True) for path in flies.select(folder)[0]]
    return recordings.Recording(**vars(rec) | {"rates": flies.assemble(trials)["rates"]})


def delayed(rec, _):
    """The velocity of the step before."""
    return recordings.Recording(**vars(rec) | {"velocity": np.roll(rec.velocity, 1, 1)})


VARIANTS = {
    "as in fit.py: alpha 0.5": ([], None),
    "rates deconvolved": ([], deconvolved),
    "alpha 0.3": (["--alpha", "0.3"], None),
    "alpha 0.8": (["--alpha", "0.8"], None),
    "velocity delayed": ([], delayed),
    "16 input units": (["--input-units", "16"], None),
    "one baseline and gain per trial": ([], together),
}


def table(rows):
    """Markdown. rows: {variant: (flies, horizons)}."""
    lines = [
        "| | " + " | ".join(f"{h:g} s" for h in prediction.HORIZONS) + " |",
        "|" + " --- |" * (len(prediction.HORIZONS) + 1),
    ]
    lines += [f"| {name} | " + " | ".join(runs.spread(x) for x in np.transpose(v)) + " |" for name, v in rows.items()]
    return "\n".join(lines)


def errors(rec, options, change, folder, more):
    """Leave one fly out. options, more: for train.py; change: of the recording, or None. (flies, horizons)."""
    seen = change(rec, folder) if change else rec
    rows = []
    for k in np.unique(rec.animal):
        nets = fitted(seen.trials(rec.animal != k), "--replicas", "1", *options, *more, bootstrap=False)
        held_out, as_it_is = (prediction.pieces(one.trials(rec.animal == k))[0] for one in (seen, rec))
        rows.append(prediction.missed(np.angle(prediction.predict(nets, held_out)), as_it_is).mean(0).tolist())
    return rows


def main():
    p = cli.Parser("Compare observation models on flies left out.")
    p.add_argument("--data", type=Path, default="data/fly.npz", help="as experiments.flies.read writes")
    p.add_argument("--folder", type=Path, default="PEN1-EB", help="the authors' files, for their own scaling")
    p.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="these variants")
    p.add_argument("--updates", type=int, default=800, help="of every fit")
    options = p.parse_args()
    rec, rows = recordings.load(options.data), {}
    torch.set_flush_denormal(True)
    for name in options.only:
        rows[name] = errors(rec, *VARIANTS[name], options.folder, ("--updates", str(options.updates)))
        print(name, np.mean(rows[name], 0).round(3), flush=True)
    if len(rows) == len(VARIANTS):
        folder = runs.folder_of(__file__)
        runs.write(folder, rows, "models.json")
        runs.page(folder, models=table(rows))


if __name__ == "__main__":
    cli.run(main)
