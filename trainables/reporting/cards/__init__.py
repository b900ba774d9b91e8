"""The sections of the report, one card per file: its data, the check whether it applies, and its template.

Figures and statistics that a card shows belong in `trainables.reporting`.
"""
