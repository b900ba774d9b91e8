"""Attacks: functions (net, x, y, *, epsilon, norm, ...) -> images in [0, 1], within epsilon of x in the given norm.

    gradient.py                      FGSM, I-FGSM, R-FGSM, PGD (three losses, restarts, targeted)
    apgd.py                          Auto-PGD, untargeted and with the targeted DLR loss
    square.py, spsa.py               black-box attacks that use logits only
    hop_skip_jump.py                 black-box attack that uses predicted labels only
    deepfool.py, carlini_wagner.py   minimal perturbations, without a ball
    transfer.py, noise.py            images made on another network; random noise
    power.py                         steps of equal mean L2 norm, and accuracy over it
    suite.py                         several attacks, and the worst case per image
    radius.py                        distance to misclassification
    contract.py, ball.py, losses.py  what all attacks have in common, balls, and losses

Adaptive attacks on a defence and flags of gradient masking are in `core.evaluation`.

y holds the true labels. A network is returned to its own mode, and its gradients are unchanged. An attack for evaluation stops on
an image as soon as it is misclassified, and returns images that are misclassified already unchanged. Its noise is a
`core.rng.PerImage`: it belongs to the image, so that the result for an image does not depend on the batch. Attacks accept images
of every floating type, work under `torch.no_grad` and `torch.inference_mode`, and return images that require no gradient.
"""
