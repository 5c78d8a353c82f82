"""Turn the recordings of Turner-Evans et al. 2017 into a data file: `python -m experiments.flies.read FOLDER`."""

from collections import Counter
from pathlib import Path

from nsi import recordings
from nsi.recordings import flies
from nsi.run import cli


def main():
    p = cli.Parser("Turn the recordings of Turner-Evans et al. 2017 into a data file.")
    p.add_argument("folder", type=Path, help="with the authors' .mat files, one folder per day, as in PEN1-EB")
    p.add_argument("--out", type=Path, default="data/fly.npz", help="the data file")
    p.add_argument("--condition", default="Dark", help="of the trials: Dark, 1x or 2x")
    p.add_argument("--days", nargs="+", metavar="DAY", help="folders to read (default: all), e.g. those of the page")
    p.add_argument("--other-steps", choices=["refuse", "leave", "resample"], default="refuse",
                   help="what becomes of trials of another time step than the most have")  # fmt: skip
    args = p.parse_args()
    data, left = flies.read_folder(args.folder, args.condition, args.days, args.other_steps)
    recordings.save(args.out, **data)
    lengths, count = data["lengths"], len(set(data["animal"]))
    steps = f"{lengths.min()} to {lengths.max()} steps of {data['dt']:.4f} s"
    print(f"{args.out}: {len(lengths)} trials of {count} flies, {steps}")
    days = Counter(name.rsplit("_", 1)[0] for name in sorted(set(data["animal"])))
    print(f"  condition {args.condition}, days " + ", ".join(f"{day} ({k} flies)" for day, k in days.items()))
    if left:
        verb = "resampled" if args.other_steps == "resample" else "left out"
        print(f"  left out, or of another time step and {verb}: {flies.format_counts(left)}")


if __name__ == "__main__":
    cli.run(main)
