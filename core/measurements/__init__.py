"""What a paper's tables and figures measure on trained networks, besides what the settings `judge.*` ask for.

Each is a function (networks, images, device, **settings) -> numbers and series by name. `networks` maps "target" and the names of
other networks, which were trained on the same members with other seeds, to `core.trial.Trained`; `images` is the pool.
"""
