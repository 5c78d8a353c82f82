"""What the estimate says of real animals: response, time constant, mechanism, gate and prediction, animal by animal.

Log likelihoods are those of nsi/estimation/kinetics.py, per sample, and of samples taken in several ways: by the
neuron's rate one step before, as nsi.estimate does, or by the rate itself, which truncates the noise.
Rivals of a velocity that acts one synapse later, F(v u): v u at once, v u one step later, and F(v) u, a velocity that
is filtered before it multiplies, all with a linear response.
"""

from dataclasses import replace

import numpy as np
from scipy import stats

import nsi
from experiments import runs
from experiments.flies.prediction import CLAMPED_STEPS, ahead, pieces, vector
from nsi import response
from nsi.estimation import regression
from nsi.estimation.gate import MAX_P_FOUND, gate_test
from nsi.estimation.kinetics import MECHANISMS, Likelihood, parabola
from nsi.estimation.signals import hidden_signals, leading_directions, state_of

SPACING = 0.1
ALPHAS = tuple(round(SPACING * k, 1) for k in range(1, 11))
SELECTIONS = {  # share of the highest rate, from and to, and how many steps before
    "one step before, 0.2 to 0.97": (0.2, 0.97, 1),
    "one step before, 0.4 to 0.97": (0.4, 0.97, 1),
    "by the rate itself, 0.2 to 0.97": (0.2, 0.97, 0),
}
LINEAR = response.Response("linear")
HIDDEN, MULTIPLIED = MECHANISMS
RIVALS = {  # of F(v u): v u with another velocity, made of it and alpha
    "at once, one step later": lambda v, _: np.roll(v, 1, 1),
    "at once, velocity filtered": state_of,
}
FILTERED = list(RIVALS)[-1]
CONTROL = {"seeds": range(100, 105), "trials": 8, "steps": 750, "wedges": 16, "noise": 0.05, "decay": 0.4}


class Selected(Likelihood):
    """Likelihoods on samples of a selection."""

    def __init__(self, rec, selection):
        super().__init__(rec, ALPHAS)
        self.selection = selection

    def used(self):
        low, high, lag = self.selection
        rates = self.rec.rates
        by = np.concatenate([np.zeros_like(rates[:, :lag]), rates[:, : rates.shape[1] - lag]], 1)
        used = (by > low * self.top) & (by < high * self.top) & (rates > 0) & self.rec.valid[..., None]
        return used[:, self.first :: self.every]

    def per_sample(self, **fixed):
        """The highest log likelihood of a sample, of candidates as `best` takes them."""
        return float(self.best(**fixed)[1].sum() / max(1, self.samples))


def named(chosen):
    """A response function's name in words."""
    return str(chosen) if chosen.name != "power" else f"power {chosen.shape:g}"


def kinetics_of(rec, selection, all_rivals=False):
    """Log likelihoods per sample of one animal. all_rivals: with those of RIVALS. Returns: dict of responses and
    mechanisms, {name: value}, and alpha."""
    likelihood = Selected(rec, selection)
    candidates = list(likelihood.candidates())
    for alpha in ALPHAS:
        likelihood.evaluate(alpha, HIDDEN, candidates)
        likelihood.evaluate(alpha, MULTIPLIED, [LINEAR])
    responses = {}
    for key, trials in likelihood.by_candidate.items():
        if key[1] == HIDDEN:
            value = float(trials.sum() / max(1, likelihood.samples))
            responses[named(key[2])] = max(value, responses.get(named(key[2]), -np.inf))
    by_alpha = {a: likelihood.by_candidate[a, HIDDEN, LINEAR] for a in ALPHAS}
    alpha = parabola(by_alpha, max(by_alpha, key=lambda a: by_alpha[a].sum()), SPACING)[0]
    rivals = {m: likelihood.per_sample(mechanism=m, response="linear") for m in MECHANISMS}
    for name, change in RIVALS.items() if all_rivals else ():
        rivals[name] = -np.inf
        for a in ALPHAS[1::2]:
            changed = Selected(replace(rec, velocity=change(rec.velocity, a)), selection)
            changed.evaluate(a, MULTIPLIED, [LINEAR])
            rivals[name] = max(rivals[name], changed.per_sample())
    return {"responses": responses, "mechanisms": rivals, "alpha": float(alpha)}


