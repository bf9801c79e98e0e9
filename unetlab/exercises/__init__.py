"""The answer checkers of the exercises, one file a notebook."""
