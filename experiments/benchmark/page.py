"""What the results say: the page's sentences and table, tables.md, and the figure."""

import time
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np

from experiments import runs
from experiments.benchmark.methods import METHODS
from experiments.benchmark.tasks import TASKS
from nsi import figures

RIVALS = [m for m in METHODS if m not in ("estimate", "anatomy", "null", "oracle")]
COLOURS = {"estimate": figures.FITTED, "least-squares": figures.TRUE, "trained": figures.SIMPLE, "cornn": "#d9a05b",
           "lint": "#b58bb0", "correlation": "#b9b9b9", "oracle": "#7fa37f"}  # fmt: skip
USUAL_N = 5  # recordings of a task; other numbers are said
BAND = 0.92, 0.98  # where coverage should be
LEAST, LEAST_R = 0.8, -0.1  # coverage and r, that less is drawn at
KINDS = {"W": "weights", "total": "total effects", "gate": "gates", "W_connected": "weights of connected pairs"}
TABLES = {
    "Weights": ("r_W", "r_W_near", "error_W", "r_dev", "dev_error", "r_connected"),
    "Total effect and gate": ("r_total", "r_total_near", "error_total", "r_gate", "slope_gate", "error_gate"),
    "Coverage": tuple(f"coverage_{kind}" for kind in KINDS),
    "Width": tuple(f"width_{kind}" for kind in KINDS),
    "What the estimate says besides": (
        "alpha", "alpha_se", "scale", "verdict_gate", "gate_p", "verdict_mechanism", "verdict_response",
        "verdict_description",
    ),
    "Running": ("heading_error_5s", "loss", "r_match"),
    "Time": ("seconds", "commit", "date", "failed"),
}  # fmt: skip
CAPTIONS = {
    "Weights": "`r_W`, `error_W` (relative): all pairs; `near`: pairs within 0.3 of the ring, which one bump can hold; "
    "`r_dev`, `dev_error`: of single weights' deviations from the mean at their distance, near pairs; `r_connected`: "
    "pairs that are connected, where some are not.",
    "Total effect and gate": "Against the total and the effective gate of the circuit itself.",
    "Coverage": "Share of the claimed 95 % intervals that contain the truth.",
    "Width": "Median half-width of these over the r.m.s. of the truth.",
    "What the estimate says besides": "Verdicts of each recording, counted.",
    "Running": "`heading_error_5s` (rad), `loss`: of a free run on trials that no method has; `r_match`: hidden units "
    "against hidden neurons.",
    "Time": "CPU seconds of one core, import left out; the last commit to the method's code, of rows "
    "from before this page to all code.",
}
DIGITS = {"seconds": 0, "loss": 5, "n": 0}


class Results:
    """The latest row of each task, method and seed."""

    def __init__(self, rows):
        size = Counter(str(row["size"]) for row in rows).most_common(1)[0][0]  # no small trial among them
        rows = sorted((row for row in rows if str(row["size"]) == size), key=lambda row: row["when"])
        self.rows = {(row["task"], row["method"], row["seed"]): row | {"date": date(row["when"])} for row in rows}
        self.tasks = [t for t in TASKS if any(key[0] == t for key in self.rows)]

    def values(self, task, method, measure):
        """A measure over the seeds that have it. Returns: list."""
        rows = [row for (t, m, _), row in self.rows.items() if (t, m) == (task, method)]
        if measure == "n":
            return [len(rows)] if rows else []
        return [row[measure] for row in rows if row.get(measure) is not None]

    def mean(self, task, method, measure):
        """Its mean, or not a number."""
        found = self.values(task, method, measure)
        return float(np.mean(found)) if found else np.nan

    def having(self, method, measure):
        """The tasks that a method has a measure of."""
        return [t for t in self.tasks if self.values(t, method, measure)]

    def span(self, method, measure, tasks):
        """'lowest to highest' mean over tasks that have one. measure: name, or function of the task."""
        named = measure if callable(measure) else lambda _: measure
        known = [x for x in (self.mean(t, method, named(t)) for t in tasks) if np.isfinite(x)]
        low, high = (f"{f(known):.3f}" for f in (min, max)) if known else ("–", "–")
        return low if low == high else f"{low} to {high}"

    def better(self, first, others, measure, sign=1):
        """On how many tasks the first method's measure is above (sign -1: below) all others' by more than its s.d."""
        ahead, rest = [], []
        for task in self.tasks:
            name = measure(task)
            mine, theirs = self.values(task, first, name), [m for m in others if self.values(task, m, name)]
            if mine and theirs:
                best = max(sign * self.mean(task, m, name) for m in theirs)
                (ahead if sign * np.mean(mine) - best > np.std(mine) else rest).append(task)
        return f"{len(ahead)} of {len(ahead + rest)}{named(rest)}"


