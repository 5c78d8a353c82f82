"""Simulate a fly's head-direction ring attractor and write its activity as a recording, data/ring.npz.

    r = phi(u @ W + b + v @ W_in + v * (u @ W_gain) + stimulus + sigma * xi),    phi(x) = max(0, tanh(x))
    tau du/dt = -u + r                                                 alpha = dt / tau per Euler step

W[i, j] is the weight from neuron i to neuron j. In the shifter network (the default; after Turner-Evans et al.
2017, doi 10.7554/eLife.23496) the velocity v excites right and inhibits left shifter neurons, which copy the
compass neurons' bump of activity and send it back displaced by a quarter turn to either side. In the gain network
(`--shift gain`, the published simulation) there are no shifters: v multiplies a second matrix.
"""

from pathlib import Path
from typing import NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter

import recording
from analysis import decode_heading, ring_angles

VELOCITY_SD = 2.0  # rad/s
VELOCITY_TAU = 0.112  # s, correlation time: the published momentum of 0.8 per 25 ms
SETTLE = 500  # steps at rest before a recording begins


# the ring's cosine, the shifters' displacement (rad), amplitude, threshold and velocity weight (per rad/s)
CALIBRATED = 0.12, np.pi / 2, 0.179, 0.4, 0.04  # angular gain 1 within 3 % at every speed up to 3 rad/s
HOLDING = 0.08, np.pi / 3, 0.178, 0.4, 0.065


class Network(NamedTuple):
    """A circuit: M neurons, the N compass neurons that are observed first."""

    W: np.ndarray  # (M, M)
    b: np.ndarray  # (M,)
    W_in: np.ndarray  # (1, M), per rad/s
    W_gain: np.ndarray  # (N, N), per rad/s
    dt: float  # s
    tau: float  # s

    @property
    def gate(self):
        """(1, N, N): the velocity-signed path from compass to compass, through the shifters or by gain."""
        n = len(self.W_gain)
        return (self.W[:n, n:] @ (self.W_in.T[n:] * self.W[n:, :n]) + self.W_gain)[None]


def shifter_network(n=100, n_shifters=50, holding=False, dt=0.01, tau=0.05):
    """n compass neurons, then n_shifters left and n_shifters right shifter neurons.

    At rest left and right cancel, and the compass ring alone holds the bump; with `holding` the ring is weaker, the
    shifters' displacement is 60 degrees, and they help to hold the bump, as in the fly. Weights scale as 1 / n.
    """
    compass, shifter = ring_angles(n), ring_angles(n_shifters)
    c, displacement, amplitude, threshold, drive = HOLDING if holding else CALIBRATED
    left, right = slice(n, n + n_shifters), slice(n + n_shifters, None)
    size = n + 2 * n_shifters
    W, b, W_in = np.zeros((size, size)), np.zeros(size), np.zeros((1, size))
    W[:n, :n] = (c * np.cos(compass[:, None] - compass) - 0.03) * 100 / n
    width = 0.8 * 2 * np.pi / n_shifters  # s.d. of a narrow patch, wide enough for the shifters to tile the ring
    copy = np.exp((np.cos(compass[:, None] - shifter) - 1) / width**2)
    W[:n, left] = W[:n, right] = copy / copy.sum(0)
    W[left, :n] = amplitude * np.cos(compass - shifter[:, None] + displacement) * 50 / n_shifters
    W[right, :n] = amplitude * np.cos(compass - shifter[:, None] - displacement) * 50 / n_shifters
    b[n:] = -threshold  # above any velocity's drive (five s.d.): silent away from the bump
    W_in[0, left], W_in[0, right] = -drive, drive
    return Network(W, b, W_in, np.zeros((n, n)), dt, tau)


