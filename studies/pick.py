"""Which network should be shipped? Picks the best point that meets the requirements, and registers its model in MLflow.

    python studies/pick.py crl_tradeoff-20261018-120000-ab12 --require 'accuracy>=0.9' --minimize mia_auc

STUDY is the name of a study's run, its folder below --storage. Confirmed points on the front are compared by their means after
shrinkage, so that the numbers of the best one are not too good; points that cannot be distinguished from it are listed. --balanced
picks a compromise. The registered model is the median replicate in the metric that was optimised, under the study's name, with a
card that states its numbers, intervals and caveats. Quote a requirement, because a shell interprets >. --no-register only prints;
--unconfirmed picks from a sweep without a confirmation step, whose numbers are biased upward.
"""

from trainables.commands.pick import main

if __name__ == "__main__":
    main()
