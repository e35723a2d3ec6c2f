"""Docstrings of public names say shapes, units, errors and sources, and have an example.

The examples themselves run with the tests of the sources (``--doctest-modules``).
"""

from __future__ import annotations

from _public import listed

import stepfold

NAMES = listed()
# Without an example, and why.
ABSTRACT = "an interface: the classes that have it have examples"
RETURNED = "made by the function that its docstring names; that one has the example"
ELSEWHERE = "needs other processes, a worker or a download; tests run it"
NO_EXAMPLE = {
    "stepfold.accelerate.Method": ABSTRACT,
    "stepfold.distributed.Group": ABSTRACT,
    "stepfold.distributed.PeerError": ELSEWHERE,
    "stepfold.distributed.Spread": RETURNED,
    "stepfold.distributed.torch_group.TorchGroup": ELSEWHERE,
    "stepfold.interop.dask.DaskLeastSquares": ELSEWHERE,
    "stepfold.interop.mpi4py.MPIGroup": ELSEWHERE,
    "stepfold.interop.pyamg.Smoother": RETURNED,
    "stepfold.iterations.Iteration": ABSTRACT,
    "stepfold.lab.environment.Environment": RETURNED,
    "stepfold.lab.report.SavedRun": RETURNED,
    "stepfold.problems.penalties.ConjugatePenalty": ABSTRACT,
    "stepfold.problems.penalties.Face": RETURNED,
    "stepfold.problems.penalties.Penalty": ABSTRACT,
    "stepfold.problems.penalties.SeparablePenalty": ABSTRACT,
    "stepfold.unfolded.LocalSpectra": RETURNED,
    "stepfold.unfolded.Progress": RETURNED,
    "stepfold.unfolded.Replicas": RETURNED,
    "stepfold.unfolded.TheoryStart": RETURNED,
    "stepfold.unfolded.TrainingWarning": RETURNED,
    "stepfold.unfolded.networks.Task": RETURNED,
    "stepfold.unfolded.networks.deblurring.WindowCosines": ABSTRACT,
    "stepfold.unfolded.networks.mimo.Channel": RETURNED,
    "stepfold.unfolded.networks.photographs.photographs": ELSEWHERE,
}


def test_every_name_at_the_top_is_in_the_reference() -> None:
    assert {id(getattr(stepfold, name)) for name in stepfold.__all__} <= {
        id(name.value) for name in NAMES
    }


def test_no_name_is_listed_twice_and_no_exception_is_out_of_date() -> None:
    texts = [str(name) for name in NAMES]
    assert len(texts) == len(set(texts))
    with_example = {str(name) for name in NAMES if ">>>" in name.doc}
    assert set(NO_EXAMPLE) <= set(texts) - with_example


def test_what_takes_or_returns_arrays_says_their_shapes() -> None:
    arrays = [name for name in NAMES if name.has_signature and name.takes_or_returns_arrays()]
    assert len(arrays) > 30
    assert [str(name) for name in arrays if not name.says_shapes()] == []


def test_steps_bounds_and_spectra_have_units() -> None:
    measured = [name for name in NAMES if name.is_measured()]
    assert len(measured) > 10
    assert [str(name) for name in measured if not name.says_units()] == []


def test_errors_that_are_raised_are_said() -> None:
    raising = [name for name in NAMES if name.raised()]
    assert len(raising) > 30
    assert {str(name): name.unsaid() for name in raising if name.unsaid()} == {}


def test_a_formula_has_a_source_or_a_derivation() -> None:
    published = [name for name in NAMES if name.is_published()]
    assert len(published) > 20
    assert [str(name) for name in published if not name.says_source()] == []


def test_every_name_has_an_example() -> None:
    without = {str(name) for name in NAMES if ">>>" not in name.doc}
    assert without <= set(NO_EXAMPLE)
