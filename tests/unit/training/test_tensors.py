"""What a network is trained on, kept in a folder and mapped into memory, is what it was."""

from pathlib import Path

import torch

from dle_training.config import run_config
from dle_training.fitting import tensors
from dle_training.runs import prepare


def test_mapped_data_is_the_same(tmp_path: Path) -> None:
    prepared = prepare.prepare(run_config.load(None, ["data.source=sklearn:breast_cancer"]))
    made = tensors.make(prepared.dataset, prepared.config)
    tensors.save(made, tmp_path)
    mapped = tensors.load(tmp_path, prepared.dataset.schema)
    assert mapped.objective == made.objective
    assert mapped.preprocessing.fitted == made.preprocessing.fitted
    for one, other in ((made.train, mapped.train), (made.validation, mapped.validation)):
        assert torch.equal(one.targets, other.targets)
        assert one.inputs.keys() == other.inputs.keys()
        assert all(torch.equal(one.inputs[name], other.inputs[name]) for name in one.inputs)


def test_text_brings_its_tokenizer_and_its_lengths(tmp_path: Path) -> None:
    lines = [f"{'good' if row % 2 else 'bad'} {'word ' * (row % 7 + 4)}number {row},{row % 2}" for row in range(60)]
    (tmp_path / "texts.csv").write_text("\n".join(["review,liked", *lines]) + "\n")
    source = f"data.source={tmp_path / 'texts.csv'}"
    prepared = prepare.prepare(run_config.load(None, [source, "data.target=liked", "data.kinds={review: text}"]))
    made = tensors.make(prepared.dataset, prepared.config)
    kept = tmp_path / "kept"
    tensors.save(made, kept)
    mapped = tensors.load(kept, prepared.dataset.schema)
    assert made.train.spans is not None
    assert mapped.train.spans is not None
    assert torch.equal(mapped.train.spans, made.train.spans)
    assert torch.equal(mapped.train.inputs["tokens"], made.train.inputs["tokens"])
