"""Studies of many trials on Ray, with their storage, tracking, reports and commands.

Training, attacks, audits and all other mathematics belong in `core`, which does not import this package.
"""

import os

# Ray and MLflow read these when they are first imported. Values that the user has set are kept.
for _name, _value in {
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's own tables and tracebacks
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # saves one process per TorchTrainer
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # interval at which results of Ray Train's workers are polled
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # CSV, JSON and TensorBoard files, which are not used
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C raises KeyboardInterrupt, as everywhere else
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # prints two lines for each run that ends
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # trainables/tracking/delivery.py retries
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}.items():
    os.environ.setdefault(_name, _value)
