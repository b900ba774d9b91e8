"""Model inversion: images made from a trained network alone, and how much of its training images is in them.

Three attacks (`ascent`, `deepdream`, `acgan`), the search for what they resemble (`nearest`) and the audit of a network (`leak`).
"""
