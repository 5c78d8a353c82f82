"""The comparison of worms' connections with references: the AUC by counting pairs, and the given file's own numbers."""

import numpy as np
import pytest

from experiments.worm.__main__ import agreement, auc, average
from tests.tools import ROOT

WORM = ROOT.parent / "shared" / "tasks" / "worm" / "worm.npz"


def test_auc_counts_pairs():
    rng = np.random.default_rng(0)
    score, positive = rng.integers(0, 6, 60), rng.random(60) < 0.3
    above = score[positive][:, None] - score[~positive]
    assert auc(score, positive) == pytest.approx(((above > 0) + 0.5 * (above == 0)).mean())
    assert np.isnan(auc(score, np.zeros(60, bool)))


def test_means_are_over_the_worms_that_have_a_pair():
    scores = np.array([[[np.nan, 2.0], [4.0, np.nan]], [[np.nan, np.nan], [6.0, np.nan]]])
    assert np.array_equal(average(scores), [[np.nan, 2.0], [5.0, np.nan]], equal_nan=True)


@pytest.mark.skipif(not WORM.exists(), reason="the worms' recordings are not in the repository")
def test_how_often_a_pair_was_recorded_says_what_its_source_reports():
    with np.load(WORM) as file:
        data = {k: file[k] for k in ("recorded", "chemical", "gap", "atlas_q", "atlas_trials")}
    together = (data["recorded"][:, :, None] & data["recorded"][:, None]).sum(0).astype(float)
    found = agreement(np.where(together > 0, together, np.nan), data)
    assert np.allclose(found, [0.520, 0.595, 0.604], atol=1e-3)
