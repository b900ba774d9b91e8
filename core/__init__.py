"""Training, attacks, audits and evaluation of one network in plain PyTorch, without Ray, Optuna or MLflow.

Anything that runs many trials, stores or tracks them, or parses command lines belongs in `trainables`.
"""
