"""Turn the recordings of Turner-Evans et al. 2017 into a data file: `python -m experiments.flies.read FOLDER`."""

from pathlib import Path

from nsi import recordings
from nsi.recordings import flies
from nsi.run import command


def main():
    p = command.Parser("Turn the recordings of Turner-Evans et al. 2017 into a data file.")
    p.add_argument("folder", type=Path, help="with the authors' .mat files, one folder per day, as in PEN1-EB")
    p.add_argument("--out", type=Path, default="data/fly.npz", help="the data file")
    args = p.parse_args()
    data = flies.read_folder(args.folder)
    recordings.save(args.out, **data)
    lengths, count = data["lengths"], len(set(data["animal"]))
    steps = f"{lengths.min()} to {lengths.max()} steps of {data['dt']:.4f} s"
    print(f"{args.out}: {len(lengths)} trials of {count} flies, {steps}")


if __name__ == "__main__":
    command.run(main)
