"""Revisions of a finished study's front: its stored networks are re-evaluated with further attacks or audits, not trained again.

Training shadow models for them belongs in `trainables.execution`; publishing the new version belongs in `trainables.runs`.
"""
