"""The pack: members learn as if alone, leave, resume bit for bit, and are chosen by rows that did not train them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from dle_bundle.errors import InputError, WorkError
from dle_bundle.schema import Field, Outputs, Schema
from dle_training.config import run_config
from dle_training.config.resolve import resolve
from dle_training.config.run_config import RunConfig
from dle_training.ensembles import answers, choice, folds
from dle_training.ensembles import loop as ensembles
from dle_training.ensembles.optimizer import MemberOptimizer
from dle_training.fitting import loop
from dle_training.fitting.batches import PreparedRows
from dle_training.fitting.listeners import Listener
from dle_training.fitting.loop import FitInputs, FitResult
from dle_training.models.pack import Ensemble, Members, PackConfig
from dle_training.models.registry import build
from dle_training.optimization import objectives
from dle_training.optimization.objectives import Objective
from dle_training.packed.objective import PackedObjective
from dle_training.preprocessing.shape import InputShape

ROWS, OTHERS = 240, 90
SHAPE = InputShape(5, (6,), ((0, 0, 60, 60, 60, 60),), quantiles=3)
SMALL = ["model.name=pack", "model.pack.width=12", "model.pack.cosines=[3,3]", "model.pack.members=4", "device=cpu"]
BRIEF = ["training.batch_size=32", "training.epochs=4", "optimizer.lr=0.005"]
MUON = "model.pack.muon_lr=[0.5, 8.0]"


def schema(task: str) -> Schema:
    inputs = (Field(name="a", kind="numeric", required=True),)
    if task == "regression":
        return Schema(inputs=inputs, outputs=Outputs(target="y", task="regression"))
    classes = ("a", "b") if task == "binary" else ("a", "b", "c")
    return Schema(inputs=inputs, outputs=Outputs(target="y", task=task, classes=classes))  # type: ignore[arg-type]


def configured(*assignments: str, task: str = "multiclass", by: str = "stratified") -> RunConfig:
    loaded = run_config.load(None, [*SMALL, *BRIEF, f"split.by={by}", *assignments])
    return resolve(loaded, schema(task), ROWS)


def problem(task: str = "multiclass") -> tuple[Objective, PreparedRows, PreparedRows]:
    draw = np.random.default_rng(3)
    dense = draw.normal(size=(ROWS + OTHERS, 5)).astype(np.float32)
    codes = draw.integers(2, 6, size=(ROWS + OTHERS, 1))
    value = np.sin(2 * dense[:, 2]) + dense[:, 0] + 0.3 * (codes[:, 0] > 3)
    if task == "regression":
        objective = objectives.fit("regression", value[:ROWS])
        encoded = objective.encode(value)
    else:
        names = np.array(schema(task).outputs.classes)
        labels = names[np.digitize(value, [0.0] if task == "binary" else [-0.5, 0.7])]
        objective = objectives.fit(task, labels[:ROWS], tuple(names.tolist()))  # type: ignore[arg-type]
        encoded = objective.encode(labels)
    every = PreparedRows({"dense": torch.from_numpy(dense), "codes": torch.from_numpy(codes)}, encoded)
    return objective, every.slice(slice(ROWS)), every.slice(slice(ROWS, None))


def fresh(config: RunConfig, objective: Objective) -> Ensemble:
    torch.manual_seed(config.seed)
    network = build(config.model, SHAPE, objective.outputs, regression=objective.task == "regression")
    assert isinstance(network, Ensemble)
    return network


def fit(
    folder: Path,
    config: RunConfig,
    task: str = "multiclass",
    pack: Ensemble | None = None,
    listeners: Sequence[Listener] = (),
) -> tuple[Ensemble, FitResult]:
    objective, train, validation = problem(task)
    network = fresh(config, objective) if pack is None else pack
    fitted = ensembles.fit(FitInputs(network, objective, train, validation, config, folder, listeners))
    return network, fitted


class TestMembers:
    def test_what_a_member_draws_stays_within_the_ranges(self) -> None:
        settings = PackConfig(
            width=4, cosines=(5, 5), folds=1, frequency=(0.5, 2.0), lr=(0.1, 0.2), weight_decay=(3.0, 5.0)
        )
        settings = replace(settings, muon_lr=(6.0, 9.0))
        torch.manual_seed(0)
        members = Members(settings, SHAPE, 1, blocks=1)
        members.draw(range(40), dropout=0.3)
        assert 0.1 <= members.lr.min() < members.lr.max() <= 0.2
        assert 3.0 <= members.weight_decay.min() < members.weight_decay.max() <= 5.0
        assert 6.0 <= members.muon_lr.min() < members.muon_lr.max() <= 9.0
        assert 0.0 == members.dropout.min() < members.dropout.max() <= 0.3
        spreads = members.frequency.flatten(1).std(dim=1)
        assert spreads.max() / spreads.min() > 2, "the spread of the frequencies is a draw of each member"

    def test_few_members_are_spread_over_each_range(self) -> None:
        """One in each quarter of it, on a logarithmic scale; half of them have no dropout."""
        settings = PackConfig(
            width=4, cosines=(3, 3), folds=1, lr=(1.0, 16.0), weight_decay=(1.0, 16.0), muon_lr=(1.0, 16.0)
        )
        for seed in range(20):
            torch.manual_seed(seed)
            members = Members(settings, SHAPE, 1, blocks=1)
            members.draw(range(4), dropout=0.4)
            for drawn in (members.lr, members.weight_decay, members.muon_lr):
                assert drawn.log2().floor().sort().values.tolist() == [0, 1, 2, 3]
            assert (members.dropout == 0).sum() == 2
            assert members.dropout.sort().values[2] < 0.2 <= members.dropout.max()

    def test_numbers_of_few_distinct_values_have_frequencies_of_their_own(self) -> None:
        torch.manual_seed(0)
        settings = PackConfig(
            width=4, cosines=(2_000, 2_000), folds=1, frequency=(0.1, 0.2), discrete_frequency=(10.0, 20.0)
        )
        members = Members(settings, InputShape(2, quantiles=2, discrete=(False, True)), 1, blocks=1)
        members.draw(range(4), dropout=0.0)
        smooth, discrete = members.frequency.std(dim=2).T
        for spreads, unit in ((smooth, 0.1), (discrete, 10.0)):
            assert 0.95 * unit <= spreads.min() < spreads.max() <= 2.1 * unit

    def test_members_have_different_numbers_of_cosines(self) -> None:
        """Two in [3, 5], two in [6, 10]; the others stay constant, because training does not reach them."""
        torch.manual_seed(0)
        members = Members(PackConfig(width=4, cosines=(3, 10), folds=2), SHAPE, 1, blocks=1)
        members.draw(range(4), dropout=0.0)
        used = members.frequency != 0  # (copies of members, F, cosines)
        counts = used.sum(dim=2)
        assert torch.equal(counts, counts[:, :1].expand_as(counts)), "a member has as many for each number"
        each = counts[::2, 0]
        assert torch.equal(each, counts[1::2, 0]), "copies of a member have as many"
        assert 3 <= each.min() < each.max() <= 10
        members.gain.data.normal_()
        members({"dense": torch.randn(9, 5), "codes": torch.randint(6, (9, 1))}).square().sum().backward()
        for tensor in (members.frequency, members.phase):
            assert tensor.grad is not None
            assert torch.equal(tensor.grad != 0, used)

    def test_a_linear_member_is_linear_in_the_scaled_numbers_and_blind_to_the_quantiles(self) -> None:
        torch.manual_seed(0)
        members = Members(PackConfig(folds=1, cosines=(3, 3), width=4), InputShape(5, quantiles=3), 1, blocks=0)
        members.draw([0], dropout=0.5)
        one, other = torch.randn(7, 5), torch.randn(7, 5)
        both = members({"dense": one + other}) + members({"dense": torch.zeros(7, 5)})
        torch.testing.assert_close(both, members({"dense": one}) + members({"dense": other}))
        changed = one.clone()
        changed[:, 2:] += 1
        assert torch.equal(members({"dense": changed}), members({"dense": one}))

    def test_dropout_of_each_member(self) -> None:
        torch.manual_seed(0)
        members = Members(PackConfig(folds=1, cosines=(3, 3), width=512), InputShape(5, quantiles=3), 1, blocks=1)
        members.draw([0, 1], dropout=0.5)
        members.dropout = torch.tensor([0.0, 0.5])
        members.train()
        rows = {"dense": torch.randn(9, 5)}
        first, second = members(rows), members(rows)
        assert torch.equal(first[0], second[0])
        assert not torch.equal(first[1], second[1])

    def test_members_are_evaluated_in_parts_if_they_are_many(self) -> None:
        torch.manual_seed(0)
        members = Members(PackConfig(folds=1, cosines=(3, 3), width=600), SHAPE, 2, blocks=2)
        members.draw(range(7), dropout=0.0)
        given = {"dense": torch.randn(9, 5), "codes": torch.randint(6, (9, 1))}
        assert members.train()(given).shape == (7, 9, 2)
        torch.testing.assert_close(members.eval()(given), members.train()(given), rtol=1e-4, atol=1e-5)

    def test_a_range_from_high_to_low_is_refused(self) -> None:
        for name in ("lr", "muon_lr", "cosines"):
            with pytest.raises(InputError, match=rf"model.pack.{name}: expected a range \[low, high\], found \[4"):
                configured(f"model.pack.{name}=[4, 3]")

    def test_the_mean_of_a_pack_is_that_of_the_probabilities(self) -> None:
        for outputs in (1, 3):
            torch.manual_seed(1)
            settings = PackConfig(members=4, folds=1, blocks=(1, 2), width=8, cosines=(3, 3))
            pack = Ensemble(settings, InputShape(5, quantiles=3), outputs, dropout=0.0).eval()
            rows = {"dense": 3 * torch.randn(11, 5)}
            each = torch.cat([members(rows) for members in pack.running]).double()
            if outputs == 1:
                torch.testing.assert_close(torch.sigmoid(pack(rows).double()), torch.sigmoid(each).mean(dim=0))
            else:
                torch.testing.assert_close(torch.softmax(pack(rows).double(), 1), torch.softmax(each, 2).mean(dim=0))


class TestChoice:
    def test_members_that_err_in_opposite_ways_are_chosen_together(self) -> None:
        truth = torch.tensor([1.0, 2.0, 3.0, 4.0])
        candidates = torch.stack([truth + 0.3, truth + 2.0, truth - 0.5, truth * 9])

        def losses(each: Tensor) -> Tensor:
            return (each - truth).square().mean(dim=1)

        places, loss = choice.greedy(candidates, losses, most=4)
        assert places == [0, 2], "0.3 alone, then −0.5, whose mean is −0.1"
        assert loss == pytest.approx(0.01)
        assert choice.greedy(candidates, losses, most=1)[0] == [0]

    @pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
    def test_the_loss_of_answers_is_that_of_the_objective(self, task: str) -> None:
        objective, train, _ = problem(task)
        torch.manual_seed(2)
        outputs = torch.randn(3, len(train), objective.outputs)
        found = answers.losses(answers.of_targets(outputs, train.targets, objective), train.targets, objective)
        torch.testing.assert_close(found, torch.stack([objective.loss(each, train.targets) for each in outputs]))

    def test_the_mean_of_answers_is_the_answer_of_the_mean(self) -> None:
        objective, train, _ = problem("multiclass")
        config = configured("model.pack.folds=1")
        pack = fresh(config, objective).eval()
        outputs = torch.cat([members(train.inputs) for members in pack.running])
        mean = answers.of_targets(outputs, train.targets, objective).mean(dim=0, keepdim=True)
        torch.testing.assert_close(
            answers.losses(mean, train.targets, objective)[0], objective.loss(pack(train.inputs), train.targets)
        )


class TestTraining:
    @pytest.mark.parametrize("muon", [[], [MUON]])
    def test_members_learn_as_if_alone(self, tmp_path: Path, muon: list[str]) -> None:
        settings = ["model.pack.folds=1", "model.pack.patience=9", "training.epochs=2", "model.dropout=0.0"]
        config = configured(*settings, *muon)
        objective, _, _ = problem()
        together = fresh(config, objective)
        alone = [fresh(config, objective) for _ in range(4)]
        for number, pack in enumerate(alone):
            for members in pack.running:
                members.keep(torch.nonzero(members.number == number).flatten())
        trained = _last_weights(tmp_path / "together", config, together)
        for number, pack in enumerate(alone):
            own = _last_weights(tmp_path / str(number), config, pack)
            for name, tensor in own.items():
                group = name.rpartition(".")[0]
                place = (trained[f"{group}.number"] == number).nonzero().flatten()
                torch.testing.assert_close(tensor, trained[name][place], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("settings", [["model.pack.folds=1"], ["model.pack.folds=3"], ["model.pack.folds=1", MUON]])
    @pytest.mark.parametrize(("epoch", "step"), [(1, 3), (3, 1), (4, 8)])
    def test_an_interrupted_training_ends_with_the_same_weights(
        self, tmp_path: Path, settings: list[str], epoch: int, step: int
    ) -> None:
        config = configured(*settings, "model.pack.patience=1", "training.checkpoint_seconds=0")
        whole, expected = fit(tmp_path / "whole", config)
        with pytest.raises(_Killed):
            fit(tmp_path / "again", config, listeners=[_Kill(epoch, step)])
        resumed, found = fit(tmp_path / "again", config)
        assert [(r.validation_loss, r.train_loss) for r in found.history] == [
            (r.validation_loss, r.train_loss) for r in expected.history
        ]
        weights = resumed.state_dict()
        for name, tensor in whole.state_dict().items():
            assert torch.equal(tensor, weights[name]), name

    @pytest.mark.parametrize(("most", "expected"), [(1_500, 1), (2, 2)])
    def test_few_rows_are_learnt_by_one_thread(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, expected: int
    ) -> None:
        monkeypatch.setattr(ensembles, "_ONE_THREAD_ROWS", most)
        found: set[int] = set()

        class Watch(Listener):
            def on_step(self, epoch: int, step: int) -> None:
                found.add(torch.get_num_threads())

        before = torch.get_num_threads()
        torch.set_num_threads(2)
        fit(tmp_path, configured("training.epochs=1"), listeners=[Watch()])
        assert found == {expected}
        assert torch.get_num_threads() == 2
        torch.set_num_threads(before)

    def test_members_leave_when_their_loss_has_stopped_falling(self, tmp_path: Path) -> None:
        config = configured("model.pack.folds=1", "model.pack.patience=1", "optimizer.lr=0.3", "training.epochs=30")
        running: list[int] = []
        objective, _, _ = problem()
        pack = fresh(config, objective)

        class Count(Listener):
            def on_epoch(self, history: object, best_epoch: int) -> None:
                running.append(len(pack))

        _, fitted = fit(tmp_path, config, pack=pack, listeners=[Count()])
        assert running == sorted(running, reverse=True)
        assert running[0] > running[-1]
        assert len(fitted.history) < 30

    @pytest.mark.parametrize(("muon", "rate"), [([], "lr"), ([MUON], "muon_lr")])
    def test_a_member_that_diverges_leaves_and_harms_no_other(self, tmp_path: Path, muon: list[str], rate: str) -> None:
        config = configured("model.pack.folds=1", *muon, task="regression")
        objective, _, validation = problem("regression")
        pack = fresh(config, objective)
        getattr(pack.running[0], rate)[0] = 1e30
        numbers = []

        class Watch(Listener):
            def on_epoch(self, history: object, best_epoch: int) -> None:
                numbers.append([number for members in pack.running for number in members.number.tolist()])

        diverged = int(pack.running[0].number[0])
        pack, fitted = fit(tmp_path, config, "regression", pack=pack, listeners=[Watch()])
        assert all(diverged not in each for each in numbers)
        assert len(numbers[0]) == 3
        assert np.isfinite([(record.train_loss, record.validation_loss) for record in fitted.history]).all()
        assert torch.isfinite(loop.predict(pack, validation)).all()

    def test_a_step_waits_for_no_device(self) -> None:
        """The step runs on the device `meta`, which has no values: to read one would be an error."""
        config = configured("model.pack.folds=3", MUON)
        objective, train, _ = problem()
        pack = fresh(config, objective)
        assert any(bool((members.dropout > 0).any()) for members in pack.running)
        pack.to("meta")
        optimizer = MemberOptimizer(pack.running, 0.01, 1e-4)
        running = [(members, PackedObjective([objective.to("meta")] * len(members))) for members in pack.running]
        rows = folds.with_folds(train, 3, seed=0).to(torch.device("meta"))
        for _ in range(2):
            assert ensembles.step(running, optimizer, rows).is_meta

    def test_a_state_goes_to_the_device_of_the_weights(self) -> None:
        """By default PyTorch leaves the numbers of steps on the CPU, and the fused kernel cannot read them there."""
        objective, train, _ = problem()
        config = configured("model.pack.folds=3", MUON)
        here, there = fresh(config, objective), fresh(config, objective).to("meta")
        optimizer, other = (MemberOptimizer(pack.running, 0.01, 1e-4) for pack in (here, there))
        running = [(members, PackedObjective([objective] * len(members))) for members in here.running]
        ensembles.step(running, optimizer, folds.with_folds(train, 3, seed=0))
        other.load_state_dict(optimizer.state_dict())
        assert all(value.is_meta for state in other.state.values() for value in state.values())
        assert len(other.state) == sum(1 for _ in here.parameters())

    def test_muon_trains_the_weights_of_hidden_layers_alone(self, tmp_path: Path) -> None:
        """With a learning rate of nearly 0 they stay, and all other weights learn."""
        config = configured("model.pack.folds=1", "model.pack.muon_lr=[1.0e-9, 1.0e-9]", "model.pack.blocks=[2, 1, 0]")
        objective, _, _ = problem()
        pack = fresh(config, objective)
        before = {name: parameter.detach().clone() for name, parameter in pack.named_parameters()}
        trained = _last_weights(tmp_path, replace(config, training=replace(config.training, epochs=1)), pack)
        stayed = {name for name, tensor in before.items() if torch.allclose(tensor, trained[name], rtol=0, atol=1e-6)}
        assert stayed == {"groups.0.weight0", "groups.0.weight1", "groups.1.weight0"}

    def test_if_all_members_diverge_the_refusal_proposes_a_learning_rate(self, tmp_path: Path) -> None:
        with pytest.raises(WorkError, match="not finite") as caught:
            fit(tmp_path, configured("model.pack.folds=1", "optimizer.lr=1e30", task="regression"), "regression")
        assert "optimizer.lr" in caught.value.details[0]

    def test_the_ensemble_is_no_worse_than_any_member_on_validation(self, tmp_path: Path) -> None:
        config = configured("model.pack.folds=1", task="regression")
        objective, _, validation = problem("regression")
        pack, fitted = fit(tmp_path, config, "regression")
        best = min(record.validation_loss for record in fitted.history)
        loss = objective.loss(loop.predict(pack, validation), validation.targets).item()
        assert loss == pytest.approx(best, rel=1e-5)
        assert fitted.best_score == pytest.approx(best**0.5 * objective.state().sd, rel=1e-5)
        each = torch.cat(ensembles.outputs(pack, validation))
        assert loss <= min(objective.loss(own, validation.targets).item() for own in each) + 1e-6


class TestFolds:
    def test_folds_are_of_one_size_and_of_one_mixture(self) -> None:
        _, train, _ = problem("multiclass")
        fold = folds.with_folds(train, 5, seed=1).inputs[folds.FOLD]
        for label in range(3):
            counts = torch.bincount(fold[train.targets == label], minlength=5)
            assert counts.max() - counts.min() <= 1
        again = folds.with_folds(train, 5, seed=1).inputs[folds.FOLD]
        assert torch.equal(fold, again)
        assert not torch.equal(fold, folds.with_folds(train, 5, seed=2).inputs[folds.FOLD])

    def test_no_copy_learns_from_the_rows_that_it_answers(self, tmp_path: Path) -> None:
        """The targets of one fold are changed: the copy that leaves this fold out stays the same, the others do not."""
        config = configured("model.pack.folds=3", "training.epochs=1", "model.dropout=0.0")
        objective, train, _ = problem()
        rows = folds.with_folds(train, 3, config.seed)
        poisoned = rows.targets.clone()
        poisoned[rows.inputs[folds.FOLD] == 2] = 0
        results = []
        for targets in (rows.targets, poisoned):
            pack = fresh(config, objective)
            optimizer = MemberOptimizer(pack.running, 0.01, 1e-4)
            for members in pack.running:
                given = targets.expand(len(members), -1)
                each = PackedObjective([objective] * len(members)).losses(members(rows.inputs), given)
                (each * folds.shares(rows.inputs, members)).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            results.append(pack)
        for one, other in zip(results[0].running, results[1].running, strict=True):
            pairs = zip(one.state_dict()["weight0"], other.state_dict()["weight0"], strict=True)
            same = [torch.equal(a, b) for a, b in pairs]
            assert same == (one.fold == 2).tolist()

    def test_a_copy_answers_the_rows_of_its_fold(self) -> None:
        config = configured("model.pack.folds=3")
        objective, train, _ = problem()
        rows = folds.with_folds(train, 3, seed=0)
        pack = fresh(config, objective).eval()
        for members, found in zip(pack.running, ensembles.outputs(pack, rows), strict=True):
            every = members(rows.inputs)
            assert found.shape == (len(members) // 3, len(train), 3)
            for row in (0, 17, 200):
                fold = int(rows.inputs[folds.FOLD][row])
                own = every[(members.fold == fold).nonzero().flatten(), row]
                torch.testing.assert_close(found[:, row], own)

    @pytest.mark.parametrize(("by", "expected"), [("stratified", 5), ("time:a", 1), ("group:a", 1), ("column:a", 1)])
    def test_few_rows_are_split_into_folds_if_they_are_split_at_random(self, by: str, expected: int) -> None:
        assert configured(by=by).model.pack.folds == expected  # type: ignore[attr-defined]


def test_settings_that_a_pack_cannot_follow_are_refused_together() -> None:
    with pytest.raises(InputError, match=r"model\.name=mlp") as refused:
        configured(
            "training.refit=true", "training.metric=roc_auc", "training.ema=0.9", "optimizer.name=sgd",
            "optimizer.beta2=0.95", "schedule.regularisation=flat_cosine", "model.pack.folds=4", by="time:a",
        )  # fmt: skip
    assert [detail.partition(":")[0].partition("=")[0] for detail in refused.value.details] == [
        "training.refit", "training.metric", "training.ema", "optimizer.name", "optimizer.beta2",
        "schedule.regularisation", "model.pack.folds",
    ]  # fmt: skip


class _Killed(Exception):
    pass


class _Kill(Listener):
    """Ends the training after a step whose state has been saved, as a crash would."""

    def __init__(self, epoch: int, step: int) -> None:
        self._when, self._reached = (epoch, step), False

    def on_step(self, epoch: int, step: int) -> None:
        self._reached = (epoch, step) == self._when

    def on_checkpoint(self, path: Path) -> None:
        if self._reached:
            raise _Killed


def _last_weights(folder: Path, config: RunConfig, pack: Ensemble) -> dict[str, Tensor]:
    """The weights of all members after the last step, before the ensemble takes their place."""
    kept: dict[str, Tensor] = {}

    class Keep(Listener):
        def on_checkpoint(self, path: Path) -> None:
            kept.update({name: tensor.clone() for name, tensor in pack.state_dict().items()})

    each_step = replace(config, training=replace(config.training, checkpoint_seconds=0.0))
    fit(folder, each_step, pack=pack, listeners=[Keep()])
    return kept
