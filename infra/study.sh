#!/usr/bin/env bash
# Starts a study in a folder of its own, or goes on with the one that is there, so that the same command is right both times:
#   infra/study.sh FOLDER studies/crl_tradeoff.py --address auto -- --preset paper --trials 200
# Before `--` stands where to run, after it what to study; the second is fixed once the study has begun.
set -euo pipefail
storage=$1 script=$2
shift 2
where=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  where+=("$1")
  shift
done
[ $# -eq 0 ] || shift
mkdir -p "$storage"
plan=$(find "$storage" -mindepth 2 -maxdepth 2 -name plan.json -print -quit)
if [ -n "$plan" ]; then
  set -- --resume "$(basename "$(dirname "$plan")")"
fi
exec python "$script" --storage "$storage" "${where[@]}" "$@"
