#!/bin/sh
# The published pair of fits on data/ring.npz, side by side: with input separation, and the control without it.
# Options are passed on to both, e.g. `sh train.sh --seed 1`; paths among them are relative to where you are. Runs of
# before, in runs/ beside this script, are replaced. Ctrl-C stops both.
set -eu
case $0 in */*) here=${0%/*}/ ;; *) here= ;; esac
for option; do
    case $option in
    --ou* | --co*)
        echo "train.sh: argument $option: expected only options of both fits, which are written into" \
            "${here}runs/separated and ${here}runs/control; use python ${here}train.py for one fit" >&2
        exit 2
        ;;
    esac
done
: "${PYTHON:=python}"
"$PYTHON" "${here}train.py" --data "${here}data/ring.npz" --out "${here}runs/separated" --overwrite --wandb auto "$@" &
separated=$!
TQDM_POSITION=1 "$PYTHON" "${here}train.py" --data "${here}data/ring.npz" --out "${here}runs/control" --control \
    --overwrite --wandb auto "$@" &
control=$!
trap 'kill $separated $control 2>/dev/null || :' INT TERM HUP
status=0
for fit in $separated $control; do
    wait "$fit" || status=$?
    while kill -0 "$fit" 2>/dev/null; do wait "$fit" || status=$?; done # the trap has interrupted the wait
done
exit "$status"
