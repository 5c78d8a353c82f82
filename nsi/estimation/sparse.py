"""Which connections exist, and how strong they are: the posterior of a sparse circuit's weights, by Gibbs sampling.

Of N senders i and n receivers j the data say  w_j ~ N(w^_j, J_j^-1)  (censored.py). The prior has a spike at 0 and,
for connections that exist, a sign and one of a few sizes (Mitchell and Beauchamp 1988,
doi 10.1080/01621459.1988.10478694; George and McCulloch 1993, doi 10.1080/01621459.1993.10476353):

    P(w_ij != 0) = pi_ij = a_g f_i k_j / (1 + a_g f_i k_j)       g: group of the pair, f: of the sender, k: the receiver
    w_ij = +-|N(0, tau^2)|,    P(+) = q_i of the sender,    P(tau = tau_m) = lambda_gm

No order or place of the neurons is used: the prior is exchangeable. Senders differ in how many neurons they reach and
in the sign of what they send, receivers in how many reach them; groups of pairs, of which anatomy says different
things, differ in how many exist and in their sizes. All of it is sampled with the weights. Given all other weights,
with r = (J (w^ - w))_i + J_ii w_i, a connection of sign s and size tau has the odds against none

    pi / (1 - pi) * 2 exp(z^2 / 2) Phi(z) / (tau sqrt(p)),      p = J_ii + 1 / tau^2,   z = s r / sqrt(p)

and is then s |.| of a normal of mean s r / p and variance 1 / p, cut at 0.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import erfcx, ndtr, ndtri

SIZES = np.array([0.15, 0.4, 1.0, 2.5])  # tau, in units of the r.m.s. weight of those that exist
SWEEPS, BURN_IN = 220, 60
SHAPE = 0.5  # of the gamma priors of f and k: numbers of connections of single neurons scatter widely
SIGN_PRIOR = 0.6  # connections, that a sender's signs count before any data
FIRST_SHARE, MOST, LEAST = 0.1, 0.995, 1e-5  # share of the connections at first, and bounds of pi


class SparsePosterior(NamedTuple):
    """Means and standard deviations over the samples."""

    W: np.ndarray  # (N, n)
    sd: np.ndarray  # (N, n)
    probability: np.ndarray  # (N, n), that there is a connection
    share: float  # of the connections that exist


def sample_posterior(estimate, information, groups=None, seed=0, sweeps=SWEEPS):
    """The posterior of all weights.

    estimate: (N, n), w^; information: (n, N, N), J; groups: (N, n) int, 0: no connection possible, 1 and above: what
    anatomy says alike of (default: all 1); seed: of the sampler. Returns: SparsePosterior.
    """
    rng, (N, n) = np.random.default_rng(seed), estimate.shape
    groups = np.ones((N, n), int) if groups is None else groups
    count, possible = groups.max(initial=1), groups > 0
    J = np.ascontiguousarray(information.transpose(1, 0, 2))  # (i, j, i')
    diagonal = np.einsum("jii->ij", information)
    residual = np.einsum("jik,kj->ji", information, estimate)  # J (w^ - w), (j, i)
    error = np.einsum("jii->ij", np.linalg.inv(information))
    ample = possible & (error <= np.median(error[possible]))
    rms = np.sqrt(max(np.mean(estimate[ample] ** 2 - error[ample]), 0.01 * np.mean(error[ample])) / FIRST_SHARE)
    sign, tau = np.repeat([1.0, -1.0], len(SIZES)), np.tile(rms * SIZES, 2)
    W, share = np.zeros((N, n)), np.full(count + 1, FIRST_SHARE)
    sizes, positive = np.full((count + 1, len(SIZES)), 1 / len(SIZES)), np.full(N, 0.5)
    sender, receiver = np.ones(N), np.ones(n)
    exists, kind = np.zeros((N, n), bool), np.zeros((N, n), int)
    first, second, probability = np.zeros((N, n)), np.zeros((N, n)), np.zeros((N, n))
    each, shares = np.arange(n), []
    for sweep in range(sweeps):
        keep = sweep >= BURN_IN
        odds = share[groups] * sender[:, None] * receiver
        pi = np.where(possible, np.clip(odds / (1 + odds), LEAST, MOST), 0.0)
        by_sign = np.where(sign > 0, positive[:, None], 1 - positive[:, None])
        with np.errstate(divide="ignore"):
            log_prior = np.log(2 / tau) + np.log(by_sign)[:, None] + np.log(np.tile(sizes, 2))[groups]
            log_prior += np.log(pi / (1 - pi))[..., None]
        for i in rng.permutation(N):
            r = residual[:, i] + diagonal[i] * W[i]
            weight, mean, square, z, p = conditional(r, diagonal[i], log_prior[i], sign, tau)
            if keep:
                probability[i] += weight.sum(1)
                first[i] += (weight * mean).sum(1)
                second[i] += (weight * square).sum(1)
            drawn = (rng.random(n)[:, None] > weight.cumsum(1)).sum(1)
            exists[i], kind[i] = drawn < len(tau), np.minimum(drawn, len(tau) - 1)
            chosen = z[each, kind[i]]
            below = ndtr(-chosen)
            cut = np.maximum(chosen + ndtri(np.clip(below + (1 - below) * rng.random(n), 1e-16, 1 - 1e-16)), 0)
            new = np.where(exists[i], sign[kind[i]] * cut / np.sqrt(p[each, kind[i]]), 0.0)
            changed = np.flatnonzero(new != W[i])
            residual[changed] -= J[i, changed] * (new - W[i])[changed, None]
            W[i] = new
        numbers = np.zeros((count + 1, len(tau)))
        np.add.at(numbers, (groups[exists], kind[exists]), 1)
        sizes = np.stack([rng.dirichlet(row) for row in numbers.reshape(count + 1, 2, -1).sum(1) + 1])
        plus, total = (exists & (sign[kind] > 0)).sum(1), exists.sum(1)
        common = (plus.sum() + 1) / (total.sum() + 2)
        positive = np.clip(
            rng.beta(SIGN_PRIOR * common + plus, SIGN_PRIOR * (1 - common) + total - plus), 1e-4, 1 - 1e-4
        )
        share, sender, receiver = _sample_shares(rng, exists, groups, possible, share, sender, receiver)
        if keep:
            shares.append(exists.sum() / max(1, possible.sum()))
    kept = sweeps - BURN_IN
    W, second = first / kept, second / kept
    return SparsePosterior(W, np.sqrt(np.maximum(second - W**2, 0)), probability / kept, float(np.mean(shares)))


def conditional(r, diagonal, log_prior, sign, tau):
    """One weight of each receiver given the others, for each sign and size that it may have.

    r, diagonal: (n,), of the log likelihood r w - diagonal w^2 / 2; log_prior: (n, m), of the prior odds
    against 0, 2 / tau included; sign, tau: (m,). Returns: (n, m) each: probabilities, mean and mean square of w, z, p.
    """
    p = diagonal[:, None] + 1 / tau**2
    z = sign * r[:, None] / np.sqrt(p)
    low = np.minimum(z, 30.0)
    ratio = erfcx(-low / np.sqrt(2))
    log_odds = log_prior - 0.5 * np.log(p) + np.log(ratio / 2) + 0.5 * (z**2 - low**2)
    top = np.maximum(log_odds.max(1), 0.0)
    weight = np.exp(log_odds - top[:, None])
    weight /= (weight.sum(1) + np.exp(-top))[:, None]
    mean = sign * (z + np.sqrt(2 / np.pi) / ratio) / np.sqrt(p)
    return weight, mean, 1 / p + r[:, None] / p * mean, z, p


def _sample_shares(rng, exists, groups, possible, share, sender, receiver):
    """Draw a, f and k anew. Odds are products, so with y ~ Exponential(rate 1 + odds) for each pair the likelihood of
    (exists, y) is odds^exists exp(-y odds), and all three have gamma posteriors."""
    odds = share[groups] * sender[:, None] * receiver
    y = np.where(possible, rng.exponential(size=odds.shape) / (1 + odds), 0.0)
    sender = rng.gamma(SHAPE + exists.sum(1)) / (SHAPE + (y * share[groups] * receiver).sum(1))
    receiver = rng.gamma(SHAPE + exists.sum(0)) / (SHAPE + (y * share[groups] * sender[:, None]).sum(0))
    drawn = y * sender[:, None] * receiver
    for g in range(1, len(share)):
        share[g] = rng.gamma(1 + exists[groups == g].sum()) / (1 + drawn[groups == g].sum())
    return share, np.maximum(sender, 1e-6), np.maximum(receiver, 1e-6)
