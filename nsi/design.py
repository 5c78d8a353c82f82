"""Propose the next experiment: the known current pulses from which connections are estimated best, by a pilot's fit.

    python -m nsi.design runs/pilot --trials 20

A weight from i to j shows only where i's state varies on its own while j is active; but pulses also throw the bump. The
network that was fitted to a pilot recording is run under candidate pulses on random velocities, and without. The
information matrix of nsi/estimation's regression, which depends on the states alone, gives the standard errors to
expect; the two runs' headings give how far the bump is thrown. Of the candidates that throw it no further than asked,
and not much further if the pulses were stronger than meant, the one with the least standard errors is written as the
`stimulus` that `cann.py --stimulus FILE` plays. Pulses of a candidate reach one of each few neighbours, so that their
effects on the bump's place cancel; random ones, as of `cann.py --stimulus 4`, are compared.
"""

import sys
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from nsi import files, geometry, network, recordings
from nsi.errors import BadInput
from nsi.estimation import fitting, regression
from nsi.estimation.kinetics import choose_kinetics
from nsi.estimation.signals import state_of
from nsi.evaluation import prediction
from nsi.network import synaptic_state
from nsi.run import checkpoint, cli
from nsi.simulation.stimulation import Pulses, random_velocity

DEPTHS = 0.5, 0.65, 0.8, 0.95  # amplitudes, as multiples of how far below threshold the most silent neurons are
PULSE_PERIODS_S = 0.1, 0.2  # s between pulses
NEURON_SHARES = 0.35, 0.5  # of the neurons that a pulse reaches
MIN_AMPLITUDE = 0.8  # weaker pulses move the bump without making a connection visible
STRONGER_PULSES = 1.2  # safety check: with pulses so many times as strong ...
MAX_DISTURBANCE_RATIO = 2.0  # ... the displacement must stay within so many times the limit
SETTLING_STEPS = 100  # at rest before a run
DISPLACEMENT_S = 5.0  # s after which the bump's displacement counts
POOR_ERROR = 0.7, 0.3  # share of the error of a bump that stays, and rad, beyond both of which a fit is refused
MIN_RUNS = 40  # trials from which the displacement is measured, at least
MAX_TRIALS = 20  # from which the information matrix is measured, at most
RANDOM = Pulses(4.0)  # what `cann.py --stimulus 4` plays


class Expected(NamedTuple):
    """Disturbance and standard errors that a plan is expected to give."""

    disturbance: float  # rad, mean displacement of the bump
    stronger: float  # the same, with pulses STRONGER_PULSES times as strong; NaN where these are too much already
    se: np.ndarray | None  # (N, N), standard errors of the weights, None where not worked out

    @property
    def median(self):
        """The median standard error over pairs of different neurons."""
        return median_error(self.se)


def median_error(se):
    """The median over pairs of different neurons. se: (N, N). Returns: float."""
    return float(np.median(se[~np.eye(len(se), dtype=bool)]))


