"""Weights in the names and files of other libraries: one folder each, with its model card."""
