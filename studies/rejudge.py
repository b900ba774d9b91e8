"""Does the front of a finished study stand up to stronger attacks? Its stored networks meet them; nothing is trained.

    python studies/rejudge.py crl_tradeoff-20261018-120000-ab12 --suite strong

STUDY is the name of an execution, the folder below --storage. Every trial's network, and every one that confirm trained, meets
the suite on the images that it was judged on before, and its robust accuracy becomes the worst case per image of all attacks
so far. With --transfer-from N every other network also meets images made on trial N's. The front gets another version: the
report, front.csv, confirmed.csv and MLflow show the newest, versions/ below the study's folder keeps them all.
"""

from trainables.rejudge import main

if __name__ == "__main__":
    main()
