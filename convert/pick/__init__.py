"""Choose a model and a format for a machine: what fits, how fast it is, and how it is run.

Every figure is measured, by a report that is named, or estimated, with the error that estimates have had.
Machines, runtimes and the facts of known models are data files; people add their own.
"""
