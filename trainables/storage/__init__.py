"""A study's files: where they are, how they are written and read, and what is restored from them.

Anything that runs a training or an audit belongs in `trainables.execution`; MLflow belongs in `trainables.tracking`.
"""
