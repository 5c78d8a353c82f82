"""What each part of the training is worth: one change to train.py's defaults at a time.

Only networks are trained; the estimate depends on none of it. Writes results.json, tables.md and the page. Run it
from the top folder, as `python -m experiments.estimator`.
"""

from experiments import runs
from experiments.benchmark.tasks import loaded
from nsi import recordings
from nsi.simulation import circuits, simulate_recording

VARIANTS = {
    "default": "",
    "no warm-up": "--warmup 0",
    "no forcing": "--forcing 0",
    "no drive penalty": "--drive-penalty 0",
    "mean squared error": "--loss mse",
    "initial W 1 (Glorot)": "--init-scale 1",
    "lr 3e-3": "--lr 3e-3",
    "lr 2e-2": "--lr 2e-2",
}
MEASURES = "r_W", "r_W_near", "r_gate", "r_gate_effective", "heading_error_5s"
CIRCUITS = "ring", "gain"
MAIN = "r_W_near", "heading_error_5s"  # of each circuit, on the page


def table(results):
    """The variants, as Markdown. results: {"made", "variant, circuit": {measure: values of each recording}}."""
    columns = [(circuit, m) for circuit in CIRCUITS for m in MAIN]
    rows = [[name, *(runs.spread(results[f"{name}, {circuit}"][m]) for circuit, m in columns)] for name in VARIANTS]
    return runs.markdown(["", *(f"{circuit}: `{m}`" for circuit, m in columns)], rows)


made = runs.made


def tables(results):
    """All measures, as the text of tables.md. results: as for `table`."""
    rows = {row: values for row, values in results.items() if row != "made"}
    split = {row: row.rpartition(", ")[::2] for row in rows}
    names = [f"{v} (`{VARIANTS[v]}`), {circuit}" if VARIANTS[v] else row for row, (v, circuit) in split.items()]
    columns = {f"`{m}`": [runs.spread(row[m]) for row in rows.values()] for m in MEASURES}
    caption = "One change at a time, mean ± s.d. over recordings; of the trained networks."
    return runs.sections("the parts of the training", {"All measures": (caption, runs.turned(names, columns, 5))})


def one_recording(circuit, seed, sizes, updates):
    """Train a network in each way on one recording. Returns: {"variant, circuit": {measure: value}}."""
    rec, truth = loaded(simulate_recording(circuits.CIRCUITS[circuit](), seed, *sizes))
    train, held_out, _ = recordings.split(rec)
    rows = {}
    for name, options in VARIANTS.items():
        net = runs.train_network(train, "--seed", seed, *updates, *options.split())
        found = runs.score_network(net, rec, held_out, truth)
        rows[f"{name}, {circuit}"] = {m: found[m] for m in MEASURES}
        print(f"    {name}", flush=True)
    return rows


def main():
    args = runs.options(__doc__, 2).parse_args()
    results, folder = runs.run_seeds(__file__, "one_recording", CIRCUITS, args), runs.folder_of(__file__)
    runs.write(folder, results)
    runs.publish(folder, results, table, made, tables=tables)


if __name__ == "__main__":
    main()
