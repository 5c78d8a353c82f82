"""What the results say: the page's sentences and table, tables.md, and the figure."""

import time
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np

from experiments import runs
from experiments.estimate.cases import CASES, NULLS, UNEVEN
from experiments.estimate.methods import METHODS, NAMES
from nsi import figures

OTHERS = "published", "cornn", "lint", "correlation"
COLOURS = dict(zip(METHODS, (figures.FITTED, figures.TRUE, figures.SIMPLE, "#d9a05b", "#b58bb0", "#7fa37f", "#b9b9b9"),
                   strict=True))  # fmt: skip
BAND = 0.92, 0.98  # where coverage should be
KINDS = "W", "total", "gate"
TABLES = {
    "Weights": ("n", "r_W", "r_W_near", "error_W", "r_dev", "dev_error"),
    "Total effect and gate": ("r_total_near", "error_total", "r_gate", "slope_gate", "error_gate"),
    "95 % intervals": tuple(f"{what}_{kind}" for what in ("coverage", "width") for kind in KINDS),
    "What is found out besides": (
        "alpha",
        "alpha_se",
        "scale",
        "verdict_gate",
        "verdict_mechanism",
        "verdict_response",
        "verdict_description",
    ),
    "Running, and time": ("heading_error_5s", "loss", "r_match", "seconds"),
}
DIGITS = {"seconds": 0, "loss": 5, "n": 0}
CAPTIONS = {
    "Weights": "Over all pairs; `near`: pairs that one bump can hold; `r_dev`, `dev_error`: of single weights' "
    "deviations from the mean at their distance, near pairs; `error`: relative to the size of the truth.",
    "Total effect and gate": "Against the total and the effective gate of the circuit itself.",
    "95 % intervals": "`coverage`: share that hold the truth; `width`: median half-width over the truth's r.m.s.",
    "What is found out besides": "alpha where the recording has no tau; verdicts of each recording, counted.",
    "Running, and time": "`heading_error_5s` (rad), `loss`: of a free run on trials that no estimator has; `r_match`: "
    "hidden units against hidden neurons; CPU seconds of one core, import left out.",
}


def values(results, case, method, measure):
    """A measure over seeds, of those that have it. Returns: list."""
    rows = results["circuits"].get(case, {}).get(method, {})
    if measure == "n":
        return [len(rows)] if rows else []
    return [row[measure] for row in rows.values() if row.get(measure) is not None]


def mean(results, case, method, measure):
    """Its mean over seeds, or not a number."""
    found = values(results, case, method, measure)
    return float(np.mean(found)) if found else np.nan


def cell(found, digits=3):
    """Mean ± s.d. over seeds; words, counted."""
    if not found:
        return "–"
    if isinstance(found[0], str):
        counts = Counter(found)
        return ", ".join(word if len(counts) == 1 else f"{word} {count}" for word, count in counts.items())
    return f"{found[0]:.{digits}f}" if len(found) == 1 else runs.spread(found, digits)


def there(results):
    """The circuits that there are results of."""
    return [case for case in CASES if results["circuits"].get(case, {}).get("estimate")]


def span(numbers, digits=3):
    """'lowest to highest' of those that are numbers."""
    known = [x for x in numbers if np.isfinite(x)]
    if not known:
        return "–"
    low, high = (f"{f(known):.{digits}f}" for f in (min, max))
    return low if low == high else f"{low} to {high}"


def all_rows(results):
    """Every row there is, of circuits and of recordings without a gate."""
    rows = [row for of in results["circuits"].values() for rows in of.values() for row in rows.values()]
    return rows + [row for rows in results["nulls"].values() for row in rows.values()]


# ---- the page ---------------------------------------------------------------------------------------------------


def made(results):
    """Of what recordings, commit and machine the numbers are."""
    cases, rows = there(results), all_rows(results)
    count = lambda methods: span([len(results["circuits"][c].get(m, {})) for c in cases for m in methods], 0)  # noqa: E731
    trials, steps, _ = next(iter(results["circuits"][cases[0]]["estimate"].values()))["size"]
    commits, machines = ({row[k]: None for row in rows} for k in ("commit", "machine"))
    return (
        f"n = {count(('estimate', 'least-squares'))} for the estimate and least squares, {count(('trained',))} for "
        f"trained networks, {count(OTHERS[:3])} for the others: seeds from 100 on, {trials} trials of {steps} steps "
        f"(torus: half the trials). Commit {', '.join(commits)}; {', '.join(machines)}; "
        f"{time.strftime('%d %B %Y', time.gmtime(max(row['when'] for row in rows)))}."
    )


