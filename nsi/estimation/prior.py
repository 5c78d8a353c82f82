"""The prior of the weights, whose scales the recording itself sets by its marginal likelihood (empirical Bayes).

Each block g of weights onto neuron j is a profile over distance that all neurons share, and single deviations:

    w_gj = V_g' m_g(distance to j) + d_gj,      m_g(x) = sum_k c_gk f_k(x),      f_k: Fourier terms over distance
    c_gk ~ N(0, (a_g exp(-|k|^2 / 2 kappa_g^2))^2),      d_gj ~ N(0, s_g^2 I)

a_g and kappa_g, the size and the smoothness of the profile, and s_g, the size of deviations, maximise the marginal
likelihood of all currents (MacKay 1992, doi 10.1162/neco.1992.4.3.415). A circuit whose connections are alike all
around the ring gets s near 0 and a clean profile, a heterogeneous one keeps its single connections, by the same rule;
blocks of which the recording shows nothing get a = s = 0. With G = X' X / sigma^2, t = X' y / sigma^2 and
S = diag(s), the deviations of one neuron integrated out, its currents have the information

    M = G - G S A^-1 S G,      A = I + S G S

about its weights' mean, so that the profile's coefficients c are a ridge regression with the sums of R' M R over
neurons, R the map from c to the mean of w_j; and the log evidence is, but for a constant,

    sum_j [-log|A|/2 + |A^-1/2 S t|^2/2 - y'y/2 sigma^2 - N log sigma] - log|I + L H L|/2 + h' (L^-2 + H)^-1 h/2

with H = sum R' M R, h = sum R' (t - G S A^-1 S t) and L the prior s.d. of c. plain.py has the same in a few lines.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.blas import dsymm, dsymv
from scipy.optimize import minimize

from nsi.estimation.regression import invert_root

CONSTANT_SD = 0.3  # prior s.d. of the threshold b, in units of the current: wide
EVIDENCE_NEURONS, EVIDENCE_WEIGHTS = 12, 3000  # that the scale of deviations is chosen on, at most
ROUNDS = 2  # of choosing profiles and deviations in turn
SMOOTHNESSES = 0.55, 0.8, 1.2, 1.8, 3.0, 5.0  # periods around the attractor, from which the best is sought
MIN_LOG_SCALE = np.log(1e-5)  # counts as 0
MAX_LOG_SCALE = np.log(30.0)


class Scales(NamedTuple):
    """Of the prior of each group of blocks."""

    size: dict  # group: a
    smoothness: dict  # group: kappa, in periods around the attractor
    deviation: dict  # group: s


class Posterior(NamedTuple):
    """Weights under the prior."""

    weights: np.ndarray  # (q, n), 0 for neurons with too few samples
    scales: Scales
    evidence: float  # log marginal likelihood
    heterogeneity: dict  # group: s.d. of deviations relative to the r.m.s. profile of its weights


class Model:
    """The prior of some blocks over some neurons' places."""

    def __init__(self, blocks, terms, frequency, free=None):
        """blocks: tuple of Block; terms: (m, n, n), Fourier terms over the distance from i to j; frequency: (m,);
        free: (q, n) bool, weights that there may be (default: all)."""
        self.blocks, self.terms, self.free = blocks, terms, free
        self.groups = list(dict.fromkeys(block.group for block in blocks))
        self.q = sum(block.size for block in blocks) + 1
        self.shown, self.frequency, self.owner, start = [], [], [], 0
        for block in blocks:  # a profile has no more terms than the block's directions can show
            most = len(frequency) if block.directions is None else min(len(frequency), 2 * block.size + 1)
            kept = np.argsort(frequency, kind="stable")[: most if block.name != "driven" else 0]
            self.shown.append((kept, slice(start, start + len(kept))))
            self.frequency.append(frequency[kept])
            self.owner += [self.groups.index(block.group)] * len(kept)
            start += len(kept)
        self.frequency, self.owner = np.concatenate(self.frequency), np.array(self.owner, int)
        self.of_weight = np.full(self.q, -1)  # group of each weight, -1: the constant
        for block in blocks:
            self.of_weight[block.columns] = self.groups.index(block.group)

    def profile_map(self, j):
        """The map R from all profiles' coefficients to the mean of neuron j's weights. Returns: (q, coefficients)."""
        R = np.zeros((self.q, len(self.frequency)))
        for block, (kept, columns) in zip(self.blocks, self.shown, strict=True):
            if not len(kept):  # velocity enters driven neurons one by one
                continue
            at = self.terms[kept, :, j].T  # (n, terms)
            R[block.columns, columns] = at if block.directions is None else block.directions.T @ at
        return R if self.free is None else R * self.free[:, j, None]

    def deviation_sd(self, logs, j):
        """Prior s.d. of the deviations of neuron j's weights. logs: (groups,). Returns: (q,)."""
        sd = np.where(logs > MIN_LOG_SCALE + 1e-6, np.exp(logs), 0.0)
        sd = np.append(sd, CONSTANT_SD)[self.of_weight]
        return sd if self.free is None else sd * self.free[:, j]

    def profile_sd(self, sizes, smooth):
        """Prior s.d. of the profiles' coefficients, from logarithms of a and kappa, (groups,) each."""
        return np.exp(sizes[self.owner] - 0.5 * self.frequency**2 * np.exp(-2 * smooth[self.owner])) + 1e-12


