"""Simulate a ring attractor of heads' directions, or a torus of grid cells, and write its activity as a recording.

    r = phi(u @ W + b + v @ W_in + v * (u @ W_gain) + stimulus + sigma * xi),    phi(x) = max(0, tanh(x))
    tau du/dt = -u + r                                                 alpha = dt / tau per Euler step

W[i, j] is the weight from neuron i to neuron j. Compass neurons hold a bump of activity, whose place on the ring is
the heading; shifter neurons, driven by the velocity v, push it around. Grid cells hold a bump on a torus, whose place
is where the animal is, and shifters push it by a velocity of two components. nsi/simulation has the circuits and the
recording, nsi/network.py the step.
"""

from pathlib import Path

import numpy as np

from nsi import files, recordings
from nsi.recordings import paths
from nsi.run import cli
from nsi.simulation import physiology, simulate_recording, stimulation
from nsi.simulation.circuits import CIRCUITS
from nsi.simulation.heterogeneity import vary_weights
from nsi.simulation.observation import record_neurons


def main():
    p = cli.Parser("Simulate a head-direction or grid-cell attractor and write a recording.")
    positive, real, share = cli.number(int, 1), cli.number(float, 0), cli.number(float, 0, 1)
    period = cli.number(float, 0, above=True)
    # fmt: off
    p.add_argument("--out",       type=Path,     help="the recording to write (default: data/CIRCUIT.npz)")
    p.add_argument("--circuit",   choices=CIRCUITS, default="ring", help="which one; holding: shifters help to hold")
    p.add_argument("--trajectory", type=Path,    help="a recorded path for grid cells: .npz or .csv with t, x, y")
    p.add_argument("--seed",      type=cli.number(int, 0), default=0, help="of velocity, headings and noise")
    p.add_argument("--trials",    type=positive, default=100,  help="trials")
    p.add_argument("--steps",     type=positive, default=1000, help="time steps per trial (10 ms; gain network 25 ms)")
    p.add_argument("--noise",     type=real,     default=0.02, help="s.d. of the input current's noise per step")
    p.add_argument("--stimulus",  type=cli.stimulus, default=0.0, help="amplitude of known current "
                   "pulses into compass, or a file with them (.npz, python -m nsi.design)")
    p.add_argument("--stimulus-every", type=period, default=0.25, help="s between pulses")
    p.add_argument("--stimulus-share", type=share, default=0.3, help="of the neurons, chosen anew for each pulse")
    p.add_argument("--jitter",    type=real,     default=0.0,  help="relative s.d. of single weights among compass")
    p.add_argument("--jitter-shifters", type=real, default=0.0, help="the same of weights to and from shifters")
    p.add_argument("--sparse",    type=share,    default=0.0,  help="share of the weights among compass that is absent")
    p.add_argument("--balance",   action="store_true", help="uneven weights, adjusted so that the bump behaves alike")
    p.add_argument("--record",    type=cli.recorded_neurons, default="compass", help="compass, shifters, "
                   "half (of each), or how many shifters besides the compass")
    p.add_argument("--no-report", action="store_true", help="skip what a physiologist would check")
    p.add_argument("--visualize", action="store_true", help="animate the first trial, beside the recording as .gif")
    # fmt: on
    args = p.parse_args()
    circuit, rng, motion = CIRCUITS[args.circuit](), np.random.default_rng(1000 + args.seed), stimulation.Velocity()
    walks = circuit.geometry.dimensions == 2
    args.out = args.out or Path(f"data/{args.circuit}.npz")
    if args.out.suffix != ".npz":
        p.error(f"argument --out: expected a name that ends in .npz, not {args.out.name!r}")
    if args.trajectory and not walks:
        p.error(f"argument --trajectory: expected --circuit grid, since the {args.circuit} circuit knows no places")
    if args.trajectory:
        motion = paths.read(args.trajectory, circuit.dt, args.trials, args.steps)
    if isinstance(args.stimulus, Path):
        size = (len(motion), motion.shape[1] - 1) if args.trajectory else (args.trials, args.steps)
        args.stimulus = stimulation.from_file(args.stimulus, (*size, circuit.network.n), circuit.dt)
    else:
        args.stimulus = stimulation.Pulses(args.stimulus, args.stimulus_every, args.stimulus_share)
    files.writable(args.out.parent)
    circuit = vary_weights(circuit, rng, args.jitter, args.jitter_shifters, args.sparse, args.balance)
    data = simulate_recording(circuit, args.seed, args.trials, args.steps, args.noise, args.stimulus, motion)
    data = record_neurons(data, args.record, args.seed)
    recordings.save(args.out, **data)
    size = f"{len(data['rates'])} trials x {args.steps} steps of {circuit.dt * 1000:g} ms"
    print(f"{args.out}: {size}, {len(circuit.network.b)} neurons")
    if not args.no_report:
        for line in physiology.report(circuit, args.noise, args.seed):
            print(f"  {line}")
        for line in physiology.field_report(data) if walks else ():
            print(f"  {line}")
    if args.visualize:
        from nsi import figures  # matplotlib is slow to import

        (figures.animate_sheet if walks else figures.animate)(data, args.out.with_suffix(".gif"), circuit.geometry)
        print(f"{args.out.with_suffix('.gif')}: the bump and the {'path' if walks else 'heading'} of the first trial")


if __name__ == "__main__":
    cli.run(main)
