"""How robust is a finished front under stronger attacks?

    python studies/rejudge.py crl_tradeoff-20261018-120000-ab12 --suite strong

STUDY is the name of a study's run, its folder below --storage. The stored networks of all trials, and of the replicates of the
confirmation step, are attacked with the suite on the images of their first evaluation; nothing is trained. The robust accuracy
becomes the worst case per image over all attacks so far. With --transfer-from N, all other networks are also attacked with images
made on trial N's network. This adds a version to the front: the report, front.csv, confirmed.csv and MLflow show the newest one,
and versions/ in the study's folder keeps all of them.
"""

from trainables.commands.rejudge import main

if __name__ == "__main__":
    main()
