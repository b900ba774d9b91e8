"""Which network should be shipped? Picks the best point that meets the requirements, and registers its model in MLflow.

    python studies/pick.py crl_tradeoff-20261018-120000-ab12 --require 'accuracy>=0.9' --minimize mia_auc

STUDY is the name of a study's run, its folder below --storage. Points that the confirmation step kept on the front are compared by
their confirmed means. The registered model is the median replicate, under the study's name, with a card that states its numbers,
intervals and caveats. Quote a requirement, because a shell interprets >. --no-register only prints; --unconfirmed picks from a
sweep without a confirmation step, whose numbers are biased upward.
"""

from trainables.commands.pick import main

if __name__ == "__main__":
    main()
