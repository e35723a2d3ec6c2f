"""How an error is spread over the eigenvalues: nodes and weights that sum to 1.

After T steps with residual polynomial ``p`` the mean squared error is ``∫ p² dμ``. A continuous μ
is kept as its own Gauss quadrature, which integrates every polynomial below twice the number of
nodes exactly; nothing that a schedule shorter than that needs is lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from stepfold._checks import check_count, check_instance, check_positive, check_vector
from stepfold._codec import JsonRecord
from stepfold._krylov import Tridiagonal
from stepfold._show import Shown, axes_of, counted, drawing, lines
from stepfold._typing import FloatArray
from stepfold.measure._rules import Factor, factor_of, gauss_nodes, gauss_rule
from stepfold.spectrum import SpectralBounds
from stepfold.spectrum.bounds import check_bounds

FORMAT = "stepfold.measure/1"
# Nodes whose relative distance is smaller are one eigenvalue: rounding errors make several of it.
EQUAL = 64 * float(np.finfo(np.float64).eps)

# A Gauss rule of so many nodes takes half a minute.
_MOST_NODES = 5_000


@dataclass(frozen=True, eq=False)
class SpectralMeasure(Shown, JsonRecord):
    """Probability measure on eigenvalues.

    Args:
        nodes: Eigenvalues at least 0, shape (n,), in units of the Hessian; sorted on the way in.
        weights: Numbers at least 0, shape (n,), not all 0; scaled to sum to 1.
        name: What the measure is, for people to read.

    Raises:
        TypeError: If an array is not real.
        ValueError: If an array is empty, not one-dimensional, not finite or negative somewhere, or
            if the lengths differ.

    >>> SpectralMeasure([3.0, 1.0], [1.0, 3.0]).mean([10.0, 20.0])
    12.5
    """

    tag: ClassVar = ("format", FORMAT)

    nodes: FloatArray
    weights: FloatArray
    name: str = "given"

    def __post_init__(self) -> None:
        nodes = check_vector("nodes", self.nodes)
        weights = check_vector("weights", self.weights)
        if nodes.shape != weights.shape:
            raise ValueError(
                "`nodes` and `weights` must have the same length, "
                f"got {nodes.size} nodes and {weights.size} weights"
            )
        for label, values in (("nodes", nodes), ("weights", weights)):
            if values.min() < 0:
                raise ValueError(f"`{label}` must be at least 0, got {values.min()}")
        if weights.max() == 0:
            raise ValueError("`weights` must not all be 0; give at least one positive weight")
        order = np.argsort(nodes, kind="stable")
        weights = weights[order] / weights.max()
        for field, values in (("nodes", nodes[order]), ("weights", weights / weights.sum())):
            values.flags.writeable = False
            object.__setattr__(self, field, values)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # NumPy hands back writeable arrays from copies and pickles.
        self.__dict__.update(state)
        for array in (self.nodes, self.weights):
            array.flags.writeable = False

    @classmethod
    def from_eigenvalues(cls, eigenvalues: Any, variances: Any = None) -> SpectralMeasure:
        """Weights on given eigenvalues: what a random error has.

        Args:
            eigenvalues: λ, shape (n,).
            variances: ``E (vᵢᵀ e₀)²`` for the eigenvector vᵢ of each, shape (n,); all equal if not
                given, which is an isotropic error. `exact_measure` computes them from errors.

        >>> SpectralMeasure.from_eigenvalues([1.0, 2.0]).weights
        array([0.5, 0.5])
        """
        nodes = check_vector("eigenvalues", eigenvalues)
        return cls(nodes, np.ones(nodes.size) if variances is None else variances, "eigenvalues")

    @classmethod
    def mixture(cls, measures: Sequence[SpectralMeasure], weights: Any = None) -> SpectralMeasure:
        """Weighted mean of measures: the errors of several problems that share one schedule.

        Args:
            measures: At least one.
            weights: How much each counts, numbers at least 0, shape (len(measures),); equal if not
                given. A relative error counts equally; for absolute ones pass ``E ‖e₀‖²`` of each.

        Raises:
            TypeError: If a member is not a measure.
            ValueError: If there is none, or ``weights`` does not fit.

        >>> one, two = SpectralMeasure([1.0], [1.0]), SpectralMeasure([2.0], [1.0])
        >>> SpectralMeasure.mixture([one, two], [1.0, 3.0]).weights
        array([0.25, 0.75])
        """
        measures = list(measures)
        for index, measure in enumerate(measures):
            if not isinstance(measure, SpectralMeasure):
                raise TypeError(
                    f"`measures` must hold SpectralMeasure only, got {type(measure).__name__} "
                    f"at index {index}; make one with `SpectralMeasure.from_eigenvalues`"
                )
        if not measures:
            raise ValueError("`measures` must hold at least one measure, got none")
        shares = np.ones(len(measures)) if weights is None else check_vector("weights", weights)
        if shares.size != len(measures):
            raise ValueError(
                "`weights` must have one number for each measure, "
                f"got {shares.size} for {len(measures)} measures"
            )
        if shares.min() < 0 or shares.max() == 0:
            raise ValueError(
                f"`weights` must be at least 0 and not all 0, got {shares.min()} at index "
                f"{int(shares.argmin())}"
            )
        shares = shares / shares.max()
        return cls(
            np.concatenate([measure.nodes for measure in measures]),
            np.concatenate([share * m.weights for share, m in zip(shares, measures, strict=True)]),
            f"mixture of {len(measures)}",
        )

    @classmethod
    def uniform(cls, bounds: SpectralBounds, *, num_nodes: int = 256) -> SpectralMeasure:
        """Constant density on ``bounds``, as a Gauss–Legendre rule of ``num_nodes`` nodes.

        >>> round(SpectralMeasure.uniform(SpectralBounds(1.0, 3.0)).mean(lambda x: x**2), 12)
        4.333333333333
        """
        num_nodes = check_count("num_nodes", num_nodes, maximum=_MOST_NODES)
        check_bounds(bounds, or_none=False)
        if bounds.lower == bounds.upper:
            return cls(np.array([bounds.upper]), np.ones(1), "uniform")
        nodes, weights = np.polynomial.legendre.leggauss(num_nodes)
        half_width = (bounds.upper - bounds.lower) / 2
        return cls(bounds.lower + half_width * (1 + nodes), weights, "uniform")

    @classmethod
    def marchenko_pastur(
        cls, ratio: float, *, scale: float = 1.0, num_nodes: int = 256
    ) -> SpectralMeasure:
        """Limiting eigenvalues of ``HᵀH`` for a large H with independent entries.

        H has shape (m, n) with n / m = ``ratio`` and entries of variance ``scale`` / m. The
        support is ``scale`` · [(1 − √ratio)², (1 + √ratio)²]; for ``ratio`` > 1 an atom of weight
        1 − 1/``ratio`` at 0 stands for the kernel of H.

        Args:
            ratio: n / m, positive.
            scale: Mean of the eigenvalues, positive.
            num_nodes: Nodes of the Gauss rule for the continuous part.

        Raises:
            ValueError: If ``ratio`` or ``scale`` is not positive and finite.

        References:
            Marchenko and Pastur (1967). The recurrence coefficients of its orthogonal polynomials
            are constant after the first (free Poisson law): α₀ = 1, αₖ = 1 + r, βₖ = √r.

        >>> measure = SpectralMeasure.marchenko_pastur(0.5)
        >>> round(measure.mean(lambda x: x), 12), round(measure.mean(lambda x: x**2), 12)
        (1.0, 1.5)
        """
        for label, value in (("ratio", ratio), ("scale", scale)):
            check_positive(label, value)
        num_nodes = check_count("num_nodes", num_nodes, maximum=_MOST_NODES)
        name = f"Marchenko–Pastur, ratio {ratio:g}"
        if ratio > 1:
            # HᵀH has the eigenvalues of HHᵀ, whose ratio is 1/r, and n − m zeros.
            nonzero = cls.marchenko_pastur(1 / ratio, scale=scale * ratio, num_nodes=num_nodes)
            return cls(
                np.append(nonzero.nodes, 0.0),
                np.append(nonzero.weights / ratio, 1 - 1 / ratio),
                name,
            )
        diagonal = np.full(num_nodes, 1 + ratio)
        diagonal[0] = 1.0
        off_diagonal = np.full(num_nodes, math.sqrt(ratio))
        nodes, vectors = Tridiagonal(diagonal, off_diagonal).eigh()
        return cls(scale * nodes, vectors[0] ** 2, name)

    @property
    def bounds(self) -> SpectralBounds:
        """Smallest interval that holds every node of positive weight."""
        support = self.nodes[self.weights > 0]
        return SpectralBounds(support[0], support[-1], method=f"support of: {self.name}")

    @property
    def weight_at_zero(self) -> float:
        """Weight of the eigenvalue 0: no step moves an error there."""
        return float(self.weights[self.nodes == 0].sum())

    def mean(self, values: Any) -> float:
        """Return ``∫ f dμ`` for f given as values at the nodes, shape (n,), or as a function.

        >>> SpectralMeasure.from_eigenvalues([1.0, 3.0]).mean(lambda x: x)
        2.0
        """
        if callable(values):
            values = values(self.nodes)
        return float(self.weights @ np.asarray(values, dtype=np.float64))

    def gauss_nodes_of_weighted(self, num_nodes: int) -> FloatArray:
        """Gauss quadrature nodes of ``λ dμ(λ)``, ascending; fewer where μ has fewer nodes above 0.

        They are squared singular values of the bidiagonal matrix that Golub–Kahan makes of √λ, so
        that nodes far below the largest one keep their relative accuracy.
        """
        nodes, weights = self.atoms(above_zero=True)
        if nodes.size == 0:
            return np.empty(0)
        return gauss_nodes(nodes, nodes / nodes[-1] * weights, num_nodes)

    def atoms(self, *, above_zero: bool = False) -> tuple[FloatArray, FloatArray]:
        """Distinct nodes of positive weight, ascending, and their weights.

        Nodes that differ by rounding are merged. With ``above_zero`` those at 0 are left out; the
        weights then sum to less than 1.

        >>> SpectralMeasure([3.0, 0.0, 3.0], [1.0, 2.0, 1.0]).atoms(above_zero=True)
        (array([3.]), array([0.5]))
        """
        support = (self.weights > 0) & (self.nodes > 0 if above_zero else True)
        nodes, weights = self.nodes[support], self.weights[support]
        if nodes.size == 0:
            return nodes, weights
        first = np.flatnonzero(np.append(True, np.diff(nodes) > EQUAL * nodes[1:]))
        if first.size == nodes.size:
            return nodes, weights
        base = np.repeat(nodes[first], np.diff(np.append(first, nodes.size)))
        sums = np.add.reduceat(weights, first)
        # Relative to the first of each, so that a node that stays alone keeps its last bit.
        return nodes[first] + np.add.reduceat(weights * (nodes - base), first) / sums, sums

    def factor_above_zero(self, count: int) -> Factor:
        """Squared entries of the factor of the Jacobi matrix, of μ without its atom at 0.

        ``count`` rows, or fewer: see `_rules`. Unit: the largest eigenvalue.
        """
        nodes, weights = self.atoms(above_zero=True)
        if nodes.size == 0:
            return nodes, weights
        return factor_of(nodes, weights, count)

    def quadrature(self, num_nodes: int) -> SpectralMeasure:
        """Gauss rule of the measure: ``num_nodes`` nodes that do the work of all.

        It integrates polynomials of degree below ``2 num_nodes`` exactly, so `optimal_steps` and
        the mean squared error of T steps are the same for T < ``num_nodes``. Where the measure has
        no more distinct nodes than that, it is the measure itself up to rounding.

        References:
            Golub and Meurant, Matrices, Moments and Quadrature (2010), section 6.2.

        >>> rule = SpectralMeasure.from_eigenvalues([1.0, 2.0, 3.0]).quadrature(2)
        >>> rule.nodes.round(3), round(rule.mean(lambda x: x**3), 12)
        (array([1.184, 2.816]), 12.0)
        """
        num_nodes = check_count("num_nodes", num_nodes)
        atoms = self.atoms()
        nodes, weights = gauss_rule(factor_of(*atoms, num_nodes))
        return SpectralMeasure(nodes * (atoms[0][-1] or 1.0), weights, self.name)

    def __str__(self) -> str:
        """Two lines: what it is, and where its eigenvalues lie.

        >>> print(SpectralMeasure([1.0, 3.0], [1.0, 1.0], "two clusters"))
        two clusters: 2 atoms
        eigenvalues in [1, 3], mean 2
        """
        zero = self.weight_at_zero
        return lines(
            (
                f"{self.name}: {counted(self.nodes.size, 'atom')}",
                f"eigenvalues in [{self.nodes[0]:.4g}, {self.nodes[-1]:.4g}], "
                f"mean {self.mean(self.nodes):.4g}" + (f", {zero:.3g} of it at 0" if zero else ""),
            )
        )

    def histogram(self, num_bins: int = 40) -> tuple[FloatArray, FloatArray]:
        """The weight in bins of equal width, from the smallest to the largest eigenvalue.

        Args:
            num_bins: How many, at least 1.

        Returns:
            Middles of the bins and the weight in each, of shape (num_bins,); a measure of one
            point has one bin.

        Raises:
            ValueError: If ``num_bins`` is below 1.

        >>> SpectralMeasure([0.0, 1.0, 4.0], [1.0, 2.0, 1.0]).histogram(2)
        (array([1., 3.]), array([0.75, 0.25]))
        """
        num_bins = check_count("num_bins", num_bins)
        low, high = float(self.nodes[0]), float(self.nodes[-1])
        if not high > low:
            return self.nodes[:1], np.ones(1)
        places, ends = self.nodes / high, (low / high, 1.0)
        weights, edges = np.histogram(places, num_bins, ends, weights=self.weights)
        return high * (edges[1:] / 2 + edges[:-1] / 2), weights

    def _drawing(self) -> str:
        return drawing(f"Weight of {self.name} by eigenvalue", *self.histogram()[::-1], bars=True)

    def plot(self, ax: Any = None, *, num_bins: int = 40) -> Any:
        """Draw the weight in bins of equal width.

        Args:
            ax: Axes of matplotlib; new ones if not given.
            num_bins: How many bins.

        Returns:
            The axes.

        Raises:
            ModuleNotFoundError: If ``ax`` is not given and matplotlib is missing.
            ValueError: If ``num_bins`` is below 1.

        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> SpectralMeasure.marchenko_pastur(0.5).plot().get_xlabel()
        'eigenvalue'
        """
        middles, weights = self.histogram(num_bins)
        ax = axes_of(ax)
        width = middles[1] - middles[0] if middles.size > 1 else (middles[0] or 1.0) / num_bins
        ax.bar(middles, weights, width=0.9 * width, label=self.name)
        ax.set(xlabel="eigenvalue", ylabel="weight")
        return ax

    def cumulative(self, eigenvalues: Any) -> FloatArray:
        """Return ``μ([0, λ])`` at each given λ, any shape.

        >>> SpectralMeasure([1.0, 2.0], [1.0, 3.0]).cumulative([0.5, 1.0, 1.5, 2.0])
        array([0.  , 0.25, 0.25, 1.  ])
        """
        sums = np.concatenate([[0.0], np.cumsum(self.weights)])
        sums[-1] = 1.0
        values: FloatArray = sums[np.searchsorted(self.nodes, eigenvalues, side="right")]
        return values


def check_measure(measure: Any, name: str = "measure", *, or_none: bool = False) -> SpectralMeasure:
    """Return a measure, or None where that is allowed."""
    remedy = "wrap eigenvalues as `SpectralMeasure.from_eigenvalues(values)`"
    checked: SpectralMeasure = check_instance(
        name, measure, SpectralMeasure, remedy, or_none=or_none
    )
    return checked
