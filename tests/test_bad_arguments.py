"""What public callables say to a bad argument: one of our own checks, which names the argument."""

import collections
import json
import re
import subprocess
import sys
from pathlib import Path

import arguments
import pytest

HERE = Path(__file__).parent
REFERENCE = HERE.parent / "docs" / "reference" / "api.md"
# Protocols and base classes, records that only results hold, and what needs a package, a store of
# data or processes that this list does not start.
LEFT_OUT = {
    *("Iteration", "Method", "Penalty", "ConjugatePenalty", "SeparablePenalty", "Problem"),
    *(
        "Group",
        "Alone",
        "TorchGroup",
        "MPIGroup",
        "current_group",
        "processes",
        "process_group",
        "PeerError",
    ),
    *("Certainty", "Status", "Result", "History", "Plan", "Replicas", "Progress", "Sample"),
    *("RidgeChoice", "LsqResult", "LocalSpectra", "TheoryStart", "TrainingWarning", "SavedRun"),
    *("Exact", "Norms", "GradientDescent", "Plain", "Steffensen", "nonnegative", "Positive"),
    *("LinearMap", "Jacobian", "Face", "Spread", "gathered", "Parts", "measured_costs"),
    *("DaskLeastSquares", "PhysicsOperator", "PriorPenalty", "ChebyshevL2", "penalty"),
    *("schedule_of", "stepsizes", "Smoother", "change_smoothers", "ChebyshevRidgeCV"),
    *("LayerParameters", "DataSetSampler", "LoaderSampler", "squared_error", "squared_residual"),
    *("Pictures", "write_run", "read_run", "Environment", "find_runs", "write_site"),
    *("explorer_page", "explorer_script", "Subject", "MeasuredSpectrum", "LearnedSteps"),
    *("Task", "TistaStep", "Channel", "karate_club_laplacian", "shrink", "photographs"),
}


def names_on_the_reference_page() -> list[str]:
    blocks = re.findall(r"autosummary::\n((?:   [^\n]*\n|\n)+)", REFERENCE.read_text("utf-8"))
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line.split(".")[-1] for line in lines if line and not line.startswith(":")]


def test_every_callable_of_the_reference_is_tried_or_left_out_on_purpose() -> None:
    names = set(names_on_the_reference_page())
    assert len(names) > 200
    assert names - set(arguments.CALLS) - LEFT_OUT == set()


@pytest.mark.parametrize(
    "call", ["solve", "LeastSquares", "chebyshev_steps", "SpectralMeasure", "accelerate", "plan"]
)
def test_the_good_calls_are_good(call: str) -> None:
    assert arguments.good_call(call) is not None


@pytest.mark.parametrize(
    ("call", "argument", "bad", "kind"),
    [
        ("chebyshev_steps", "bounds", "tuple", "refused"),
        ("chebyshev_steps", "period", "1e12", "refused"),
        ("Schedule", "steps", "masked 1", "refused"),
        ("plan", "problem", "array 2", "refused"),
        ("Schedule", "steps", "array int8", "taken"),
    ],
)
def test_a_try_ends_as_it_should(call: str, argument: str, bad: str, kind: str) -> None:
    assert arguments.attempt(arguments.Try(call, argument, bad)).kind == kind


def endings(*options: str) -> collections.Counter[str]:
    command = [sys.executable, str(HERE / "arguments.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.search(r"calls: ({.*})", done.stdout)
    assert counts is not None
    return collections.Counter(json.loads(counts.group(1).replace("'", '"')))


def test_a_sample_of_bad_arguments_is_refused_by_name() -> None:
    counts = endings("--sample", "1500", "--seed", "1")
    assert set(counts) == {"taken", "refused"}
    assert counts["refused"] > 1200


@pytest.mark.slow
def test_every_bad_argument_is_refused_by_name() -> None:
    assert set(endings()) == {"taken", "refused"}
