"""The estimator's linear algebra as one writes it on paper: slow, for reading and for tests on small problems.

Neuron j has samples y_j = X_j w_j + e_j with independent noise of variance s_j^2. Stacked over neurons, with X block
diagonal, y = X w + e. The prior of all weights (prior.py), w_j = R_j c + d_j, is Gaussian:

    w ~ N(0, P),      P = R diag(L^2) R' + diag(S^2),      R = (R_1; R_2; ...)
    y ~ N(0, X P X' + diag(s^2)),      w | y ~ N(K y, P - K X P),      K = P X' (X P X' + diag(s^2))^-1
"""

import numpy as np
from scipy.stats import multivariate_normal


def least_squares(X, y, clusters, L):
    """One neuron's weights, its residual's variance, and the standard errors of L w, classical and trial-clustered.

    X: (samples, q); y, clusters: (samples,); L: (m, q). Returns: (q,), float, (m,), (m,).
    """
    B = np.linalg.inv(X.T @ X)
    w = B @ X.T @ y
    e = y - X @ w
    variance = e @ e / (len(y) - X.shape[1])
    names = np.unique(clusters)
    scores = np.stack([X[clusters == c].T @ e[clusters == c] for c in names])
    sandwich = len(names) / (len(names) - 1) * B @ scores.T @ scores @ B
    return w, variance, np.sqrt(np.diag(L @ (variance * B) @ L.T)), np.sqrt(np.diag(L @ sandwich @ L.T))


def prior_covariance(R, profile_sd, deviation_sd):
    """P. R: (weights, coefficients); profile_sd: (coefficients,), L; deviation_sd: (weights,), S."""
    return R @ np.diag(profile_sd**2) @ R.T + np.diag(deviation_sd**2)


def log_evidence(X, y, variance, P, mean=0.0):
    """log p(y). X: (samples, weights), all neurons'; y, variance: (samples,); mean: (weights,), the prior's."""
    m = X @ np.broadcast_to(mean, X.shape[1])
    return multivariate_normal(m, X @ P @ X.T + np.diag(variance)).logpdf(y)


def posterior(X, y, variance, P):
    """Mean of the weights given the samples. Arguments as `log_evidence`. Returns: (weights,)."""
    return P @ X.T @ np.linalg.inv(X @ P @ X.T + np.diag(variance)) @ y
