"""The cost of a study before it starts: networks of its configurations are trained and evaluated for a limited time.

What the samples of the study can resolve is also computed here. Printing either belongs in `trainables.commands`.
"""
