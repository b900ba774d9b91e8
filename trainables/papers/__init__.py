"""The tables and figures of papers: what is trained and measured for each, what it costs, and how the result is written.

What a paper's own tables consist of is in its script in `studies/papers/`; what is measured is in `core`.
"""
