#!/bin/sh
# The published pair of fits on data/ring.npz: with input separation, and the control without it.
# Options are passed on to both, e.g. `sh train.sh --seed 1`. Runs of before are replaced.
set -eu
cd "$(dirname "$0")"
: "${PYTHON:=python}"
"$PYTHON" train.py --out runs/separated --overwrite "$@"
"$PYTHON" train.py --out runs/control --control --overwrite "$@"
