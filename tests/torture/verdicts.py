"""Pose random problems, solve them, and check every verdict in long double.

    python tests/torture/verdicts.py --count 300
    python tests/torture/verdicts.py --first 2000 --count 1000 --record verdicts.json
    python tests/torture/verdicts.py --show 2017

A case depends on its number alone. Exit code 1 if anything that was said is false.

CONVERGED is true if the gradient at the x that is returned, computed in long double from the data,
meets the tolerance, up to the most that rounding of one gradient in the dtype of the data can be.
An `error_bound` is true if it is not below ‖x − x*‖, with x* from long double or from 80 digits; a
duality gap if no better point shows that it is too small; `bounds` if no eigenvalue lies beyond a
guaranteed end and what they call reached is reached. Of every other end, each cause that the advice
names must be one that the case has.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from torture_claims import Truth, judged
from torture_oracles import Oracle, norm, wide
from torture_problems import Case, case, extremes

from stepfold import Status, solve
from stepfold.run.start import default_rtol
from stepfold.spectrum import Certainty

# Digits of long double, and of numbers that are printed and compared, are not in question.
NEARLY = 1 + 1e-6


class Verdict:
    """What was found out about one case."""

    def __init__(self, made: Case) -> None:
        self.made = made
        self.end = ""
        self.false: list[str] = []
        """Statements that are not true."""
        self.checked: collections.Counter[str] = collections.Counter()
        """How many statements of each kind were checked."""
        self.text = ""

    def say(self, kind: str, holds: bool, otherwise: str) -> None:
        """Book a statement."""
        self.checked[kind] += 1
        if not holds:
            self.false.append(f"{kind}: {otherwise}")


def judge(number: int) -> Verdict:
    """Pose, solve and check one case."""
    made = case(number)
    verdict = Verdict(made)
    with warnings.catch_warnings():
        # Of the case and its operator, not of the library: NaN, overflow of a map that expands.
        warnings.simplefilter("ignore")
        try:
            problem = made.pose()
            options = made.options(problem)
            result = solve(problem, **options)
        except (TypeError, ValueError) as refused:
            verdict.end, verdict.text = "refused", str(refused)
            verdict.say("refusal names an argument", "`" in str(refused), str(refused))
            return verdict
        verdict.end, verdict.text = result.status.name, str(result)
        with np.errstate(all="ignore"):
            CHECKS[made.form](verdict, problem, options, result)
    return verdict


def _quadratic(verdict: Verdict, problem: Any, options: dict[str, Any], result: Any) -> None:
    made, oracle = verdict.made, Oracle(verdict.made)
    truth = Truth(made, oracle, result)
    is_batch = made.rhs.ndim == 2
    rows = range(made.rhs.shape[0]) if is_batch else [None]
    ends = result.row_statuses if is_batch else [result.status]
    rtol, error_rtol = options.get("rtol"), options.get("error_rtol")
    if rtol is None and error_rtol is None:
        rtol = default_rtol(made.rhs)
    healthy = not made.flaws & {"NaN", "wrong adjoint", "asymmetric", "indefinite"}
    exact = not made.flaws & {"NaN", "wrong adjoint"}
    certain = _lower_is_right(truth, problem, options, result)
    for place, end in zip(rows, ends, strict=True):
        x, rhs = wide(result.x if place is None else result.x[place]), oracle.row(place)
        gradient = oracle.gradient(x, rhs)
        size, rounding = oracle.norm(gradient), oracle.rounding(x, rhs)
        if end is Status.CONVERGED and exact:
            tolerance = (rtol or 0) * oracle.norm(oracle.gradient(0 * x, rhs))
            tolerance = max(tolerance, options.get("atol", 0.0))
            if rtol is not None:
                verdict.say(
                    "CONVERGED",
                    bool(size <= tolerance * NEARLY + rounding),
                    f"gradient {size:.3g}, tolerance {tolerance:.3g}, rounding {rounding:.3g}",
                )
                if size > tolerance * 1.001:
                    verdict.checked["of these within rounding only"] += 1
            if error_rtol is not None and certain:
                error = oracle.error(x, rhs)
                if error is not None:
                    allowed = error_rtol * norm(x - 0) / (1 - error_rtol)
                    verdict.say("error_rtol", bool(error <= allowed), f"{error} > {allowed}")
        if result.error_bound is not None and exact and certain:
            bound = result.error_bound if place is None else result.error_bound[place]
            error = oracle.error(x, rhs)
            if error is not None:
                verdict.say(
                    "error_bound", bool(error <= bound * 1.002), f"{error:.4g} > {bound:.4g}"
                )
        if end is Status.STALLED and exact:
            verdict.say(
                "STALLED at what can be attained",
                _attained(truth, size, rounding, x, rhs),
                f"gradient {size:.3g}, rounding {rounding:.3g}",
            )
        if end is Status.DIVERGED and healthy:
            low, high = extremes(made)
            is_singular = low <= made.size * oracle.eps * high  # as it is rounded to its dtype
            holds = is_singular or "upper too low" in made.flaws
            verdict.say("DIVERGED", holds, "nothing is wrong")
    _bounds(verdict, truth, result)
    for sentence, holds in judged(truth):
        verdict.say("named cause", holds, sentence)


def _attained(truth: Truth, size: Any, rounding: Any, x: Any, rhs: Any) -> bool:
    """Whether a gradient is at rounding, or no x has one much smaller."""
    made, oracle = truth.made, truth.oracle
    # Periods multiply rounding errors; what a run may call its floor is 100 times that of one sum.
    if size <= 1e3 * rounding:
        return True
    if oracle.squares:
        return False
    dense = wide(made.matrix)
    top = np.abs(dense).max() or 1
    values, vectors = np.linalg.eigh((dense / top).astype(np.complex128))
    null = np.abs(values) <= 1e3 * dense.shape[0] * oracle.eps
    part = norm(wide(vectors[:, null]).conj().T @ oracle.gradient(x, rhs))
    return bool(part >= 0.4 * size)


def _lower_is_right(truth: Truth, problem: Any, options: dict[str, Any], result: Any) -> bool:
    """Whether the lower bound that a certificate rests on is one, if the caller gave it."""
    made = truth.made
    if made.flaws & {"indefinite", "asymmetric"}:
        return False
    guard, schedule = options.get("guard"), options.get("schedule")
    given = guard.bounds if guard is not None else getattr(schedule, "bounds", None)
    if given is None or result.events:
        return True
    low, high = extremes(made)
    # Of a singular matrix LAPACK finds rounding, which is no lower bound.
    error = 100 * made.size * float(np.finfo(np.float64).eps)
    least = high * (error**2 if made.form == "least squares" else error)
    return given.lower <= max(low - least, made.ridge) * (1 + 1e-9)


def _bounds(verdict: Verdict, truth: Truth, result: Any) -> None:
    bounds, made = result.bounds, verdict.made
    if bounds is None or made.flaws & {"NaN", "wrong adjoint", "asymmetric", "indefinite"}:
        return
    given = made.flaws & {"upper too low", "lower too high", "guessed"}
    low, high = truth.low, truth.high
    if bounds.lower_certainty is Certainty.GUARANTEED:
        # An eigenvalue below the end by more than rounding.
        true_low = 2 * extremes(made)[0] - low
        verdict.say(
            "guaranteed lower end", bounds.lower <= true_low, f"{bounds.lower} > {true_low}"
        )
    if bounds.upper_certainty is Certainty.GUARANTEED:
        true_high = extremes(made)[1] * 2 - high
        verdict.say(
            "guaranteed upper end", bounds.upper >= true_high, f"{bounds.upper} < {true_high}"
        )
    if not given and bounds.reached_lower is not None:
        verdict.say("reached_lower", bounds.reached_lower >= low, f"{bounds.reached_lower} < {low}")
    if not given and bounds.reached_upper is not None:
        verdict.say(
            "reached_upper", bounds.reached_upper <= high, f"{bounds.reached_upper} > {high}"
        )


def _penalty(verdict: Verdict, problem: Any, options: dict[str, Any], result: Any) -> None:
    made, oracle = verdict.made, Oracle(verdict.made)
    x, g = wide(result.x), made.penalty
    rtol = options.get("rtol")
    if rtol is None and options.get("gap_rtol") is None:
        rtol = default_rtol(made.rhs)
    schedule = options.get("schedule")
    gamma = np.longdouble(problem.step if schedule is None else schedule.steps[-1])

    def move(at: Any) -> Any:
        gradient = oracle.gradient(at, oracle.rhs)
        return norm(at - g.prox(at - gamma * gradient, gamma)) / gamma

    size = move(x)
    rounding = oracle.rounding(x, oracle.rhs) + 4 * oracle.eps * norm(x) / gamma
    if result.status is Status.CONVERGED and rtol is not None:
        tolerance = rtol * move(0 * x)
        verdict.say(
            "CONVERGED",
            bool(size <= tolerance * NEARLY + rounding),
            f"proximal step {size:.3g}, tolerance {tolerance:.3g}, rounding {rounding:.3g}",
        )
    if result.status is Status.STALLED:
        on_gap = options.get("gap_rtol") is not None
        verdict.say(
            "STALLED at what can be attained",
            bool(size <= 1e3 * rounding) or on_gap,
            f"proximal step {size:.3g}, rounding {rounding:.3g}",
        )
    if result.status is Status.DIVERGED:
        verdict.say("DIVERGED", False, "nothing is wrong")

    def objective(at: Any) -> Any:
        residual = oracle.matrix @ at - oracle.rhs
        ridge = oracle.ridge / 2 * (at * at).sum()
        return (residual * residual).sum() / 2 + ridge + g.value(at)

    gap = None if result.history.gaps is None else float(np.nanmin(result.history.gaps))
    if gap is not None and math.isfinite(gap):
        value, better = objective(x), objective(_minimiser(oracle, g, x))
        slack = 10 * oracle.eps * (made.size + oracle.matrix.shape[0]) * abs(value)
        if result.status is Status.CONVERGED or rtol is not None:
            verdict.say(
                "duality gap",
                bool(value - better <= gap * NEARLY + slack) or gap != result.history.gaps[-1],
                f"{value - better:.4g} above a better point, gap {gap:.4g}",
            )
        if result.status is Status.CONVERGED and options.get("gap_rtol") is not None:
            allowed = options["gap_rtol"] * abs(objective(0 * x))
            verdict.say(
                "gap_rtol", bool(value - better <= allowed * NEARLY + slack), f"{allowed:.4g}"
            )


def _minimiser(oracle: Oracle, penalty: Any, start: Any) -> Any:
    """A better point: accelerated proximal steps in long double from the one that was found."""
    plain = oracle.matrix.astype(np.float64)
    upper = np.longdouble(np.linalg.norm(plain, 2) ** 2 * 1.01) + oracle.ridge
    x = y = start
    weight = 1.0
    for _ in range(400):
        after = penalty.prox(y - oracle.gradient(y, oracle.rhs) / upper, 1 / upper)
        if ((y - after) * (after - x)).sum() > 0:
            weight = 1.0
        larger = (1 + math.sqrt(1 + 4 * weight * weight)) / 2
        y = after + (weight - 1) / larger * (after - x)
        x, weight = after, larger
    return x


def _map(verdict: Verdict, problem: Any, options: dict[str, Any], result: Any) -> None:
    made = verdict.made
    eps = float(np.finfo(made.rhs.dtype).eps)

    def residual(x: Any) -> Any:
        return norm(made.map(wide(x)) - wide(x))

    size, length = residual(result.x), norm(wide(result.x))
    n = made.size
    rounding = (n + 8) * eps * (norm(np.abs(wide(made.matrix)) @ np.abs(wide(result.x))) + length)
    rounding = rounding + 8 * eps * norm(made.map(wide(0 * made.rhs)))
    if result.status is Status.CONVERGED:
        rtol, first = options.get("rtol", 1e-8), residual(made.rhs)
        tolerance = rtol * max(first, norm(wide(made.rhs)))
        verdict.say(
            "CONVERGED",
            bool(size <= tolerance * NEARLY + rounding),
            f"residual {size:.3g}, tolerance {tolerance:.3g}, rounding {rounding:.3g}",
        )
    if result.status is Status.STALLED:
        verdict.say(
            "STALLED at what can be attained", bool(size <= 1e3 * rounding), f"{size} {rounding}"
        )
    if result.status is Status.DIVERGED:
        verdict.say("DIVERGED", bool(made.flaws), "nothing is wrong")
    for sentence, holds in judged(Truth(made, None, result)):
        verdict.say("named cause", holds, sentence)


def _smooth(verdict: Verdict, problem: Any, options: dict[str, Any], result: Any) -> None:
    made, x = verdict.made, wide(result.x)
    size, first = norm(made.smooth(x)), norm(made.smooth(0 * x))
    eps = float(np.finfo(made.rhs.dtype).eps)
    matrix = np.abs(wide(made.matrix))
    # Slopes are at most 1 and have a derivative of at most 1.
    inner = np.minimum(1, 1 + eps * made.size * (matrix @ np.abs(x)))
    inner = inner + made.size * (matrix @ np.abs(x) + np.abs(wide(made.rhs)))
    rounding = eps * (norm(matrix.T @ inner) + made.ridge * norm(x)) * 4
    if result.status is Status.CONVERGED:
        tolerance = options.get("rtol", default_rtol(made.rhs)) * first
        verdict.say(
            "CONVERGED",
            bool(size <= tolerance * NEARLY + rounding),
            f"gradient {size:.3g}, tolerance {tolerance:.3g}, rounding {rounding:.3g}",
        )
    if result.status is Status.STALLED:
        verdict.say(
            "STALLED at what can be attained", bool(size <= 1e3 * rounding), f"{size} {rounding}"
        )
    if result.status is Status.DIVERGED:
        verdict.say("DIVERGED", False, "nothing is wrong")


CHECKS = {
    "least squares": _quadratic,
    "quadratic": _quadratic,
    "penalty": _penalty,
    "map": _map,
    "smooth": _smooth,
}


def tally(numbers: Any, show: Any = None) -> dict[str, Any]:
    """Judge the cases of these numbers, and count."""
    ends: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    checked: collections.Counter[str] = collections.Counter()
    false: list[dict[str, Any]] = []
    for number in numbers:
        try:
            verdict = judge(number)
        except Exception as error:  # noqa: BLE001 (no case may end the count)
            made = case(number)
            false.append({"number": number, "what": f"{type(error).__name__}: {error}"})
            ends[made.kind]["exception"] += 1
            if show:
                show(f"{made}\n    {type(error).__name__}: {error}")
            continue
        ends[verdict.made.kind][verdict.end] += 1
        checked.update(verdict.checked)
        for what in verdict.false:
            false.append({"number": number, "what": what})
            if show:
                show(f"{verdict.made}; {verdict.end}\n    {what}")
    return {
        "cases": sum(sum(counts.values()) for counts in ends.values()),
        "ends": {kind: dict(counts) for kind, counts in sorted(ends.items())},
        "checked": dict(sorted(checked.items())),
        "false": false,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--record", type=Path, help="add the counts to this file as one JSON line")
    parser.add_argument("--show", type=int, help="judge one case and print all of it")
    given = parser.parse_args()
    if given.show is not None:
        verdict = judge(given.show)
        print(verdict.made, verdict.text, dict(verdict.checked), *verdict.false, sep="\n")
        return int(bool(verdict.false))
    began = time.perf_counter()
    counts = tally(
        range(given.first, given.first + given.count), lambda line: print(line, flush=True)
    )
    if given.record:
        with given.record.open("a") as file:
            file.write(json.dumps({"first": given.first, **counts}) + "\n")
    print(json.dumps({"ends": counts["ends"], "checked": counts["checked"]}, indent=1))
    took = time.perf_counter() - began
    print(f"{counts['cases']} cases, {len(counts['false'])} false, {took:.0f} s")
    return int(bool(counts["false"]))


if __name__ == "__main__":
    sys.exit(main())