class PilotExperiment:
    """A fitted network and what its recording says of the conditions that it will be run under."""

    def __init__(self, net, rec, trials=20, steps=1000, seed=0):
        """net: Network, fitted; rec: Recording that it was fitted to; trials, steps: of the experiment to come."""
        self.net, self.trials, self.steps, self.dt = net, trials, steps, rec.dt
        self.shape = geometry.of(rec)
        self.places = geometry.places_of(rec, self.shape)
        self.order = self.shape.order(self.places)
        pilot = fitting.Pilot(rec, choose_kinetics(rec, net.alpha), self.shape, self.places, coupled=True)
        self.fit = fitting.Fit(rec, pilot)
        self.noise, self.depth, self.rms = describe_currents(self.fit)
        rng = np.random.default_rng(seed)
        self.seeds = rng.integers(2**32, size=2)
        runs = max(trials, MIN_RUNS)
        sd = rec.velocity[rec.valid].std(0)
        velocity = [random_velocity(rng, runs, steps, rec.dt, one) for one in sd]
        self.velocity = np.concatenate(velocity, -1).astype(np.float32)
        u = synaptic_state(rec.rates, net.alpha)[rec.valid]
        self.start = np.zeros((runs, len(net.b)), np.float32)
        self.start[:, : net.n] = u[rng.integers(len(u), size=runs)]
        self.heading = self._heading(self.run())
        if not np.isfinite(self.heading).all():
            raise BadInput("the fitted network falls silent when run on; expected one that holds a bump: fit longer")

    def run(self, stimulus=None):
        """Run the network on, always with the same velocities and noise. Returns: rates (runs, steps, N) float32."""
        net, u, n = self.net, self.start.copy(), self.net.n
        rng = np.random.default_rng(self.seeds[0])
        velocity = np.pad(self.velocity, ((0, 0), (SETTLING_STEPS, 0), (0, 0)))
        rates = np.empty((*self.velocity.shape[:2], n), np.float32)

        def current(t):
            x = np.zeros_like(u)
            x[:, :n] = self.noise * rng.standard_normal((len(u), n), np.float32)
            if stimulus is not None and t >= SETTLING_STEPS:
                x[:, :n] += stimulus[:, t - SETTLING_STEPS]
            return x

        for t, (_, r) in enumerate(network.run(net, velocity, u, current)):
            if t >= SETTLING_STEPS:
                rates[:, t - SETTLING_STEPS] = r[:, :n]
        return rates

    def draw(self, plan):
        """A plan's stimulus for all runs, the same for the same plan; the first `trials` of it are the experiment's."""
        rng = np.random.default_rng(self.seeds[1])
        return plan.draw(rng, len(self.start), self.steps, self.order, self.dt).astype(np.float32)

    def expect(self, plan, limit=np.inf):
        """Expected disturbance of a plan, and standard errors where it moves the bump by no more than `limit` rad."""
        stimulus = self.draw(plan)
        rates, stronger = self.run(stimulus), np.nan
        thrown = self.disturbance(rates)
        if thrown <= limit:
            stronger = self.disturbance(self.run(STRONGER_PULSES * stimulus))
        acceptable = thrown <= limit and (stronger <= MAX_DISTURBANCE_RATIO * limit or limit == np.inf)
        return Expected(thrown, stronger, self.standard_errors(rates, stimulus) if acceptable else None)

    def disturbance(self, rates):
        """Mean distance of the bumps from their places without pulses, DISPLACEMENT_S after the start or at the end,
        and in the half second before. A bump that is gone counts as half a turn. Returns: rad, mean absolute angle."""
        off = self.shape.distance(self._heading(rates), self.heading)
        return float(np.mean(np.nan_to_num(off, nan=np.pi)))

    def _heading(self, rates):
        end = min(self.steps, round(DISPLACEMENT_S / self.dt))
        return self.shape.decode(rates[:, max(0, end - round(0.5 / self.dt)) : end], self.places)

    def standard_errors(self, rates, stimulus):
        """Standard errors to expect of the weights, from the experiment's `trials` trials, without any prior. (N, N)"""
        some = slice(min(self.trials, MAX_TRIALS))
        expected = expected_errors(self.fit, rates[some], self.velocity[some], self.noise)
        return expected * np.sqrt(min(1, MAX_TRIALS / self.trials))


def expected_errors(fit, rates, velocity, noise):
    """Standard errors of the weights by the information matrix alone. Returns: (n, n), inf where too few samples are.

    fit: estimation.Fit of the pilot; rates: (trials, steps, n), velocity: (trials, steps, D), simulated; noise: s.d. of
    the current's noise.
    """
    chosen, alpha = fit.kinetics.response, fit.kinetics.alpha
    rates = np.float32(chosen.scale) * rates
    signals = fit.pilot.describe(state_of(rates, alpha), velocity)
    current = chosen.current(rates[:, signals.first :])
    known = np.zeros_like(current)
    samples = regression.select(signals.x, current, known, chosen.usable(rates[:, signals.first :]), current,
                                fitting.NOISE_SD_ABOVE * noise, chosen.highest)  # fmt: skip
    enough = regression.SAMPLES_PER_REGRESSOR * samples.x.shape[1]
    known, se = samples.used.sum(0) >= enough, np.full((rates.shape[-1],) * 2, np.inf)
    for j, G in regression.information([samples], regression.neighbours(samples.used)):
        if known[j]:
            variance = np.diag(regression.inverse(regression.factorise(G)))
            se[:, j] = noise * np.sqrt(np.maximum(variance[: len(se)], 0))
    return se