def gates(groups, alpha):
    """p values of the gate's test for each animal. groups: {name: [Recording]}."""
    return {name: [gate_test(rec, alpha, LINEAR)[1] for rec in each] for name, each in groups.items()}


def described(rec):
    """What nsi.estimate says of a recording. Returns: dict of verdicts, alpha and the gate's p value."""
    e = nsi.estimate(rec)
    return e.verdicts | {"alpha": float(e.alpha), "gate_p": float(e.gate_p)}


def control():
    """The mechanism's lead, F(v u) over v u, of a circuit that has v u: from its rates and through an indicator."""
    found = {"rates": [], "through an indicator": []}
    for seed in CONTROL["seeds"]:
        rec = nsi.simulate("gain", trials=CONTROL["trials"], steps=CONTROL["steps"], seed=seed)
        parts = np.array_split(rec.rates, CONTROL["wedges"], axis=-1)
        wedges, rng = np.stack([part.mean(-1) for part in parts], -1), np.random.default_rng(seed)
        for name, rates in (("rates", wedges), ("through an indicator", state_of(wedges, CONTROL["decay"]))):
            noisy = np.clip(rates + CONTROL["noise"] * rng.standard_normal(rates.shape), 0, None).astype(np.float32)
            likelihood = Selected(replace(rec, rates=noisy, tau=None), next(iter(SELECTIONS.values())))
            for alpha in ALPHAS:
                for mechanism in MECHANISMS:
                    likelihood.evaluate(alpha, mechanism, [LINEAR])
            lead = likelihood.per_sample(mechanism=HIDDEN) - likelihood.per_sample(mechanism=MULTIPLIED)
            found[name].append(lead)
    return found


def predict_linear(rec, cut, alpha):
    """Bumps that the estimate's signals predict with a linear response: direct weights, hidden path and gate, by least
    squares on rec, then running freely on cut's velocity. Returns: (pieces, horizons) complex."""
    u = state_of(rec.rates, alpha)
    V = leading_directions(u, rec.valid)
    signals = hidden_signals(u, rec.velocity, alpha, V)
    used = np.repeat(rec.valid[:, signals.first :, None], u.shape[-1], -1).reshape(-1, u.shape[-1])
    x, y = signals.x.reshape(len(used), -1), rec.rates[:, signals.first :].reshape(used.shape)
    weights = regression.ordinary(regression.Samples(x, used, y * used, np.array([0])))[0].astype(np.float32)
    u = np.zeros_like(cut.rates[:, 0])
    path, gate, rates = np.zeros_like(u @ V), np.zeros_like(u @ V), []
    for t in range(cut.rates.shape[1]):
        current = np.concatenate([u, path, gate, np.ones_like(u[:, :1])], 1) @ weights
        rates.append(cut.rates[:, t] if t <= CLAMPED_STEPS else np.clip(current, 0, 1))
        z = u @ V
        gate += np.float32(alpha) * (cut.velocity[:, t] * z - gate)
        path += np.float32(alpha) * (z - path)
        u = u + np.float32(alpha) * (rates[-1] - u)
    return vector(np.stack(rates, 1)[:, CLAMPED_STEPS + ahead(cut.dt)])


def leave_one_out(rec, alphas):
    """Predict each fly from the others, with the mean of their time constants. alphas: of each fly."""
    cut, trial = pieces(rec)
    fly = rec.animal[trial]
    bump = np.empty((len(fly), len(ahead(rec.dt))), complex)
    for k in np.unique(fly):
        some = replace(cut, rates=cut.rates[fly == k], velocity=cut.velocity[fly == k])
        others = float(np.mean(np.delete(alphas, k)))
        bump[fly == k] = predict_linear(rec.trials(rec.animal != k), some, others)
    return bump


