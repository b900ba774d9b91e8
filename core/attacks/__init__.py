"""Attacks: functions (net, x, y, *, epsilon, ...) -> images in [0, 1], within epsilon of x in the named norm."""
