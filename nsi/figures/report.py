"""A fit in plain words: runs/NAME/report.html, one page that needs nothing else, and its figures as PNG.

Every number is of metrics.json or of connectivity.npz; the page says of the truth only what is scored there. Of several
replicas it gives the mean, the lowest and the highest. Functions without `Returns` yield sentences, from `metrics` (of
metrics.json), `arrays` (of connectivity.npz, None of a control) and `options` (of the fit).
"""

import base64
import contextlib
import html
from functools import partial
from itertools import islice
from pathlib import Path

import matplotlib
import numpy as np

from nsi import files
from nsi.estimation.regression import NORMAL
from nsi.evaluation import prediction, tuning
from nsi.evaluation.metrics import replicas, tables_of, values_of
from nsi.figures import run as portrait
from nsi.hidden import units
from nsi.recordings.turning import describe_lag, first_component

RIVALS = {"integrator": "an integrator of velocity", "stay": "a bump that stays"}  # predictions without a network
KINDS = {"W": "direct weights", "total": "total effects", "gate": "the gate"}
# options that may differ between a fit and a null model of it
FREE_OPTIONS = {"data", "data_sha256", "shuffle_velocity", "seed", "replicas", "calibrated"}
MAX_NEIGHBOURS = 4  # fits in other folders that are compared, or named
MAX_OPTIONS = 3  # that differ from theirs, and are named
MIN_REPRODUCED = 0.5  # of the variance of held-out rates, below which a network does not run like the recording
AGAINST_FIT, AGAINST_FILE = "What speaks against this fit", "What is wrong with the file"
NOTHING = {AGAINST_FIT: "No test of this fit speaks against it.", AGAINST_FILE: "Nothing was found wrong with it."}
TERMS = {  # of the page: word: meaning
    "held-out trials": "every tenth trial, of fewer than ten the last, which no fit sees",
    "hidden units": "units of the network that stand for neurons that were not recorded; input units are those of "
    "them that receive the velocity",
    "W, total": "W: direct weights, from rows to columns. Total: direct weights and paths through hidden units "
    "together",
    "effective gate": "what velocity adds to the weights between recorded neurons, per rad/s, while hidden units are "
    "active",
    "determined": "`identifiable` in connectivity.npz: the 95 % interval's half-width is below the r.m.s. weight",
    "null model": "the same fit to the velocity of other trials, which cannot explain the activity",
}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #1b1b1e }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 1.8em; border-bottom: 1px solid #ddd }
img { max-width: 100%; display: block } figure { margin: 1.5em 0 } figcaption { color: #555; font-size: .9em }
table { border-collapse: collapse; font-size: .9em } td, th { padding: .15em .8em .15em 0; text-align: left;
border-bottom: 1px solid #eee; vertical-align: top } dt { font-weight: 600; margin-top: .6em } dd { margin-left: 1.5em }
.wrong { color: #a33a22 }
"""


def write(out, data, networks, arrays, metrics, about):
    """Draw a fit's figures into out/figures and write out/report.html.

    out: the run's folder; data: run.setup.Data; networks: the replicas; arrays: of connectivity.npz, of a control W
    alone, or None; metrics: of metrics.json; about: the options, with `data`, `data_sha256` and `warmup`.
    Returns: paths of the figures.
    """
    matplotlib.use("agg")
    from matplotlib import pyplot

    arrays = arrays if arrays and "W_se" in arrays else None
    (out / "figures").mkdir(exist_ok=True)
    for old in (out / "report.html", *(out / "figures").glob("*.png")):
        old.unlink(missing_ok=True)
    shown = []
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc may ask for LaTeX, or for fonts that are not there
        places = data.held_out, data.geometry, data.places
        for name, what, figure in portrait.draw_figures(*places, networks, arrays, metrics, about["warmup"]):
            path = out / "figures" / f"{name}.png"
            with files.whole(path) as temporary:
                figure.savefig(temporary, dpi=85)
            pyplot.close(figure)
            shown.append((path, what))
    content = page(out.resolve().name, write_sentences(data.rec, arrays, metrics, about, out), shown, metrics, about)
    with files.whole(out / "report.html") as temporary:
        Path(temporary).write_bytes(content.encode("utf-8", "replace"))  # a folder's name may be no text at all
    return [path for path, _ in shown]


def write_sentences(rec, arrays, metrics, options, out):
    """The sentences of the page. rec: Recording; out: the run's folder, next to which null models are searched for.
    Returns: {heading: list of sentences}."""
    of_fit = metrics.get("fit_warnings", [])
    of_file = [sentence for sentence in metrics["warnings"] if sentence not in of_fit]
    return {
        "What was found": [
            *predictions(metrics), *gates(metrics, arrays), *weights(arrays), *kinetics(metrics),
            *input_units(metrics), *scores(metrics),
        ],
        "How far to trust it": [
            *trust(rec, metrics), *calibration(metrics), *replica_spread(metrics, arrays, options),
            *null(metrics, out),
        ],
        AGAINST_FIT: [*(s[:1].upper() + s[1:] for s in of_fit), *poor(metrics)] or [NOTHING[AGAINST_FIT]],
        "What is not determined": list(undetermined(metrics, arrays, rec.stimulus is not None)),
        AGAINST_FILE: of_file or [NOTHING[AGAINST_FILE]],
    }  # fmt: skip


def with_spread(values, form):
    """The mean of a measure over replicas, with the lowest and the highest where they are others. form: of a number.
    Returns: str."""
    mean, low, high = (format(f(values), form) for f in (np.mean, min, max))
    return mean if low == high else f"{mean} ({low} to {high})"


share = partial(with_spread, form=".0%")
decimals = partial(with_spread, form=".3g")


def angle(values):
    """Angles of the replicas in words. values: rad. Returns: str."""
    mean, _, spread = with_spread(values, ".2f" if np.mean(values) >= 0.1 else ".3f").partition(" (")
    spread = f"; {spread.removesuffix(')')} rad" if spread else ""
    return f"{mean} rad ({np.degrees(np.mean(values)):.0f}°{spread})"


def enumerated(items):
    """Some texts in a row: a, b and c. Returns: str."""
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def row(table):
    """The row of a table of heading errors that is written out: of 1 s, or the longest shorter time that has samples
    enough. Returns: its key, or None."""
    enough = [s for s, one in table.items() if one["samples"] >= prediction.MIN_SAMPLES and float(s) <= 1]
    return max(enough, key=float, default=None)


# ---- what was found ---------------------------------------------------------------------------------------------


def predictions(metrics):
    """Prediction of held-out trials."""
    tables = tables_of(metrics, "heading_error")
    s = row(tables[0])
    if s is None:
        yield "Held-out trials are too few or too short to say how well the network predicts."
    else:
        first = tables[0][s]
        yield (
            f"On held-out trials the network, given velocity alone, predicts the heading {s} s ahead with a mean error "
            f"of {angle([table[s]['error'] for table in tables])}; an integrator of velocity with the recording's own "
            f"gain has {angle([first['integrator']])}, a bump that stays {angle([first['stay']])} "
            f"({first['samples']} samples)."
        )
        yield from comparisons(tables, tables_of(metrics, "heading_error_difference"))
    if shares := reproduced(metrics):
        yield (
            f"Running freely for a window the network reproduces {share(shares)} of the variance of the held-out rates "
            f"(mean squared error {decimals(values_of(metrics, 'loss'))}, variance "
            f"{values_of(metrics, 'variance')[0]:.3g})."
        )


def reproduced(metrics):
    """Share of the held-out rates' variance that each replica reproduces, running freely. Returns: list, empty where
    there is none."""
    variance = values_of(metrics, "variance")
    return [max(0.0, 1 - x / variance[0]) for x in values_of(metrics, "loss")] if variance and variance[0] else []


def comparisons(tables, differences):
    """Whether the networks' heading error is smaller than that of predictions without a network: only where an interval
    over held-out trials says so, at every horizon and in every replica.

    tables, differences: of metrics.json, one for each replica.
    """
    horizons = [s for s, one in tables[0].items() if one["samples"] >= prediction.MIN_SAMPLES]
    if not differences or any(one[s][key] is None for one in differences for s in horizons for key in RIVALS):
        yield (
            f"The network is not compared with {enumerated(RIVALS.values())}: that takes an interval over at least "
            f"{prediction.MIN_TRIALS} held-out trials."
        )
        return
    trials = min((one[s]["trials"] for one in differences for s in horizons), default=0)
    everywhere = f"at every horizon that the held-out trials reach ({enumerated(horizons)} s)"
    where = f"the 95 % interval of the difference over {trials} held-out trials"
    each = " in each replica" if len(differences) > 1 else ""
    for key, rival in RIVALS.items():
        below = [s for s in horizons if all(one[s][key][1] < 0 for one in differences)]
        above = [s for s in horizons if all(one[s][key][0] > 0 for one in differences)]
        if horizons in (below, above):
            better, side = ("better", "below") if below == horizons else ("worse", "above")
            yield f"The network is {better} than {rival} {everywhere}: {where} lies {side} 0{each}."
            continue
        neither = [s for s in horizons if s not in below + above]
        parts = {"smaller": below, "larger": above, "not clearly different": neither}
        found = ", ".join(f"{what} at {enumerated(at)} s" for what, at in parts.items() if at)
        yield f"Compared with {rival} the network's error is {found}, by {where}{each}."


def poor(metrics):
    """Warnings where the networks run or explain the recording too poorly to be interpreted."""
    shares = reproduced(metrics)
    if shares and min(shares) < MIN_REPRODUCED:
        yield (
            f"Running freely it reproduces {share(shares)} of the variance of the held-out rates, less than half: it "
            "does not do what the recorded neurons do."
        )
    differences = tables_of(metrics, "heading_error_difference")
    stay = {s: [one[s]["stay"] for one in differences] for s in (differences[0] if differences else ())}
    larger = [s for s, each in stay.items() if all(interval and interval[0] > 0 for interval in each)]
    if larger:
        yield f"It predicts the heading {enumerated(larger)} s ahead worse than a bump that stays where it is."


def gates(metrics, arrays):
    """The gate, by one test of all of it, and its size."""
    if arrays is None or "verdicts" not in metrics:
        return
    p = f"permutation test of the whole gate, p {metrics['gate_p']:.2g}"
    size = with_interval(arrays, "gate", " per rad/s")
    yield {
        "found": f"Velocity changes what neurons do to each other ({p}): {size}.",
        "not found": f"No gate is found: the velocities of other trials explain the neurons' currents as well ({p}).",
        "cannot tell": f"Whether velocity changes what neurons do to each other, these data cannot tell ({p}).",
    }[metrics["verdicts"]["gate"]]


def weights(arrays):
    """Size and standard errors of the estimated connections."""
    if arrays is not None:
        yield (
            f"The estimated direct connections (W) have an {with_interval(arrays, 'W')}, the total effects, with the "
            f"paths through hidden neurons, an {with_interval(arrays, 'total')}."
        )


def with_interval(arrays, name, unit=""):
    """R.m.s. of a best estimate, and the median half-width of its 95 % intervals, in words. Returns: str."""
    half = NORMAL * np.median(arrays[f"{name}_se"])
    size = np.sqrt(np.mean(np.square(arrays[name])))
    half = f"±{half:.2g}" if np.isfinite(half) else "without end"
    return f"r.m.s. of {size:.2g}{unit}, the 95 % interval of a single entry being {half} (median)"


def kinetics(metrics):
    """Response function, mechanism and alpha, from the recording."""
    if "verdicts" not in metrics:
        return
    response, mechanism = (metrics["verdicts"][name] for name in ("response", "mechanism"))
    parts = [
        "Which response function the neurons have, the data cannot tell"
        if response == "cannot tell"
        else f"The neurons' response function is likeliest the {response}",
        "whether the velocity acts through hidden neurons or multiplies connections, they cannot tell"
        if mechanism == "cannot tell"
        else f"the velocity acts through {mechanism}",
    ]
    yield "; ".join(parts) + "."
    if not metrics["alpha_known"] and metrics["alpha_se"] is not None:
        low, high = (metrics["alpha"] + sign * NORMAL * metrics["alpha_se"] for sign in (-1, 1))
        yield (
            f"The recording has no tau and --alpha was not given: alpha, dt / tau, is estimated as "
            f"{metrics['alpha']:.3g} (95 % interval {max(low, 0):.3g} to {min(high, 1):.3g})."
        )


def input_units(metrics):
    """Tuning of the hidden units that receive the velocity."""
    fractions = values_of(metrics, "shifter_fraction")
    if not fractions:
        return
    left, right = (values_of(metrics, f"shifter_{side}") for side in ("left", "right"))
    sides = ""
    if left and right:
        sides = f": {share(left)} for left turns (negative velocity), {share(right)} for right ones (positive)"
    yield (
        f"{share(fractions)} of {with_spread(values_of(metrics, 'active_input_units'), '.0f')} active input units are "
        f"tuned to heading and velocity, as shifter neurons are{sides}. By itself this is no evidence: units driven by "
        "velocity are tuned to it in any fit."
    )


def scores(metrics):
    """Scores of the estimate and of the networks' own weights against a simulation's truth."""
    parts = {
        "r_W": "Against the simulation's truth, W has r {} over all pairs",
        "r_W_identifiable": ", {} over those that are determined",
        "r_gate_effective": ", and the effective gate r {}",
        "network_r_W": "; the weights of the trained network itself have r {}",
    }
    if "verdicts" not in metrics:
        del parts["network_r_W"]
    found = {key: values_of(metrics, key) for key in parts}
    if found["r_W"]:
        score = "".join(text.format(decimals(found[key])) for key, text in parts.items() if found[key])
        yield f"{score}. No fit reads the truth."


# ---- how far to trust it ----------------------------------------------------------------------------------------


def trust(rec, metrics):
    """Properties of the recording that a fit depends on."""
    turning = first_component(tables_of(metrics, "turning")[0])
    if turning["r"] is None:
        yield "The activity or the velocity never turns, so that the recording does not say how one moves the other."
    else:
        strong = abs(turning["r"])
        follows = "closely" if strong > 0.9 else "loosely"
        verdict = f"follows velocity {follows}" if strong > 0.12 else "does not follow velocity"
        lag = f", {describe_lag(turning['lag'], 2)} it" if turning["lag"] else ""
        way = "" if turning["slope"] > 0 or strong <= 0.12 else " the other way"
        yield (
            f"The recorded activity {verdict}: it turns {abs(turning['slope']):.2f} times as fast{way}"
            f", r {strong:.2f} over half a second{lag}. What does not turn with velocity, no fit to velocity explains."
        )
    if decoding := values_of(metrics, "decoding_error"):
        yield (
            f"The heading decoded from the recorded activity is {angle(decoding[:1])} from the one given, on "
            "average, apart from an offset of each trial. Predictions are scored against the decoded one."
        )
    kinds = {"coverage": "direct weights", "coverage_total": "total effects", "coverage_gate": "the gate's entries"}
    shares = [f"{with_spread(v, '.1%')} of {what}" for key, what in kinds.items() if (v := values_of(metrics, key))]
    if shares:
        yield f"The simulation's truth lies within the 95 % intervals of {enumerated(shares)}."
    yield (
        "Standard errors take noise to enter the input current, and all neurons that matter to be recorded or among "
        "the hidden units. They do not notice where that fails: W is then what neurons do to each other, directly or "
        "not, and no wiring."
    )
    if rec.animal is None or len(np.unique(rec.animal)) == 1:
        yield "All trials count as one animal's: nothing here says how other animals differ."


def calibration(metrics):
    """Calibration of the intervals by a recording simulated from the estimate."""
    if "verdicts" not in metrics:
        return
    calibrated = metrics.get("calibration")
    if not calibrated:
        yield (
            "The intervals are not calibrated and may be too narrow: they know of noise, and not of what the "
            "regression's signals get wrong."
        )
        return
    factors = [f"{calibrated['factors'][k]:.2f} ({what})" for k, what in KINDS.items()]
    shares = [f"{calibrated['coverage'][k]:.0%}" for k in KINDS if calibrated["coverage"].get(k) is not None]
    yield (
        "The 95 % intervals are calibrated: a recording was simulated from the estimate and estimated again; standard "
        f"errors were multiplied by {enumerated(factors)}, which bring the intervals to hold 95 % of that simulation's "
        f"truth, where they held {enumerated(shares)}."
    )


def replica_spread(metrics, arrays, options):
    """Differences of single weights between replicas."""
    if replicas(metrics) == 1:
        yield (
            "One network was fitted: nothing here says how other starts would differ (--replicas 4), or other trials "
            "(--replicas 4 --bootstrap)."
        )
    elif arrays is not None and "W_replicas_se" in arrays:
        spread, size = (np.sqrt(np.mean(np.square(arrays[key]))) for key in ("W_replicas_se", "W"))
        what = (
            "each drew trials or animals with replacement, so that this is a standard error"
            if options.get("bootstrap")
            else "all saw the same trials, so that this is what the start decides, and no error of the data"
        )
        yield (
            f"Over {replicas(metrics)} replicas single weights of the networks have an s.d. of "
            f"{spread / max(size, 1e-30):.0%} of the r.m.s. weight: {what}."
        )


def null(metrics, out):
    """The same fit to the velocity of other trials, if one lies beside this one, or of a null model, to its own."""
    compared, differing = find_null_fits(out, metrics)
    other_velocity = "the recorded velocity" if metrics["shuffle_velocity"] else "the velocity of other trials"
    for name, numbers in compared.items():
        yield (
            f"With the same options, {name} was fitted to {other_velocity}: {'; '.join(numbers)}. What both show "
            "comes from the method; only where they differ is there evidence."
        )
    if differing:
        names = "; ".join(f"{name} ({enumerated(options)})" for name, options in differing.items())
        yield f"Fits to {other_velocity} that are not compared, since their options are others: {names}."
    if not compared:
        how = "without --shuffle-velocity" if metrics["shuffle_velocity"] else "with --shuffle-velocity"
        yield (
            f"No fit to {other_velocity} with the same options lies beside this one. It would say what comes from the "
            f"method alone: fit once more {how}, into another --out and with all other options as here, and repeat "
            "this command with --resume to see both."
        )


def find_null_fits(out, metrics):
    """Finished fits to the same recording in folders beside this one, to the velocity of other trials, or, of a null
    model, to its own.

    Returns: {name: comparisons in words} of those with the same options but FREE_OPTIONS, and {name: differing options
    in words} of the others.
    """
    compared, differing = {}, {}
    for path in sorted(out.resolve().parent.glob("*/metrics.json")):
        with contextlib.suppress(Exception):  # whatever an older or a damaged neighbour holds
            if path.parent == out.resolve() or not path.is_file():
                continue
            other, name = files.read_json(path), path.parent.name
            same = other.get("finished", True) and other["data_sha256"] == metrics["data_sha256"]
            if not same or other["shuffle_velocity"] == metrics["shuffle_velocity"]:
                continue
            if differ := differing_options(metrics.get("options"), other.get("options")):
                differing[name] = differ
            else:
                compared[name] = compare(metrics, other)
    return tuple(dict(islice(fits.items(), MAX_NEIGHBOURS)) for fits in (compared, differing))


def differing_options(ours, theirs):
    """Options that differ between two fits, FREE_OPTIONS aside. ours, theirs: of metrics.json, or None. Returns: list
    of str."""
    if not ours or not theirs:
        return ["its options are not known"]
    names = [k for k in sorted({*ours, *theirs} - FREE_OPTIONS) if ours.get(k) != theirs.get(k)]
    named = [f"{k.replace('_', '-')} {shortly(theirs.get(k))}, here {shortly(ours.get(k))}" for k in names]
    return named[:MAX_OPTIONS] + ([f"{len(names) - MAX_OPTIONS} more"] if len(names) > MAX_OPTIONS else [])


def compare(metrics, other):
    """Measures of this fit and of another, in words. metrics, other: of metrics.json. Returns: list of str."""
    numbers, tables = [], [tables_of(fit, "heading_error") for fit in (metrics, other)]
    s = row(tables[0][0])
    if s is not None and tables[1][0][s]["error"] is not None:
        here, there = (decimals([table[s]["error"] for table in each]) for each in tables)
        numbers.append(f"error of the heading {s} s ahead {here} rad here, {there} there")
    for key, what in (("shifter_fraction", "shifters among the input units"), ("loss", "squared error")):
        here, there = values_of(metrics, key), values_of(other, key)
        if here and there:
            numbers.append(f"{what} {decimals(here)} here, {decimals(there)} there")
    return numbers


# ---- what is left open ------------------------------------------------------------------------------------------


def undetermined(metrics, arrays, pulses):
    """What the recording does not determine. pulses: whether it has known currents."""
    if arrays is None:
        yield "A control is no estimate: it has no intervals, so that nothing says which weights hold."
    else:
        known, resolved = (values_of(metrics, f"{key}_fraction") for key in ("identifiable", "resolved"))
        if min(known) < 1:
            yield (
                f"{share([1 - x for x in known])} of the pairs of neurons: the data alone say little of each weight, "
                "and the best estimate is what is smooth over distance. They are grey in the figure, and false in "
                "`identifiable` of connectivity.npz."
            )
        yield (
            f"How single connections differ from the mean at their distance: the recording says it of "
            f"{share(resolved)} of the pairs."
        )
        if not pulses and portrait.choose_claimed(arrays)[0] == "total":
            yield (
                "Direct connections as against paths through hidden neurons, in part: activity and velocity alone "
                "hardly separate them, known current pulses do. Intervals of their sum, `total` in connectivity.npz, "
                "are narrower."
            )
    yield from hidden(metrics)
    if metrics.get("response_units"):
        yield (
            f"Connections of neurons that are missing: {metrics['response_units']} hidden response units stand for "
            "them, and what these do and what W does can stand in for each other."
        )
    elif "shifter_fraction" in metrics:
        yield (
            "Whether response neurons are missing: all are taken to be recorded. If some are not, W takes in the paths "
            "through them, is too large, and no interval says so."
        )


def hidden(metrics):
    """Hidden neurons, and the constraints that they rest on."""
    if not metrics.get("hidden_assumed"):
        return
    names, agreement = metrics["hidden_assumed"].split(","), metrics.get("hidden_agreement")
    meanings = "; ".join(f"`{name}`: {units.MEANINGS[name]}" for name in names)
    tested = "Nothing tests these"
    if "apart" in names:
        tested = "`apart` is tested by how fast velocity acts. Nothing tests the others"
    yield (
        f"What single hidden neurons do: it rests on assumptions ({meanings}). {tested}, since other hidden neurons, "
        "of the other sign for one, would do the same to the recorded ones."
        + ("" if agreement is None else f" Networks from other starts agree on them at r {agreement:.2f}.")
    )


# ---- page -------------------------------------------------------------------------------------------------------


def introduction(metrics, options):
    """The fit in a sentence, and the meaning of ranges. Returns: str."""
    count, seed = replicas(metrics), options.get("seed", 0)
    null = "This is a null model, fitted to the velocity of other trials. " if metrics["shuffle_velocity"] else ""
    if count == 1:
        return f"{null}One network was fitted, with seed {seed}."
    arrays = ""
    if "identifiable_fraction" in metrics:
        arrays = "; connectivity.npz, and with it the gate and what is determined, needs no network and is one"
    drawn = "each to trials or animals drawn with replacement" if options.get("bootstrap") else "all to the same trials"
    return (
        f"{null}{count} networks (replicas) were fitted, with seeds {seed} to {seed + count - 1}, {drawn}. A number "
        "with a range after it is their mean, with the lowest and the highest of them; without, all agree. Where one "
        f"network is drawn, it is the first replica{arrays}."
    )


def page(name, words, figures, metrics, about):
    """The page as HTML. words: of `write_sentences`; figures: (path of a PNG, what to see); about: options."""
    text = html.escape
    title = text(f"{name}: a fit to {about['data']}")
    parts = [f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>",
             f"<h1>{title}</h1><p>{text(introduction(metrics, about))}</p>"]  # fmt: skip
    for heading, sentences in words.items():
        wrong = " class='wrong'" if heading in NOTHING and sentences != [NOTHING[heading]] else ""
        parts.append(f"<h2>{text(heading)}</h2><ul>{''.join(f'<li{wrong}>{text(s)}</li>' for s in sentences)}</ul>")
    terms = TERMS | ({"right, left": tuning.SIDES} if values_of(metrics, "shifter_left") else {})
    meanings = "".join(f"<dt>{text(word)}</dt><dd>{text(what)}</dd>" for word, what in terms.items())
    parts.append(f"<h2>What the words mean</h2><dl>{meanings}</dl>")
    parts.append("<h2>Figures</h2>")
    for path, what in figures:
        png = base64.b64encode(path.read_bytes()).decode()
        parts.append(
            f"<figure><img alt='{path.stem}' src='data:image/png;base64,{png}'><figcaption><b>{path.stem}.</b> "
            f"What to see: {text(what)}.</figcaption></figure>"
        )
    numbers = {k: v for k, v in metrics.items() if k not in ("warnings", "fit_warnings", "options")}
    note = {"All measures": "<p>Of several replicas a value for each. docs/measures.md explains them.</p>"}
    for title, values in (("All measures", numbers), ("Options", about)):
        rows = (f"<tr><td>{text(str(k))}</td><td>{text(shortly(v))}</td></tr>" for k, v in flat(values))
        parts.append(f"<h2>{title}</h2>{note.get(title, '')}<table>{''.join(rows)}</table>")
    return "\n".join([*parts, "</html>\n"])


def flat(values, before=""):
    """The leaves of nested dictionaries, those of several replicas together. Yields: name, value."""
    for name, value in values.items():
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            value = {k: [one.get(k) for one in value] for k in value[0]}
        if isinstance(value, dict):
            yield from flat(value, f"{before}{name}, ")
        else:
            yield before + name, value


def shortly(value):
    """A value in few characters. Returns: str."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        each = (f"[{shortly(one)}]" if isinstance(one, list) else shortly(one) for one in value[:20])
        return ", ".join(each) + (", ..." if len(value) > 20 else "")
    return "–" if value is None or value == "" else str(value)
