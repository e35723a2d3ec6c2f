"""Stepfold beside other packages: one module per package, imported by name."""