def describe_currents(fit):
    """The pilot's currents. fit: estimation.Fit. Returns: s.d. of their noise; how far below threshold the most silent
    neurons are, by what all but a twentieth of the currents exceed; the r.m.s. weight."""
    plain, best = fit.estimates()
    known = np.isfinite(plain.variance)
    if not known.any():
        raise BadInput("no recorded neuron is active in enough samples; expected a pilot of more or longer trials")
    x = fit.pilot.samples.x
    depth = -np.quantile(x[:: max(1, len(x) // 5000)] @ best.weights[:, known], 0.05)
    rms = np.sqrt(np.mean((fit.maps[0] @ best.weights) ** 2))
    return float(np.sqrt(np.nanmedian(plain.variance))), float(max(0.1, depth)), float(rms)


def candidates(depth):
    """Plans to choose from. depth: of `describe_currents`. Returns: list of Pulses."""
    kinds = product(DEPTHS, PULSE_PERIODS_S, NEURON_SHARES)
    return [Pulses(depth * a, every, share, MIN_AMPLITUDE, True) for a, every, share in kinds]


def choose(pilot, limit=None, plans=None):
    """Look at all plans. limit: rad, how far the bump may be thrown (default: as far as by RANDOM pulses).

    Yields: Pulses and Expected, first RANDOM's; `best` takes the list. Plans beyond the limit have no standard errors.
    """
    random = pilot.expect(RANDOM)
    yield RANDOM, random
    limit = random.disturbance if limit is None else limit
    for plan in candidates(pilot.depth) if plans is None else plans:
        yield plan, pilot.expect(plan, limit)


def best(evaluated, limit):
    """The plan with the least standard errors among those within the limit. evaluated: pairs of Pulses and Expected.

    Raises: BadInput where no plan is within it.
    """
    within = [(p, e) for p, e in evaluated if e.disturbance <= limit and e.stronger <= MAX_DISTURBANCE_RATIO * limit]
    if not within:
        least = min(e.disturbance for _, e in evaluated)
        raise BadInput(
            f"every candidate throws the bump further than {limit:.3g} rad ({least:.3g} at least), or "
            f"{MAX_DISTURBANCE_RATIO:g} times that with pulses {STRONGER_PULSES:g} times as strong; expected a larger "
            "--disturbance, or a better fit"
        )
    return min(within, key=lambda pair: pair[1].median)


def check_fit(folder, net, rec):
    """Raise BadInput where a fitted network, run freely, does not follow its recording: its plans mean nothing."""
    shape = geometry.of(rec)
    table = prediction.heading_table(net, rec.trials(slice(MIN_RUNS)), shape, geometry.places_of(rec, shape))
    measured = [(seconds, row) for seconds, row in table.items() if row["error"] is not None]
    for seconds, row in measured[-1:]:
        if row["error"] > max(POOR_ERROR[0] * row["stay"], POOR_ERROR[1]):
            raise BadInput(
                f"{folder}: the fitted network's heading is {row['error']:.3g} rad off after {seconds} s, where a bump "
                f"that stays is {row['stay']:.3g} rad off; expected a fit that follows its recording, since pulses are "
                "planned by running it"
            )


def read(folder, data=None):
    """A finished run's network and the recording it was fitted to. data: the recording's path (default: data/NAME).

    Returns: Network, Recording. Raises: BadInput.
    """
    networks, options = checkpoint.networks(Path(folder) / "model.pt")
    path = Path(data or Path("data") / str(options.get("data", "")))
    if not path.is_file():
        raise BadInput(f"{path}: no such file; expected the recording that {folder} was fitted to: give --data FILE")
    rec = recordings.load(path)
    if options.get("data_sha256") not in (None, recordings.digest(rec)):
        raise BadInput(f"{path}: is not the recording that {folder} was fitted to; expected that: give --data FILE")
    if networks[0].n != rec.rates.shape[-1] or networks[0].W_in.shape[0] != rec.velocity.shape[-1]:
        raise BadInput(f"{path}: has rates of {rec.rates.shape[-1]} neurons; expected the {networks[0].n} of {folder}")
    return networks[0], rec


def main():
    p = cli.Parser(__doc__.splitlines()[0])
    count, size = cli.number(int, 1), cli.number(float, 0, above=True)
    p.add_argument("run", type=Path, help="the folder of a finished fit, best of a recording with a few weak pulses")
    p.add_argument("--trials", type=count, default=20, help="of the experiment to come")
    p.add_argument("--steps", type=cli.number(int, 50), default=1000, help="of each trial")
    p.add_argument("--disturbance", type=size, help="rad, how far the bump may be thrown in 5 s (default: as far as by "
                   "random pulses of amplitude 4 every 0.25 s)")  # fmt: skip
    p.add_argument("--data", type=Path, help="the recording that was fitted (default: data/ and its name)")
    p.add_argument("--out", type=Path, help="the stimulus to write (default: stimulus.npz in the run's folder)")
    p.add_argument("--seed", type=cli.number(int, 0), default=0, help="of velocities, noise and pulses")
    args = p.parse_args()
    args.out = args.out or args.run / "stimulus.npz"
    if args.out.suffix != ".npz":
        p.error(f"argument --out: expected a name that ends in .npz, not {args.out.name!r}")
    torch.set_flush_denormal(True)
    net, rec = read(args.run, args.data)
    check_fit(args.run, net, rec)
    files.writable(args.out.parent)
    if rec.stimulus is None:
        print(
            f"design: {args.run} was fitted to a recording without pulses, which leaves open what silent neurons would "
            "do: the bump may be thrown otherwise than expected; a few weak pulses tell",
            file=sys.stderr,
        )
    pilot, evaluated = PilotExperiment(net, rec, args.trials, args.steps, args.seed), []
    print(f"{args.run}: noise {pilot.noise:.3g}, most silent neurons {pilot.depth:.2g} below threshold, "
          f"r.m.s. weight {pilot.rms:.3g}; {args.trials} trials x {args.steps} steps")  # fmt: skip
    print("amplitude every,s  share  which   s.e. of W  / r.m.s.  thrown, rad  if stronger")
    for plan, expected in choose(pilot, args.disturbance):
        evaluated.append((plan, expected))
        known = expected.se is not None
        errors = f"{expected.median:9.4f} {expected.median / pilot.rms:9.2f}" if known else "        –         –"
        print(f"{plan.describe()}   {errors} {expected.disturbance:12.3f} {expected.stronger:12.3f}", flush=True)
    random = evaluated[0][1]
    plan, expected = best(evaluated, random.disturbance if args.disturbance is None else args.disturbance)
    stimulus = pilot.draw(plan)[: args.trials]
    recordings.save(args.out, stimulus=stimulus, dt=pilot.dt)
    print(
        f"{args.out}: {len(stimulus)} trials x {args.steps} steps of {plan.describe().strip()}, "
        f"none below {plan.weakest:.0%} of that amplitude; standard errors of W at least {expected.median:.2g}\n"
        f"random pulses of amplitude 4 every 0.25 s: {random.median / expected.median:.1f} times these errors\n"
        f"to use it: {args.out} holds the current into each neuron, in the order of rates, every {pilot.dt:g} s, in "
        "units of the fit's W @ u; give what was injected as `stimulus` of the next recording. A simulated circuit "
        f"plays it: python cann.py --stimulus {args.out} --trials {args.trials} --steps {args.steps}, with the pilot's "
        "other options"
    )


if __name__ == "__main__":
    cli.run(main)