def split(rec, count=5):
    """The recordings of a file's animals, or of one session's pieces."""
    group = np.arange(len(rec.rates)) * count // len(rec.rates) if rec.animal is None else rec.animal
    return [rec.trials(group == k) for k in np.unique(group)]


def answers(rec, nulls):
    """All answers but the prediction. nulls: {name: Recording}. Returns: dict, JSON."""
    groups = split(rec)
    found = {"dt": float(rec.dt), "kinetics": {}}
    for k, (name, selection) in enumerate(SELECTIONS.items()):
        found["kinetics"][name] = [kinetics_of(one, selection, not k) for one in groups]
        print(f"  kinetics, samples {name}", flush=True)
    alpha = float(np.mean([one["alpha"] for one in main_of(found)]))
    found["gate"] = gates({"recording": groups} | {name: split(one) for name, one in nulls.items()}, alpha)
    print("  gate", flush=True)
    found["each"], found["together"] = [described(one) for one in groups], described(rec)
    return found


def main_of(found):
    """The kinetics of the first selection, one for each animal."""
    return next(iter(found["kinetics"].values()))


def interval(values, digits=3, plus=False):
    """'mean (low to high)', the 95 % t interval over animals."""
    values = np.asarray(values, float)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    form = f"{'+' if plus else ''}.{digits}f"
    return f"{values.mean():{form}} ({values.mean() - half:{form}} to {values.mean() + half:{form}})"


def common(each, kind):
    """The descriptions that were tried on every animal: a scale may not suit all of their rates."""
    return [name for name in each[0][kind] if all(name in one[kind] for one in each)]


def leads(each, kind, name):
    """Log likelihood per sample of one description over each other one. Returns: {other: (animals,)}."""
    others = [other for other in common(each, kind) if other != name]
    return {other: np.array([one[kind][name] - one[kind][other] for one in each]) for other in others}


def closest(each, kind, name):
    """The rival that `leads` has nearest, and by how much name leads over it: (animals,)."""
    return min(leads(each, kind, name).items(), key=lambda item: item[1].mean())


def likeliest(each):
    """The response function of the highest mean log likelihood."""
    return max(common(each, "responses"), key=lambda name: np.mean([one["responses"][name] for one in each]))


def likeliest_in(each, name):
    """In how many animals a response is likelier than each other one."""
    return count([min(lead[k] for lead in leads(each, "responses", name).values()) for k in range(len(each))])


def count(values):
    """'k of n' that are positive."""
    return f"{int(np.sum(np.asarray(values) > 0))} of {len(values)}"


def found_in(p):
    """'k of n' whose test finds a gate."""
    return count(MAX_P_FOUND + 1e-9 - np.array(p))


def kinetics_table(found):
    """Response, mechanism and alpha under each selection of samples, as Markdown."""
    rows = []
    for name, each in found["kinetics"].items():
        best = likeliest(each)
        rival, lead = closest(each, "responses", best)
        over = leads(each, "mechanisms", HIDDEN)
        rows.append([
            name, f"{best}, over {rival} {interval(lead, 3, True)}",
            interval([one["alpha"] for one in each], 2),
            interval(over[MULTIPLIED], 4, True), *(interval(over[r], 4, True) if r in over else "–" for r in RIVALS),
        ])  # fmt: skip
    return runs.markdown(["samples", "likeliest response", "alpha", "lead over at once", *RIVALS], rows)


def verdict_table(found):
    """What nsi.estimate says of each animal, and of all together, as Markdown."""
    each = {k + 1: one for k, one in enumerate(found["each"])} | {"together": found["together"]}
    rows = [[name, one["response"], one["mechanism"], one["gate"], f"{one['description']}; {one['alpha']:.2f}"]
            for name, one in each.items()]  # fmt: skip
    return runs.markdown(["", "response", "mechanism", "gate", "description; alpha"], rows)
