"""Units of a network, and constraints on those that were not recorded.

Units stand in the order recorded, hidden response, hidden input; *driven* units receive the velocity. Activity alone
does not determine the hidden units: they can be swapped, scaled and split, and one path can stand in for another.
The trained network has no constraints, which would shrink its gate. A second network, whose weights among recorded
neurons are the estimate's, is trained under those of MEANINGS with its recorded units clamped, and hidden neurons are
read from it alone. Of `types`, driven units that were recorded set what the others share; `copies` is an
initialization, which stays where the data say nothing.
"""

from typing import NamedTuple

import numpy as np

MEANINGS = {  # of each constraint, as a clause
    "excited": "hidden units that receive the velocity are excited, never inhibited, by units that do not receive it",
    "apart": "units that receive the velocity do not connect to each other",
    "types": "all units that receive the velocity are alike in threshold, in the size of their velocity weight and in "
    "the sum of the weights that they receive, as cells of one type are",
    "copies": "each hidden unit started as a copy of one recorded neuron",
    "inhibition": "recorded neurons that do not receive the velocity only inhibit each other",
}
CONSTRAINTS = tuple(MEANINGS)
CHOICES = f"none, or, with commas between, any of {', '.join(CONSTRAINTS)}"
DEFAULT_CONSTRAINTS = "excited,apart,types"  # where the file decides
POPULATION = 100  # response units, or input units, recorded and hidden ones together, by default


class Units(NamedTuple):
    """The units of a network, the n that are recorded first."""

    n: int
    driven: np.ndarray  # (units,) bool
    low: np.ndarray  # (units, units), lower bounds of W
    high: np.ndarray  # upper bounds: both 0 where there is no connection
    types: bool = False
    copies: bool = False

    @property
    def bounded(self):
        """Whether any weight of W has a bound."""
        return bool(np.isfinite(self.low).any() or np.isfinite(self.high).any())

    @property
    def free(self):
        """Connections that may exist. (units, units) bool."""
        return self.low < self.high

    def copied(self):
        """Pairs of undriven units and the driven units that start as their copies: hidden ones copy recorded units, one
        each, and recorded ones hidden units. Yields: senders, copies (any,) indices."""
        index, hidden = np.arange(len(self.driven)), np.arange(len(self.driven)) >= self.n
        for first, second in ((~hidden, hidden), (hidden, ~hidden)):
            senders, copies = index[first & ~self.driven], index[second & self.driven]
            if len(senders) and len(copies):
                yield senders[np.arange(len(copies)) * len(senders) // len(copies)], copies

    @property
    def hidden_inputs(self):
        """Units that are hidden and driven. (units,) bool."""
        return self.driven & (np.arange(len(self.driven)) >= self.n)


def make_units(n, response=0, inputs=0, driven=None, constraints=(), W=None):
    """Units of these numbers. n: recorded; response, inputs: hidden, not driven and driven; driven: (n,) bool, which
    recorded ones are (None: none, or, without hidden units, all: the control); constraints: of CONSTRAINTS; W: (n, n)
    weights among recorded units that stay as they are, NaN where they do not, or None."""
    size = n + response + inputs
    if driven is None:
        driven = np.full(n, size == n)
    driven = np.concatenate([driven, np.zeros(response, bool), np.ones(inputs, bool)])
    low = np.full((size, size), -np.inf, np.float32)
    high = -low
    if "excited" in constraints:
        low[np.ix_(~driven, driven)] = 0
    if "apart" in constraints:
        low[np.ix_(driven, driven)] = high[np.ix_(driven, driven)] = 0
    if "inhibition" in constraints:
        still = ~driven[:n]
        high[:n, :n][np.ix_(still, still)] = 0
    if W is not None:
        fixed = np.isfinite(W)
        low[:n, :n][fixed] = high[:n, :n][fixed] = W[fixed]
    return Units(n, driven, low, high, "types" in constraints, "copies" in constraints)


def parse_constraints(text):
    """Names of CONSTRAINTS in a text with commas between, or none, in their order. Returns: str. Raises: ValueError."""
    names = [] if text == "none" else [name.strip() for name in text.split(",")]
    if set(names) - set(CONSTRAINTS):
        raise ValueError(text)
    return ",".join(name for name in CONSTRAINTS if name in names)


def few_driven(n, driven):
    """Whether the neurons that the velocity does not drive may be taken to be all recorded: at most half as many driven
    ones were. n: recorded neurons; driven: (n,) bool or None."""
    count = 0 if driven is None else int(driven.sum())
    return count <= (n - count) / 2


def choose_units(n, driven, dimensions, settings):
    """Numbers of hidden units, and the constraints on them, where the settings leave them to the recording.

    n: recorded neurons; driven: (n,) bool or None; dimensions: of the velocity; settings: with control, input_units,
    response_units and constraints. Returns: dict of the last three."""
    count = 0 if driven is None else int(driven.sum())
    still, few = n - count, few_driven(n, driven)
    response, inputs, constraints = settings.response_units, settings.input_units, settings.constraints
    if response is None:
        response = 0 if few or settings.control else max(0, POPULATION - still)
    if inputs is None:
        inputs = 0 if still == 0 else max(1, POPULATION - count)
    if constraints is None:
        usual = DEFAULT_CONSTRAINTS + (",copies" if response else "")
        constraints = usual if (inputs or count) and dimensions == 1 and not settings.control else ""
    return {"response_units": response, "input_units": inputs, "constraints": constraints}


def describe_units(units, constraints):
    """Numbers of units, and the constraints on hidden ones (names in a text), in a line. units: Units."""
    n, inputs = units.n, int(units.hidden_inputs.sum())
    moved = f", {units.driven[:n].sum()} of them driven" if units.driven[:n].any() else ""
    hidden = f"{len(units.driven) - n - inputs} response and {inputs} input units hidden"
    names = constraints.replace(",", ", ") or "none"
    return f"{n} recorded neurons{moved}; {hidden}; constraints on these, where they are read: {names}"
