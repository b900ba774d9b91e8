"""Evaluation of one trained network: its metrics, flags and per-image evidence.

It runs on one worker, so its entry points are marked with `core.workers.alone`, and the result for an image depends on no other.
Attack and audit algorithms belong in `core.attacks` and `core.audits`; training belongs in `core.train`.
"""
