"""Which observation model for real flies? One network per fly left out, for each variant of fly.sh's settings.

Calcium is a slow, noisy readout of rate. The variants: the time constant of the network's state, dt / alpha, by which
calcium is filtered once more; calcium taken as filtered rate and deconvolved first (time constant DECAY); velocity
delayed by a step; fewer input units; one baseline and gain for all wedges of a trial instead of each wedge's own, for
which the authors' files are needed (`--folder`). Rows are errors of free-running prediction, mean |angle| in rad,
mean ± s.d. over flies, on the recording as it is. Run it from the top folder, as `python -m benchmarks.fly_models`,
which writes benchmarks/fly_models.md.
"""

from pathlib import Path

import numpy as np
import torch

import fly as reader
import recording
from experiments import fly, runs

DECAY = 0.3  # s, of GCaMP6f's fluorescence in fly neurons, roughly


def deconvolved(rec, _):
    """Rates whose filtered sum is the calcium: c[t + 1] = c[t] + dt / DECAY * (r[t] - c[t]), where that is positive."""
    later = np.concatenate([rec.rates[:, 1:], rec.rates[:, -1:]], 1)
    rates = np.maximum(0, rec.rates + (later - rec.rates) * DECAY / rec.dt)
    return recording.Recording(**vars(rec) | {"rates": (rates / np.quantile(rates, 0.99)).astype(np.float32)})


def together(rec, folder):
    """One baseline and gain for all wedges of a trial. folder: with the authors' files, all of them."""
    trials = [reader.read_trial(path, together=True) for path in sorted(folder.rglob("*.mat"))]
    return recording.Recording(**vars(rec) | {"rates": reader.assemble(trials)["rates"]})


def delayed(rec, _):
    """The velocity of the step before."""
    return recording.Recording(**vars(rec) | {"velocity": np.roll(rec.velocity, 1, 1)})


VARIANTS = {
    "as in fly.sh: alpha 0.5": ([], None),
    "rates deconvolved": ([], deconvolved),
    "alpha 0.3": (["--alpha", "0.3"], None),
    "alpha 0.8": (["--alpha", "0.8"], None),
    "velocity delayed": ([], delayed),
    "16 input units": (["--input-units", "16"], None),
    "one baseline and gain per trial": ([], together),
}


def table(rows):
    """Markdown. rows: {variant: (flies, horizons)}."""
    lines = ["| | " + " | ".join(f"{h:g} s" for h in fly.HORIZONS) + " |", "|" + " --- |" * (len(fly.HORIZONS) + 1)]
    lines += [f"| {name} | " + " | ".join(runs.spread(x) for x in np.transpose(v)) + " |" for name, v in rows.items()]
    return "\n".join(lines)


def errors(rec, options, change, folder):
    """Leave one fly out. options: for train.py; change: what is done to the recording, or None. (flies, horizons)."""
    seen, args = change(rec, folder) if change else rec, fly.settings("--replicas", "1", *options)
    args.bootstrap = False
    rows = []
    for k in np.unique(rec.fly):
        fitted = fly.fit(seen.trials(rec.fly != k), args)
        held_out, as_it_is = (fly.pieces(one.trials(rec.fly == k))[0] for one in (seen, rec))
        rows.append(fly.missed(np.angle(fly.predict(fitted, held_out)), as_it_is).mean(0).tolist())
    return rows


def main():
    p = recording.Parser("Compare observation models on flies left out.")
    p.add_argument("--data", type=Path, default="data/fly.npz", help="as fly.py writes")
    p.add_argument("--folder", type=Path, default="PEN1-EB", help="the authors' files, for their own scaling")
    p.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="these variants")
    p.add_argument("--out", type=Path, default="benchmarks/fly_models.md", help="the table")
    options = p.parse_args()
    rec, rows = recording.load(options.data), {}
    torch.set_flush_denormal(True)
    for name in options.only:
        rows[name] = errors(rec, *VARIANTS[name], options.folder)
        options.out.write_text(f"# Observation models for real flies\n\n{__doc__.strip()}\n\n{table(rows)}\n")
        print(name, np.mean(rows[name], 0).round(3), flush=True)


if __name__ == "__main__":
    recording.run(main)
