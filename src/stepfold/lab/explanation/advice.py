"""A training judged in words: how good its steps are, and what to do."""

from __future__ import annotations

import math

from stepfold.lab.explanation.learned import Learned, Verdict


def summary(learned: Learned) -> str:
    """Error, how far it is from the best, and advice."""
    text = f"{_subject(learned)} {_remainder(learned)}"
    if learned.aim != learned.best and math.isfinite(learned.gap(learned.aim)):
        text += f", and {learned.gap(learned.aim):.4g} times that of the best that repeat so"
    few = learned.equivalent_steps
    if learned.errors["learned"] > 1:
        text += "; taking no step at all would be better"
    elif few < learned.run.schedule.period:
        text += f"; {few} {learned.best} {'steps do' if few > 1 else 'step does'} as well"
    if learned.verdict is Verdict.STOPPED:
        return f"{_stopped(learned)} {text}."
    return f"{text}. {_advice(learned)}"


def smallest(learned: Learned) -> str:
    """What errors are compared with."""
    # With noise a local minimum is known, which need not be the smallest.
    return "that of the best known steps" if learned.noise else "the smallest possible one"


def _subject(learned: Learned) -> str:
    count = learned.run.schedule.period
    if learned.verdict is Verdict.STOPPED:
        return f"Its {count} steps as they are leave"
    if learned.aim == learned.best:
        return f"{count} learned steps leave" if count > 1 else "One learned step leaves"
    if learned.period == 1:
        return f"{count} layers with the same learned step leave"
    return f"{count} learned steps that repeat after {learned.period} leave"


def _remainder(learned: Learned) -> str:
    error = learned.errors["learned"]
    if not math.isfinite(error):
        return "an error that is not finite"
    text = f"a mean squared error of {error:.4g}, relative to the start"
    if learned.noise:
        text += ", with the noise"
    if not learned.is_negligible(learned.errors[learned.best]):
        return f"{text}: {learned.gap(learned.best):.4g} times {smallest(learned)}"
    if learned.is_negligible(error):
        return f"{text}: nothing but rounding"
    return f"{text}, where the best leave none"


def _stopped(learned: Learned) -> str:
    depths = learned.run.history.num_layers
    count = learned.run.schedule.period
    reached = count if depths is None or not depths.size else int(depths[-1])
    where = (
        f" while it trained the first {reached} of {count} layers; the others have their initial "
        "values"
        if reached < count
        else ""
    )
    return (
        f"The training was stopped before its end{where}. Go on with it by --resume, or "
        "`resume=True` in Python, before judging it."
    )


def _advice(learned: Learned) -> str:
    builder = f"`{'noise_aware' if learned.noise else 'optimal'}_steps`"
    if learned.verdict is Verdict.OPTIMAL:
        return _found(learned, builder)
    if learned.verdict is Verdict.SHARED:
        return (
            "Training found the best schedule with this period. If layers share steps on purpose, "
            "the distance to the optimum is the price. If they do not, they were equal at "
            "the start, and equal steps move together: start from Chebyshev steps, or those of "
            f"{builder}, instead."
        )
    if learned.verdict is Verdict.STUCK:
        return (
            "Training rests where the loss is flat, far from the optimum: steps that are equal, or "
            "so long that the loss no longer sees them, move together. Start from Chebyshev steps, "
            f"or those of {builder}, instead."
        )
    if learned.aim != learned.best:
        return (
            "Training has not converged: the loss still has a slope over the values that layers "
            "share. Train longer, with a learning rate that decays; or let every layer have a step "
            f"of its own: {builder} computes them."
        )
    return (
        f"Training has not converged: the loss still has a slope. {builder} computes the best "
        f"steps for this spectrum{' and noise' if learned.noise else ''} in "
        f"{'a second' if learned.noise else 'milliseconds'}, `train_exactly` those for given data; "
        "or start training from these steps, or train longer with a decaying learning rate."
    )


def _found(learned: Learned, builder: str) -> str:
    if learned.noise:
        nodes = learned.measure.nodes
        limit = learned.measure.mean(learned.noise / (nodes + learned.noise))
        return (
            f"Training has found the optimum: not even {builder} is noticeably better for this "
            f"spectrum and noise. However many steps, no error below {limit:.4g} is possible."
        )
    if learned.is_negligible(learned.errors["learned"]):
        return (
            "Training has found the optimum: there is a step for each distinct eigenvalue, so that "
            "nothing is left of the error."
        )
    return (
        "Training has found the optimum: no schedule of as many steps is noticeably better for "
        "this spectrum. For less error, take more steps."
    )
