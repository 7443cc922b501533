"""Target encoding, loss and link of each task, against values worked out by hand."""

import math

import msgspec
import numpy as np
import pytest
import torch

from dle_bundle.errors import InputError
from dle_bundle.schema import Task
from dle_training.optimization import objectives
from dle_training.optimization.objectives import ObjectiveState
from dle_training.packed.objective import PackedObjective
from dle_training.scoring import calibration


def test_binary() -> None:
    objective = objectives.fit("binary", np.array(["no", "yes", "no"], dtype=object), ("no", "yes"))
    assert objective.outputs == 1
    assert objective.encode(np.array(["yes", "no"])).tolist() == [1, 0]
    logits = torch.tensor([[0.0], [2.0]])
    loss = objective.loss(logits, torch.tensor([1, 0]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(1 + math.exp(2))) / 2)
    probability = 1 / (1 + math.exp(-2))
    np.testing.assert_allclose(objective.link(logits).numpy(), [[0.5, 0.5], [1 - probability, probability]], rtol=1e-6)


def test_multiclass() -> None:
    objective = objectives.fit("multiclass", np.array([3, 1, 2]), (1, 2, 3))
    assert objective.outputs == 3
    assert objective.encode(np.array([3, 1])).tolist() == [2, 0]
    logits = torch.tensor([[0.0, math.log(2), math.log(5)]])
    np.testing.assert_allclose(objective.link(logits).numpy(), [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-6)
    assert objective.loss(logits, torch.tensor([2])).item() == pytest.approx(math.log(8 / 5))
    assert objective.actual(torch.tensor([2, 0])).tolist() == [2, 0]


def test_boolean_labels() -> None:
    objective = objectives.fit("binary", np.array([True, False]), (False, True), {"true": 3.0})
    assert objective.encode(np.array([True, False], dtype=object)).tolist() == [1, 0]
    assert objective.state().class_weights == (0.5, 1.5)


def test_regression_restores_the_unit() -> None:
    target = np.array([10.0, 20.0, 30.0])
    objective = objectives.fit("regression", target)
    encoded = objective.encode(target)
    sd = math.sqrt(200 / 3)
    np.testing.assert_allclose(encoded.numpy(), (target - 20) / sd, rtol=1e-6)
    np.testing.assert_allclose(objective.link(encoded[:, None]).numpy(), target, rtol=1e-6)
    assert objective.actual(encoded).tolist() == pytest.approx(target.tolist())
    assert objective.loss(torch.zeros(3, 1), encoded).item() == pytest.approx(1.0)


def test_answers_of_a_clamped_regression_stay_in_the_range_of_training() -> None:
    objective = objectives.fit("regression", np.array([10.0, 20.0, 30.0]), clamp=True)
    outputs = torch.tensor([[-50.0], [0.0], [50.0]])
    assert objective.link(outputs).tolist() == [10.0, 20.0, 30.0]
    assert objectives.restore(objective.state()).link(outputs).tolist() == [10.0, 20.0, 30.0]
    steps = objectives.fit("regression", np.array([[1.0, np.nan], [3.0, 5.0]]), clamp=True)
    assert steps.link(torch.tensor([[-9.0, 9.0]])).tolist() == [[1.0, 5.0]]


def test_constant_target_is_finite() -> None:
    objective = objectives.fit("regression", np.array([7.0, 7.0]))
    assert objective.link(objective.encode(np.array([7.0, 8.0]))[:, None]).tolist() == [7.0, 8.0]


@pytest.mark.parametrize(("task", "classes"), [("binary", ("a", "b")), ("multiclass", ("a", "b", "c"))])
def test_class_weights_count_rows_as_often(task: Task, classes: tuple[str, ...]) -> None:
    """Weight 3 is as if the row stood there three times, up to the scale that keeps the mean weight at 1."""
    target = np.array(list("aaab") if task == "binary" else list("aaabc"))
    plain = objectives.fit(task, target, classes)
    weighted = objectives.fit(task, target, classes, {"b": 3.0})
    logits = torch.randn(len(target), plain.outputs)
    thrice = [*range(len(target)), 3, 3]
    encoded = plain.encode(target)
    expected = plain.loss(logits[thrice], encoded[thrice])
    torch.testing.assert_close(weighted.loss(logits, encoded), expected)


def test_balanced_weights() -> None:
    state = objectives.fit("multiclass", np.array(list("aaab")), ("a", "b", "c"), "balanced").state()
    assert state.class_weights is not None
    assert state.class_weights[1] / state.class_weights[0] == pytest.approx(3)
    assert np.average(state.class_weights, weights=[3, 1, 0]) == pytest.approx(1)
    assert math.isfinite(state.class_weights[2])


def test_weights_of_unknown_labels() -> None:
    with pytest.raises(InputError, match="class_weights") as caught:
        objectives.fit("binary", np.array(["no", "yes"]), ("no", "yes"), {"yess": 2.0, "maybe": 1.0})
    assert caught.value.details == ("yess (did you mean 'yes'?)", "maybe (known: no, yes)")


def test_unknown_targets() -> None:
    objective = objectives.fit("binary", np.array(["no", "yes"]), ("no", "yes"))
    with pytest.raises(InputError, match=r"has not seen: maybe \(known: no, yes\)"):
        objective.encode(np.array(["no", "maybe"]))


@pytest.mark.parametrize(
    "state",
    [
        ObjectiveState(task="binary", classes=(False, True), class_weights=(0.5, 1.5), temperature=1.7),
        ObjectiveState(task="multiclass", classes=(1, 2, 3)),
        ObjectiveState(task="regression", mean=0.1 + 0.2, sd=1 / 3),
    ],
)
def test_state_round_trip(state: ObjectiveState) -> None:
    again = msgspec.json.decode(msgspec.json.encode(state), type=ObjectiveState)
    first, second = objectives.restore(state), objectives.restore(again)
    logits = torch.randn(6, first.outputs)
    assert torch.equal(first.link(logits), second.link(logits))
    assert msgspec.json.encode(objectives.restore(first.state()).state()) == msgspec.json.encode(first.state())


def test_temperature_divides_the_logits_and_keeps_the_labels() -> None:
    state = ObjectiveState(task="multiclass", classes=("a", "b", "c"))
    logits = torch.randn(20, 3)
    warm = objectives.restore(msgspec.structs.replace(state, temperature=2.0)).link(logits)
    torch.testing.assert_close(warm, torch.softmax(logits / 2, dim=1))
    assert torch.equal(warm.argmax(1), objectives.restore(state).link(logits).argmax(1))


def test_the_weights_are_taken_out_of_the_probabilities() -> None:
    """The weighted loss is least at p · w, scaled to sum 1, where p are the frequencies of the classes."""
    weights, frequencies = (0.5, 2.0, 8.0), torch.tensor([[0.7, 0.2, 0.1]])
    objective = objectives.restore(ObjectiveState(task="multiclass", classes=("a", "b", "c"), class_weights=weights))
    targets, logits = torch.arange(3), torch.zeros(1, 3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = sum(frequencies[0, k] * objective.loss(logits, targets[k : k + 1]) for k in range(3))
        assert isinstance(loss, torch.Tensor)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(20):
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(objective.link(logits.detach()), frequencies, atol=1e-3, rtol=1e-3)


def test_the_weights_are_taken_out_after_the_temperature() -> None:
    logits, weights = torch.randn(5, 3), (0.5, 2.0, 8.0)
    state = ObjectiveState(task="multiclass", classes=("a", "b", "c"), class_weights=weights, temperature=1.7)
    expected = torch.softmax(logits / 1.7 - torch.tensor(weights).log(), dim=1)
    torch.testing.assert_close(objectives.restore(state).link(logits), expected)
    state = ObjectiveState(task="binary", classes=("a", "b"), class_weights=(0.5, 8.0), temperature=1.7)
    second = torch.sigmoid(logits[:, :1] / 1.7 - math.log(16))
    torch.testing.assert_close(objectives.restore(state).link(logits[:, :1]), torch.cat([1 - second, second], 1))


@pytest.mark.parametrize("temperature", [1.0, 10.0])
@pytest.mark.parametrize(("task", "target"), [("binary", "aaab"), ("multiclass", "aaaaaabbc")])
def test_logits_that_say_nothing_give_the_frequencies(task: Task, target: str, temperature: float) -> None:
    labels = np.array(list(target))
    state = objectives.fit(task, labels, tuple(sorted(set(target))), "balanced").state()
    objective = objectives.restore(msgspec.structs.replace(state, temperature=temperature))
    found = objective.link(torch.zeros(1, objective.outputs))
    frequencies = np.unique(labels, return_counts=True)[1] / len(labels)
    np.testing.assert_allclose(found.numpy()[0], frequencies, rtol=1e-5)


def test_weights_of_any_size_leave_finite_probabilities() -> None:
    objective = objectives.fit("binary", np.array(list("ab")), ("a", "b"), {"a": 1e-60, "b": 1e60})
    assert objective.link(torch.tensor([[100.0], [-100.0]])).isfinite().all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_temperature_is_found_again(classes: int, true: float, weighted: bool) -> None:
    """Labels drawn from the probabilities at a known temperature."""
    draw = np.random.default_rng(0)
    logits = draw.normal(scale=2, size=(20_000, classes))
    added = np.log(np.arange(1, classes + 1)) if weighted else np.zeros(classes)
    probabilities = np.exp(logits / true - added)
    probabilities /= probabilities.sum(1, keepdims=True)
    targets = (draw.random((len(logits), 1)) > probabilities.cumsum(1)).sum(1)
    given, log_weights = (each if classes > 2 else each[..., 1:] - each[..., :1] for each in (logits, added))
    found = calibration.fit_temperature(torch.tensor(given), torch.tensor(targets), torch.tensor(log_weights))
    assert found == pytest.approx(true, rel=0.07)


def test_temperature_of_little_or_separated_data_is_moderate() -> None:
    assert calibration.fit_temperature(torch.zeros((0, 1)), torch.zeros(0, dtype=torch.int64)) == pytest.approx(1)
    assert calibration.fit_temperature(torch.tensor([[3.0]]), torch.tensor([1])) == pytest.approx(1, abs=0.15)
    separated = torch.tensor([[5.0], [-5.0]] * 50)
    assert 0.4 < calibration.fit_temperature(separated, torch.tensor([1, 0] * 50)) < 1.0
    wrong = calibration.fit_temperature(separated * 1e6, torch.tensor([0, 1] * 50))
    assert wrong == pytest.approx(calibration.HIGHEST)


def test_temperature_never_costs_likelihood() -> None:
    draw = np.random.default_rng(1)
    logits = torch.tensor(draw.normal(scale=5, size=(200, 3)))
    targets = torch.tensor(draw.integers(0, 3, 200))

    def loss(temperature: float) -> float:
        return torch.nn.functional.cross_entropy(logits / temperature, targets).item()

    assert loss(calibration.fit_temperature(logits, targets)) < loss(1.0)


def test_steps_without_a_target_do_not_count() -> None:
    """The loss of a row is the mean over its known steps, and unknown steps have no gradient, packed or alone."""
    target = np.array([[1.0, math.nan, 3.0], [2.0, 2.0, math.nan]])
    objective = objectives.fit("regression", target)
    assert objective.state().mean == 2
    encoded = objective.encode(target)
    logits = torch.tensor([[0.5, 9.0, -1.0], [0.0, 1.0, 7.0]], requires_grad=True)
    loss = objective.loss(logits, encoded)
    loss.backward()  # type: ignore[no-untyped-call]
    squares = (logits.detach() - encoded) ** 2
    assert loss.item() == pytest.approx(squares.nanmean(dim=1).mean().item())
    assert logits.grad is not None
    assert (logits.grad[encoded.isnan()] == 0).all()
    assert logits.grad.isfinite().all()
    each = PackedObjective([objective]).losses(logits[None], encoded[None])
    torch.testing.assert_close(each[0], squares.nanmean(dim=1))
    assert np.allclose(objective.actual(encoded).astype(np.float64), target, equal_nan=True)
