"""The windows that a fit draws: where they lie, whose they are, and that a turn moves all alike."""

import numpy as np
import pytest
import torch

from nsi.errors import BadInput
from nsi.network import synaptic_state
from nsi.recordings import Recording


def counted(trials):
    """Rates (trials, 60, 2) that say which trial and which step they are of."""
    trial, step = np.meshgrid(np.arange(trials), np.arange(60), indexing="ij")
    return np.stack([trial, step], -1).astype(np.float32)


def test_windows_stay_within_trials(windows):
    rates = counted(6)
    rec = Recording(rates, rates[..., :1].copy(), 0.01, stimulus=rates)
    some = windows(rec, seeds=(0, 1), batch=200)
    v, u, r, stimulus = some.at(some.draw())
    assert r.shape == (25, 2, 200, 2)
    assert (r[..., 0] == r[:1, ..., 0]).all()  # one trial each
    assert (r[1:, ..., 1] - r[:-1, ..., 1] == 1).all()  # consecutive steps
    assert r[0, ..., 1].min() == 15  # the state's start is forgotten first: 3 / alpha steps
    assert r[-1, ..., 1].max() == 59
    assert torch.equal(stimulus, r)
    assert torch.equal(v[..., 0], r[..., 0])
    state = torch.as_tensor(synaptic_state(rates, 0.2))
    assert torch.equal(u, state[r[..., 0].long(), r[..., 1].long()])
    assert windows(Recording(rates, rates[..., :1], 0.01)).at(some.draw())[3] is None


def test_windows_stay_before_the_padding(windows):
    """Trials of 60, 40 and 26 steps: every window of 25 that fits is drawn, and none beyond; 20 steps are too few."""
    rates = counted(4)
    rec = Recording(rates, rates[..., :1], 0.01, lengths=np.array([60, 40, 26, 20]), animal=np.array([1, 0, 1, 0]))
    some = windows(rec, batch=2000)
    r = some.at(some.draw())[2][:, 0]
    assert (r[..., 0] == r[:1, ..., 0]).all()
    for k, (first, last) in enumerate([(15, 35), (15, 15), (1, 1)]):
        assert set(r[0, r[0, :, 0] == k, 1].tolist()) == set(range(first, last + 1))
    assert r[..., 0].max() == 2
    pools = {tuple(sorted(windows(rec, bootstrap=True, seeds=(k,)).pools[0].tolist())) for k in range(20)}
    assert pools == {(0, 0, 2, 2), (0, 1, 2), (1, 1)}  # animals are drawn whole


def test_bootstrap_draws_other_trials_for_each_replica(rec, windows):
    some = windows(rec, seeds=range(3), bootstrap=True)
    drawn = [set(pool.tolist()) for pool in some.pools]
    assert all(len(pool) == len(rec.rates) for pool in some.pools)
    assert all(len(d) < len(rec.rates) for d in drawn)  # some twice, some not at all
    assert drawn[0] != drawn[1] != drawn[2]
    rates = torch.as_tensor(rec.rates)
    _, _, r, _ = some.at(some.draw())
    for k in range(3):
        for window in r[:, k].unbind(1):
            assert any((rates[trial] == window[0]).all(-1).any() for trial in drawn[k])


def test_rotated_windows_turn_rates_and_states_alike(rec, windows):
    both = [windows(rec, rotate=rotate, batch=30) for rotate in (False, True)]
    plain, turned = ([x if x is None else x[:, 0] for x in some.at(some.draw())] for some in both)
    turns = [next(s for s in range(40) if torch.equal(plain[2][:, k].roll(-s, -1), turned[2][:, k])) for k in range(30)]
    assert len(set(turns)) > 10
    for k, turn in enumerate(turns):
        assert torch.equal(plain[1][:, k].roll(-turn, -1), turned[1][:, k])
    assert torch.equal(plain[0], turned[0])


def test_neurons_in_any_order_are_turned_around_the_ring(rec, windows):
    """Turned in the file's order and shuffled, or shuffled and turned: the same, up to the ring's own symmetry."""
    order = np.random.default_rng(0).permutation(40)
    mixed = Recording(rec.rates[..., order], rec.velocity, rec.dt)
    some = windows(mixed, rotate=True, batch=40)
    starts, turns = torch.zeros(40, dtype=torch.long), torch.arange(40)
    turned = some.at(torch.stack([starts, turns]))[2].numpy()  # (steps, turns, n)
    plain = rec.rates[0, : len(turned)]
    way = [np.roll(plain, -k, -1)[:, order] for k in range(40)], [np.roll(plain, k, -1)[:, order] for k in range(40)]
    errors = [[np.abs(turned[:, k] - one[k]).max() for k in range(40)] for one in way]
    assert min(map(max, errors)) == 0
    unturned = windows(mixed, batch=40).at(starts[None])[2].numpy()
    np.testing.assert_array_equal(turned[:, 0], unturned[:, 0])


def test_neurons_that_do_not_lie_evenly_are_not_turned(rec, windows):
    bunched = np.exp(2 * np.cos(rec.heading - 2 * np.pi * np.linspace(0, 0.95, 12) ** 2) - 2).astype(np.float32)
    with pytest.raises(BadInput, match="--rotate: expected neurons that lie evenly around a ring"):
        windows(Recording(bunched, rec.velocity, rec.dt, heading=rec.heading), rotate=True)


def test_one_animal_has_its_trials_drawn(rec, windows):
    one = Recording(rec.rates, rec.velocity, rec.dt, animal=np.zeros(20, int))
    pools = windows(one, seeds=range(3), bootstrap=True).pools
    alike = windows(Recording(rec.rates, rec.velocity, rec.dt), seeds=range(3), bootstrap=True).pools
    assert all(map(torch.equal, pools, alike))
    assert len(set(pools[0].tolist())) < 20
