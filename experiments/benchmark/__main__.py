"""Methods that read connections off recordings, on tasks of known truth: `python -m experiments.benchmark`.

Every (task, method, seed) is worked out once for a commit of the method's code and kept in results.json, so that a run
that was stopped goes on, and one whose method has changed is worked out anew. Of several commits the page shows the
latest, of several sizes (`--trials`, `--steps`, `--updates`) that of most results. Writes results.json, benchmark.png,
tables.md and the page. A method is a function in methods.py, a task one in tasks.py.

    python -m experiments.benchmark --methods estimate --tasks ring torus --seeds 2
"""

import json
import time
from pathlib import Path

from experiments import runs
from experiments.benchmark import tasks
from experiments.benchmark.methods import METHODS
from experiments.benchmark.page import figure, intervals, made, main_table, need, tables
from experiments.benchmark.tasks import TASKS, Absent
from nsi import files

FOLDER = runs.folder_of(__file__)
FIRST_SEED = 100  # below it the estimate was developed


def wanted(rows, task, seed, args, since):
    """The methods that a task still wants at a seed, with their commits: those that give what it asks, and of whose
    code's commit there is no row of this size. rows: of all. Returns: [(method, commit)]."""
    size, some = [args.trials, args.steps, args.updates], []
    for name in args.methods:
        method = METHODS[name]
        if not set(TASKS[task].asks) & set(method.gives) or seed >= FIRST_SEED + min(method.seeds, TASKS[task].seeds):
            continue
        commit = runs.commit_of(method.code)
        row = next((row for row in rows if key(row) == (task, name, seed, commit, size)), None)
        if row is None or (args.again and row["when"] < since):
            some.append((name, commit))
    return some


def key(row):
    """What a row is kept under."""
    return tuple(row[k] for k in ("task", "method", "seed", "commit", "size"))


def keep(rows, row):
    """Put a row in the place of one with the same key, and write all, one a line."""
    rows[:] = [other for other in rows if key(other) != key(row)] + [row]
    rows.sort(
        key=lambda row: (list(TASKS).index(row["task"]), list(METHODS).index(row["method"]), row["seed"], row["when"])
    )
    with files.whole(FOLDER / "results.json") as temporary, open(temporary, "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def put(rows, task, seed, args, since):
    """Put the methods that are wanted to a task at a seed, each in a process of its own on one core. Changes rows."""
    some = wanted(rows, task, seed, args, since)
    if not some:
        return
    data = TASKS[task].make(seed, max(2, round(TASKS[task].share * args.trials)), args.steps)
    data = data._replace(known=data.known._replace(updates=args.updates))
    for method, commit in some:
        row = runs.apart("experiments.benchmark.measures", "measure", method, data)
        said = {"task": task, "method": method, "seed": seed} | runs.describe_run() | {"commit": commit}
        keep(rows, said | {"size": [args.trials, args.steps, args.updates]} | row)
        print(f"  {task}, seed {seed}, {method}: {row['seconds']:.0f} CPU s {row.get('failed', '')}", flush=True)


def main():
    p = runs.options(__doc__, 5)
    p.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS), help="which (default: all)")
    p.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS), help="which (default: all)")
    p.add_argument("--others", type=Path, default=tasks.OTHERS, help="folder with make_circuits.py (tasks.py)")
    p.add_argument("--again", action="store_true", help="work out anew what there is already")
    p.add_argument("--draw", action="store_true", help="only draw the results of the last run")
    args, since = p.parse_args(), int(time.time())
    tasks.OTHERS = args.others
    rows, missing = [row for row in runs.read(FOLDER) if row["task"] in TASKS and row["method"] in METHODS], set()
    for seed in range(FIRST_SEED, FIRST_SEED + (0 if args.draw else args.seeds)):
        for task in args.tasks:
            try:
                put(rows, task, seed, args, since)
            except Absent as reason:
                missing.add(f"  {task}: left out, {reason}")
    print("\n".join(sorted(missing)))
    runs.publish(FOLDER, rows, made, need, intervals, main_table, tables=tables, benchmark=figure)


if __name__ == "__main__":
    main()
