"""Which point of a finished study do we ship? The best one that meets the requirements; its model goes to MLflow's registry.

    python studies/pick.py crl_tradeoff-20261018-120000-ab12 --require 'accuracy>=0.9' --minimize mia_auc

STUDY is the name of an execution, the folder below --storage. Points that confirm has kept on the front are compared by their
confirmed means. The model is that of the replicate in the middle, registered under the study's name with a card that says what it
can and cannot do. Quote a requirement: a shell takes > for itself. --no-register only prints; --unconfirmed picks from a sweep
without confirm, whose numbers are biased towards the good side.
"""

from trainables.pick import main

if __name__ == "__main__":
    main()
