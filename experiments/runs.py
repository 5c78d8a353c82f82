"""What the experiments share: simulate, fit, collect, several at a time, one core each."""

import argparse
import functools
import importlib
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from nsi import figures, files, geometry
from nsi.evaluation import metrics, prediction, scores
from nsi.evaluation.weights import effective_gate
from nsi.network import Network

ROOT = Path(__file__).parent.parent
MEASURED = "nsi", "cann.py", "train.py", "model.py"  # the code that experiments measure
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes below
PROCESSES = multiprocessing.get_context("forkserver")  # it imports what is slow to import once for all
PROCESSES.set_forkserver_preload(["__main__", "cann", "train", "scipy.optimize", "matplotlib.pyplot"])


def script(name, *arguments):
    """Run one of the project's scripts on one core; its error, if any, is raised with what it printed."""
    done = subprocess.run([sys.executable, ROOT / name, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} {' '.join(map(str, arguments))}: {done.stderr.strip()}")


def apart(module, function, *arguments):
    """Call a function of a module in a process of its own, on one core, so that its memory and threads are its own."""
    with ProcessPoolExecutor(1, PROCESSES) as pool:
        return pool.submit(_called, module, function, arguments).result()


def _called(module, function, arguments):
    return getattr(importlib.import_module(module), function)(*arguments)


def simulate(data, *options):
    """Run cann.py, which writes a recording, without its checks of the circuit."""
    script("cann.py", "--out", data, "--no-report", *options)


def fit(data, out, *options):
    """Run train.py on a recording. Returns: its metrics.json as a dictionary."""
    script("train.py", "--data", data, "--out", out, "--wandb", "disabled", "--no-report", *options)
    return json.loads((Path(out) / "metrics.json").read_text())


def train_networks(rec, *options):
    """Train networks on a recording in this process, as train.py's first step does, and nothing else. options: its
    command line's. Returns: list of Network."""
    import train
    from nsi.run import setup

    args, settings = train.parse([str(option) for option in options])
    settings = setup.choose_settings(settings, rec, geometry.of(rec), args.data)
    return train.train_networks(rec, settings)[0]


def train_network(rec, *options):
    """A network as train.py trains it first, and nothing else, with the recording's alpha. Returns: Network."""
    return train_networks(rec, *(["--alpha", rec.dt / rec.tau] if rec.tau else []), *options)[0]


def circuit_of(rec, truth):
    """The simulated circuit of a recording as a network. Returns: Network."""
    weights = (truth[k].astype(np.float32) for k in ("W", "W_in", "b"))
    return Network(*weights, rec.dt / rec.tau, rec.rates.shape[-1])


def score_network(net, rec, held_out, truth):
    """A network against the circuit's truth. rec: all trials. Returns: {measure: value}, those of docs/measures.md."""
    shape = geometry.of(rec)
    places = geometry.places_of(rec, shape)
    found = scores.network_scores(net, truth, shape, places)
    if len(net.b) > net.n:
        found |= scores.gate_scores(effective_gate(net, rec), scores.true_effective_gate(truth, rec))
    return found | {"heading_error_5s": float(np.nanmean(prediction.heading_error(net, held_out, shape, places)))}


def score_estimate(found, rec, truth):
    """An Estimate against the truth. rec: all trials. Returns: {measure: value}, those of docs/measures.md."""
    shape = geometry.of(rec)
    return metrics.of_connections(found.arrays(), rec, shape, geometry.places_of(rec, shape), truth)


def each(function, items, workers=None):
    """[function(item) for item in items], `workers` (default: one per core) at a time, with a line for each."""
    items = list(items)

    def one(item):
        result = function(item)
        print(f"  {item}", flush=True)
        return result

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        return list(pool.map(one, items))


def spread(values, digits=3):
    """'mean ± s.d.' over seeds, of those that have a value; words, each once; or "–"."""
    known = [value for value in values if value is not None and not (np.isscalar(value) and value != value)]
    if not known:
        return "–"
    if isinstance(known[0], str):
        return ", ".join(dict.fromkeys(known))
    values = np.asarray(known, float)
    sd = f"{values.std(ddof=min(1, len(values) - 1)):.{digits}f}"
    if digits and float(sd) == 0 and len(values) > 1:
        return f"{values.mean():.{digits}f} (s.d. < {10**-digits:g})"
    return f"{values.mean():.{digits}f} ± {sd}" if len(values) > 1 else f"{values.mean():.{digits}f}"


def markdown(head, rows):
    """A table as Markdown. head: names of the columns; rows: lists of cells."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def turned(names, columns, width=4):
    """Tables of at most `width` columns besides the first, one under the other. names: of the rows; columns: {name:
    cells}."""
    parts = [list(columns.items())[i : i + width] for i in range(0, len(columns), width)]
    return "\n\n".join(
        markdown(["", *(name for name, _ in part)], zip(names, *(cells for _, cells in part), strict=True))
        for part in parts
    )


def tabulate(rows, measures, cell=spread):
    """Measures of some fits as such tables. rows: {name: {measure: values over seeds}}; cell: of the values."""
    return turned(list(rows), {f"`{m}`": [cell(row.get(m, [])) for row in rows.values()] for m in measures})


def options(doc, seeds, circuits=(), trials=100):
    """A parser of the options that experiments share. doc: what it says of itself; seeds, trials: how many; circuits:
    names to choose from. Returns: argparse.ArgumentParser."""
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", type=int, default=seeds, help="how many")
    if circuits:
        p.add_argument("--circuits", nargs="*", choices=circuits, default=list(circuits), help="which; others are kept")
    p.add_argument("--trials", type=int, default=trials, help="of a recording whose name does not say")
    p.add_argument("--steps", type=int, default=1000, help="of each trial")
    p.add_argument("--updates", type=int, help="of each fit (default: its own)")
    p.add_argument("--workers", type=int, help="at a time (default: one per core)")
    return p


def gathered(results):
    """Measures over seeds. results: [{row: {measure: value}}]. Returns: {row: {measure: [values]}}."""
    rows = {}
    for one in results:
        for name, measures in one.items():
            for measure, value in measures.items():
                rows.setdefault(name, {}).setdefault(measure, []).append(value)
    return rows


def run_seeds(script, function, circuits, args):
    """Call a function of an experiment's script for every circuit and seed from 100 on, each in a process of its own.

    function: its name; called with circuit, seed, (trials, steps) and train.py's options; gives {row: {measure:
    value}}. Returns: {"made": the run in words, row: {measure: values}}."""
    jobs = [(circuit, seed) for circuit in circuits for seed in range(100, 100 + args.seeds)]
    module, rest = f"experiments.{Path(script).parent.name}.__main__", ((args.trials, args.steps), updates(args))
    found = each(lambda job: apart(module, function, *job, *rest), jobs, args.workers)
    return {"made": f"{size(args)}, from seed 100 on"} | gathered(found)


def updates(args):
    """train.py's option of that name, where it is given."""
    return ["--updates", args.updates] if args.updates else []


