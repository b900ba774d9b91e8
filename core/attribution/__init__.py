"""Attribution: which pixels a network's answer hangs on, as heat maps, and how stable these maps are.

    occlusion.py    a grey patch that slides over the image: how far the score of the class drops
    grad_cam.py     Grad-CAM on the last convolution
    stability.py    distance and rank correlation between two maps of one image: two patch sizes, or the image and its perturbation

Maps are [N, h, w] as they come, not scaled. A network is handed back as it came, in mode, gradients and hooks.
"""
