"""The training loop of a pack: all members learn at once, and an ensemble is chosen after each epoch.

The candidates are the members as they answer now, and the members chosen before with the weights of their epochs. A
member whose own loss stops falling leaves, and training ends when the ensemble has stopped improving.
`dle_training.fitting.loop` has the loop for one network.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from dle_bundle.errors import Interrupted
from dle_training.config import devices
from dle_training.ensembles import answers, choice, folds
from dle_training.ensembles.optimizer import MemberOptimizer
from dle_training.fitting import batches, loop
from dle_training.fitting.batches import PreparedRows
from dle_training.fitting.interruption import Interruption
from dle_training.fitting.listeners import EpochRecord
from dle_training.fitting.loop import FitInputs, FitResult, Training
from dle_training.fitting.state import TrainingState, digest, global_generators
from dle_training.fitting.tensors import TrainingData
from dle_training.models._base import Network
from dle_training.models.pack import Ensemble, Members
from dle_training.optimization.objectives import Regression
from dle_training.packed.objective import PackedObjective
from dle_training.scoring import metrics
from dle_training.settings.base import chosen

_LEAST_IMPROVEMENT = 1e-5
"""The ensemble has improved if its loss fell by more than this."""
_ONE_THREAD_ROWS = 1_500
"""With fewer training rows, steps are so short that several threads gain little. Beside other programs, they would wait
for each other, and training would take many times as long."""
_ANSWERS, _LOSS, _LOSSES, _EPOCHS = "answers", "loss", "losses", "epochs"
"""What the state keeps beside weights: the answers of the chosen members, their loss, and each member's best epoch."""


def fit(inputs: FitInputs) -> FitResult:
    """Train the members of the pack `inputs.network`, which then holds the chosen ensemble.

    States are saved and continued as `fitting.loop.fit` does, and the same exceptions are raised.
    """
    pack, config = inputs.network, inputs.config
    assert isinstance(pack, Ensemble)
    training = _begin(folds.inside(inputs, pack), pack)
    state, progress, slices = training.state, training.progress, training.batches
    optimizer = state.optimizer
    assert isinstance(optimizer, MemberOptimizer)
    train_rows, saved = training.inputs.train, time.monotonic()
    with Interruption() as interruption, _threads(len(train_rows)), ExitStack() as ending:
        training.start(ending)
        while not progress.finished:
            begun = time.perf_counter() - progress.seconds
            pack.train()
            running = [(each, PackedObjective([training.inputs.objective] * len(each))) for each in pack.running]
            for batch in train_rows.batches(slices[progress.step :], training.draw_order()):
                for group in optimizer.param_groups:
                    group["lr"] = training.learning_rate(progress.step)
                state.loss_sum.add_(step(running, optimizer, batch), alpha=len(batch))
                training.count_step()
                if interruption.requested or time.monotonic() - saved >= config.training.checkpoint_seconds:
                    progress.seconds = time.perf_counter() - begun
                    last = training.save()
                    saved = time.monotonic()
                if interruption.requested:
                    raise Interrupted(f"Interrupted in epoch {progress.epoch + 1}; the state is in {last}")
            state.loss_sum.item()  # waits for the device, so that its time counts
            progress.seconds = time.perf_counter() - begun
            _end_epoch(training, pack, optimizer)
        fitted = training.end()
        if interruption.requested:
            raise Interrupted(f"Interrupted after the last epoch; the weights are in {inputs.checkpoints / loop.BEST}")
    return fitted


