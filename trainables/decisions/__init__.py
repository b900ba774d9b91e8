"""Using a finished front: choosing one of its points, registering its model, and comparing fronts of several studies.

Changing a front belongs in `trainables.revisions`; command-line parsing and printing belong in `trainables.commands`.
"""
