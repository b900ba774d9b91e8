"""Attacks: functions (net, x, y, *, epsilon, norm, ...) -> images in [0, 1], within epsilon of x in the named norm.

    gradient.py          FGSM, I-FGSM, R-FGSM, PGD (three losses, restarts, targeted)
    apgd.py              Auto-PGD, also towards classes by the targeted DLR loss
    square.py, spsa.py   from logits alone, without gradients
    deepfool.py, carlini_wagner.py   the shortest way out, without a ball
    bpfc.py, generator.py            adapted to a network that was trained with BPFC or GAT
    transfer.py, noise.py            made on another network; at random
    suite.py             several of them, and per image the worst case
    masking.py           signs that the worst case should not be believed
    radius.py            how far it is to the next class

y holds the labels to leave. A network is handed back as it came, in mode and gradients. For judging, an image is left alone as
soon as it is fooled, and one that is wrong already comes back as it is. Noise comes from a `core.rng.PerImage`: it belongs to
the image, so batches and other images change nothing.
"""