def gain_network(n=100, dt=0.025):
    """The published network: alpha is 1, and velocity multiplies a matrix along the ring's derivative of W."""
    signed = (np.arange(n) - np.arange(n)[:, None] + n // 2) % n - n // 2  # (N, N), index distance from i to j
    distance, per_index = np.abs(signed), 0.06 * 100 / n
    W = (0.1 * np.cos(per_index * distance) - 0.03) * 100 / n
    W_gain = 0.02 * 0.1 * 0.06 * np.sin(per_index * distance) * signed * (100 / n) ** 2
    return Network(W, np.zeros(n), np.zeros((1, n)), W_gain, dt, tau=dt)


def phi(x):
    """Firing rate from input current."""
    return np.maximum(0, np.tanh(x))


def step(net, u, v, current=0.0):
    """One Euler step.

    u: (trials, M) synaptic state; v: (trials, 1) rad/s; current: (trials, M), stimulus and noise.
    Returns: r (trials, M) now, u (trials, M) a step later.
    """
    n = len(net.W_gain)
    x = u @ net.W + net.b + v @ net.W_in + current
    if net.W_gain.any():
        x[:, :n] += v * (u[:, :n] @ net.W_gain)
    r = phi(x)
    return r, u + net.dt / net.tau * (r - u)


def simulate(net, velocity, start, rng=None, noise=0.0, stimulus=None, settle=SETTLE):
    """Integrate the network: `settle` steps at rest, then with the velocity.

    velocity: (trials, steps, 1) rad/s; start: (trials,) rad, where each bump is placed; rng: numpy Generator;
    noise: s.d. of the input current per step; stimulus: (trials, steps, N) known current or None.
    Returns: rates (trials, steps, M) float32.
    """
    trials, steps, _ = velocity.shape
    n, size = len(net.W_gain), len(net.b)
    u, rest = np.zeros((trials, size)), np.zeros((trials, 1))
    u[:, :n] = np.maximum(0, np.cos(ring_angles(n) - start[:, None]))
    rates = np.empty((trials, steps, size), np.float32)
    for t in range(-settle, steps):
        current = noise * rng.standard_normal(u.shape) if noise else np.zeros_like(u)
        if t >= 0 and stimulus is not None:
            current[:, :n] += stimulus[:, t]
        r, u = step(net, u, velocity[:, t] if t >= 0 else rest, current)
        if t >= 0:
            rates[:, t] = r
    return rates


def draw_velocity(rng, trials, steps, dt, sd=VELOCITY_SD, tau=VELOCITY_TAU):
    """A stationary first-order autoregressive velocity. Returns: (trials, steps, 1) rad/s."""
    momentum = np.exp(-dt / tau)
    velocity = sd * rng.standard_normal((trials, steps))
    for t in range(1, steps):
        velocity[:, t] = momentum * velocity[:, t - 1] + np.sqrt(1 - momentum**2) * velocity[:, t]
    return velocity[..., None]


def draw_stimulus(rng, trials, steps, n, dt, amplitude, every=0.25, lasting=0.05, fraction=0.3):
    """Current pulses into random compass neurons, uniform in 0..amplitude. Returns: (trials, steps, N)."""
    period, width = max(1, round(every / dt)), max(1, round(lasting / dt))
    stimulus = np.zeros((trials, steps, n))
    for t in range(0, steps, period):
        pulse = rng.uniform(0, amplitude, (trials, n)) * (rng.random((trials, n)) < fraction)
        stimulus[:, t : t + width] = pulse[:, None]
    return stimulus


def simulate_recording(net, seed=0, trials=100, steps=1000, noise=0.02, amplitude=0.0):
    """A whole recording with its ground truth, as the dictionary that `recording.save` writes."""
    rng, n = np.random.default_rng(seed), len(net.W_gain)
    start = rng.uniform(-np.pi, np.pi, trials)
    velocity = draw_velocity(rng, trials, steps, net.dt)
    stimulus = draw_stimulus(rng, trials, steps, n, net.dt, amplitude) if amplitude else None
    rates = simulate(net, velocity, start, rng, noise, stimulus)
    heading = start[:, None, None] + net.dt * velocity.cumsum(1)
    data = {
        "rates": rates[..., :n],
        "velocity": velocity.astype(np.float32),
        "dt": net.dt,
        "heading": ((heading + np.pi) % (2 * np.pi) - np.pi).astype(np.float32),
        "true_W": net.W,
        "true_W_in": net.W_in,
        "true_b": net.b,
        "true_gate": net.gate,
        "hidden_rates": rates[..., n:],
    }
    if net.tau > net.dt:  # the published fit takes the gain network, alpha 1, for one of alpha 0.2
        data["tau"] = net.tau
    if amplitude:
        data["stimulus"] = stimulus.astype(np.float32)
    return data


def bump_movement(net, velocity, start, rng=None, noise=0.0):
    """The bump's unwrapped heading (trials, steps) rad, and the compass rates (trials, steps, N)."""
    rates = simulate(net, velocity, start, rng, noise)[..., : len(net.W_gain)]
    return np.unwrap(decode_heading(rates, ring_angles(rates.shape[-1]))), rates


def physiology(net, noise, seed=0):
    """What a physiologist would check of the bump.

    Returns: dict with `gain` (least-squares slope of the bump's speed against v in -3..3 rad/s), `nonlinearity` (the
    largest |speed / (gain * v) - 1| there), `drift` (rad, largest over 5 s at rest from 360 headings, no noise),
    `diffusion` (rad^2/s at rest with noise, or 0) and `width` (rad, full width at half maximum).
    """
    v = np.r_[-3:0:0.5, 0.5:3.5:0.5]
    seconds = lambda s: round(s / net.dt)  # noqa: E731
    moved, _ = bump_movement(net, np.repeat(v[:, None, None], seconds(4), 1), np.zeros(len(v)))
    speed = (moved[:, -1] - moved[:, seconds(1)]) / ((seconds(4) - 1 - seconds(1)) * net.dt)
    gain = speed @ v / (v @ v)
    every = ring_angles(360)
    rest, rates = bump_movement(net, np.zeros((360, seconds(5), 1)), every)
    result = {"gain": gain, "nonlinearity": np.abs(speed / (gain * v) - 1).max()}
    result |= {"drift": np.abs(rest - rest[:, :1]).max(), "diffusion": 0.0}
    if noise:
        moved, _ = bump_movement(net, np.zeros((100, seconds(5), 1)), every[:100], np.random.default_rng(seed), noise)
        result["diffusion"] = np.var(moved[:, -1] - moved[:, 0]) / 5
    half = rates[:, 0] > rates[:, 0].max(-1, keepdims=True) / 2
    return result | {"width": half.mean() * 2 * np.pi}


def animate(data, path, trial=0, every=5, frames=200):
    """The published animation: the bump over the ring beside the heading, in time; a GIF, or a window as well."""
    rates, heading = data["rates"][trial], data["heading"][trial, :, 0]
    angles = ring_angles(data["rates"].shape[-1])
    bump = decode_heading(rates, angles)
    degrees, time = np.degrees(angles), np.arange(len(rates)) * data["dt"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
    (line,) = left.plot(degrees, rates[0], color="C3")
    marker = left.axvline(0, color="k", ls=":", label="heading")
    left.set(
        xlim=(0, 360), ylim=(0, 1.02), xlabel="preferred heading (deg)", ylabel="firing rate", title="bump of activity"
    )
    left.legend(loc="upper right", frameon=False)
    right.plot(time, np.degrees(heading) % 360, "k.", ms=1, label="heading")
    right.plot(time, np.degrees(bump) % 360, "C3.", ms=1, alpha=0.5, label="bump")
    now = right.axvline(0, color="grey")
    right.set(xlabel="time (s)", ylabel="angle (deg)", ylim=(0, 360), title="heading and bump")
    right.legend(loc="upper right", markerscale=6, framealpha=0.9)

    def draw(t):
        line.set_ydata(rates[t])
        marker.set_xdata([np.degrees(heading[t]) % 360] * 2)
        now.set_xdata([time[t]] * 2)

    movie = FuncAnimation(figure, draw, range(0, min(len(rates), frames * every), every), interval=50)
    with recording.whole(path) as temporary:
        movie.save(temporary, writer=PillowWriter(fps=20), dpi=80)
    if matplotlib.get_backend().lower() != "agg":  # matplotlib itself falls back to agg without a display
        plt.show()
    plt.close(figure)


def main():
    p = recording.Parser("Simulate the head-direction ring attractor and write a recording.")
    positive, real = recording.number(int, 1), recording.number(float, 0)
    # fmt: off
    p.add_argument("--out",       type=Path,     default="data/ring.npz", help="the recording to write")
    p.add_argument("--seed",      type=recording.number(int, 0), default=0, help="of velocity, headings and noise")
    p.add_argument("--trials",    type=positive, default=100,  help="trials")
    p.add_argument("--steps",     type=positive, default=1000, help="time steps per trial (10 ms; gain network 25 ms)")
    p.add_argument("--noise",     type=real,     default=0.02, help="s.d. of the input current's noise per step")
    p.add_argument("--shift",     choices=["shifters", "gain"], default="shifters", help="what moves the bump")
    p.add_argument("--holding",   action="store_true", help="let the shifters help to hold the bump, as in the fly")
    p.add_argument("--stimulus",  type=real,     default=0.0,  help="amplitude of known current pulses into compass")
    p.add_argument("--visualize", action="store_true", help="animate the first trial, beside the recording as .gif")
    # fmt: on
    args = p.parse_args()
    if args.holding and args.shift == "gain":
        p.error("argument --holding: expected --shift shifters, since the gain network has no shifters to hold a bump")
    if args.out.suffix != ".npz":
        p.error(f"argument --out: expected a name that ends in .npz, not {args.out.name!r}")
    recording.writable(args.out.parent)

    net = gain_network() if args.shift == "gain" else shifter_network(holding=args.holding)
    data = simulate_recording(net, args.seed, args.trials, args.steps, args.noise, args.stimulus)
    recording.save(args.out, **data)
    print(f"{args.out}: {args.trials} trials x {args.steps} steps of {net.dt * 1000:g} ms, {len(net.b)} neurons")
    check = physiology(net, args.noise, args.seed)
    print(f"  angular gain   {check['gain']:.3f}, linear within {100 * check['nonlinearity']:.1f} % up to 3 rad/s")
    print(f"  bump width     {np.degrees(check['width']):.0f} deg at half maximum")
    print(f"  drift at rest  {check['drift']:.4f} rad at most over 5 s, 360 headings, without noise")
    print(f"  diffusion      {check['diffusion']:.2e} rad^2/s at rest, with noise {args.noise:g}")
    if args.visualize:
        animate(data, args.out.with_suffix(".gif"))
        print(f"{args.out.with_suffix('.gif')}: the bump and the heading of the first trial")


if __name__ == "__main__":
    recording.run(main)
