"""Record other neurons of a simulated circuit than its compass, of the same activity."""

import numpy as np

from nsi.errors import BadInput
from nsi.network import Network


def record_neurons(data, neurons, seed=0):
    """A simulated recording of these neurons, the others hidden.

    data: dict of simulate_recording, of which the compass was recorded; neurons: compass, shifters, half (of each,
    drawn at random) or how many shifters to record with the compass; seed: of the draw. Returns: the same keys, neurons
    in the order recorded, hidden, and `driven`. Raises: BadInput where the circuit has no such neurons.
    """
    if neurons == "compass":
        return data
    n, hidden = data["rates"].shape[-1], data["hidden_rates"].shape[-1]
    if (neurons if isinstance(neurons, int) else 2) > hidden:
        choices = f"compass, shifters, half, or a number up to {hidden}" if hidden > 1 else "compass"
        raise BadInput(
            f"argument --record: expected {choices}, not {neurons}, since the circuit has {hidden} hidden neurons to "
            "record"
        )
    rng, size = np.random.default_rng([seed, 16]), n + hidden
    some = lambda first, stop, count: rng.choice(np.arange(first, stop), count, replace=False)
    if neurons == "shifters":
        recorded = np.arange(n, size)
    elif neurons == "half":
        recorded = np.sort(np.concatenate([some(0, n, n // 2), some(n, size, hidden // 2)]))
    else:
        recorded = np.sort(np.concatenate([np.arange(n), some(n, size, neurons)]))
    if "stimulus" in data and not np.isin(np.arange(n), recorded).all():
        raise BadInput("argument --record: expected compass neurons, which the pulses reach, to be recorded")
    observed = select_neurons(data, recorded)
    observed["driven"] = (observed["true_W_in"][:, : len(recorded)] != 0).any(0)
    if "stimulus" in data:
        observed["stimulus"] = np.pad(data["stimulus"], [(0, 0), (0, 0), (0, len(recorded) - n)])
    return observed


def select_neurons(data, recorded):
    """The arrays of a simulated recording with some neurons recorded, in this order, and all others hidden, but its
    orders. data: dict of simulate_recording; recorded: indices among all neurons. Returns: dict."""
    n = len(recorded)
    order = np.concatenate([recorded, np.setdiff1d(np.arange(len(data["true_b"])), recorded)])
    rates = np.concatenate([data["rates"], data["hidden_rates"]], -1)[..., order]
    W, W_in, b = data["true_W"][np.ix_(order, order)], data["true_W_in"][:, order], data["true_b"][order]
    return {k: v for k, v in data.items() if k != "true_orders"} | {
        "rates": rates[..., :n], "hidden_rates": rates[..., n:], "true_W": W, "true_W_in": W_in, "true_b": b,
        "true_gate": Network(W, W_in, b, 1.0, n).gate(),
    }  # fmt: skip
