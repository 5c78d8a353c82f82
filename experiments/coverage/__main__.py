"""Do the intervals contain the truth? The estimate on many circuits, each at seeds from 100 on.

Of direct weights, total effects and the effective gate: the share of the 95 % intervals that contain the true value.
Circuits, passive and with known pulses, of 30, 100 and 300 trials, and two kinds that differ from all others: a ring of
another size, alpha and shifters, and one both sparser and more heterogeneous. No network is trained.

Writes results.json, coverage.png, tables.md and the page. Run it from the top folder, as
`python -m experiments.coverage`; with `--circuits`, the other circuits' results of the last run are kept.
"""

import tempfile
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments import runs
from experiments.estimate.cases import JITTER, PULSES, SPARSE, Case, simulate
from experiments.estimate.methods import score
from nsi import estimation, figures, files
from nsi.simulation import circuits

FOLDER = runs.folder_of(__file__)
BAND = 0.92, 0.98  # where coverage should be
FIRST_SEED = 100  # below it the estimate was developed
KINDS = {"W": "direct weights", "total": "total effects", "gate": "effective gate"}
SCORES = "r_W", "r_W_near", "r_dev", "r_total_near", "r_gate", "error_W", "error_gate", "identifiable_fraction"
MEASURES = (*(f"{what}_{kind}" for what in ("coverage", "width") for kind in KINDS), *SCORES)
COLOURS = figures.FITTED, figures.SIMPLE, "#d9a05b"
OTHER_RING = partial(circuits.holding, 84, 36, tau=0.04)  # alpha 0.25
OTHER_UNEVEN = {"jitter": 0.4, "sparse": 0.3}
CASES = {
    "uniform, passive": Case(circuits.ring),
    "uniform, passive, 30 trials": Case(circuits.ring, share=0.3),
    "uniform, passive, 300 trials": Case(circuits.ring, share=3),
    "uniform, pulses": Case(circuits.ring, amplitude=PULSES),
    "jitter 0.2, passive": Case(circuits.ring, JITTER),
    "jitter 0.2, pulses": Case(circuits.ring, JITTER, PULSES),
    "sparse, passive": Case(circuits.ring, SPARSE),
    "sparse, passive, 300 trials": Case(circuits.ring, SPARSE, share=3),
    "sparse, pulses, 30 trials": Case(circuits.ring, SPARSE, PULSES, 0.3),
    "sparse, pulses": Case(circuits.ring, SPARSE, PULSES),
    "holding, passive": Case(circuits.holding),
    "holding, pulses": Case(circuits.holding, amplitude=PULSES),
    "gain, passive": Case(circuits.gain),
    "gain, pulses": Case(circuits.gain, amplitude=PULSES),
    "other ring, passive": Case(OTHER_RING),
    "other ring, pulses": Case(OTHER_RING, amplitude=PULSES),
    "sparse 0.3, jitter 0.4, passive": Case(circuits.ring, OTHER_UNEVEN),
    "sparse 0.3, jitter 0.4, pulses": Case(circuits.ring, OTHER_UNEVEN, PULSES),
}


def measured(name, seed, trials, steps):
    """Simulate one circuit and estimate it. Returns: {measure: value or None}, None where no interval is finite."""
    with tempfile.TemporaryDirectory() as folder:
        data = simulate(CASES[name], seed, trials, steps, Path(folder))
    estimate = estimation.estimate(data.rec)
    row = score(estimate.arrays(), data) | {"identifiable_fraction": estimate.identifiable.mean()}
    return {measure: None if row.get(measure) is None else float(row[measure]) for measure in MEASURES}


def known(values):
    """The values of the seeds that have one."""
    return [value for value in values if value is not None]


def all_of(results):
    """The circuits there are results of. results: with "made" beside them. Returns: {circuit: its row}."""
    return {name: results[name] for name in CASES if name in results}


def cell(values):
    """Mean ± s.d. over seeds of those that there are."""
    return runs.spread(known(values)) if known(values) else "–"


