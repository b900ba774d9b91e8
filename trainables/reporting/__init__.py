"""The report of a study: figures, the HTML page made of cards, and their data. All of them are functions of an `Outcome`.

Where the report is written belongs in `trainables.runs`; rows of front.csv and number formatting belong in `trainables.study`.
"""
