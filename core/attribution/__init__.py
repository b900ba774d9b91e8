"""Attribution: heat maps of the pixels that determine a network's prediction, and the stability of these maps.

    occlusion.py    sliding grey patch: drop of the class's score
    grad_cam.py     Grad-CAM on the maps that a network pools
    stability.py    distance and rank correlation between two maps: for two patch sizes, or for an image and a perturbed image

Metrics from maps belong in `core.evaluation`. Maps are [N, h, w] and not scaled. A network is returned to its own mode; its
gradients and hooks are unchanged.
"""