def answer(results):
    """The claim, in numbers."""
    cases = there(results)
    even, uneven = [c for c in cases if c not in UNEVEN], [c for c in cases if c in UNEVEN]
    of = lambda method, m, some: span([mean(results, c, method, m) for c in some])  # noqa: E731
    weights = [f"{of(method, 'r_W', even)} and {of(method, 'r_dev', uneven)}" for method in METHODS][:3]
    known = [c for c in cases if CASES[c].tau]
    return (
        f"r of the weights on even circuits, and of what sets single connections apart on uneven ones: estimate "
        f"{weights[0]}; least squares, given alpha, {weights[1]} (near pairs "
        f"{of('least-squares', 'r_W_near', even)}); a trained network's own weights "
        f"{weights[2]}. Gate: estimate r {of('estimate', 'r_gate', known)}, {of('estimate', 'slope_gate', known)} of "
        f"its size; least squares r {of('least-squares', 'r_gate', known)}.\n\n{coverage(results)}"
    )


def coverage(results):
    """How many of the intervals hold, as a sentence."""
    parts = []
    for method in ("estimate", "least-squares"):
        for kind in KINDS:
            each = [mean(results, c, method, f"coverage_{kind}") for c in there(results)]
            each = [x for x in each if np.isfinite(x)]
            inside = sum(BAND[0] <= x <= BAND[1] for x in each)
            if each:
                parts.append(f"{NAMES[method]} {kind} {span(each)} ({inside} of {len(each)})")
    low, high = (f"{x:.2f}"[1:] for x in BAND)
    return f"95 % intervals that hold, by circuit (how many circuits from {low} to {high}): {'; '.join(parts)}."


def main_table(results):
    """r of W, or of its deviations, and of the gate, circuit by circuit."""
    rows = []
    for case in there(results):
        for measure in (main_measure(case), "r_gate"):
            each = [cell(values(results, case, m, measure)) for m in ("estimate", "least-squares", "trained")]
            others = {m: mean(results, case, m, measure) for m in OTHERS}
            others = {m: r for m, r in others.items() if np.isfinite(r)}
            best = max(others, key=others.get, default=None)
            rows.append([f"{case}: `{measure}`", *each, f"{others[best]:.3f}, {NAMES[best]}" if best else "–"])
    return runs.markdown(["", "estimate", "least squares", "trained network", "best other"], rows)


def nulls(results):
    """The verdicts on the gate, as sentences."""
    rows = [row for of in results["nulls"].values() for row in of.values()]
    absent = Counter(row["verdict"] for row in rows)
    present = Counter(row["with_gate"] for row in rows if "with_gate" in row)
    say = lambda counts: ", ".join(f'"{word}" {n}' for word, n in counts.most_common())  # noqa: E731
    return (
        f"Is there a gate? {len(rows)} recordings of 20 trials without one (no shifters, or other trials' "
        f"velocity): {say(absent) or '–'}. With their own velocity: {say(present) or '–'}."
    )


def need(results):
    """Does one need the network, and for what? Answered in numbers."""
    ran = [c for c in there(results) if values(results, c, "trained", "loss")]
    hidden = [c for c in ran if values(results, c, "trained", "r_match")]
    of = lambda method, m, some: span([mean(results, c, method, m) for c in some])  # noqa: E731
    ahead = "heading_error_5s"
    weights = better(results, ran, "estimate", "trained", main_measure)
    gates = better(results, ran, "estimate", "trained", lambda _: "r_gate")
    predicted = better(results, ran, "estimate", "trained", lambda _: ahead, -1)
    near = [of(m, k, ["ring, saturated"]) for m in ("estimate", "trained") for k in ("r_W_near", "r_gate")]
    return (
        f"*For connections*, no: the estimate's weights are better on {count_of(weights, ran)} circuits, its gate on "
        f"{count_of(gates, ran)}. *To predict*, yes: after 5 s of free running a trained network's heading is wrong by "
        f"{of('trained', ahead, ran)} rad, that of the estimate's own network by {of('estimate', ahead, ran)}, less on "
        f"{count_of(predicted, ran)}. *For hidden neurons* that copy recorded activity, no: the estimate's copies "
        f"match them at r {of('estimate', 'r_match', hidden)}, trained units at {of('trained', 'r_match', hidden)}. "
        f"*What the regression cannot do*: see the currents of saturated neurons. Where a tenth of the rates lies "
        f"above 0.99, near weights and gate have r {near[0]} and {near[1]}, the trained network's {near[2]}, {near[3]}."
    )


