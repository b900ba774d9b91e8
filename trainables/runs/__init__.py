"""One execution of a command on a study: the checks before it, the objects it works with, and how its results are published.

What the execution does belongs in `trainables.execution` and `trainables.revisions`; command-line parsing in `trainables.commands`.
"""
