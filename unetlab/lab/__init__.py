"""The widgets of the notebooks; the only part of the package that imports ipywidgets."""
