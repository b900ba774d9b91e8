"""Which front is better? Compares the fronts of finished studies in one table and one figure, from MLflow alone.

    python studies/compare.py crl_tradeoff-20261018-120000-ab12 gat_tradeoff-20261018-130000-cd34

Each NAME is the name of a study's run, as for --resume; the folders below --storage are not needed. The studies must have the same
objectives, data and threat model. The confirmed means are compared where there are any, otherwise the points of the sweep. Two
fronts are distinguished by their confirmed hypervolumes, with an interval. Writes compare.csv and compare.png below --output.
"""

from trainables.commands.compare import main

if __name__ == "__main__":
    main()
