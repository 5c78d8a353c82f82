"""Known currents into recorded neurons: what passive activity cannot tell, pulses can."""

import numpy as np


def pulses(rng, trials, steps, n, dt, amplitude, every=0.25, lasting=0.05, fraction=0.3):
    """Current pulses into random compass neurons, uniform in 0..amplitude. Returns: (trials, steps, N)."""
    period, width = max(1, round(every / dt)), max(1, round(lasting / dt))
    stimulus = np.zeros((trials, steps, n))
    for t in range(0, steps, period):
        pulse = rng.uniform(0, amplitude, (trials, n)) * (rng.random((trials, n)) < fraction)
        stimulus[:, t : t + width] = pulse[:, None]
    return stimulus