def date(seconds):
    """A day. seconds: since 1970."""
    return time.strftime("%d.%m.%Y", time.gmtime(seconds))


def named(tasks):
    """Names of exceptions, if they are few, in brackets."""
    return f" (not *{'*, *'.join(tasks)}*)" if 0 < len(tasks) <= 3 else ""


def main_measure(task):
    """Of a task's weights: r over all pairs, or where they differ from pair to pair, of their deviations."""
    return "r_dev" if "sparse" in task or "jitter" in task else "r_W"


def cell(found, digits=3):
    """Mean ± s.d. over seeds; words, counted."""
    if not found:
        return "–"
    if isinstance(found[0], str):
        counts = Counter(found)
        return ", ".join(word if len(counts) == 1 else f"{word} {count}" for word, count in counts.items())
    return runs.spread(found, digits)


# ---- the page ---------------------------------------------------------------------------------------------------


def made(rows):
    """Of what recordings, commits and days the numbers are."""
    results = Results(rows)
    shown = [row for row in results.rows.values() if "failed" not in row]
    dates = [date(f(row["when"] for row in shown)) for f in (min, max)]
    commits = dict.fromkeys(row["commit"] for row in sorted(shown, key=lambda r: -r["when"]))
    trials, steps, _ = shown[0]["size"]
    return (
        f"{len(results.tasks)} tasks, {len({row['method'] for row in shown})} methods, {len(shown)} results; {trials} "
        f"trials of {steps} steps, seeds from 100 on. Commit: {', '.join(commits)}; "
        f"{' to '.join(dict.fromkeys(dates))}; {', '.join(dict.fromkeys(row['machine'] for row in shown))}."
    )


def need(rows):
    """Does one need the network, and for what? Answered in numbers."""
    results = Results(rows)
    ran = results.having("trained", "loss")
    hidden, known = results.having("trained", "r_match"), [t for t in results.tasks if "no tau" not in t]
    return (
        f"*For connections*, no: the estimate's r of weights exceeds the trained network's, by more than its s.d., on "
        f"{results.better('estimate', ['trained'], main_measure)} tasks, every rival's on "
        f"{results.better('estimate', RIVALS, main_measure)}; of gates "
        f"({results.span('estimate', 'r_gate', [t for t in known if t in ran])}) the network's on "
        f"{results.better('estimate', ['trained'], lambda _: 'r_gate')}. *To predict*, yes: after 5 s a free-running "
        f"trained network's heading is off by {results.span('trained', 'heading_error_5s', ran)} rad, the estimate's "
        f"by {results.span('estimate', 'heading_error_5s', ran)} (less on "
        f"{results.better('estimate', ['trained'], lambda _: 'heading_error_5s', -1)}). *For hidden neurons* that copy "
        f"activity, no: r {results.span('estimate', 'r_match', hidden)}, trained units "
        f"{results.span('trained', 'r_match', hidden)}."
    )


def intervals(rows):
    """Do the intervals hold? On how many tasks coverage is in the band, and what is said of gates."""
    results, verdicts = Results(rows), {gate: Counter() for gate in (False, True)}
    for task in results.having("estimate", "verdict_gate"):
        if "gate" in TASKS[task].asks:
            verdicts[TASKS[task].gate].update(results.values(task, "estimate", "verdict_gate"))
    absent, present = (", ".join(f'"{word}" {n}' for word, n in v.most_common()) or "–" for v in verdicts.values())
    return (
        f"Share of the 95 % intervals that contain the truth, and on how many tasks it is 92 to 98 %. Estimate: "
        f"{coverage_of(results, 'estimate')}. Least squares: {coverage_of(results, 'least-squares')}. Of "
        f"{sum(verdicts[False].values())} recordings without a gate: {absent}; with one: {present}."
    )


def coverage_of(results, method):
    """The coverage of a method's intervals over tasks, in words."""
    parts = []
    for kind, name in KINDS.items():
        tasks = results.having(method, f"coverage_{kind}")
        out = [t for t in tasks if not BAND[0] <= results.mean(t, method, f"coverage_{kind}") <= BAND[1]]
        if tasks:
            span = results.span(method, f"coverage_{kind}", tasks)
            parts.append(f"{name} {span}: {len(tasks) - len(out)} of {len(tasks)}{named(out)}")
    return "; ".join(parts) or "–"


