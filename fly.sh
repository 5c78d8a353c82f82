#!/bin/sh
# The fit to real flies, data/fly.npz: networks that each draw flies with replacement, so that their spread counts flies.
# Options are passed on, e.g. `sh fly.sh --data mine.npz --out runs/mine`. experiments/fly.py takes its settings from here.
set -eu
cd "$(dirname "$0")"
: "${PYTHON:=python}"
"$PYTHON" train.py --data data/fly.npz --out runs/fly \
    --alpha 0.5 --input-units 64 --window 20 --batch 80 --updates 800 --lr 2e-2 --rotate --no-polish \
    --bootstrap --replicas 16 "$@"