@functools.cache
def commit_of(paths=MEASURED):
    """The last commit to some of the project's code. paths: tuple of str. Returns: its hash."""
    git = lambda *words: subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    commit = git("log", "-1", "--format=%h", "--", *paths)
    return f"{commit} with changes" if git("status", "--porcelain", "--", *paths) else commit


def describe_run():
    """The last commit to the code that is measured, the machine and the time. Returns: dict, JSON."""
    return {"commit": commit_of(), "machine": machine(), "when": int(time.time())}


def machine():
    """The processor's name, and how many cores it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def source():
    """Commit, machine and date of a run in words."""
    return f"commit {commit_of()}, {machine()}, {time.strftime('%d %B %Y').lstrip('0')}"


def size(args):
    """The size of a run in words, from its options: seeds, trials, steps, and updates where they are not train.py's;
    and its commit and machine."""
    many = "recording" if args.seeds == 1 else "recordings"
    fits = f", fits of {args.updates} updates only" if args.updates else ""
    return f"{args.seeds} {many} of {args.trials} trials of {args.steps} steps{fits}; {source()}"


def made(results):
    """What runs the results are of, in words. results: with "made", {name of a row: `size`}, or one for all."""
    if isinstance(results["made"], str):
        return f"{results['made'][0].upper()}{results['made'][1:]}."
    names = {}
    for name, text in results["made"].items():
        names.setdefault(text, []).append(name)
    return "; ".join(f"*{'*, *'.join(which)}*: {text}" for text, which in names.items()) + "."


def folder_of(script):
    """The folder of an experiment's __main__.py."""
    return Path(script).resolve().parent


def write(folder, results, name="results.json"):
    """Results as JSON beside the script that made them, for the tables and figures to be drawn from."""
    (folder / name).write_text(json.dumps(results, indent=1) + "\n")


def read(folder, name="results.json"):
    """The results of the last run, or an empty dictionary."""
    path = folder / name
    return json.loads(path.read_text()) if path.exists() else {}


PARTS = "networks", "estimate"  # of what is asked of real animals


def redo(folder, parts, networks, estimate):
    """The results of a folder's last run, some parts worked out anew. parts: of PARTS; networks: called for all but the
    estimate's results; estimate: for these. Returns: dict, which is written too."""
    results = read(folder)
    if "networks" in parts:
        results = networks() | {k: v for k, v in results.items() if k == "estimate"}
    if "estimate" in parts:
        results["estimate"] = estimate()
    write(folder, results)
    return results


def add_parts(parser):
    """The option --parts, which `redo` takes."""
    say = "what to do; the other's results are kept"
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help=say)


def publish(folder, results, *slots, tables=None, **pictures):
    """Insert each function's text on the results into the folder's page, and print it; the text of `tables` into
    tables.md next to it, and what further functions draw into NAME.png, by name."""
    figures.set_style()
    for name, draw in pictures.items():
        with files.whole(folder / f"{name}.png") as temporary:
            draw(results).savefig(temporary)
    texts = {slot.__name__: slot(results) for slot in slots}
    page(folder, **texts)
    if tables:
        (folder / "tables.md").write_text(tables(results), encoding="utf-8")
    print("\n\n".join(texts.values()))


def sections(title, parts):
    """Further tables as the text of tables.md. title: of its page; parts: {heading: (caption, table)}."""
    text = [f"# Tables of [{title}](README.md)"]
    text += [f"## {heading}\n\n{caption}\n\n{table}" for heading, (caption, table) in parts.items()]
    return "\n\n".join(text) + "\n"


def page(folder, page="README.md", **tables):
    """Put tables into a page of the folder, each between <!-- NAME --> and <!-- end -->."""
    path = folder / page
    text = path.read_text(encoding="utf-8")
    for name, table in tables.items():
        before, rest = text.split(f"<!-- {name} -->\n", 1)
        text = f"{before}<!-- {name} -->\n\n{table}\n\n<!-- end -->" + rest.split("<!-- end -->", 1)[1]
    path.write_text(text, encoding="utf-8")
