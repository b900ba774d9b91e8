"""Evaluation of one trained network: its metrics, flags and per-image evidence.

Attack and audit algorithms belong in `core.attacks` and `core.audits`; training belongs in `core.train`.
"""
