"""Do the intervals hold? Share of the finite 95 % intervals that hold the true value, circuit by circuit.

Of the direct weights, of the total effects (direct weights and paths through hidden neurons together) and of the
effective gate. Circuits, passive and stimulated, with 30, 100 and 300 trials; and two kinds kept apart: a ring of other
size, alpha and shifters, and one both sparser and more uneven.

Writes results.json, coverage.png and the page's table. Run it from the top folder, as `python -m experiments.coverage`;
with `--circuits`, the other circuits' results of the last run are kept.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

import cann
from experiments import runs
from nsi import circuits, figures, files, recordings
from nsi.uneven import uneven

FOLDER = runs.folder_of(__file__)
BAND = 0.92, 0.98  # where coverage should be
INTERVALS = {"coverage": "weights", "coverage_total": "direct and even path", "coverage_gate": "effective gate"}
MEASURES = (*INTERVALS, "identifiable_fraction")
COLOURS = figures.FITTED, figures.SIMPLE, "#d9a05b"
PULSES = 4.0  # amplitude


class Case(NamedTuple):
    circuit: object  # called without arguments, gives a circuits.Circuit
    changes: dict  # of uneven.uneven
    amplitude: float = 0.0  # of pulses
    share: float = 1.0  # of the trials


OTHER_RING = partial(circuits.holding, 84, 36, tau=0.04)  # alpha 0.25
EVEN, JITTER, SPARSE = {}, {"jitter": 0.2}, {"jitter": 0.2, "jitter_hidden": 0.2, "sparse": 0.5}
OTHER_UNEVEN = {"jitter": 0.4, "sparse": 0.3}
CASES = {
    "even, passive": Case(circuits.ring, EVEN),
    "even, passive, 30 trials": Case(circuits.ring, EVEN, share=0.3),
    "even, passive, 300 trials": Case(circuits.ring, EVEN, share=3),
    "even, pulses": Case(circuits.ring, EVEN, PULSES),
    "jitter 0.2, passive": Case(circuits.ring, JITTER),
    "jitter 0.2, pulses": Case(circuits.ring, JITTER, PULSES),
    "sparse, passive": Case(circuits.ring, SPARSE),
    "sparse, passive, 300 trials": Case(circuits.ring, SPARSE, share=3),
    "sparse, pulses, 30 trials": Case(circuits.ring, SPARSE, PULSES, 0.3),
    "sparse, pulses": Case(circuits.ring, SPARSE, PULSES),
    "sparse, pulses, 300 trials": Case(circuits.ring, SPARSE, PULSES, 3),
    "holding, passive": Case(circuits.holding, EVEN),
    "holding, pulses": Case(circuits.holding, EVEN, PULSES),
    "gain, passive": Case(circuits.gain, EVEN),
    "gain, pulses": Case(circuits.gain, EVEN, PULSES),
    "apart: other ring, passive": Case(OTHER_RING, EVEN),
    "apart: other ring, pulses": Case(OTHER_RING, EVEN, PULSES),
    "apart: sparse 0.3 and jitter 0.4, passive": Case(circuits.ring, OTHER_UNEVEN),
    "apart: sparse 0.3 and jitter 0.4, pulses": Case(circuits.ring, OTHER_UNEVEN, PULSES),
}


def measured(name, seed, folder, trials, steps, options):
    """Simulate one circuit and fit it. Returns: {measure: value or None}, None where no interval is finite."""
    data, case = folder / f"{name}-{seed}.npz", CASES[name]
    circuit = uneven(case.circuit(), np.random.default_rng(1000 + seed), **case.changes, balance=bool(case.changes))
    trials = max(1, round(case.share * trials))
    recordings.save(data, **cann.simulate_recording(circuit, seed, trials, steps, amplitude=case.amplitude))
    metrics = runs.fit(data, folder / f"{name}-{seed}", "--seed", seed, *options)
    data.unlink()
    return {measure: metrics.get(measure) for measure in MEASURES}


def known(values):
    """The values of the seeds that have one."""
    return [value for value in values if value is not None]


def made(results):
    """What runs the results are of, as a sentence."""
    return runs.made(results)


def all_of(results):
    """The circuits there are results of. results: with "made" beside them. Returns: {circuit: its row}."""
    return {name: results[name] for name in CASES if name in results}


def coverage(results):
    """Coverage by circuit as Markdown, mean ± s.d. over seeds; in bold, means out of the band.

    results: {circuit: {measure: values over seeds}}.
    """
    columns, results = {}, all_of(results)
    for measure in MEASURES:
        cells = [runs.spread(known(row[measure])) if known(row[measure]) else "–" for row in results.values()]
        if measure in INTERVALS:
            means = [np.mean(known(row[measure]) or [0.95]) for row in results.values()]
            cells = [cell if BAND[0] <= mean <= BAND[1] else f"**{cell}**"
                     for cell, mean in zip(cells, means, strict=True)]  # fmt: skip
        columns[f"`{measure}`"] = cells
    return runs.turned(list(results), columns)


def figure(results):
    """Coverage by circuit, recordings as faint dots, their mean as a full one. results: as for `coverage`."""
    results = all_of(results)
    drawn, ax = plt.subplots(figsize=(7.5, 0.9 + 0.27 * len(results)))
    ax.axvspan(*BAND, color="#e6e6e6", lw=0, zorder=0)
    ax.axvline(0.95, color="grey", lw=0.8, ls=":", zorder=1)
    rows = np.arange(len(results))
    for k, (measure, colour) in enumerate(zip(INTERVALS, COLOURS, strict=True)):
        for y, row in zip(rows, results.values(), strict=True):
            values, y = known(row[measure]), y + 0.2 * (k - 1)
            ax.plot(values, [y] * len(values), "o", ms=3.5, mew=0, color=colour, alpha=0.4)
            if values:
                ax.plot(np.mean(values), y, "o", ms=6, color=colour, zorder=3)
        ax.plot([], [], "o", ms=6, color=colour, label=INTERVALS[measure])
    ax.set_yticks(rows, list(results))
    ax.set_ylim(len(results) - 0.5, -0.5)
    ax.grid(axis="y", color="#efefef", lw=0.6)
    ax.set_axisbelow(True)
    ax.set(xlabel="share of 95 % intervals that hold the true value", xlim=(min(0.8, ax.get_xlim()[0]), 1.005))
    drawn.legend(ncols=len(INTERVALS), loc="outside upper center")
    return drawn


def main():
    p = runs.options(__doc__, 2, CASES)
    p.add_argument("--draw", action="store_true", help="only draw the results of the last run")
    args = p.parse_args()
    results = runs.read(FOLDER)
    if not args.draw:
        items = [(name, seed) for name in args.circuits for seed in range(args.seeds)]
        with tempfile.TemporaryDirectory() as folder:
            more = Path(folder), args.trials, args.steps, runs.updates(args)
            each = runs.each(lambda item: measured(*item, *more), items)
        results |= runs.gathered({name: one} for (name, _), one in zip(items, each, strict=True))
        results["made"] = results.get("made", {}) | dict.fromkeys(args.circuits, runs.size(args))
        runs.write(FOLDER, {"made": results["made"]} | all_of(results))
    figures.style()
    with files.whole(FOLDER / "coverage.png") as temporary:
        figure(results).savefig(temporary)
    runs.page(FOLDER, made=made(results), coverage=coverage(results))
    print(f"{made(results)}\n\n{coverage(results)}")


if __name__ == "__main__":
    main()