@contextmanager
def _threads(rows: int) -> Iterator[None]:
    """Let one thread compute while a pack learns from few rows."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if rows < _ONE_THREAD_ROWS else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _begin(inputs: FitInputs, pack: Ensemble) -> Training:
    config, checkpoints = inputs.config, inputs.checkpoints
    metric = metrics.METRICS[chosen(config.training.metric)]
    device = devices.choose(config.device)
    inputs = loop.on_device(inputs, device)
    groups = [group for group in pack.groups if isinstance(group, Members)]
    optimizer = MemberOptimizer(groups, chosen(config.optimizer.lr), chosen(config.optimizer.weight_decay))
    data = digest(inputs.train.targets, inputs.validation.targets)
    state = TrainingState(pack, optimizer, global_generators(device), config.seed, data)
    members = chosen(pack.settings.members)
    state.extra = {
        _ANSWERS: torch.empty(0, len(inputs.validation), device=device),
        _LOSS: torch.tensor(math.inf, dtype=torch.float64),
        _LOSSES: torch.full((members,), math.inf, device=device),
        _EPOCHS: torch.zeros(members, dtype=torch.int64, device=device),
    }
    state.best_weights = {name: tensor[:0] for name, tensor in state.best_weights.items()}
    loop.continue_from(checkpoints, state)
    slices = loop.split_batches(len(inputs.train), chosen(config.training.batch_size))
    return Training(inputs, metric, slices, state)


def step(running: Sequence[tuple[Members, PackedObjective]], optimizer: MemberOptimizer, batch: PreparedRows) -> Tensor:
    """Make a step of all members, and return their mean loss; nothing in it waits for the device."""
    found = []
    for members, objective in running:
        targets = batch.targets.expand(len(members), *batch.targets.shape)
        each = objective.losses(members(batch.inputs), targets)  # (M, B)
        means = (each * folds.shares(batch.inputs, members)).sum(dim=1)
        means.sum().backward()  # type: ignore[no-untyped-call]
        found.append(means.detach())
    optimizer.step()
    optimizer.zero_grad()
    return _mean_of_finite(torch.cat(found))


def _mean_of_finite(losses: Tensor) -> Tensor:
    """The mean loss of the members that have not diverged; NaN if all have."""
    finite = torch.isfinite(losses)
    return torch.where(finite, losses, torch.zeros_like(losses)).sum() / finite.sum()


def _end_epoch(training: Training, pack: Ensemble, optimizer: MemberOptimizer) -> None:
    """Choose the ensemble, close the epoch, and let members leave.

    The candidates stand group by group, and within a group those chosen before come first. All copies of a member for
    the folds are one candidate.
    """
    inputs, state, progress, begun = training.inputs, training.state, training.progress, time.perf_counter()
    objective, targets = inputs.objective, inputs.validation.targets
    train_loss = state.loss_sum.item() / len(inputs.train)
    answered = [answers.of_targets(each, targets, objective) for each in outputs(pack, inputs.validation)]
    copies = pack.copies
    sizes = [len(state.best_weights[f"groups.{group}.number"]) // copies for group in range(len(answered))]
    pooled = torch.split(state.extra[_ANSWERS], sizes)
    candidates = torch.cat([each for pair in zip(pooled, answered, strict=True) for each in pair])
    places, loss = choice.greedy(candidates, lambda each: answers.losses(each, targets, objective), pack.settings.most)
    loop.check_finite(progress.epoch + 1, train_loss, loss, inputs.config)
    record = EpochRecord(
        epoch=progress.epoch + 1,
        train_loss=train_loss,
        validation_loss=loss,
        metric=_score(loss, training),
        lr=training.learning_rate(len(training.batches) - 1),
        seconds=progress.seconds + time.perf_counter() - begun,
        rows_per_second=len(inputs.train) / progress.seconds,
    )
    improved = loss < state.extra[_LOSS].item() - _LEAST_IMPROVEMENT
    best = state.best_weights
    if improved:
        places.sort()
        best = _taken(best, pack, places)
        state.extra[_ANSWERS] = candidates[torch.tensor(places, device=candidates.device)]
        state.extra[_LOSS].fill_(loss)
    _leave(pack, optimizer, state, [answers.losses(each, targets, objective) for each in answered])
    state.next_epoch(record, improved, best)
    training.stop_if_over()
    progress.finished |= not pack.running
    for listener in inputs.listeners:
        listener.on_epoch(progress.history, progress.best_epoch)


@torch.inference_mode()
def outputs(pack: Ensemble, rows: PreparedRows) -> list[Tensor]:
    """The outputs (candidates, N, K) of each group; with folds, those of the copies that did not train on the row."""
    pack.before_evaluation()
    pack.eval()
    device = next(pack.parameters()).device
    batches = [batch.to(device) for batch in rows.in_turn()]
    return [
        torch.cat([folds.of_own_copy(members(batch.inputs), batch.inputs, pack.copies) for batch in batches], dim=1)
        for members in pack.groups
        if isinstance(members, Members)
    ]


def validation_rows(pack: Ensemble, data: TrainingData, seed: int) -> PreparedRows:
    """The rows that validate `pack`: with folds those of both parts, the validation part last."""
    if pack.copies == 1:
        return data.validation
    return folds.with_folds(batches.together(data.train, data.validation), pack.copies, seed)


def validated(network: Network, data: TrainingData, seed: int) -> tuple[PreparedRows, Tensor]:
    """The rows that validate `network`, and its outputs (N, K) for them, by weights that these rows did not train."""
    if not isinstance(network, Ensemble) or network.copies == 1:
        return data.validation, loop.predict(network, data.validation)
    rows = validation_rows(network, data, seed)
    return rows, network.mean(torch.cat(outputs(network, rows)))


def _score(loss: float, training: Training) -> float:
    """The metric for this loss of the ensemble."""
    objective = training.inputs.objective
    if training.metric.name != "rmse":
        return loss
    assert isinstance(objective, Regression)
    return math.sqrt(loss) * objective.sd.item()


def _taken(best: dict[str, Tensor], pack: Ensemble, places: list[int]) -> dict[str, Tensor]:
    """Copy the weights of the candidates at `places`, ascending; see `_end_epoch` for their order."""
    taken, first = dict[str, Tensor](), 0
    own, copies = pack.state_dict(), pack.copies
    for group in range(len(pack.groups)):
        prefix = f"groups.{group}."
        count = (len(best[f"{prefix}number"]) + len(own[f"{prefix}number"])) // copies
        index = _of_copies([place - first for place in places if first <= place < first + count], copies)
        for name in (name for name in own if name.startswith(prefix)):
            taken[name] = torch.cat([best[name], own[name]]).index_select(0, index.to(own[name].device))
        first += count
    return taken


def _of_copies(places: list[int], copies: int) -> Tensor:
    """The places of all copies of the candidates at `places`."""
    return (torch.tensor(places, dtype=torch.int64).view(-1, 1) * copies + torch.arange(copies)).flatten()


def _leave(pack: Ensemble, optimizer: MemberOptimizer, state: TrainingState, losses: list[Tensor]) -> None:
    """Note each member's loss (M,), and drop the members that diverged or have not improved for their patience."""
    epoch = state.progress.epoch + 1
    for members, own in zip((group for group in pack.groups if isinstance(group, Members)), losses, strict=True):
        numbers = members.number[:: pack.copies]
        better = own < state.extra[_LOSSES][numbers]
        state.extra[_LOSSES][numbers] = torch.minimum(own, state.extra[_LOSSES][numbers])
        state.extra[_EPOCHS][numbers[better]] = epoch
        stays = (epoch - state.extra[_EPOCHS][numbers] < pack.settings.patience) & torch.isfinite(own)
        running = torch.nonzero(stays).flatten()
        if len(running) < len(numbers):
            places = _of_copies(running.tolist(), pack.copies).to(numbers.device)
            optimizer.keep(members, places)