def root_of(G, s, on):
    """The Cholesky factor of I + S G S. G: (q, q), lower triangle; s: (on,), S's diagonal, 0 elsewhere; on: indices,
    ascending. Returns: (on, on), lower triangle."""
    A = s[:, None] * (G if len(on) == len(G) else G[np.ix_(on, on)])
    A *= s
    A[np.diag_indices(len(on))] += 1.0
    return cholesky(A, lower=True, check_finite=False, overwrite_a=True)


class Evidence:
    """The marginal likelihood of some sums under a model, and the posterior."""

    def __init__(self, model, sums, variance):
        """model: Model; sums: regression.Moments; variance: (n,), of each neuron's residual."""
        self.model, self.neurons, self.variance, self.sums = model, list(sums.xx), variance, sums
        self.t = {j: sums.xy[:, j] / variance[j] for j in self.neurons}
        rest = lambda j: -sums.yy[j] / variance[j] / 2 - sums.counts[j] * np.log(variance[j]) / 2
        self.rest = {j: rest(j) for j in self.neurons}
        self.maps = {j: model.profile_map(j) for j in self.neurons}
        self.GR = {j: dsymm(1 / variance[j], sums.xx[j], self.maps[j], lower=True) for j in self.neurons}
        none = np.zeros((len(model.frequency), len(model.frequency) + 1))
        both = lambda j: self.maps[j].T @ np.column_stack([self.GR[j], self.t[j]])
        self.rigid = sum(map(both, self.neurons), none)  # H and h without deviations

    def of_deviations(self, logs, mean, neurons):
        """Log evidence of deviations about given profiles, and its gradient. mean: coefficients. (float, (groups,))"""
        value, gradient, groups = 0.0, np.zeros(len(logs)), self.model.of_weight
        for j in neurons:
            s = self.model.deviation_sd(logs, j)
            on = np.flatnonzero(s)
            left, s = (self.t[j] - self.GR[j] @ mean)[on], s[on]
            L = root_of(self.sums.xx[j], s / np.sqrt(self.variance[j]), on)
            z = solve_triangular(L, s * left, lower=True, check_finite=False)
            value += z @ z / 2 - np.log(np.diag(L)).sum()
            back = invert_root(L)
            each = np.einsum("ij,ij->j", back, back) - 1.0 + (back.T @ z) ** 2
            gradient += np.bincount(groups[on][groups[on] >= 0], each[groups[on] >= 0], len(logs))
        return value, gradient

    def of_profiles(self, logs):
        """The sums H, h and the evidence's other terms, deviations integrated out. logs: (groups,)."""
        sums, value = self.rigid.copy(), 0.0
        for j in self.neurons:
            s = self.model.deviation_sd(logs, j)
            on = np.flatnonzero(s)
            L = root_of(self.sums.xx[j], s[on] / np.sqrt(self.variance[j]), on)
            both = np.column_stack([self.GR[j][on], self.t[j][on]]) * s[on, None]
            Z = solve_triangular(L, both, lower=True, check_finite=False)
            sums -= Z[:, :-1].T @ Z
            value += Z[:, -1] @ Z[:, -1] / 2 - np.log(np.diag(L)).sum() + self.rest[j]
        return sums[:, :-1], sums[:, -1], value

    def fit_profiles(self, H, h, sizes, smooth, several=True):
        """The profiles' sizes and smoothnesses that maximise the evidence. Returns: sizes, smooth, gain of evidence."""
        model, groups = self.model, len(sizes)

        def negative(logs):
            sd = model.profile_sd(logs[:groups], logs[groups:])
            A = sd[:, None] * H * sd
            A[np.diag_indices(len(sd))] += 1.0
            L = cholesky(A, lower=True, check_finite=False, overwrite_a=True)
            z = solve_triangular(L, sd * h, lower=True, check_finite=False)
            back = invert_root(L)
            each = (back**2).sum(0) - 1.0 + (back.T @ z) ** 2
            by_size = np.bincount(model.owner, each, groups)
            by_smooth = np.bincount(model.owner, each * model.frequency**2, groups) * np.exp(-2 * logs[groups:])
            return np.log(np.diag(L)).sum() - z @ z / 2, -np.concatenate([by_size, by_smooth])

        bounds = [(MIN_LOG_SCALE, MAX_LOG_SCALE)] * groups + [(np.log(0.5), np.log(30.0))] * groups
        logs = np.concatenate([sizes, smooth])
        if several:
            logs = self._screen(lambda logs: negative(logs)[0], logs)
        best = minimize(negative, logs, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60})
        return best.x[:groups], best.x[groups:], -best.fun

    @staticmethod
    def _screen(negative, logs):
        """Change the smoothness of one group after the other to where the evidence is highest, since it has several
        local maxima; the size follows, so that the longest wave keeps its prior s.d."""
        logs, least, groups = logs.copy(), negative(logs), len(logs) // 2
        for g in range(groups):
            for kappa in SMOOTHNESSES:
                tried = logs.copy()
                tried[groups + g] = np.log(kappa)
                tried[g] += 0.5 * (np.exp(-2 * tried[groups + g]) - np.exp(-2 * logs[groups + g]))
                tried[g] = min(tried[g], MAX_LOG_SCALE)
                value = negative(tried)
                if value < least:
                    least, logs = value, tried
        return logs

    def coefficients(self, H, h, sizes, smooth):
        """The profiles' coefficients and their covariance."""
        sd = self.model.profile_sd(sizes, smooth)
        inverse = np.linalg.inv(np.eye(len(sd)) + sd[:, None] * H * sd)
        return sd * (inverse @ (sd * h)), sd[:, None] * inverse * sd

    def maximise(self, start=None, rounds=ROUNDS):
        """Choose all scales. start: Scales or None. Returns: logs of deviations, sizes and smoothnesses, evidence."""
        groups = self.model.groups
        bounds = MIN_LOG_SCALE, MAX_LOG_SCALE
        of = lambda found, usual: np.log([max(found.get(g, usual), 1e-12) for g in groups]).clip(*bounds)
        logs = of(start.deviation if start else {}, 0.01)
        sizes, smooth = of(start.size if start else {}, 0.3), of(start.smoothness if start else {}, 3.0)
        most = max(2, min(EVIDENCE_NEURONS, EVIDENCE_WEIGHTS // self.model.q))
        chosen_neurons = self.neurons[:: max(1, len(self.neurons) // most)]
        H, h, value = self.of_profiles(logs)
        for _ in range(rounds):
            sizes, smooth, gain = self.fit_profiles(H, h, sizes, smooth)
            mean = self.coefficients(H, h, sizes, smooth)[0]

            def negative(logs, mean=mean):
                value, gradient = self.of_deviations(logs, mean, chosen_neurons)
                return -value, -gradient

            best = minimize(negative, logs, jac=True, method="L-BFGS-B", bounds=[bounds] * len(logs),
                            options={"maxiter": 25})  # fmt: skip
            logs = best.x
            H, h, value = self.of_profiles(logs)
        sizes, smooth, gain = self.fit_profiles(H, h, sizes, smooth)
        return logs, sizes, smooth, H, h, value + gain

    def posterior(self, start=None, rounds=ROUNDS, parts=None):
        """The weights under the likeliest scales. parts: sums of all neurons and their variances, some at a time
        (default: those of the scales). Returns: Posterior."""
        model = self.model
        logs, sizes, smooth, H, h, value = self.maximise(start, rounds)
        mean, _ = self.coefficients(H, h, sizes, smooth)
        weights = np.zeros((model.q, model.terms.shape[-1]))
        square, count = np.zeros(model.q), 0  # of the profile, over neurons
        for sums, residual in [(self.sums, self.variance)] if parts is None else parts:
            for j, G in sums.xx.items():
                s, R = model.deviation_sd(logs, j) / np.sqrt(residual[j]), model.profile_map(j)
                about, on = R @ mean, np.flatnonzero(s)
                factor = root_of(G, s[on], on), True
                left = (sums.xy[:, j] - dsymv(1.0, G, about, lower=True))[on]
                weights[:, j] = about
                weights[on, j] += s[on] * cho_solve(factor, s[on] * left, check_finite=False)
                square, count = square + about**2, count + 1
        profile = np.sqrt(square / max(1, count))  # r.m.s. over neurons
        exact = lambda logs: np.where(logs > MIN_LOG_SCALE + 1e-6, np.exp(logs), 0.0).tolist()
        named = lambda values: dict(zip(model.groups, values, strict=True))
        scales = Scales(named(exact(sizes)), named(np.exp(smooth).tolist()), named(exact(logs)))
        rms = [np.sqrt(np.mean(profile[model.of_weight == k] ** 2)) for k in range(len(model.groups))]
        relative = named([float(s / max(size, 1e-12)) for s, size in zip(exact(logs), rms, strict=True)])
        return Posterior(weights, scales, float(value), relative)
