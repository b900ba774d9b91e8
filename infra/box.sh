#!/usr/bin/env bash
# Runs a study and an MLflow server on one machine with several GPUs; the server stops when the study ends:
#   infra/box.sh studies/crl_tradeoff.py --preset paper --gpus-per-worker 0.5
# It also accepts the study's `--resume NAME`. Meanwhile, MLflow shows the study on http://127.0.0.1:5000 to all users of this
# machine, but not to other machines. Set PORT=... to use another port.
set -euo pipefail
url=http://127.0.0.1:${PORT:-5000}
MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow server --host 127.0.0.1 --port "${PORT:-5000}" \
  --backend-store-uri sqlite:///mlflow.db --artifacts-destination "$PWD/mlartifacts" >>mlflow.log 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" || true' EXIT
until python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1])' "$url/health" 2>/dev/null; do
  kill -0 "$server" 2>/dev/null || { tail -n 5 mlflow.log >&2; exit 3; }
  sleep 1
done
kill -0 "$server" 2>/dev/null || { echo "another server answers at $url; set PORT=... to use another port" >&2; exit 3; }
python "$@" --tracking-uri "$url" &
study=$!
trap 'kill -TERM "$study"' INT TERM
code=0
wait "$study" || code=$?
while kill -0 "$study" 2>/dev/null; do # a signal interrupted `wait`, but the study is still running
  code=0
  wait "$study" || code=$?
done
exit "$code"
