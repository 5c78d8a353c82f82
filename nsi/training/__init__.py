"""The parts of an update of a network's training.

windows: random parts of a recording; bptt: the loss over them and its gradient, by back-propagation through time;
losses; adam: the optimiser.
"""
