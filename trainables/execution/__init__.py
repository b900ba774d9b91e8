"""Running trainings, evaluations and audits on Ray: in the trial's process, over several workers, or as independent tasks.

The mathematics belongs in `core`; what to run next belongs in `trainables.search`; publishing results belongs in `trainables.runs`.
"""
