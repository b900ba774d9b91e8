"""How much do audits with shadow models find on a finished front?

    python studies/audit.py crl_tradeoff-20260101-120000-abcd --shadows 8

Trains the missing shadow models on images that no network of the study has seen, audits the replicates of each confirmed point by
them and by a sibling, and publishes a new version of the front. The README describes the knowledge of each attacker under
"Audits".
"""

from trainables.commands.audit import main

if __name__ == "__main__":
    main()
