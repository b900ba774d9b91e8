"""MLflow: the runs of a study and its trials, their delivery to a server that may be down, and the model registry.

The contents of artifacts are made elsewhere (`trainables.reporting`, `trainables.study.tables`) and arrive here as bytes.
"""
