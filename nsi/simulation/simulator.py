"""Simulate a circuit (circuits.py): its rates under a velocity, and a whole recording with its ground truth."""

import numpy as np

import nsi.simulation.stimulation as stimulation
from nsi import expansion, network
from nsi.errors import BadInput
from nsi.recordings import Recording
from nsi.simulation.circuits import CIRCUITS

SETTLING_STEPS = 500  # steps at rest before a recording begins
RANDOM_MOTION = stimulation.Velocity()


def simulate(circuit, velocity, start, rng=None, noise=0.0, stimulus=None, settle=SETTLING_STEPS):
    """Integrate a circuit, in the type of its weights: `settle` steps at rest, then with the velocity.

    velocity: (trials, steps, D) rad/s; start: (trials, D) rad, where each bump is placed; rng: numpy Generator;
    noise: s.d. of the input current per step; stimulus: (trials, steps, N) known current or None.
    Returns: rates (trials, steps, M) float32.
    """
    net, dtype, (trials, steps, dimensions) = circuit.network, circuit.network.W.dtype, velocity.shape
    u = np.zeros((trials, len(net.b)), dtype)
    u[:, : net.n] = circuit.geometry.bump(circuit.geometry.places(net.n), start)
    whole = np.concatenate([np.zeros((trials, settle, dimensions)), velocity], 1, dtype=dtype)

    def current(t):
        x = noise * rng.standard_normal(u.shape, dtype) if noise else np.zeros_like(u)
        if stimulus is not None and t >= settle:
            x[:, : net.n] += stimulus[:, t - settle]
        return x

    rates = np.empty((trials, steps, len(net.b)), np.float32)
    for t, (_, r) in enumerate(network.run(net, whole, u, current)):
        if t >= settle:
            rates[:, t - settle] = r
    return rates


def simulate_recording(circuit, seed=0, trials=100, steps=1000, noise=0.02, amplitude=0.0, motion=RANDOM_MOTION):
    """A whole recording with its ground truth, as the dictionary that `recordings.save` writes.

    noise: as for `simulate`; amplitude: of stimulation.Pulses, or these, or a whole stimulus (trials, steps, N);
    motion: stimulation.Velocity, or, of an animal with grid cells, the path (trials, steps + 1, 2) m that it walks.
    """
    rng, (net, geometry, dt, _), path = np.random.default_rng(seed), circuit, None
    n = net.n
    if geometry.dimensions == 1:
        start = rng.uniform(-np.pi, np.pi, (trials, 1))
        velocity = circuit.inputs(rng, stimulation.random_velocity(rng, trials, steps, dt, *motion))
    else:
        path = motion
        if isinstance(motion, stimulation.Velocity):
            path = stimulation.random_walk(rng, trials, steps, dt, motion.sd / geometry.per_metre, motion.tau)
        velocity, start = geometry.per_metre * np.diff(path, axis=1) / dt, geometry.phases(path[:, 0])
        trials, steps, _ = velocity.shape
    stimulus = amplitude if isinstance(amplitude, np.ndarray) else None
    if stimulus is None:
        pulses = amplitude if isinstance(amplitude, stimulation.Pulses) else stimulation.Pulses(amplitude)
        stimulus = pulses.draw(rng, trials, steps, geometry.order(geometry.places(n)), dt) if pulses.amplitude else None
    rates = simulate(circuit, velocity, start, rng, noise, stimulus)
    heading = start[:, None] + dt * circuit.turning(velocity).cumsum(1)
    data = {
        "rates": rates[..., :n], "hidden_rates": rates[..., n:], "velocity": velocity.astype(np.float32), "dt": dt,
        "heading": ((heading + np.pi) % (2 * np.pi) - np.pi).astype(np.float32),
        "true_W": net.W, "true_W_in": net.W_in, "true_b": net.b, "true_gate": net.gate(),
        "true_orders": expansion.of_circuit(net, rates[..., :n], velocity),
    }  # fmt: skip
    if net.alpha < 1:  # the published fit takes the gain network, alpha 1, for one of alpha 0.2
        data["tau"] = circuit.tau
    if stimulus is not None:
        data["stimulus"] = stimulus.astype(np.float32)
    if path is not None:
        data["position"] = path[:, 1:].astype(np.float32)
    return data


def simulate_by_name(name, **settings):
    """A recording of one of CIRCUITS, without its truth. settings: `simulate_recording`'s. Returns: Recording.

    Raises: BadInput where there is no such circuit.
    """
    if name not in CIRCUITS:
        raise BadInput(f"circuit {name!r} is not known; expected one of {', '.join(CIRCUITS)}")
    data = simulate_recording(CIRCUITS[name](), **settings)
    keys = ("rates", "velocity", "dt", "heading", "tau", "stimulus")
    return Recording(**{key: data[key] for key in keys if key in data})
