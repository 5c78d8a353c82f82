"""Wiring and gate: what is read off fits to flies, against the connectome and against null models."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from experiments.flies.prediction import CLAMPED_STEPS, ahead, vector
from nsi import recordings
from nsi.evaluation.weights import effective_gate
from nsi.geometry import RING
from nsi.network import predict
from nsi.sums import correlation

BLUR = 1.0  # wedges, s.d. of the optics' blur in the null model


def connectome(path):
    """Mean synapses between E-PG neurons of the glomeruli 1 to 8 by distance around the ring.

    path: the connectome's .npz (see the README). Returns: those of a neuron on another (9,), and through Delta7 (9,),
    for distances 0, 22.5, ... 180 degrees.
    """
    with np.load(path) as file:
        W, population, glomerulus = file["W"].astype(float), file["pop"], file["glom"]
    epg, delta7 = (population == "EPG") & ~np.char.endswith(glomerulus, "9"), population == "D7"
    number = np.array([int(g[1:]) for g in glomerulus[epg]])
    place = np.where(np.char.startswith(glomerulus[epg], "R"), (number - 1) * 45.0, 22.5 + (8 - number) * 45.0)
    where = np.round(np.abs((place[:, None] - place + 180) % 360 - 180) / 22.5).astype(int)
    another = ~np.eye(len(place), dtype=bool)
    direct, through = W[np.ix_(epg, epg)], W[np.ix_(epg, delta7)] @ W[np.ix_(delta7, epg)]
    mean = lambda path, pairs: np.array([path[pairs & (where == d)].mean() for d in range(9)])
    return mean(direct, another), mean(through, True)


def profile(W):
    """Mean weight at distances 0, 22.5, ... 180 degrees, both ways. (16, 16) to (9,)."""
    _, mean, _ = RING.profile(W)
    return (mean[8 - np.arange(9)] + mean[(8 + np.arange(9)) % 16]) / 2


def match(found, direct, delta7):
    """Correlation of a profile with direct - ratio * delta7, at the best ratio >= 0. Returns: r, ratio."""
    ratios = np.concatenate([[0], np.geomspace(1e-4, 1, 400)]) * np.ptp(direct) / np.ptp(delta7) * 10
    r = [correlation(found, direct - ratio * delta7) for ratio in ratios]
    return float(np.max(r)), float(ratios[np.argmax(r)])


def displacement(net):
    """How far input units send from where they receive, degrees, positive in the direction in which they are driven.

    Means of the units' weights as vectors: sum over units of v * conj(received) * sent, those driven by left turns
    counted backwards. The connectome's P-EN1 neurons: 55.
    """
    n = net.n
    received, sent = vector(net.W[:n, n:].T), vector(net.W[n:, :n])
    turn = received.conj() * sent * np.abs(net.W_in[0, net.n :])
    return float(np.rad2deg(np.angle(np.sum(np.where(net.W_in[0, net.n :] > 0, turn, turn.conj())))))


def gate_size(net, rec):
    """The odd first harmonic of the effective gate, current per rad/s: what turns the bump with velocity."""
    distance, mean, _ = RING.profile(effective_gate(net, rec)[0])
    return float(2 * np.mean(mean * np.sin(distance)))


def turning_gain(fits, cut):
    """Regression of how far the free bump moves in a second on how far the fly turns."""
    start, end = (np.mean([vector(predict(f, cut, CLAMPED_STEPS + 1)[:, s, : f.n]) for f in fits], 0)
                  for s in (CLAMPED_STEPS + 1, CLAMPED_STEPS + ahead(cut.dt)[1]))  # fmt: skip
    turned = cut.velocity[:, CLAMPED_STEPS + 2 : CLAMPED_STEPS + 1 + ahead(cut.dt)[1], 0].sum(1) * cut.dt
    few = np.abs(turned) < np.pi / 2
    return float(np.polyfit(turned[few], RING.difference(np.angle(end), np.angle(start))[few], 1)[0])


def nulls(rec, rng):
    """Recordings in which velocity cannot move the bump, or there is none. Returns: {name: Recording}."""
    other = lambda **change: recordings.Recording(**vars(rec) | change)
    backwards = rec.rates.copy()
    for rates, steps in zip(backwards, rec.valid.sum(1), strict=True):
        rates[:steps] = rates[:steps][::-1]
    noise = other(rates=randomised(rec, rng))
    blurred = gaussian_filter1d(noise.rates, BLUR, axis=-1, mode="wrap")
    return {
        "shuffled velocity": other(velocity=np.roll(rec.velocity, len(rec.velocity) // 2, 0)),
        "reversed rates": other(rates=backwards),
        "randomised phases": noise,
        "randomised phases, blurred": other(rates=(blurred * rec.rates.std() / blurred.std()).astype(np.float32)),
    }


def randomised(rec, rng):
    """Each wedge's rates with their spectrum but random phases, and their values in rank order as they were."""
    rates = np.zeros_like(rec.rates)
    for trial, out, steps in zip(rec.rates, rates, rec.valid.sum(1), strict=True):
        spectrum = np.fft.rfft(trial[:steps], axis=0)
        turn = np.exp(1j * rng.uniform(0, 2 * np.pi, spectrum.shape))
        rank = np.fft.irfft(spectrum * turn, steps, axis=0).argsort(0).argsort(0)
        out[:steps] = np.take_along_axis(np.sort(trial[:steps], 0), rank, 0)
    return rates


def read(fits, rec, cut, wiring):
    """What is read off fits to one recording, for each replica. wiring: `connectome`'s. Returns: dict of lists."""
    profiles = [profile(f.W[: f.n, : f.n]) for f in fits]
    return {
        "profile": [p.tolist() for p in profiles],
        "gate_profile": [RING.profile(effective_gate(f, rec)[0])[1].tolist() for f in fits],
        "r_connectome": [match(p, *wiring)[0] for p in profiles],
        "displacement": [displacement(f) for f in fits],
        "gate": [gate_size(f, rec) for f in fits],
        "turning_gain": [turning_gain([f], cut) for f in fits],
    }


def correlations(rec):
    """Profile of the wedges' correlations, over time, for each fly: what no model is needed for. (flies, 9)."""
    of = lambda k: np.corrcoef(rec.rates[rec.animal == k][rec.valid[rec.animal == k]], rowvar=False)
    return [profile(of(k)).tolist() for k in np.unique(rec.animal)]
