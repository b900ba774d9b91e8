"""Whose front is better? The fronts of several finished studies in one table and one picture, from MLflow alone.

    python studies/compare.py crl_tradeoff-20261018-120000-ab12 gat_tradeoff-20261018-130000-cd34

Each NAME is the name of an execution, as for --resume; the folders below --storage are not needed. The studies must have the
same objectives, data and threat model. Where confirm ran, its means are compared, otherwise the points of the sweep. Writes
compare.csv and compare.png below --output.
"""

from trainables.compare import main

if __name__ == "__main__":
    main()
