"""Who the units of a network are, and what is assumed of those that were not recorded.

Units stand in the order recorded, hidden response, hidden input; *driven* units receive the velocity. Activity alone
does not tell which hidden units there are: units can be swapped, scaled, split, and what one path does another can do.
So something is assumed, under these names:

    excited      undriven units excite driven ones, and never inhibit them
    apart        driven units do not connect to each other
    types        hidden driven units share one threshold and one size of velocity weight, as cells of one type do
    inhibition   recorded undriven units act on each other through inhibition alone

and one of two paths that could do the same is *favoured*, by a small penalty, fading to 0, on what the other sends:
"direct", from recorded neurons; "even", from hidden ones; or "neither".
"""

from typing import NamedTuple

import numpy as np
import torch

ASSUMPTIONS = "excited", "apart", "types", "inhibition"
POPULATION = 100  # response units, or input units, recorded and hidden ones together, where nobody says how many


class Units(NamedTuple):
    """The units of a network, the n that are recorded first."""

    n: int
    driven: np.ndarray  # (units,) bool
    low: np.ndarray  # (units, units), the least that each weight of W may be, and
    high: np.ndarray  # the largest: both 0 where there is no connection
    types: bool = False
    favoured: str = "direct"

    @property
    def bounded(self):
        """Whether any weight of W is not free."""
        return bool(np.isfinite(self.low).any() or np.isfinite(self.high).any())

    @property
    def free(self):
        """Which connections there may be. (units, units) bool."""
        return self.low < self.high

    @property
    def doubted(self):
        """Slice of the units whose drive of the recorded ones is penalised."""
        return slice(0, self.n) if self.favoured == "even" else slice(self.n, None)

    @property
    def hidden_inputs(self):
        """Which units are hidden and driven. (units,) bool."""
        return self.driven & (np.arange(len(self.driven)) >= self.n)


def make(n, response=0, inputs=0, driven=None, assume=(), favoured="direct"):
    """Units of these numbers. n: recorded; response, inputs: hidden, not driven and driven; driven: (n,) bool, which
    recorded ones are (None: none, or, without hidden units, all: the control); assume: of ASSUMPTIONS."""
    size = n + response + inputs
    if driven is None:
        driven = np.full(n, size == n)
    driven = np.concatenate([driven, np.zeros(response, bool), np.ones(inputs, bool)])
    low, high = np.full((size, size), -np.inf, np.float32), np.full((size, size), np.inf, np.float32)
    if "excited" in assume:
        low[np.ix_(~driven, driven)] = 0
    if "apart" in assume:
        low[np.ix_(driven, driven)] = high[np.ix_(driven, driven)] = 0
    if "inhibition" in assume:
        still = ~driven[:n]
        high[:n, :n][np.ix_(still, still)] = 0
    return Units(n, driven, low, high, "types" in assume, favoured)


def assumptions(text):
    """An argparse type: names of ASSUMPTIONS with commas between, or none. Returns: them in their order, as a text."""
    names = [] if text == "none" else text.split(",")
    if set(names) - set(ASSUMPTIONS):
        raise ValueError(text)
    return ",".join(name for name in ASSUMPTIONS if name in names)


def choose(args, n, driven):
    """The units of a fit, from its options, which are filled in where they leave the choice to the recording.

    args: with control, input_units, response_units, assume and favour; n: recorded; driven: (n,) bool or None.
    Returns: Units.
    """
    moved = 0 if driven is None else int(driven.sum())
    still = n - moved
    few = moved <= still / 2  # then the response neurons are taken to be all there
    if args.control:
        args.input_units = args.response_units = 0
    if args.response_units is None:
        args.response_units = 0 if few else max(0, POPULATION - still)
    if args.input_units is None:
        args.input_units = 0 if still == 0 else max(1, POPULATION - moved)
    if args.assume is None:
        args.assume = "" if args.control else "excited,apart"
    if args.favour is None:
        args.favour = "direct" if few else "even" if still else "neither"
    if args.control:
        args.favour = "neither"
        return make(n, favoured="neither")
    driven = np.zeros(n, bool) if driven is None else driven
    return make(n, args.response_units, args.input_units, driven, args.assume.split(","), args.favour)


def told(who):
    """Which units there are, in a sentence. who: Units."""
    n, inputs = who.n, int(who.hidden_inputs.sum())
    moved = f", {who.driven[:n].sum()} of them driven" if who.driven[:n].any() else ""
    return f"{n} recorded neurons{moved}; {len(who.driven) - n - inputs} response and {inputs} input units hidden"


# ---- in a network -----------------------------------------------------------------------------------------------


def start(model):
    """Bring the first weights of a network within their bounds: those bounded on one side by turning their sign."""
    W, W_in, who = model.W.data, model.W_in.data, model.who
    if who.bounded:
        W.copy_(torch.where((model.low == 0) & (model.high > 0), W.abs(), W))
        W.copy_(torch.where((model.high == 0) & (model.low < 0), -W.abs(), W))
    if who.types and W_in.shape[1] == 1:  # as many that prefer either direction
        index = torch.as_tensor(np.flatnonzero(who.hidden_inputs))
        W_in[..., index] = W_in[..., index].abs() * (1 - 2 * (index % 2))
    constrain(model)


@torch.no_grad()
def constrain(model):
    """Put a network's weights back, in place, to where its assumptions allow them; an update may have led astray."""
    W, W_in, b = (p.data for p in model.weights)
    if model.who.bounded:
        W.clamp_(model.low, model.high)
    if model.who.types:
        inputs = model.who.hidden_inputs
        size = W_in[..., inputs].norm(dim=-2, keepdim=True)  # (R, 1, input units)
        W_in[..., inputs] *= size.mean(-1, keepdim=True) / size.clamp(min=1e-12)
        b[:, inputs] = b[:, inputs].mean(-1, keepdim=True)
