"""The search of a sweep: Optuna samplers behind Ray Tune's searcher interface, early stopping, and the limit of running trials.

Running the trials belongs in `trainables.execution`; the definition of search spaces belongs in `core.search_space`.
"""
