"""Ray and MLflow around `core`. No maths here."""

import os

# Both libraries read these when they are first imported; what the user has set stays.
for _name, _value in {
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's own tables and tracebacks
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one process less per TorchTrainer
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # how often results of Ray Train's workers are looked at
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # CSV, JSON and TensorBoard files that nobody reads
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is an exception, as everywhere else
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines for each run that ends
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # trainables/tracking.py repeats by itself
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}.items():
    os.environ.setdefault(_name, _value)
