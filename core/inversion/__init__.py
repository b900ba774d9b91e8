"""Model inversion: images reconstructed from a trained network, and their similarity to its training images.

Three attacks (`ascent`, `deepdream`, `acgan`), the search for the most similar images (`nearest`) and the audit (`leak`). Their
metrics and pictures belong in `core.evaluation`.
"""
