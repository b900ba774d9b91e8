#!/usr/bin/env bash
# Runs an MLflow server with user logins on PostgreSQL; clients access artifacts through the server:
#   PGHOST=db PGUSER=mlflow PGDATABASE=mlflow infra/mlflow/serve.sh SECRETS ARTIFACTS [more options of `mlflow server`]
# SECRETS is a folder with three files of mode 0600: db_password, admin_password and flask_key (which signs browser sessions):
#   install -d -m 700 SECRETS; (umask 077; for f in admin_password flask_key; do openssl rand -hex 32 > SECRETS/$f; done)
# ARTIFACTS is a folder or a URI (s3://, gs:// ...); only the server needs access to it. Requires
#   pip install 'mlflow[auth]' 'psycopg[binary]'
# Studies connect with --tracking-uri http://HOST:5000, and with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD set.
set -euo pipefail

die() { echo "serve.sh: $1" >&2; exit 2; }

secret() {
  local file=$secrets/$1
  [ -s "$file" ] || die "$file is missing or empty"
  [ -z "$(find -L "$file" -perm /077)" ] || die "$file can be read by others; chmod 600 it"
  cat "$file"
}

[ $# -ge 2 ] || die "expected SECRETS ARTIFACTS"
secrets=$1 artifacts=$2
shift 2
# Secrets are passed in the environment, which other users cannot read, not in the arguments, which all users of the machine can.
PGPASSWORD=$(secret db_password)
MLFLOW_AUTH_ADMIN_PASSWORD=$(secret admin_password) # sets the password of the user `admin` if the database is new
MLFLOW_FLASK_SERVER_SECRET_KEY=$(secret flask_key)
export PGPASSWORD MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
MLFLOW_AUTH_CONFIG_PATH=$(cd "$(dirname "$0")" && pwd)/basic_auth.ini
export MLFLOW_AUTH_CONFIG_PATH MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # it would start eight processes that studies do not need

# On loopback, because passwords are not encrypted; to serve other machines, put a TLS proxy in front.
exec mlflow server --app-name basic-auth --host 127.0.0.1 --port 5000 \
  --backend-store-uri postgresql+psycopg:// --serve-artifacts --artifacts-destination "$artifacts" "$@"
