"""``stepfold steps``: prints, saves and refuses."""

from __future__ import annotations

import json
import os
from unittest import mock

import numpy as np
import pytest
from cli_runner import assert_refused, stepfold

from stepfold import Schedule, SpectralBounds, SpectralMeasure, chebyshev_steps, optimal_steps
from stepfold.schedules import ORDERS, SCHEDULES

INTERVAL = ("--lower", 1, "--upper", 100)


@pytest.mark.parametrize("period", [1, 2, 7, 8, 300])
def test_steps_are_those_of_the_library(period) -> None:
    run = stepfold("steps", *INTERVAL, "--period", period, "--json")
    assert (run.code, run.err) == (0, "")
    assert Schedule.from_dict(run.json()) == chebyshev_steps(SpectralBounds(1, 100), period)


@pytest.mark.parametrize("method", SCHEDULES)
def test_every_family_is_printed_and_saved(method, tmp_path) -> None:
    path = tmp_path / "steps.json"
    run = stepfold("steps", *INTERVAL, "--period", 8, "--method", method, "-o", path)
    assert (run.code, run.err) == (0, "")
    schedule = Schedule.load(path)
    assert schedule.period == 8
    assert all(repr(gamma) in run.out for gamma in schedule)
    assert run.out.endswith(f"saved: {path}\n")


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_permutes_the_same_steps(order) -> None:
    run = stepfold("steps", *INTERVAL, "--period", 8, "--order", order, "--json")
    expected = chebyshev_steps(SpectralBounds(1, 100), 8)
    assert run.json()["order"] == order
    np.testing.assert_array_equal(np.sort(run.json()["steps"]), np.sort(expected.steps))


@pytest.mark.parametrize("period", [3, 256, 300])
def test_optimal_steps_of_the_uniform_density_have_any_period(period) -> None:
    run = stepfold("steps", *INTERVAL, "--period", period, "--method", "optimal", "--json")
    expected = optimal_steps(SpectralBounds(1, 100), period)
    np.testing.assert_allclose(run.json()["steps"], expected.steps, rtol=1e-9)


@pytest.mark.parametrize("lower", [0.0, 0.04])
def test_the_marchenko_pastur_density_has_the_given_ends(lower) -> None:
    options = ("--period", 5, "--method", "optimal", "--measure", "marchenko-pastur", "--json")
    run = stepfold("steps", "--lower", lower, "--upper", 4, *options)
    # √a = √s(1 − √r), √b = √s(1 + √r)
    scale = ((2 + lower**0.5) / 2) ** 2
    ratio = ((2 - lower**0.5) / (2 + lower**0.5)) ** 2
    expected = optimal_steps(SpectralMeasure.marchenko_pastur(ratio, scale=scale), 5)
    np.testing.assert_allclose(run.json()["steps"], expected.steps, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e150])
@pytest.mark.parametrize("method", ["chebyshev", "optimal", "silver"])
def test_steps_scale_with_the_interval(method, scale) -> None:
    def run(lower, upper):
        ends = ("--lower", repr(lower), "--upper", repr(upper))
        return stepfold("steps", *ends, "--period", 8, "--method", method, "--json").json()

    np.testing.assert_allclose(
        scale * np.array(run(scale, 9 * scale)["steps"]), run(1.0, 9.0)["steps"], rtol=1e-9
    )


@pytest.mark.parametrize(
    ("lower", "upper", "words"),
    [
        (2, 2, "--lower must be smaller than --upper"),
        (3, 2, "--lower must be smaller than --upper"),
        (-1, 2, "0 <= lower <= upper < inf"),
        ("nan", 2, "--lower must be smaller than --upper, got nan"),
        (1, "nan", "--lower must be smaller than --upper"),
        (1, "inf", "upper < inf"),
        ("-inf", 2, "0 <= lower"),
        ("x", 2, "'x' is not a valid float"),
        (0, 2, "needs --lower > 0, got 0.0; take --method chebyshev-fourth-kind"),
        (0, 0, "--lower must be smaller than --upper"),
        (1e-310, 2e-310, "`steps` must be finite"),
    ],
)
def test_bad_bounds_are_refused(lower, upper, words) -> None:
    assert_refused(stepfold("steps", "--lower", lower, "--upper", upper, "--period", 3), words)


@pytest.mark.parametrize("period", [0, -3, 2.5, "x", "nan", 1025, 10**11, 10**30])
def test_bad_periods_are_refused(period) -> None:
    assert_refused(stepfold("steps", *INTERVAL, "--period", period), "--period", str(period))


@pytest.mark.parametrize(
    ("option", "value"), [("--method", "no"), ("--order", "no"), ("--measure", "no")]
)
def test_unknown_names_are_refused_with_the_known_ones(option, value) -> None:
    run = stepfold("steps", *INTERVAL, "--period", 3, option, value)
    assert_refused(run, option, "'no' is not one of")


@pytest.mark.parametrize("missing", [0, 2, 4])
def test_missing_options_are_named(missing) -> None:
    words = [*INTERVAL, "--period", 3]
    name = words[missing]
    del words[missing : missing + 2]
    assert_refused(stepfold("steps", *words), f"Missing option '{name}'")


def test_what_exists_is_kept_unless_forced(tmp_path) -> None:
    path = tmp_path / "steps.json"
    path.write_text("mine")
    assert_refused(stepfold("steps", *INTERVAL, "--period", 3, "-o", path), "exists", "--force")
    assert path.read_text() == "mine"
    assert stepfold("steps", *INTERVAL, "--period", 3, "-o", path, "--force").code == 0
    assert Schedule.load(path).period == 3
    assert os.listdir(tmp_path) == ["steps.json"]


def test_a_failing_write_keeps_the_old_file(tmp_path) -> None:
    path = tmp_path / "steps.json"
    path.write_text("mine")
    with mock.patch("os.replace", side_effect=OSError(28, "No space left on device")):
        run = stepfold("steps", *INTERVAL, "--period", 3, "-o", path, "--force")
    assert_refused(run, "No space left on device")
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["steps.json"]


@pytest.mark.parametrize("name", ["", "sub", "no/steps.json", "file/steps.json"])
def test_outputs_that_cannot_be_files_are_refused(tmp_path, name) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").touch()
    run = stepfold("steps", *INTERVAL, "--period", 3, "-o", tmp_path / name, "--force")
    assert_refused(run, "folder")


def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path) -> None:
    denied = PermissionError(13, "Permission denied")
    with mock.patch("tempfile.TemporaryFile", side_effect=denied):
        run = stepfold("steps", *INTERVAL, "--period", 3, "-o", tmp_path / "steps.json")
    assert_refused(run, f"{tmp_path} may not be written to")


def test_what_is_not_a_regular_file_is_never_replaced(tmp_path) -> None:
    # A pipe of the test's own stands for /dev/null, which --force once removed.
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link"):
        run = stepfold("steps", *INTERVAL, "--period", 3, "-o", tmp_path / name, "--force")
        assert_refused(run, f"{tmp_path / name} is not a regular file and is never replaced")
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_is_followed_and_kept(tmp_path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "data" / "steps.json")
    run = stepfold("steps", *INTERVAL, "--period", 3, "-o", tmp_path / "link.json")
    assert run.code == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "data" / "steps.json").read_text())["name"] == "Chebyshev"


def test_a_link_to_nowhere_is_refused(tmp_path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "no" / "steps.json")
    run = stepfold("steps", *INTERVAL, "--period", 3, "-o", tmp_path / "link.json", "--force")
    assert_refused(run, "no is not a folder")
