"""Recording other neurons of a simulated circuit than its compass: the same activity, seen by another electrode."""

import numpy as np

from nsi import connectivity
from nsi.errors import BadInput
from nsi.network import Network


def record(data, who, seed=0):
    """A simulated recording of these neurons, the others hidden.

    data: cann.simulate_recording's, of which the compass was recorded; who: compass, shifters, half (of each, drawn at
    random) or how many shifters to record with the compass; seed: of the draw. Returns: the same keys, neurons
    in the order recorded, hidden, and `driven`. Raises: BadInput where the circuit has no such neurons.
    """
    if who == "compass":
        return data
    n, hidden = data["rates"].shape[-1], data["hidden_rates"].shape[-1]
    if (who if isinstance(who, int) else 2) > hidden:
        choices = f"compass, shifters, half, or a number up to {hidden}" if hidden > 1 else "compass"
        raise BadInput(
            f"argument --record: expected {choices}, not {who}, since the circuit has {hidden} hidden neurons to record"
        )
    rng, size = np.random.default_rng([seed, 16]), n + hidden
    some = lambda first, stop, count: rng.choice(np.arange(first, stop), count, replace=False)  # noqa: E731
    seen = {"shifters": lambda: np.arange(n, size),
            "half": lambda: np.concatenate([some(0, n, n // 2), some(n, size, hidden // 2)])}  # fmt: skip
    seen = seen.get(who, lambda: np.concatenate([np.arange(n), some(n, size, who)]))()
    seen = np.sort(seen)
    unseen = np.setdiff1d(np.arange(size), seen)
    if "stimulus" in data and (unseen < n).any():
        raise BadInput("argument --record: expected compass neurons, which the pulses reach, to be recorded")
    order, rates = np.concatenate([seen, unseen]), np.concatenate([data["rates"], data["hidden_rates"]], -1)
    net = lambda W, W_in, b: Network(W, W_in, b, 1.0, len(seen))  # noqa: E731
    W, W_in, b = data["true_W"][np.ix_(order, order)], data["true_W_in"][:, order], data["true_b"][order]
    seen_as = {k: v for k, v in data.items() if k != "true_orders"} | {
        "rates": rates[..., seen], "hidden_rates": rates[..., unseen], "driven": (W_in[:, : len(seen)] != 0).any(0),
        "true_W": W, "true_W_in": W_in, "true_b": b, "true_gate": connectivity.gate(net(W, W_in, b)),
    }  # fmt: skip
    if "stimulus" in data:
        seen_as["stimulus"] = np.pad(data["stimulus"], [(0, 0), (0, 0), (0, len(seen) - n)])
    return seen_as
