"""Training, attacks and audits in plain PyTorch. Nothing here knows Ray, Optuna or MLflow."""
