"""Physiology of a simulated bump: gain, drift, diffusion, width, and where it likes to stay."""

import numpy as np

from nsi.simulation.simulator import simulate
from nsi.simulation.stimulation import random_velocity

SPEEDS = 0.5, 1.0, 2.0, 3.0  # rad/s, at which the bump on a torus is moved
DIRECTIONS = 24
RATE_MAPS = 16  # neurons whose firing fields are described


def report(circuit, noise, seed=0):
    """What `physiology` or `torus_physiology` finds, in words. Yields: lines."""
    if circuit.geometry.dimensions > 1:
        check = torus_physiology(circuit, noise, seed)
        yield f"gain           {check['gain']:.3f} of displacement per velocity, {DIRECTIONS} directions"
        for speed, (mean, least, most) in zip(SPEEDS, check["gains"], strict=True):
            yield f"  at {speed:g} rad/s   {mean:.3f}, {least:.3f} to {most:.3f} by direction"
        yield f"bump width     {check['width']:.2f} rad at half maximum, of a period of 7.26"
        drift = f"{check['drift']:.3f} rad at most over 5 s, {check['drift_mean']:.3f} on average"
        yield f"drift at rest  {drift}, without noise"
    else:
        check = physiology(circuit, noise, seed)
        yield f"angular gain   {check['gain']:.3f}, linear within {100 * check['nonlinearity']:.1f} % up to 3 rad/s"
        yield f"bump width     {np.degrees(check['width']):.0f} deg at half maximum"
        drift = f"{check['drift']:.4f} rad at most over 5 s, {check['drift_2s']:.4f} over 2 s"
        yield f"drift at rest  {drift}, 360 headings, without noise"
        yield f"occupancy      {check['occupancy']:.2f} of the mean where the bump is least, while it turns"
    yield f"diffusion      {check['diffusion']:.2e} rad^2/s at rest, with noise {noise:g}"


def field_report(data):
    """The firing fields of a recording of grid cells in a box, in words. data: cann.simulate_recording's. Yields: a
    line."""
    from nsi.geometry import rate_maps  # slow to import

    rates, position = (data[key].reshape(-1, data[key].shape[-1]) for key in ("rates", "position"))
    some = np.linspace(0, rates.shape[-1] - 1, RATE_MAPS).astype(int)
    maps, size = rate_maps.rate_maps(rates[::2, some], position[::2])
    repeats = [rate_maps.autocorrelogram(one) for one in maps]
    scores, apart = [rate_maps.grid_score(r) for r in repeats], [rate_maps.spacing(r) for r in repeats]
    apart = f"{np.nanmean(apart) * size.mean():.2f} m" if np.isfinite(apart).any() else "not to be seen"
    yield f"grid score     {np.mean(scores):.2f}, least {np.min(scores):.2f}, of {RATE_MAPS} rate maps; spacing {apart}"


def _cast(circuit, noise):
    """The circuit in single precision, or, without noise, as it is: rounding, too, can move a bump at rest."""
    return circuit._replace(network=circuit.network.cast(np.float32)) if noise else circuit


def bump_movement(circuit, velocity, start, rng=None, noise=0.0):
    """The bump's unwrapped heading (trials, steps) rad and the compass rates (trials, steps, N), other inputs at 1."""
    further = len(circuit.network.W_in) - velocity.shape[-1]
    velocity = np.concatenate([velocity, np.ones((*velocity.shape[:-1], further))], -1)
    rates = simulate(_cast(circuit, noise), velocity, start, rng, noise)[..., : circuit.network.n]
    places = circuit.geometry.places(circuit.network.n)
    return np.unwrap(circuit.geometry.decode(rates, places)[..., 0]), rates


