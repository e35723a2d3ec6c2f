"""Experiments: one file each; the command line and the report find them by themselves."""

from stepfold.lab.experiments.base import EXPERIMENTS, Experiment, experiment

__all__ = ["EXPERIMENTS", "Experiment", "experiment"]
