"""What tests of runs share: the estimate of a recording is made once, for all tests of what a run does with it."""

import pytest

from nsi.run import session


@pytest.fixture(autouse=True)
def _estimate_once(estimate_once, monkeypatch):
    monkeypatch.setattr(session, "estimate", estimate_once)
