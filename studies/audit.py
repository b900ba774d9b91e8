"""What do shadow models find out about a finished study's points?

    python studies/audit.py crl_tradeoff-20260101-120000-abcd --shadows 8

Trains shadow models on images that no network of the study has seen, as many as are still missing, lets them and the replicates of
each confirmed point audit each other, and publishes another version of the front. What each attacker is assumed to know is in the
README under "Audits".
"""

from trainables.audit import main

if __name__ == "__main__":
    main()
