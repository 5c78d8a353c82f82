#!/bin/sh
# The published pair of fits on data/ring.npz, side by side: with input separation, and the control without it.
# Options are passed on to both, e.g. `sh train.sh --seed 1`. Runs of before are replaced. Ctrl-C stops both.
set -eu
cd "$(dirname "$0")"
: "${PYTHON:=python}" "${OMP_NUM_THREADS:=1}"
export OMP_NUM_THREADS
"$PYTHON" train.py --out runs/separated --overwrite "$@" &
separated=$!
TQDM_POSITION=1 "$PYTHON" train.py --out runs/control --control --overwrite "$@" &
control=$!
trap 'kill $separated $control 2>/dev/null || :' INT TERM HUP
status=0
for fit in $separated $control; do
    wait "$fit" || status=$?
    while kill -0 "$fit" 2>/dev/null; do wait "$fit" || status=$?; done # the trap has interrupted the wait
done
exit "$status"
