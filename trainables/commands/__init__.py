"""The commands of the scripts in `studies/`: parsing their command lines, and calling the packages that do the work.

Anything that another command could need, too, belongs in a package below this one.
"""
