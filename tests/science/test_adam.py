"""Adam and its schedule against torch.optim's."""

import pytest
import torch

from nsi.training.adam import Adam


@pytest.mark.parametrize(("schedule", "updates"), [("onecycle", 40), ("onecycle", 2), ("onecycle", 1), ("constant", 9)])
def test_adam_is_that_of_torch(schedule, updates):
    start = [torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0)).double(), torch.ones(2, 3).double()]
    mine, theirs = ([p.clone().requires_grad_() for p in start] for _ in range(2))
    adam = Adam(mine, updates, 0.01, 0.97, schedule)
    rival = torch.optim.Adam(theirs, 0.01, (0.9, 0.97))
    cycles = schedule == "onecycle" and updates > 1
    cycle = torch.optim.lr_scheduler.OneCycleLR(rival, 0.01, updates) if cycles else None
    g = torch.Generator().manual_seed(1)
    for _ in range(updates):
        for p in theirs:
            p.grad = torch.randn(p.shape, generator=g).double()
        group = rival.param_groups[0]
        assert adam.lr_and_beta1() == pytest.approx((group["lr"], group["betas"][0]))
        adam.step([p.grad for p in theirs])
        rival.step()
        if cycle:
            cycle.step()
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a.detach(), b.detach(), atol=1e-9, rtol=1e-9)


def test_adam_goes_on_from_its_state():
    p, q = torch.ones(3), torch.ones(3)
    whole, cut = Adam([p], 10, 0.1), Adam([q], 10, 0.1)
    gradients = torch.rand(10, 3)
    for g in gradients[:4]:
        whole.step([g])
        cut.step([g])
    state = cut.state()
    again = Adam([q], 10, 0.1)
    again.restore(state)
    for g in gradients[4:]:
        whole.step([g])
        again.step([g])
    assert torch.equal(p, q)
    with pytest.raises(ValueError, match="another shape"):
        Adam([torch.ones(4)], 10, 0.1).restore(state)
