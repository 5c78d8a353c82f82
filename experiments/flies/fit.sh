#!/bin/sh
# The fit to real flies, data/fly.npz, with the settings of experiments/flies/fit.py.
# Options are passed on, e.g. `sh experiments/flies/fit.sh --data mine.npz --out runs/mine`.
set -eu
cd "$(dirname "$0")/../.."
: "${PYTHON:=python}"
exec "$PYTHON" -m experiments.flies.fit "$@"
