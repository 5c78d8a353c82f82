"""What an update of a network's training is made of.

windows: random parts of a recording; bptt: the loss over them and its gradient, by back-propagation through time;
losses; adam: the optimiser.
"""
