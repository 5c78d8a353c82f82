"""The estimate beside other estimators, on the same recordings, one core each.

    estimate             nsi.estimation.estimate with calibrated intervals; nothing else is given
    least squares        on [u, F(v u), 1] (least_squares.py): given alpha, the response function and the mechanism
    trained network      train.py's free training, the network's own weights
    published estimator  train.py with the options that bring it back
    CORNN, LINT          Dinc et al. 2023; Valente et al. 2022 (cornn.py, lint.py): given alpha
    correlation          of the rates: no model at all

and, in recordings in which no velocity acts, the estimate's verdict on the gate. Every (recording, estimator) is worked
out once and kept in results.json, so that a run that was stopped goes on; with --again, those asked for are worked out
anew. Writes results.json, estimate.png, tables.md and the page. Run it from the top folder:

    python -m experiments.estimate
    python -m experiments.estimate --methods estimate --again      after a change of nsi/estimation
"""

import json
import tempfile
import time
from pathlib import Path

from experiments import runs
from experiments.estimate.cases import CASES, NULL_TRIALS, NULLS, others_velocity, simulate
from experiments.estimate.methods import METHODS, QUICK
from experiments.estimate.page import answer, figure, made, main_table, need, nulls, tables
from nsi import figures, files
from nsi.estimation.gate import gate_test
from nsi.estimation.kinetics import choose_kinetics
from nsi.evaluation.metrics import valid_json

FOLDER = runs.folder_of(__file__)
FIRST_SEED = 100  # below it the estimate was developed


def size_of(method, args):
    """The options that decide on a row, for a row of another size to be worked out anew. Returns: list."""
    updates = {"trained": args.updates, "published": args.published_updates, "lint": args.lint_updates}
    return [args.trials, args.steps, updates.get(method)]


def missing(rows, size, seed, again, since):
    """Whether a row is wanted: there is none, or one of another size, or, with `again`, one from before the run."""
    row = rows.get(str(seed))
    return row is None or row["size"] != size or (again and row["when"] < since)


def methods_of(seed, args):
    """The methods that a seed is put to."""
    return [m for m in args.methods if m in QUICK or seed < FIRST_SEED + args.slow_seeds]


def put_to_circuits(results, args, since):
    """Every estimator on every recording that is missing, seed by seed. Changes and writes results."""
    options = {
        "trained": ["--updates", args.updates] if args.updates else [],
        "published": ["--updates", args.published_updates],
        "lint": {"updates": args.lint_updates},
    }
    for seed in range(FIRST_SEED, FIRST_SEED + args.seeds):
        for name in args.circuits:
            of = results["circuits"].setdefault(name, {})
            todo = [
                m for m in methods_of(seed, args)
                if missing(of.setdefault(m, {}), size_of(m, args), seed, args.again, since)
            ]  # fmt: skip
            if not todo:
                continue
            with tempfile.TemporaryDirectory() as folder:
                data = simulate(CASES[name], seed, args.trials, args.steps, Path(folder))
                for method in todo:
                    row = METHODS[method](data, Path(folder), options.get(method, {} if method == "cornn" else []))
                    keep(results, of[method], seed, row | {"size": size_of(method, args)})
                    print(f"  {name}, seed {seed}, {method}: {row['seconds']:.0f} CPU s", flush=True)


def put_to_nulls(results, args, since):
    """The estimate's verdict on the gate of recordings without one, and with it. Changes and writes results."""
    for seed in range(FIRST_SEED, FIRST_SEED + args.nulls):
        for name, case in NULLS.items():
            rows, size = results["nulls"].setdefault(name, {}), size_of("estimate", args)
            if not missing(rows, size, seed, args.again, since):
                continue
            with tempfile.TemporaryDirectory() as folder:
                rec = simulate(case, seed, min(NULL_TRIALS, args.trials), args.steps, Path(folder)).rec
            row = {"size": size}
            if "others" in name:
                row["with_gate"], row["with_gate_p"] = test_gate(rec)
                rec = others_velocity(rec, seed)
            row["verdict"], row["p"] = test_gate(rec)
            keep(results, rows, seed, row)
            print(f"  {name}, seed {seed}: {row['verdict']}", flush=True)


def test_gate(rec):
    """The verdict on the gate and its p value, as nsi.estimation.estimate has them but for its refined alpha."""
    kinetics = choose_kinetics(rec, rec.dt / rec.tau if rec.tau else None)
    return gate_test(rec, kinetics.alpha, kinetics.response)


def keep(results, rows, seed, row):
    rows[str(seed)] = valid_json(row) | runs.describe_run()
    with files.whole(FOLDER / "results.json") as temporary:
        Path(temporary).write_text(json.dumps(results, indent=1) + "\n")


def main():
    p = runs.options(__doc__, 5, CASES)
    # fmt: off
    p.add_argument("--parts",   nargs="*", choices=("circuits", "nulls"), default=["circuits", "nulls"], help="which")
    p.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS), help="estimators; others are kept")
    p.add_argument("--again", action="store_true",   help="work out anew what there is already")
    p.add_argument("--slow-seeds", type=int, default=1, help=f"how many for all but {', '.join(QUICK)}")
    p.add_argument("--nulls", type=int, default=5,   help="recordings without a gate, of each kind")
    p.add_argument("--lint-updates", type=int, default=400, help="of LINT, for each rank tried")
    p.add_argument("--published-updates", type=int, default=10000, help="of the published estimator")
    p.add_argument("--draw", action="store_true",    help="only draw the results of the last run")
    # fmt: on
    args, since = p.parse_args(), int(time.time())
    results = runs.read(FOLDER)
    results = {part: results.get(part, {}) for part in ("circuits", "nulls")}
    if not args.draw and "circuits" in args.parts:
        put_to_circuits(results, args, since)
    if not args.draw and "nulls" in args.parts:
        put_to_nulls(results, args, since)
    figures.set_style()
    with files.whole(FOLDER / "estimate.png") as temporary:
        figure(results).savefig(temporary)
    (FOLDER / "tables.md").write_text(tables(results), encoding="utf-8")
    slots = {f.__name__: f(results) for f in (answer, made, main_table, nulls, need)}
    runs.page(FOLDER, **slots)
    print("\n\n".join(slots.values()))


if __name__ == "__main__":
    main()
