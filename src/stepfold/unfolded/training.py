"""Training of unfolded networks: incremental as published, all at once, or greedy, then refined."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from stepfold._checks import (
    check_count,
    check_flag,
    check_items,
    check_path,
    check_size,
)
from stepfold.result import TrainingRun
from stepfold.unfolded import distributed
from stepfold.unfolded._loop import Loop
from stepfold.unfolded._outcome import outcome_of
from stepfold.unfolded.checkpoints import check_place, check_storable, claimed, remove_drafts
from stepfold.unfolded.choice import as_loss, check_network
from stepfold.unfolded.losses import Loss, check_loss
from stepfold.unfolded.module import UnfoldedIteration
from stepfold.unfolded.options import (
    Callback,
    HeldOut,
    OptimizerFactory,
    Options,
    SchedulerFactory,
)
from stepfold.unfolded.progress import Progress, in_terminal, progress_bar
from stepfold.unfolded.samplers import Sampler
from stepfold.unfolded.stages import Stage, incremental
from stepfold.unfolded.theory import start_from_theory

# Each holds a generator of its own.
_MOST_BATCHES = 100_000


def train(
    network: UnfoldedIteration,
    loss: Loss | Sampler,
    stages: Sequence[Stage] | None = None,
    *,
    start: Literal["theory"] | None = None,
    optimizer: OptimizerFactory | None = None,
    groups: Mapping[str, Mapping[str, Any]] | None = None,
    scheduler: SchedulerFactory | None = None,
    restart_optimizer: bool = False,
    relative: bool = False,
    clip_norm: float | None = None,
    scaler: Any = None,
    held_out: HeldOut | None = None,
    batches_per_step: int | None = None,
    most_skipped: int = 10,
    seed: int = 0,
    callback: Callback | None = None,
    progress: bool | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    extend: bool = False,
) -> TrainingRun:
    """Train an unfolded network, in place.

    Inside `process_group`, under torchrun, several processes train together: each step's
    mini-batches are shared out among them and gradients averaged by ``DistributedDataParallel``.

    Args:
        network: T layers, at their initial values.
        loss: What to minimise, an object or a function ``(network, num_layers, rng)``; fresh random
            data at every call. Or a sampler, a function ``(rng)``: then the mean squared error on
            what it draws, in the eigenbasis where the problem allows (`loss_for`).
        stages: What to train one after the other: `incremental` (the default, with 500 iterations
            each), `all_at_once`, `greedy_then_refined` or a list of one's own.
        start: "theory" sets all layers by `theory_start` on one mini-batch first; where the loss
            knows its measure, to the best steps for it. All layers can then be trained at once. A
            training that goes on from a checkpoint has started already.
        optimizer: Makes a torch optimiser of the parameters; Adam with learning rate 0.002, the
            published one, if not given. What it has of its own is trained, too; a parameter
            that is named twice counts once.
        groups: Settings of the optimiser for a part of what is trained, such as
            ``{"prior": {"lr": 1e-4}}``: for "steps", a parameter, a module by its name in
            ``network.held``, "iteration" if the step is a module, and what the criterion holds.
        scheduler: Makes a learning-rate scheduler of the optimiser; it steps after
            every iteration that is not skipped; ``ReduceLROnPlateau`` after every look at held-out
            data instead, where there are any.
        restart_optimizer: Whether each stage begins with a new optimiser (and scheduler); else one
            is kept throughout, as published.
        relative: Whether gradients are divided by the loss, which makes them those of its
            logarithm. Losses that fall by many orders keep Adam moving then; it stops where they
            are small beside its ``eps``, 1e-8. Recorded losses stay as they are.
        clip_norm: Longest gradient; longer ones are shortened to it.
        scaler: A ``torch.amp.GradScaler``, for float16 under ``torch.autocast``: it scales the loss
            before the backward pass; iterations that it finds too large are skipped and counted.
        held_out: When to end a stage early.
        batches_per_step: Mini-batches whose gradients are averaged in each step, a multiple of the
            number of processes, which is the default. Batch k has a generator of its own, so that
            the result does not depend, up to rounding, on who computes it.
        most_skipped: Iterations in a row that may be skipped because their loss or gradient is not
            finite; one more stops the training.
        seed: Seed of the data, and of torch's generators meanwhile; the same seed gives the same
            run.
        callback: Sees a `Progress` after every iteration; if it returns True the training stops
            there, with its checkpoint written.
        progress: Whether to show a progress bar on standard error; if not given, in a terminal.
        checkpoint: File to keep at the end of every stage, replaced as a whole.
        checkpoint_every: Iterations within a stage after which it is replaced, too.
        resume: Whether to go on from the checkpoint, if there is one; the run then ends with the
            same bits as one that was not interrupted.
        extend: As ``resume``, for a checkpoint that there must be, whose stages may be the
            beginning of ``stages``: the last may have had fewer iterations, and others may follow.
            Without held-out data the run ends with the same bits as one that was as long from its
            start.

    Returns:
        The learned schedule and, for every stage, its steps, losses and, where ``loss.measure`` is
        known and layers descend gradients, exact mean squared error and spectral radius.

    Raises:
        TypeError: If an argument is of another kind than it must be, before the work starts.
        ValueError: If a number is out of range, the stages go deeper than the network, the loss is
            not a scalar, or the checkpoint is damaged or of another training; the message names
            the difference, and the file stays as it is.
        FileNotFoundError: If there is no checkpoint to extend.
        FileExistsError: If there is a checkpoint and ``resume`` is false, or another training is
            writing it.
        OSError: If the checkpoint cannot be written; before the work if that is known by then; the
            previous one is intact.
        ArithmeticError: If too many iterations in a row are not finite; the message says when. The
            network is left as it was before them.

    >>> from stepfold import Schedule, SpectralMeasure
    >>> from stepfold.unfolded import SpectralLoss, all_at_once
    >>> measure = SpectralMeasure.from_eigenvalues([1.0, 3.0])
    >>> network = UnfoldedIteration(Schedule([0.3]))
    >>> run = train(network, SpectralLoss(measure), all_at_once(1, 300))
    >>> round(run.schedule[0], 2)  # the optimum is 0.4
    0.4
    """
    check_network(network)
    check_loss("loss", loss)
    if start is not None and not (isinstance(start, str) and start == "theory"):
        raise ValueError(f'`start` must be "theory" or None, got {start!r}')
    for name, value in (("restart_optimizer", restart_optimizer), ("relative", relative)):
        check_flag(name, value)
    if progress is not None:
        check_flag("progress", progress)
    stages = incremental(network.num_layers) if stages is None else stages
    is_list: bool = isinstance(stages, Iterable)  # the types promise it, the caller may not
    if not is_list:
        found = "one Stage; write `[stage]`" if isinstance(stages, Stage) else type(stages).__name__
        raise TypeError(f"`stages` must be a list of Stage, got {found}")
    if callback is not None and not callable(callback):
        raise TypeError(
            f"`callback` must be a function of a Progress, got {type(callback).__name__}"
        )
    if checkpoint is not None and not isinstance(checkpoint, (str, os.PathLike)):
        raise TypeError(f"`checkpoint` must be the path of a file, got {type(checkpoint).__name__}")
    if checkpoint is None and (resume or extend or checkpoint_every is not None):
        raise ValueError(
            "`checkpoint` must name a file for `resume`, `extend` or `checkpoint_every`"
        )
    if extend and not os.path.exists(checkpoint or ""):
        raise FileNotFoundError(f"there is no checkpoint {checkpoint} to extend; train it first")
    resume = resume or extend
    options = Options(
        stages=check_items("stages", stages, "Stage"),
        optimizer=functools.partial(torch.optim.Adam, lr=0.002) if optimizer is None else optimizer,
        groups=groups,
        scaler=scaler,
        scheduler=scheduler,
        restart_optimizer=restart_optimizer,
        relative=relative,
        clip_norm=clip_norm,
        held_out=held_out,
        batches_per_step=_share(batches_per_step),
        most_skipped=check_count("most_skipped", most_skipped, minimum=0),
        seed=check_count("seed", seed, minimum=0),
        checkpoint=None if checkpoint is None else _target(check_path("checkpoint", checkpoint)),
        checkpoint_every=(
            None if checkpoint_every is None else check_count("checkpoint_every", checkpoint_every)
        ),
    )
    for stage in options.stages:
        network.check_num_layers(stage.num_layers, deeper=False)
    if options.checkpoint is not None:
        check_place(options.checkpoint)
    goes_on = resume and options.checkpoint is not None and options.checkpoint.exists()
    if start == "theory" and not goes_on:
        with torch.random.fork_rng():
            start_from_theory(network, as_loss(network, loss), seed=options.seed)
    loop = Loop(network, loss, options)
    if options.checkpoint is not None:
        state = loop.state
        check_storable(
            network=network,
            criterion=state.objective.criterion,
            optimizer=state.optimizer,
            scheduler=state.scheduler,
            loss=loop.loss,
        )
    with contextlib.ExitStack() as stack:
        if options.checkpoint is not None and distributed.rank() == 0:
            options.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(claimed(options.checkpoint))
            remove_drafts(options.checkpoint)
        finished = _run(loop, resume=resume, extend=extend, callback=callback, progress=progress)
    for values in loop.network.layer_values().values():
        values.settle()
    return outcome_of(loop, finished=finished)


def _run(
    loop: Loop, *, resume: bool, extend: bool, callback: Callback | None, progress: bool | None
) -> bool:
    options = loop.options
    if options.checkpoint is not None and options.checkpoint.exists():
        if not resume:
            raise FileExistsError(
                f"{options.checkpoint} exists; give `resume=True` to go on from it, or another path"
            )
        loop.state.load(options.checkpoint, extend=extend)
    distributed.wait()  # nobody writes a checkpoint before everybody has looked for one
    done = sum(stage.num_iterations for stage in options.stages[: loop.state.counts.stage])
    total = sum(stage.num_iterations for stage in options.stages)
    shown = (in_terminal() if progress is None else progress) and distributed.rank() == 0
    with progress_bar(total, done + loop.state.counts.iteration, shown=shown) as show:

        def watch(now: Progress) -> bool:
            show(now)
            if callback is None:
                return False
            stops = [float(bool(callback(now)))]
            return distributed.summed(stops, loop.device) != [0.0]

        return loop.run(watch if shown or callback else None)


def train_incrementally(
    network: UnfoldedIteration,
    loss: Loss | Sampler,
    *,
    num_iterations: int = 500,
    optimizer: OptimizerFactory | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> TrainingRun:
    """Train the steps of an unfolded network layer by layer, as published.

    One optimiser state is kept throughout. The network is trained in place. `train` does the same
    with more settings.

    Args:
        network: T layers, at their initial steps.
        loss: What to minimise, or a sampler, as in `train`.
        num_iterations: Mini-batches per stage.
        optimizer: Makes a torch optimiser of the parameters; Adam with learning rate 0.002, the
            published one, if not given.
        seed: Seed of the data; the same seed gives the same run.
        progress: Whether to show a progress bar on standard error; if not given, in a terminal.

    Returns:
        The learned schedule and, for every stage, its steps, losses and, where
        ``loss.measure`` is known, exact mean squared error and spectral radius.

    Raises:
        ValueError: If ``num_iterations`` is not positive.
        ArithmeticError: If the loss is not finite; the message says when. The network is left as it
            was before that iteration.

    References:
        Takabe and Wadayama, Theoretical Interpretation of Learned Step Size in Deep-Unfolded
        Gradient Descent (arXiv:2001.05142), on incremental training.

    >>> from stepfold import Schedule, SpectralMeasure
    >>> from stepfold.unfolded import SpectralLoss
    >>> measure = SpectralMeasure.from_eigenvalues([1.0, 3.0])
    >>> network = UnfoldedIteration(Schedule([0.3]))
    >>> run = train_incrementally(network, SpectralLoss(measure), num_iterations=300)
    >>> round(run.schedule[0], 2)  # the optimum is 0.4
    0.4
    """
    check_network(network)
    return train(
        network,
        loss,
        incremental(network.num_layers, check_size("num_iterations", num_iterations)),
        optimizer=optimizer,
        most_skipped=0,
        seed=seed,
        progress=progress,
    )


def _target(path: Path) -> Path:
    # A link is followed: what it points to is replaced, not the link.
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _share(batches_per_step: int | None) -> int:
    size = distributed.num_processes()
    if batches_per_step is None:
        return size
    if check_count("batches_per_step", batches_per_step, maximum=_MOST_BATCHES) % size:
        raise ValueError(
            f"`batches_per_step` must be a multiple of the number of processes, {size}, got "
            f"{batches_per_step}"
        )
    return batches_per_step
