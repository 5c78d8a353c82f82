"""Who the units of a network are, and what is assumed of those that were not recorded.

Units stand in the order recorded, hidden response, hidden input; *driven* units receive the velocity. Activity alone
does not tell which hidden units there are: units can be swapped, scaled, split, and what one path does another can do.
So something is assumed, under these names:

    excited      undriven units excite driven ones, and never inhibit them
    apart        driven units do not connect to each other
    types        driven units share one threshold, one size of velocity weight and one sum of weights that they receive,
                 as cells of one type do; where some of them were recorded, these set it
    copies       driven units start as copies of one undriven unit each, hidden ones of recorded ones and recorded ones
                 of hidden ones: what the data do not say stays so
    inhibition   recorded undriven units act on each other through inhibition alone

and one of two paths that could do the same is *favoured*, by a small penalty, fading to 0, on what the other sends:
"direct", from recorded neurons; "even", from hidden ones; or "neither".

Where undriven neurons were recorded, and few others, what is assumed of hidden ones costs the gate its size. So the
network that is the answer assumes nothing, and a second one, which starts from its W, is trained under the
assumptions, held at the record, for what is said of hidden neurons alone.
"""

from typing import NamedTuple

import numpy as np

ASSUMPTIONS = "excited", "apart", "types", "copies", "inhibition"
CHOICES = f"none, or, with commas between, any of {', '.join(ASSUMPTIONS)}"
MEANINGS = {  # of each assumption, as a clause
    "excited": "hidden units that receive the velocity are excited, never inhibited, by units that do not receive it",
    "apart": "units that receive the velocity do not connect to each other",
    "types": "all units that receive the velocity are alike in threshold, in the size of their velocity weight and in "
    "the sum of the weights that they receive, as cells of one type are",
    "copies": "each hidden unit started as a copy of one recorded neuron",
    "inhibition": "recorded neurons that do not receive the velocity only inhibit each other",
}
USUAL = "excited,apart,types"  # what is assumed where the file decides
POPULATION = 100  # response units, or input units, recorded and hidden ones together, where nobody says how many


class Units(NamedTuple):
    """The units of a network, the n that are recorded first."""

    n: int
    driven: np.ndarray  # (units,) bool
    low: np.ndarray  # (units, units), the least that each weight of W may be, and
    high: np.ndarray  # the largest: both 0 where there is no connection
    types: bool = False
    copies: bool = False
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
    def penalised(self):
        """Whether either path is favoured; without hidden units there is but one."""
        return self.favoured != "neither" and len(self.driven) > self.n

    @property
    def doubted(self):
        """Slice of the units whose drive of the recorded ones is penalised."""
        return slice(0, self.n) if self.favoured == "even" else slice(self.n, None)

    def copied(self):
        """Whose activity driven units start from: hidden ones from recorded undriven units, one each, and recorded ones
        from hidden undriven units. Yields: senders, copies (any,) indices."""
        index, hidden = np.arange(len(self.driven)), np.arange(len(self.driven)) >= self.n
        for first, second in ((~hidden, hidden), (hidden, ~hidden)):
            senders, copies = index[first & ~self.driven], index[second & self.driven]
            if len(senders) and len(copies):
                yield senders[np.arange(len(copies)) * len(senders) // len(copies)], copies

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
    return Units(n, driven, low, high, "types" in assume, "copies" in assume, favoured)


def choose(args, n, driven, dimensions=1):
    """The units of a fit, from its options, which are filled in where they leave the choice to the recording.

    args: with control, rounds, input_units, response_units, assume, assume_hidden and favour; n: recorded; driven: (n,)
    bool or None; dimensions: components of the velocity. Returns: Units.
    """
    moved = 0 if driven is None else int(driven.sum())
    still = n - moved
    few = moved <= still / 2  # then the response neurons are taken to be all there
    if args.response_units is None:
        args.response_units = 0 if few else max(0, POPULATION - still)
    if args.input_units is None:
        args.input_units = 0 if still == 0 else max(1, POPULATION - moved)
    if args.control or args.rounds == 0:  # there is no answer yet that a second network could start from
        args.assume_hidden = ""
    if args.assume_hidden is None:
        args.assume_hidden = USUAL if args.assume is None and args.input_units and few and dimensions == 1 else ""
    if args.assume is None:
        usual = USUAL + (",copies" if args.response_units else "")
        args.assume = usual if moved and not args.control and not args.assume_hidden else ""
    if args.favour is None:
        args.favour = "direct" if few else "even" if still else "neither"
    if args.control:
        return make(n)
    driven = np.zeros(n, bool) if driven is None else driven
    return make(n, args.response_units, args.input_units, driven, args.assume.split(","), args.favour)


def second(who, assume):
    """The units of the second network. who: Units of the first; assume: the text of the option."""
    n, inputs = who.n, int(who.hidden_inputs.sum())
    return make(n, len(who.driven) - n - inputs, inputs, who.driven[:n], assume.split(","), who.favoured)


def told(who, assume, apart=""):
    """Which units there are and what is assumed of them, in a line. who: Units; assume: the text of the option; apart:
    that of the second network's."""
    n, inputs = who.n, int(who.hidden_inputs.sum())
    moved = f", {who.driven[:n].sum()} of them driven" if who.driven[:n].any() else ""
    hidden = f"{len(who.driven) - n - inputs} response and {inputs} input units hidden"
    line = f"{n} recorded neurons{moved}; {hidden}; assumed of these: {assume.replace(',', ', ') or 'nothing'}"
    return line + (f", in a second network {apart.replace(',', ', ')}" if apart else "")