def table(results):
    """Coverage by circuit as Markdown, mean ± s.d. over seeds; in bold, means out of the band.

    results: {circuit: {measure: values over seeds}}.
    """
    rows = []
    for name, row in all_of(results).items():
        cells = []
        for kind in KINDS:
            values = row[f"coverage_{kind}"]
            inside = not known(values) or BAND[0] <= np.mean(known(values)) <= BAND[1]
            cells.append(cell(values) if inside else f"**{cell(values)}**")
        rows.append([name, *cells])
    return runs.markdown(["", *KINDS.values()], rows)


def answer(results):
    """How many circuits are within the band, in a sentence."""
    parts = []
    for kind, name in KINDS.items():
        means = [np.mean(known(row[f"coverage_{kind}"])) for row in all_of(results).values()
                 if known(row[f"coverage_{kind}"])]  # fmt: skip
        inside = sum(BAND[0] <= mean <= BAND[1] for mean in means)
        parts.append(f"{name} {min(means):.3f} to {max(means):.3f} ({inside} of {len(means)} circuits within the band)")
    return f"Share of the 95 % intervals that contain the truth: {'; '.join(parts)}."


def made(results):
    """What runs the results are of, as a sentence."""
    return runs.made(results)


def tables(results):
    """All measures, as the text of tables.md."""
    rows = all_of(results)
    columns = {f"`{m}`": [cell(row[m]) for row in rows.values()] for m in MEASURES}
    caption = (
        "Mean ± s.d. over recordings. `width`: median half-width over the r.m.s. of the truth; `near`: pairs that one "
        "bump can hold; `r_dev`: of single weights' deviations from the mean at their distance, near pairs; `error`: "
        "relative to the size of the truth."
    )
    return runs.sections("the intervals' coverage", {"All measures": (caption, runs.turned(list(rows), columns))})


def figure(results):
    """Coverage by circuit: recordings as small dots, their mean as a large one where there are several."""
    results = all_of(results)
    drawn, ax = plt.subplots(figsize=(7.5, 0.9 + 0.27 * len(results)))
    ax.axvspan(*BAND, color="#e6e6e6", lw=0, zorder=0)
    ax.axvline(0.95, color="grey", lw=0.8, ls=":", zorder=1)
    rows = np.arange(len(results))
    for k, (kind, colour) in enumerate(zip(KINDS, COLOURS, strict=True)):
        for y, row in zip(rows, results.values(), strict=True):
            values, y = known(row[f"coverage_{kind}"]), y + 0.2 * (k - 1)
            ax.plot(values, [y] * len(values), "o", ms=3.5, mew=0, color=colour, alpha=0.4 if len(values) > 1 else 1)
            if len(values) > 1:
                ax.plot(np.mean(values), y, "o", ms=6, color=colour, zorder=3)
            if not values:
                ax.text(BAND[1] + 0.002, y, "none finite", color=colour, va="center", fontsize=6)
        ax.plot([], [], "o", ms=6, color=colour, label=KINDS[kind])
    ax.set_yticks(rows, list(results))
    ax.set_ylim(len(results) - 0.5, -0.5)
    ax.grid(axis="y", color="#efefef", lw=0.6)
    ax.set_axisbelow(True)
    ax.set(xlabel="share of 95 % intervals that contain the true value", xlim=(min(0.8, ax.get_xlim()[0]), 1.005))
    drawn.legend(ncols=len(KINDS), loc="outside upper center")
    return drawn


def main():
    p = runs.options(__doc__, 1, CASES)
    p.add_argument("--draw", action="store_true", help="only draw the results of the last run")
    args = p.parse_args()
    results = runs.read(FOLDER)
    if not args.draw:
        for name in args.circuits:
            seeds = range(FIRST_SEED, FIRST_SEED + args.seeds)
            rows = [{name: runs.apart("experiments.coverage.__main__", "measured", name, seed, args.trials, args.steps)}
                    for seed in seeds]  # fmt: skip
            results |= runs.gathered(rows)
            made_of = results.get("made", {}) | {name: runs.size(args, CASES[name].share)}
            results["made"] = {case: made_of[case] for case in all_of(results)}
            runs.write(FOLDER, {"made": results["made"]} | all_of(results))
            print(f"  {name}", flush=True)
    figures.set_style()
    with files.whole(FOLDER / "coverage.png") as temporary:
        figure(results).savefig(temporary)
    runs.publish(FOLDER, results, answer, made, table, tables=tables)


if __name__ == "__main__":
    main()
