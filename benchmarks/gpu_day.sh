#!/usr/bin/env bash
# The first minutes on a new GPU: does everything run, how fast beside the published recipe, and evidence.
# usage: benchmarks/gpu_day.sh [MINUTES, default 10] [FOLDER OF IMAGES]
# Each part writes what it has: benchmarks/results/<device>.json, doctor-<device>.txt beside it, and
# benchmarks/evidence/evidence_gpu.*; what a part leaves unfinished goes on in the next call.
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
END=$((SECONDS + 60 * ${1:-10}))
IMAGES=${2:-}
FIGURES=${FIGURES:-benchmarks/results}
CAMPAIGN=evidence_gpu
PROBES=90 FIGURES_TAKE=60 # seconds that are left for the snapshots of the evidence, and for its page

part() { # name, most seconds, command: stopped as by Ctrl-C, which saves
    local left=$((END - SECONDS)) name=$1 most=$2
    shift 2
    if [ "$left" -lt 30 ]; then
        echo "== $name: no time left"
        return
    fi
    echo "== $name"
    timeout --signal=INT --kill-after=20 $((left < most ? left : most)) "$@" || echo "== $name: left with $?"
}

mkdir -p "$FIGURES"
DEVICE=$(timeout 60 "$PYTHON" -c 'import re, torch
print(re.sub(r"\W+", "-", torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu").lower())')
part doctor 240 "$PYTHON" -m cp2 doctor --gpu | tee "$FIGURES/doctor-${DEVICE:-unknown}.txt"
for bench in pretrain "step --method cp2" finetune evaluate; do # cuDNN's first minute with a network is in each
    # shellcheck disable=SC2086
    part "$bench" 120 "$PYTHON" -m benchmarks $bench ${IMAGES:+"$IMAGES"} --rounds 1 --steps 10 --json "$FIGURES"
done
part detection 90 "$PYTHON" -m benchmarks detection --no-scores --rounds 1 --json "$FIGURES"
if [ -d mirror/photographs ] && [ -d mirror/scenes ]; then
    END=$((END - PROBES - FIGURES_TAKE))
    part evidence 86400 "$PYTHON" -m snakemake --workflow-profile workflow/profiles/local --config campaign=$CAMPAIGN
    END=$((END + PROBES))
    RUNS=$(timeout 60 "$PYTHON" -m cp2 plan --campaign $CAMPAIGN --runs | awk '$1 == "pretrain" { print $2 }')
    part "evidence, snapshots" $PROBES xargs -P 6 -I{} "$PYTHON" -m cp2 probe {} \
        --dataset evidence-scenes --protocol linear --campaign $CAMPAIGN <<<"$RUNS"
    END=$((END + FIGURES_TAKE))
    part "evidence, figures" $FIGURES_TAKE "$PYTHON" -m benchmarks evidence --campaign $CAMPAIGN
else
    echo "== evidence: no mirror/photographs and mirror/scenes (docs/evidence.md)"
fi