def physiology(circuit, noise, seed=0, headings=360):
    """Measure gain, drift, diffusion and width of the bump.

    Returns: dict with `gain` (least-squares slope of the bump's speed against v in -3..3 rad/s), `nonlinearity` (the
    largest |speed / (gain * v) - 1| there), `drift` and `drift_2s` (rad, largest over 5 and 2 s at rest from so many
    headings, no noise), `occupancy` (of 36 bins of heading the least over the mean, while it turns), `diffusion`
    (rad^2/s at rest with noise, or 0) and `width` (rad, full width at half maximum).
    """
    v, every = np.r_[-3:0:0.5, 0.5:3.5:0.5], circuit.geometry.places(headings)
    seconds = lambda s: round(s / circuit.dt)
    moved, _ = bump_movement(circuit, np.repeat(v[:, None, None], seconds(4), 1), np.zeros((len(v), 1)))
    speed = (moved[:, -1] - moved[:, seconds(1)]) / ((seconds(4) - 1 - seconds(1)) * circuit.dt)
    gain, rng = speed @ v / (v @ v), np.random.default_rng(seed)
    rest, rates = bump_movement(circuit, np.zeros((headings, seconds(5), 1)), every)
    result = {"gain": gain, "nonlinearity": np.abs(speed / (gain * v) - 1).max(), "diffusion": 0.0}
    result |= {"drift": np.abs(rest - rest[:, :1]).max(), "drift_2s": np.abs(rest[:, seconds(2)] - rest[:, 0]).max()}
    if noise:
        some = every[:100]
        moved, _ = bump_movement(circuit, np.zeros((len(some), seconds(5), 1)), some, rng, noise)
        result["diffusion"] = np.var(moved[:, -1] - moved[:, 0]) / 5
    velocity = random_velocity(rng, len(every[::2]), seconds(5), circuit.dt)
    moved, _ = bump_movement(circuit, velocity, every[::2], rng, noise)
    where, _ = np.histogram(moved % (2 * np.pi), 36, (0, 2 * np.pi))
    half = rates[:, 0] > rates[:, 0].max(-1, keepdims=True) / 2
    return result | {"occupancy": where.min() / where.mean(), "width": half.mean() * 2 * np.pi}


def torus_physiology(circuit, noise, seed=0):
    """Measure gain, drift and diffusion of a bump on a torus. All displacements are in rad, a period being 7.26.

    Returns: dict with `gain` (of displacement along the velocity, least squares over all), `gains` (for each of SPEEDS
    the mean over directions, the least and the largest), `across` (the largest displacement across the velocity,
    relative), `drift` and `drift_mean` (over 5 s at rest without noise, from 64 places), `diffusion` (rad^2/s in each
    direction at rest with noise, or 0) and `width` (full width at half maximum of the bump, taken for round).
    """
    geometry, rng = circuit.geometry, np.random.default_rng(seed)
    places = geometry.places(circuit.network.n)
    seconds = lambda s: round(s / circuit.dt)

    def moved(velocity, since, noise=0.0):
        """Displacement from a second `since` on to the end, (trials, 2) rad, and the last rates."""
        start = rng.uniform(-np.pi, np.pi, (len(velocity), 2))
        rates = simulate(_cast(circuit, noise), velocity, start, rng, noise)[..., : circuit.network.n]
        phases = np.unwrap(geometry.decode(rates, places), axis=1)
        return geometry.displacement(phases[:, -1] - phases[:, seconds(since)]), rates[:, -1]

    angle = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS + 0.13  # none of them along an axis
    v = np.array(SPEEDS)[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    flat = v.reshape(-1, 2)
    far, _ = moved(np.repeat(flat[:, None], seconds(3) + 1, 1), 1)
    far = far.reshape(v.shape) / 2
    along, size = (far * v).sum(-1), (v**2).sum(-1)
    gains, across = along / size, (far[..., 0] * v[..., 1] - far[..., 1] * v[..., 0]) / size
    still = np.zeros((64, seconds(5), 2))
    rest, rates = moved(still, 0)
    result = {"gain": along.sum() / size.sum(), "gains": [(g.mean(), g.min(), g.max()) for g in gains]}
    result |= {"across": np.abs(across).max(), "diffusion": 0.0}
    result |= {"drift": np.linalg.norm(rest, axis=-1).max(), "drift_mean": np.linalg.norm(rest, axis=-1).mean()}
    if noise:
        result["diffusion"] = np.var(moved(still, 0, noise)[0], axis=0).mean() / 5
    area = (rates > rates.max(-1, keepdims=True) / 2).mean() * (4 * np.pi) ** 2 / np.sqrt(12)  # of the torus' own
    return result | {"width": 2 * np.sqrt(area / np.pi)}
