"""A second network, for what is said of hidden neurons alone.

The network that is the answer assumes nothing of them where assumptions would cost it the gate (nsi/units.py). The
second one starts from the answer's W among recorded units, its hidden units anew, and is trained under the assumptions,
held at the record.
"""

import time

import numpy as np
import torch

from nsi import assumed, units
from nsi.run import checkpoint
from nsi.run.watch import Stage

# updates and lr relative to the free training's: at its whole lr units left the neurons that they had resembled
UPDATES, RATE = 1.4, 0.5


def infer(fit, model_of, args, who, answer, windows, options):
    """Infer hidden units under args.assume_hidden, and write that network as hidden.pt into the run's folder.

    fit: train.fit; model_of: RNN; args: train.parse's; who: units.Units of the answer; answer: list of Network, one per
    replica; windows: Windows; options: `session.told`'s. Returns: list of Network, the answer itself where nothing is
    assumed in a second network, and what metrics.json says of it.
    """
    path, began = args.out / "hidden.pt", time.perf_counter()
    path.unlink(missing_ok=True)  # an earlier fit's
    if args.assume_hidden:
        generators = [torch.Generator().manual_seed(args.seed + k) for k in range(args.replicas)]
        one, its = answer[0], units.second(who, args.assume_hidden)
        model = start(model_of(one.n, 0, len(one.W_in), one.alpha, args.init_scale, generators, its), answer)
        count = max(1, round(UPDATES * args.updates))
        with Stage(f"{args.out.name}, hidden units", count) as watch:
            fit(model.to(windows.rates.device), windows, count, RATE * args.lr, args.beta2, args.schedule, args.loss,
                penalty=0.0, held=True, watch=watch)  # fmt: skip
        answer = model.networks()
        stacked = {k: torch.as_tensor(np.stack([getattr(net, k) for net in answer])) for k in checkpoint.NAMES}
        checkpoint.write(path, stacked, options, {"updates": count})
    return answer, {
        "hidden_assumed": args.assume_hidden or args.assume, "response_units": args.response_units,
        "hidden_seconds": time.perf_counter() - began,
    }  # fmt: skip


def start(model, answer):
    """Give a model the weights among recorded units, and their thresholds, of as many networks as it has replicas."""
    for W, b, net in zip(model.W.data, model.b.data, answer, strict=True):
        W[: net.n, : net.n], b[: net.n] = torch.as_tensor(net.W[: net.n, : net.n]), torch.as_tensor(net.b[: net.n])
    assumed.constrain(model)
    return model
