"""Refine the numbers that describe the copies under the prior of the weights.

copies.py fits them with all weights free, and then noise of the weights passes to them. Here they maximise the evidence
instead. To first order a step d of the numbers theta adds to the current of neuron j

    T_j d,      T_j = sum over copies' blocks dF(h V)/d theta w_j,      w_j: the profile's weights

so that d is one more set of coefficients that all neurons share, beside the profiles', and its posterior mean follows
from the same sums (prior.py): a Gauss-Newton step, weights integrated out. Scales of the prior are chosen anew at each
step. Where the evidence hardly determines the numbers, as with few neurons and trials, they stay as they are.
"""

from copy import copy

import numpy as np

from nsi.estimation import regression
from nsi.estimation.copies import MAX_COPIES, Inputs, Setting, Sheets, numbers_of
from nsi.estimation.fitting import Pilot, prepare
from nsi.estimation.prior import Evidence, Model, Scales
from nsi.sums import sum_products

STEP_SD = 0.3  # prior s.d. of a step, of each number: wide
DETERMINED_SD = 0.15  # posterior s.d. of each number, below which the evidence determines a step
MAX_STEP = 0.4
MAX_NEURONS = 50


class ModelOfSteps(Model):
    """A prior with further coefficients that all neurons share, and a regressor for each after the constant."""

    def __init__(self, model, count):
        """model: Model; count: of the further coefficients."""
        vars(self).update(vars(model))
        self.plain, self.count, self.q = model, count, model.q + count
        self.frequency = np.append(model.frequency, np.zeros(count))

    def profile_map(self, j):
        """The map from all profiles' coefficients and the further ones to the mean of neuron j's weights."""
        R = self.plain.profile_map(j)
        return np.block([[R, np.zeros((len(R), self.count))], [np.zeros((self.count, R.shape[1])), np.eye(self.count)]])

    def deviation_sd(self, logs, j):
        """Prior s.d. of the deviations of neuron j's weights, 0 of the further ones."""
        return np.append(self.plain.deviation_sd(logs, j), np.zeros(self.count))

    def profile_sd(self, sizes, smooth):
        """Prior s.d. of all coefficients."""
        return np.append(self.plain.profile_sd(sizes, smooth), np.full(self.count, STEP_SD))


class Candidate:
    """Copies, their evidence, and the step to better ones."""

    def __init__(self, pilot, inputs, copies, scales=None):
        """pilot: Pilot; inputs: Inputs of its recording; copies: Copies; scales: Scales of the prior to start from."""
        self.pilot, self.copies, self.sheets, self.model = pilot, copies, Sheets(inputs, copies), pilot.model()
        blocks = [block for block in pilot.blocks if block.name == "copies"]
        self.columns = slice(blocks[0].columns.start, blocks[-1].columns.stop)
        samples, order = self._samples(), pilot.order[:: -(-len(pilot.order) // MAX_NEURONS)]
        self.sums = regression.moments([samples], order)
        self.variance = regression.solve(self.sums)[1]
        evidence = Evidence(self.model, self.sums, self.variance)
        *self.logs, H, h, self.evidence = evidence.maximise(scales, 1)
        deviations, sizes, smooth = (dict(zip(self.model.groups, np.exp(logs), strict=True)) for logs in self.logs)
        self.scales = Scales(sizes, smooth, deviations)
        mean, _ = evidence.coefficients(H, h, *self.logs[1:])
        self.weights = np.zeros((self.columns.stop - self.columns.start, samples.used.shape[1]), np.float32)
        for j in evidence.neurons:  # profiles alone: deviations follow the noise
            self.weights[:, j] = evidence.maps[j][self.columns] @ mean

    def _samples(self):
        """The pilot's samples, in which these copies' signals are put."""
        self.pilot.samples.x[:, self.columns] = self.sheets.values
        return self.pilot.samples

    def step(self):
        """A Gauss-Newton step, the posterior mean of what to add to the copies' numbers. Returns: Copies after it, and
        the largest posterior s.d. of a number."""
        samples, neurons, q = self._samples(), list(self.sums.xx), self.model.q
        which = numbers_of(self.copies)
        slopes = self.sheets.slopes(which)
        count, used = len(slopes), samples.used[:, neurons]
        T = np.stack([np.where(used, slope @ self.weights[:, neurons], np.float32(0)) for slope in slopes], 1)
        xT = np.stack([sum_products(samples.x, T[:, k]) for k in range(count)])  # (count, q, neurons)
        TT = np.einsum("skj,slj->jkl", T, T, dtype=np.float64)
        Ty = np.einsum("skj,sj->kj", T, samples.y[:, neurons], dtype=np.float64)
        xx, xy = {}, np.zeros((q + count, len(self.variance)))
        xy[:q], xy[q:, neurons] = self.sums.xy, Ty
        for k, j in enumerate(neurons):
            xx[j] = np.zeros((q + count,) * 2, order="F")  # the lower triangle
            xx[j][:q, :q], xx[j][q:, :q], xx[j][q:, q:] = self.sums.xx[j], xT[:, :, k], TT[k]
        sums = self.sums._replace(xx=xx, xy=xy)
        evidence = Evidence(ModelOfSteps(self.model, count), sums, self.variance)
        H, h, _ = evidence.of_profiles(self.logs[0])
        mean, covariance = evidence.coefficients(H, h, *self.logs[1:])
        step, sd = mean[-count:], np.sqrt(np.diag(covariance)[-count:].max())
        return self.sheets.moved(step * min(1.0, MAX_STEP / np.abs(step).max()), which), sd


def refine(pilot, steps=2):
    """A pilot whose copies have a higher evidence, but for the last step. pilot: Pilot; steps: at most. Returns:
    Pilot, with `scales` of the prior; the same one, without, where the evidence does not determine its copies, or it
    has more than MAX_COPIES neurons and a step would take long."""
    if pilot.copies is None or len(pilot.places) > MAX_COPIES:
        return pilot
    _, u, *_ = prepare(pilot.rec, pilot.kinetics)
    setting = Setting(pilot.kinetics.alpha, pilot.geometry, pilot.places)
    inputs = Inputs(u, pilot.rec.velocity, setting, pilot.copies.centres, pilot.directions)
    moved, best = copy(pilot), Candidate(pilot, inputs, pilot.copies)
    moved.copies, sd = best.step()
    if sd > DETERMINED_SD:
        return pilot
    for _ in range(steps - 1):
        after = Candidate(pilot, inputs, moved.copies, best.scales)
        if after.evidence < best.evidence:
            moved.copies = best.copies
            break
        best, moved.copies = after, after.step()[0]
    found = Pilot(pilot.rec, pilot.kinetics, pilot.geometry, pilot.places, moved, refit=False)
    found.scales = best.scales
    return found