def main_table(rows):
    """r of W, or of its deviations, and of the gate, a row for each task; one more for the estimate that is given
    anatomy."""
    results, lines = Results(rows), []
    for task in (t for t in results.having("estimate", "r_W") if not {"intervals", "gate"} & set(TASKS[t].asks)):
        weights, say = main_measure(task), lambda method, measure, of=task: cell(results.values(of, method, measure))
        others = {m: r for m in RIVALS if np.isfinite(r := results.mean(task, m, weights))}
        best = max(others, key=others.get, default=None)
        rival = f"{say(best, weights)}, {METHODS[best].name}" if best else "–"
        for method, added in (("estimate", ""), ("anatomy", ", anatomy given")):
            if found := results.values(task, method, weights):
                name = task + added + ("" if len(found) == USUAL_N else f" (n {len(found)})")
                lines.append([name, say(method, weights), rival, say(method, "r_gate"), say("trained", "r_gate")])
    return runs.markdown(["", "weights", "best rival", "gate", "trained network's"], lines)


# ---- tables.md --------------------------------------------------------------------------------------------------


def tables(rows):
    """All measures of all methods, as Markdown: tables.md."""
    results, parts = Results(rows), {}
    for title, measures in TABLES.items():
        lines = []
        for task in results.tasks:
            for method in METHODS if "verdict_gate" not in measures else ("estimate", "anatomy"):
                cells = [cell(results.values(task, method, m), DIGITS.get(m, 3)) for m in ("n", *measures)]
                if any(c != "–" for c in cells[1:]):
                    lines.append([f"{task}: {METHODS[method].name}", *cells])
        parts[title] = (CAPTIONS[title], runs.markdown(["", "n", *(f"`{m}`" for m in measures)], lines))
    return runs.sections("the benchmark", parts)


# ---- the figure -------------------------------------------------------------------------------------------------


def figure(rows):
    """Weights, gate and coverage by task: recordings as faint dots, means as full ones."""
    results = Results(rows)
    tasks = [t for t in results.having("estimate", "r_W") if "gate" not in TASKS[t].asks]
    drawn, axes = plt.subplots(1, 3, figsize=(10, 1.0 + 0.32 * max(1, len(tasks))), sharey=True, width_ratios=(3, 3, 2))
    axes[2].axvspan(*BAND, color="#e6e6e6", lw=0, zorder=0)
    for ax, measure in zip(axes, (main_measure, lambda _: "r_gate", None), strict=True):
        series = [(m, measure, "o") for m in COLOURS] if measure else [
            (m, lambda _, kind=kind: f"coverage_{kind}", marker) for m in ("estimate", "least-squares")
            for kind, marker in zip(KINDS, "o^sD", strict=True)]  # fmt: skip
        for k, (method, name, marker) in enumerate(series):
            for y, task in enumerate(tasks):
                found, at = results.values(task, method, name(task)), y + 0.7 * (k / (len(series) - 1) - 0.5)
                found = np.maximum(found, LEAST_R if measure else LEAST)
                ax.plot(found, [at] * len(found), marker, ms=3, mew=0, color=COLOURS[method], alpha=0.35)
                if len(found):
                    ax.plot(np.mean(found), at, marker, ms=5, mew=0, color=COLOURS[method], zorder=3)
        ax.grid(axis="y", color="#efefef", lw=0.6)
        ax.set_axisbelow(True)
    for ax, title in zip(
        axes,
        (f"r of W, or of its deviations (or below {LEAST_R:g})", "r of the gate", f"coverage (or below {LEAST:g})"),
        strict=True,
    ):
        ax.set(xlabel=title, xlim=(LEAST_R - 0.01, 1.03))
    axes[2].set(xlim=(LEAST - 0.01, 1.01))
    axes[0].set_yticks(range(len(tasks)), tasks)
    axes[0].set_ylim(len(tasks) - 0.5, -0.5)
    for method, colour in COLOURS.items():
        if any(results.values(task, method, "r_W") for task in tasks):
            axes[0].plot([], [], "o", color=colour, ms=5, label=METHODS[method].name)
    for (kind, name), marker in zip(KINDS.items(), "o^sD", strict=True):
        if any(results.having(m, f"coverage_{kind}") for m in ("estimate", "least-squares")):
            axes[2].plot([], [], marker, color="#888888", ms=5, ls="", label=name)
    axes[2].legend(loc="lower left", fontsize=6)
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, ncols=len(COLOURS), loc="outside upper center")
    return drawn
