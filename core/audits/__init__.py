"""Audits: what a trained network's outputs tell about who was in its training set. They never train the network."""
