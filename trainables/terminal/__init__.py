"""The terminal of a command: its output as text and JSON, live progress, closing summary, and the signals that end it.

The HTML report belongs in `trainables.reporting`; formatting shared with it belongs in `trainables.study.text`.
"""
