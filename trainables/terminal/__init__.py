"""Output of commands as text and JSON: console, live progress, closing summary, and the facts and commands that they print.

The HTML report belongs in `trainables.reporting`; formatting shared with it belongs in `trainables.study.text`.
"""
