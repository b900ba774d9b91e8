#!/usr/bin/env bash
# Starts a study in FOLDER, or resumes the study that is already there, so that the same command can be repeated:
#   infra/study.sh FOLDER studies/crl_tradeoff.py --address auto -- --preset paper --trials 200
# The options before `--` determine where the study runs, and those after it what it does. The latter are ignored on resume.
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