def better(results, cases, first, second, measure, sign=1):
    """The circuits on which the first method has the higher measure, or with sign -1 the lower one."""
    value = lambda c, method: sign * mean(results, c, method, measure(c))  # noqa: E731
    return [c for c in cases if value(c, first) > value(c, second)]


def count_of(some, cases):
    """How many of the circuits, and where they are nearly all, which not."""
    rest = [c for c in cases if c not in some]
    names = f" (not *{'*, *'.join(rest)}*)" if some and 0 < len(rest) <= 3 else ""
    return f"{len(some)} of {len(cases)}{names}"


def main_measure(case):
    """Of a circuit's weights: r over all pairs, or where they are uneven, of their deviations."""
    return "r_dev" if case in UNEVEN else "r_W"


# ---- tables.md --------------------------------------------------------------------------------------------------


def tables(results):
    """All measures of all estimators, as Markdown: tables.md."""
    parts = ["# Tables of [the estimate beside other estimators](README.md)\n\nMean ± s.d. over seeds."]
    for title, measures in TABLES.items():
        rows = []
        for case in there(results):
            for method in ["estimate"] if "verdict_gate" in measures else METHODS:
                cells = [cell(values(results, case, method, m), DIGITS.get(m, 3)) for m in measures]
                if any(c != "–" for c, m in zip(cells, measures, strict=True) if m != "n"):
                    rows.append([f"{case}: {NAMES[method]}", *cells])
        parts.append(f"## {title}\n\n{CAPTIONS[title]}\n\n" + runs.markdown(["", *(f"`{m}`" for m in measures)], rows))
    rows = []
    for name in NULLS:
        found = list(results["nulls"].get(name, {}).values())
        p = [f"{row['p']:.3f}" for row in found]
        rows.append([name, cell([row["verdict"] for row in found]), ", ".join(p),
                     cell([row["with_gate"] for row in found if "with_gate" in row])])  # fmt: skip
    head = ["", "verdict", "p of each", "with its own velocity"]
    parts.append("## Recordings without a gate\n\n" + runs.markdown(head, rows))
    return "\n\n".join(parts) + "\n"


# ---- the figure -------------------------------------------------------------------------------------------------


def figure(results):
    """Weights, gate and coverage by circuit: recordings as faint dots, means as full ones."""
    cases = there(results)
    panels = {"r of W, or of its deviations": None, "r of the gate": "r_gate", "coverage": KINDS}
    drawn, axes = plt.subplots(1, 3, figsize=(10, 1.0 + 0.42 * max(1, len(cases))), sharey=True, width_ratios=(3, 3, 2))
    for ax, (title, measure) in zip(axes, panels.items(), strict=True):
        if measure == KINDS:
            ax.axvspan(*BAND, color="#e6e6e6", lw=0, zorder=0)
            _dots(ax, results, cases, {(m, k): (f"coverage_{k}", marker) for m in ("estimate", "least-squares")
                                       for k, marker in zip(KINDS, "o^s", strict=True)})  # fmt: skip
        else:
            _dots(ax, results, cases, {(m, ""): (measure, "o") for m in METHODS})
        ax.set(xlabel=title)
        ax.grid(axis="y", color="#efefef", lw=0.6)
        ax.set_axisbelow(True)
    axes[0].set(xlim=(-0.1, 1.03))
    axes[1].set(xlim=(-0.1, 1.03))
    axes[2].set(xlim=(min(0.8, axes[2].get_xlim()[0]), 1.01))
    axes[0].set_yticks(range(len(cases)), cases)
    axes[0].set_ylim(len(cases) - 0.5, -0.5)
    for m in (m for m in METHODS if any(results["circuits"][case].get(m) for case in cases)):
        axes[0].plot([], [], "o", color=COLOURS[m], ms=5, label=NAMES[m])
    for kind, marker in zip(KINDS, "o^s", strict=True):
        axes[2].plot([], [], marker, color="#888888", ms=5, ls="", label=kind)
    axes[2].legend(loc="lower left", fontsize=6)
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, ncols=len(METHODS), loc="outside upper center")
    return drawn


def _dots(ax, results, cases, series):
    """series: {(method, any): (measure or None: of the weights, marker)}."""
    for k, ((method, _), (measure, marker)) in enumerate(series.items()):
        for y, case in enumerate(cases):
            of = measure or main_measure(case)
            found, at = values(results, case, method, of), y + 0.7 * (k / max(1, len(series) - 1) - 0.5)
            ax.plot(found, [at] * len(found), marker, ms=3, mew=0, color=COLOURS[method], alpha=0.35)
            if found:
                ax.plot(np.mean(found), at, marker, ms=5, mew=0, color=COLOURS[method], zorder=3)
