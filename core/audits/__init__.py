"""Membership-inference audits: how well a network's outputs reveal its training images. Audits never train the network.

Metrics and flags from audits belong in `core.evaluation`; training shadow models belongs in `trainables.execution`.
"""
