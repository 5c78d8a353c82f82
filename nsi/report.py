"""A fit in plain words: runs/NAME/report.html, one page that needs nothing else, and its figures as PNG.

What was found, how far to trust it, what is not determined, what is wrong with the file; then the figures and all
measures. Every number is of metrics.json or of connectivity.npz; the page says of the truth only what is scored there.
"""

import base64
import contextlib
import html
import json
from pathlib import Path

import matplotlib
import numpy as np

from nsi import check, geometry, portrait, prediction
from nsi.run import files

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #1b1b1e }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 1.8em; border-bottom: 1px solid #ddd }
img { max-width: 100%; display: block } figure { margin: 1.5em 0 } figcaption { color: #555; font-size: .9em }
table { border-collapse: collapse; font-size: .9em } td, th { padding: .15em .8em .15em 0; text-align: left;
border-bottom: 1px solid #eee; vertical-align: top } .wrong { color: #a33a22 }
"""


def write(out, rec, held_out, networks, found, metrics, about):
    """Draw a fit's figures into out/figures and write out/report.html.

    out: the run's folder; rec, held_out: all trials and the held-out ones; networks: the replicas; found: the arrays of
    connectivity.npz, or None; metrics: of metrics.json; about: the options, with `data`, `data_sha256` and `warmup`.
    Returns: paths of the figures.
    """
    matplotlib.use("agg")
    from matplotlib import pyplot

    shape = geometry.of(rec)
    places = geometry.places_of(rec, shape)
    (out / "figures").mkdir(exist_ok=True)
    for old in (out / "figures").glob("*.png"):
        old.unlink()
    shown, paths = [], []
    for name, what, figure in portrait.draw(held_out, shape, places, networks, found, metrics, about["warmup"]):
        path = out / "figures" / f"{name}.png"
        with files.whole(path) as temporary:
            figure.savefig(temporary, dpi=85)
        pyplot.close(figure)
        shown.append((name, what, base64.b64encode(path.read_bytes()).decode()))
        paths.append(path)
    with files.whole(out / "report.html") as temporary:
        Path(temporary).write_text(
            page(out.name, said(rec, found, metrics, beside(out, metrics)), shown, metrics, about)
        )
    return paths


# ---- words ------------------------------------------------------------------------------------------------------


def said(rec, found, metrics, others):
    """What the page says, by its headings. others: `beside`'s. Returns: {heading: list of sentences}."""
    one = {k: v[0] if k in SEVERAL and isinstance(v, list) else v for k, v in metrics.items()}
    one["turning"] = check.of_first(one["turning"])
    if isinstance(one.get("r_gate_effective"), list):  # by component of the velocity
        one["r_gate_effective"] = float(np.mean(one["r_gate_effective"]))
    return {
        "What was found": [*predictions(one), *paths(one, found)],
        "How far to trust it": [*trust(rec, one), *null(one, others)],
        "What is not determined": undetermined(one, found),
        "What is wrong with the file": metrics["warnings"] or ["Nothing was found wrong with it."],
    }


SEVERAL = {"heading_error", "heading_error_5s", "loss", "variance", "turning", "decoding_error", "shifter_fraction",
           "active_input_units", "identifiable_fraction", "resolved_fraction", "direct_share", "direct_share_se",
           "r_W", "r_W_identifiable", "coverage", "coverage_total", "coverage_gate", "r_gate_effective"}  # fmt: skip


def angle(x):
    """An angle in words."""
    return f"{x:.2f} rad ({np.degrees(x):.0f}°)"


def row(table):
    """The row of the heading's error that is told: of 1 s, or the longest time with samples enough. Or None."""
    enough = [s for s, one in table.items() if one["samples"] >= prediction.FEWEST and float(s) <= 1]
    return max(enough, key=float) if enough else None


def predictions(m):
    """What the network predicts of trials that it has not seen."""
    s = row(m["heading_error"])
    if s is None:
        yield "Held-out trials are too few or too short to say how well the network predicts."
    else:
        one = m["heading_error"][s]
        network, rivals = one["error"], {"an integrator": one["integrator"], "a bump that stays": one["stay"]}
        better = [name for name, error in rivals.items() if network < error]
        verdict = f"better than {' and '.join(better)}" if better else "no better than either"
        verdict += " alone" if len(better) == 1 else ""
        yield (
            f"On held-out trials and velocity alone the network predicts the heading {s} s ahead with a mean error of "
            f"{angle(network)}: {verdict}. An integrator of velocity with the recording's own gain errs by "
            f"{angle(one['integrator'])}, a bump that stays by {angle(one['stay'])} ({one['samples']} samples)."
        )
    if m["variance"]:
        share = 1 - m["loss"] / m["variance"]
        yield (
            f"Running freely for a window it reproduces {max(0, share):.0%} of the variance of the held-out rates "
            f"(mean squared error {m['loss']:.3g}, variance {m['variance']:.3g})."
        )


def paths(m, found):
    """What is read off: direct weights, and the gate."""
    if found is not None and "gate" in found:
        finite = np.isfinite(found["gate_se_at_alpha"])
        if finite.any():
            gate, se = found["gate"][finite], found["gate_se_at_alpha"][finite]
            beyond, size = np.mean(np.abs(gate) > 1.96 * se), np.sqrt(np.mean(gate**2))
            if beyond > 0.15:
                yield (
                    f"Velocity changes what neurons do to each other: {beyond:.0%} of the effective gate's entries are "
                    f"beyond 1.96 standard errors, by chance 5 % would be (r.m.s. {size:.3g} per rad/s)."
                )
            else:
                yield (
                    f"No gate is found: {beyond:.0%} of its entries are beyond 1.96 standard errors, and by chance 5 % "
                    "would be."
                )
            if not np.isfinite(found["gate_se"]).any():
                yield (
                    f"How large it is depends on tau, which the recording does not have: alpha {m['alpha']:g} is a "
                    "guess, and no interval is given. Put tau (s) into the file, or give --alpha."
                )
    if m.get("shifter_fraction") is not None:
        yield (
            f"{m['shifter_fraction']:.0%} of {m['active_input_units']} active input units are tuned to heading and "
            "velocity, as shifter neurons are. By itself this is no evidence: units driven by velocity are tuned to "
            "it in any fit."
        )
    if m.get("r_W") is not None:
        score = f"Against the simulation's truth, W has r {m['r_W']:.3f} over all pairs"
        if m.get("r_W_identifiable") is not None:
            score += f", {m['r_W_identifiable']:.3f} over those that are determined"
        if m.get("r_gate_effective") is not None:
            score += f", and the effective gate r {m['r_gate_effective']:.3f}"
        yield f"{score}. No fit reads the truth."


def trust(rec, m):
    """Whether the recording is one that such a fit can explain."""
    turning = m["turning"]
    if turning["r"] is None:
        yield "The activity or the velocity never turns, so that nothing tells how one moves the other."
    else:
        lag = (
            f", {abs(turning['lag']):.2g} s {'before' if turning['lag'] < 0 else 'after'} it" if turning["lag"] else ""
        )
        strong = abs(turning["r"])
        verdict = "closely" if strong > 0.9 else "loosely" if strong > 0.12 else "not"
        yield (
            f"The recorded activity follows velocity {verdict}: it turns {abs(turning['slope']):.2f} times as fast, "
            f"r {strong:.2f} over half a second{lag}. What does not turn with velocity, no fit to velocity explains."
        )
    if m.get("decoding_error") is not None:
        yield (
            f"The heading decoded from the recorded activity is {angle(m['decoding_error'])} from the one given, on "
            "average, but for an offset of each trial. Predictions are scored against the decoded one."
        )
    kinds = {"coverage": "direct weights", "coverage_total": "total effects", "coverage_gate": "the gate"}
    held = [f"{m[key]:.1%} of {what}" for key, what in kinds.items() if m.get(key) is not None]
    if held:
        yield f"The simulation's truth lies within the 95 % intervals of {', '.join(held)}."
    yield (
        "Standard errors take noise to enter the input current, and all neurons that matter to be recorded or among "
        "the hidden units. They do not notice where that fails: W is then what neurons do to each other, directly or "
        "not, and no wiring."
    )
    animals = 1 if rec.animal is None else len(np.unique(rec.animal))
    if animals == 1:
        yield "All trials count as one animal's: nothing here says how other animals differ."


def null(m, others):
    """The same fit on velocity of other trials, beside this one."""
    mine = "This is a null model, fitted to velocity of other trials. " if m["shuffle_velocity"] else ""
    if not others:
        yield mine + (
            "No fit to velocity of other trials lies beside this one. With --shuffle-velocity and another --out it "
            "tells what comes from the method alone; repeat this command with --resume to see it here."
        )
    for name, other in others.items():
        which = "the recorded velocity" if m["shuffle_velocity"] else "velocity of other trials"
        numbers = []
        s = row(m["heading_error"])
        theirs = other["heading_error"][0] if isinstance(other["heading_error"], list) else other["heading_error"]
        if s is not None and theirs[s]["error"] is not None:
            numbers.append(
                f"error {s} s ahead {m['heading_error'][s]['error']:.2f} here, {theirs[s]['error']:.2f} there"
            )
        for key, what in (("shifter_fraction", "shifters among its input units"), ("loss", "loss")):
            if m.get(key) is not None and other.get(key) is not None:
                there = float(np.mean(other[key]))
                numbers.append(f"{what} {m[key]:.3g} here, {there:.3g} there")
        yield f"{mine}Beside it, {name} was fitted to {which}: {'; '.join(numbers)}. Only the difference is evidence."
        mine = ""


def undetermined(m, found):
    """What the recording does not say, as sentences."""
    sentences = []
    if found is None:
        sentences.append("Standard errors were not computed (--no-errors), so that nothing says which weights hold.")
    else:
        share, apart = m["identifiable_fraction"], m["resolved_fraction"]
        if share < 1:
            sentences.append(
                f"{1 - share:.0%} of the pairs of neurons: their weights are what the fit started from, and what is "
                "smooth. They are grey in the figure, and false in `identifiable` of connectivity.npz."
            )
        sentences.append(
            f"How single connections differ from the mean at their distance: the recording says it of {apart:.0%} of "
            "the pairs."
        )
        if m.get("direct_share") is None:
            sentences.append(
                "Connections against paths through neurons that were not recorded: known current pulses tell them "
                "apart, activity and velocity do not. Trust their sum, `total`."
            )
        else:
            sentences.append(
                f"Paths through hidden neurons only in part: the pulses put {m['direct_share']:.0%} of what neurons do "
                "to each other into direct connections."
            )
    if m.get("hidden_assumed"):
        sentences.append(hidden(m))
    if m.get("response_units"):
        sentences.append(
            f"Connections of neurons that are missing: {m['response_units']} hidden response units stand for them, and "
            "what these do and what W does can stand in for each other."
        )
    elif "shifter_fraction" in m:
        sentences.append(
            "Whether response neurons are missing: all are taken to be recorded. If some are not, W takes in the paths "
            "through them, is too large, and no interval says so."
        )
    return sentences


def hidden(m):
    """What is said of single hidden neurons, and on what it rests."""
    spread = m.get("hidden_agreement")
    seeds = "" if spread is None else f" Networks from other starts agree on them at r {spread:.2f}."
    return (
        f"What single hidden neurons do: it rests on assumptions ({m['hidden_assumed'].replace(',', ', ')}). That "
        "driven neurons are apart is tested by how fast velocity acts; the rest is not, since other hidden neurons, "
        f"of the other sign for one, would do the same to the recorded ones.{seeds}"
    )


def beside(out, metrics):
    """Finished fits to the same recording in folders beside this one, to velocity of other trials, or, of a null model,
    to its own. Returns: {name: metrics}."""
    others = {}
    for path in sorted(out.parent.glob("*/metrics.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            one = json.loads(path.read_text())
            same = one["data_sha256"] == metrics["data_sha256"] and ("shifter_fraction" in one) == (
                "shifter_fraction" in metrics
            )
            if path.parent != out and same and one["shuffle_velocity"] != metrics["shuffle_velocity"]:
                others[path.parent.name] = one
    return dict(list(others.items())[:4])


# ---- page -------------------------------------------------------------------------------------------------------


def page(name, words, figures, metrics, about):
    """The page as HTML. words: `said`'s; figures: (name, what to see, PNG in base64)."""
    text = html.escape
    parts = [f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{text(name)}</title><style>{STYLE}</style>",
             f"<h1>{text(name)}: a network fitted to {text(str(about['data']))}</h1>"]  # fmt: skip
    for heading, sentences in words.items():
        wrong = " class='wrong'" if heading == "What is wrong with the file" and metrics["warnings"] else ""
        parts.append(f"<h2>{text(heading)}</h2><ul>{''.join(f'<li{wrong}>{text(s)}</li>' for s in sentences)}</ul>")
    parts.append("<h2>Figures</h2>")
    for title, what, png in figures:
        parts.append(
            f"<figure><img alt='{text(title)}' src='data:image/png;base64,{png}'><figcaption><b>{text(title)}.</b> "
            f"What to see: {text(what)}.</figcaption></figure>"
        )
    for title, values in (("All measures", metrics), ("Options", about)):
        rows = (f"<tr><td>{text(str(k))}</td><td>{text(shortly(v))}</td></tr>" for k, v in flat(values))
        parts.append(f"<h2>{title}</h2><table>{''.join(rows)}</table>")
    return "\n".join([*parts, "</html>\n"])


def flat(values, before=""):
    """The leaves of nested dictionaries. Yields: name, value."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{name}, ")
        elif name != "warnings":
            yield before + name, value


def shortly(value):
    """A value in few characters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(shortly, value[:20]))
    return "–" if value is None else str(value)
