"""A study as plain data: its plan, where it runs, its results and outcome, and their representation as rows and text.

Anything that reads or writes files, starts Ray, contacts MLflow or draws figures belongs in another package.
"""
