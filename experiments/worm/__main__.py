"""Do estimates from whole-brain recordings of worms agree with their anatomy, and with stimulation?

    python -m experiments.worm WORM.npz [--draws 200]

WORM.npz (the page beside this script says where it comes from): traces_f_f20 (worms, steps, N), recorded (worms, N),
chemical and gap (N, N), atlas_q and atlas_trials (N, N), dt. Each worm is estimated alone, without geometry and without
known inputs; the score of a pair is its mean over the worms in which both neurons were recorded. Writes results.json
and worm.png beside this script.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from scipy.stats import rankdata

from experiments import runs
from nsi.estimation import exchangeable
from nsi.recordings import Recording

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PIECES, RIDGE, PERCENTILES = 8, 50.0, (2.5, 97.5)  # pieces of a recording, as trials; samples, of the one-step ridge
ATLAS_Q = 0.05
REFERENCES = "chemical", "gap", "stimulation"


def auc(score, positive):
    """Probability that a positive scores higher than another, ties half. score, positive: (pairs,)."""
    n, rank = positive.sum(), rankdata(score)
    several = 0 < n < len(positive)
    return (rank[positive].sum() - n * (n + 1) / 2) / (n * (len(positive) - n)) if several else np.nan


def estimate(trace, dt):
    """Estimate one worm. trace: (steps, n), >= 0. Returns: the fields of an Estimate, as a dict."""
    length = len(trace) // PIECES
    rates = np.maximum(trace[: PIECES * length], 0).reshape(PIECES, length, -1).astype(np.float32)
    return exchangeable.estimate_fields(Recording(rates, np.zeros_like(rates[..., :1]), dt, decoded=True))


def methods(trace, dt):
    """Scores of all pairs by each method. Returns: dict of names to (n, n), and what the estimate says of itself."""
    z = (trace - trace.mean(0)) / np.maximum(trace.std(0), 1e-9)
    one_step = np.linalg.solve(z[:-1].T @ z[:-1] + RIDGE * np.eye(z.shape[1]), z[:-1].T @ np.diff(z, axis=0))
    found = estimate(trace, dt)
    scale = trace.std(0)[:, None] / np.maximum(trace.std(0), 1e-9)  # weights between neurons of equal variance
    said = {k: found["verdicts"][k] for k in ("response", "description")} | {
        "alpha": found["alpha"], "connected": found["prior"]["connected"],
        "excludes_0": float(np.mean(np.abs(found["W_unbiased"]) > 1.96 * found["W_se"])),
    }  # fmt: skip
    return {"estimate": np.abs(found["W"] * scale), "probability": found["probability"],
            "one-step ridge": np.abs(one_step), "correlation": np.abs(np.corrcoef(z.T))}, said  # fmt: skip


def average(scores):
    """Mean over the worms that have the pair. scores: (worms, N, N), NaN elsewhere. Returns: (N, N)."""
    known = np.isfinite(scores)
    return np.where(known.any(0), np.where(known, scores, 0).sum(0) / np.maximum(known.sum(0), 1), np.nan)


def agreement(score, data):
    """AUC against each of REFERENCES. score: (N, N), NaN where nothing is said. Returns: (3,)."""
    use = np.isfinite(score) & ~np.eye(len(score), dtype=bool)
    tested = use & (data["atlas_trials"] > 0)
    return np.array([
        auc(score[use], data["chemical"][use] > 0),
        auc(score[use], data["gap"][use] > 0),
        auc(score[tested], data["atlas_q"][tested] < ATLAS_Q),
    ])  # fmt: skip


def compare(data, draws):
    """All methods, with percentile intervals over worms drawn with replacement. Returns: results."""
    n, recorded, by_method, said = len(data["gap"]), data["recorded"], {}, []
    for trace, mask in zip(data["traces_f_f20"], recorded, strict=True):
        at = np.flatnonzero(mask)
        scores, own = methods(trace[:, at].astype(float), float(data["dt"]))
        said.append(own)
        for name, score in scores.items():
            whole = np.full((n, n), np.nan)
            whole[np.ix_(at, at)] = score
            by_method.setdefault(name, []).append(whole)
    rng = np.random.default_rng(0)
    together = recorded[:, :, None] & recorded[:, None]
    by_method["random"] = np.where(together, np.abs(rng.standard_normal(together.shape)), np.nan)
    index, rows = rng.integers(len(recorded), size=(draws, len(recorded))), {}
    mean = lambda scores: lambda k: agreement(average(scores[k]), data)
    count = lambda k: np.where(together[k].any(0), together[k].sum(0), np.nan)
    measured = {name: mean(np.stack(list(scores))) for name, scores in by_method.items()}
    measured["worms with the pair"] = lambda k: agreement(count(k), data)
    for name, measure in measured.items():
        interval = np.percentile([measure(k) for k in index], PERCENTILES, axis=0).T
        rows[name] = {"auc": measure(slice(None)).tolist(), "interval": interval.tolist()}
    return {"auc": rows, "worms": said, "draws": draws}


def table(results):
    """Rows of the page's table. Returns: markdown."""
    text = lambda v, i: f"{v:.3f} ({i[0]:.3f} to {i[1]:.3f})"
    return runs.markdown(
        ["score of a pair", *REFERENCES],
        [(name, *map(text, row["auc"], row["interval"])) for name, row in results["auc"].items()],
    )


def draw(results, path):
    """AUC of each score against each reference, with its interval. Writes a PNG."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), sharey=True, layout="constrained")
    names = list(results["auc"])
    for k, ax in enumerate(axes):
        for y, name in enumerate(names):
            row = results["auc"][name]
            ax.plot(row["interval"][k], [y, y], color="C0" if y < 2 else "0.5")
            ax.plot(row["auc"][k], y, "o", color="C0" if y < 2 else "0.5")
        ax.axvline(0.5, color="k", lw=0.5)
        ax.set(title=REFERENCES[k], xlabel="AUC", yticks=range(len(names)), yticklabels=names)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("data", type=Path, help="worm.npz")
    p.add_argument("--draws", type=int, default=200, help="of worms, for the intervals")
    args = p.parse_args()
    with np.load(args.data) as file:
        data = {k: file[k] for k in ("traces_f_f20", "recorded", "chemical", "gap", "atlas_q", "atlas_trials", "dt")}
    results, folder = compare(data, args.draws), runs.folder_of(__file__)
    runs.write(folder, results)
    draw(results, folder / "worm.png")
    runs.page(folder, auc=table(results))
    print(table(results))
    for own in results["worms"]:
        print(own)


if __name__ == "__main__":
    main()
