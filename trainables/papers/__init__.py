"""Reproducing the tables and figures of a paper: what is trained and measured for each, and how the result is written."""
