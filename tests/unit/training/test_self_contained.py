"""A finished run holds what evaluation, comparison and export need: its source may be gone."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests import many_inputs, people
from tests.many_inputs import SOURCES

from dle_bundle import bundle as bundles
from dle_bundle import documents
from dle_bundle.errors import InputError, Interrupted
from dle_bundle.files import write_atomic
from dle_training.config import run_config
from dle_training.data import sources
from dle_training.export import bundle as export
from dle_training.runs import contents, evaluate, kept_rows, prepare, train
from dle_training.runs import folder as run_folder
from dle_training.runs.folder import RunFolder
from dle_training.runs.prepare import Prepared
from dle_training.search import compare, selection, workers
from dle_training.search import study as studies
from dle_training.search.study import StudyFolder
from dle_training.search.trial import Watcher

SMALL = (
    "preset=fast", "training.epochs=2", "model.hidden=[8]",
    "model.tcn.width=4", "model.tcn.depth=3", "model.cnn.width=4", "device=cpu"
)  # fmt: skip
NAMES = ("buys", "spent", *SOURCES, "streamed")


def prepared(folder: Path, name: str, *settings: str) -> Prepared:
    """The data of one of `NAMES`, whose source stands in `folder`."""
    if name in ("buys", "spent"):
        given = ["data.source=" + str(folder / f"{name}.csv"), f"data.target={name}"]
    else:
        source, *options = SOURCES["pictures" if name == "streamed" else name]
        flags = dict(zip(options[::2], options[1::2], strict=True)) if "--target" in options[:1] else {}
        given = [f"data.source={folder / source}"]
        given += [f"data.target={flags['--target']}"] if flags else []
        given += [option for option in options if "=" in option]
        if name == "power":
            given.append("data.target=load")
        if name == "machines":
            given.append("data.target=state")
        if name == "streamed":
            given.append("data.image_memory=0.00001")
    return prepare.prepare(run_config.load(None, [*SMALL, *given, *settings]))


def trained(folder: Path, name: str, *settings: str, out: str | None = None) -> tuple[RunFolder, Prepared]:
    made = prepared(folder, name, *settings)
    run = prepare.create(folder / (out or f"{name}-run"), made)
    train.train(run, made)
    return run, made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    many_inputs.write_sources(folder)
    for target in ("buys", "spent"):
        people.write_people(folder / f"{target}.csv", 300, target=target)
    return folder


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("the source was read")


@pytest.mark.parametrize("name", NAMES)
def test_without_its_source_a_run_is_evaluated_compared_and_exported(
    folder: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    run, made = trained(tmp_path / "copy", name)
    model = train.open_model(run)
    expected = {part: model.predict(made.dataset.part(part)[0]) for part in ("test", "validation")}
    moved = RunFolder(tmp_path / "moved")
    run.path.rename(moved.path)
    shutil.rmtree(tmp_path / "copy")
    monkeypatch.setattr(sources, "read", _never)

    for part, answers in expected.items():
        groups, target = contents.read_part(moved, part)
        np.testing.assert_array_equal(model.predict(groups), answers)  # bit for bit
        np.testing.assert_array_equal(target, made.dataset.part(part)[1])  # type: ignore[arg-type]
    evaluated = evaluate.evaluate(moved)
    assert evaluated.rows == len(made.dataset.split.test)
    assert evaluate.recorded(moved).test == evaluated.test
    report = moved.report.read_text()
    shows = {"pictures": "training_images", "signals": "training_series", "reviews": "text_lengths"}
    if name in shows:
        assert (moved.path / "figures" / f"{shows[name]}.png").is_file()
    assert "<h2>" in report
    ((entry,),) = (group.runs for group in compare.compare([moved.path], lambda done, total: None))
    assert entry.latency is not None
    assert entry.latency > 0
    exported = export.export_run(moved, tmp_path / "bundle")
    assert exported.test == evaluated.test
    loaded = bundles.load(tmp_path / "bundle")
    assert loaded.reference.metrics.keys() == {"validation", "test"}
    assert loaded.reference.rows == len(made.dataset.split.train)
    assert loaded.reference.prediction_rows == len(made.dataset.split.validation)


@pytest.mark.parametrize("name", ["buys", "spent", "power"])
def test_answers_for_the_validation_rows_are_kept_with_their_targets(folder: Path, name: str, tmp_path: Path) -> None:
    made = prepared(folder, name)
    run = prepare.create(tmp_path / "run", made)
    finished = train.train(run, made)
    table = pq.read_table(run.validation_answers).to_pydict()
    rows = made.dataset.split.validation
    order = np.argsort(rows)
    assert table["row"] == (rows[order] + 1).tolist()
    target = made.dataset.target[rows][order]
    if name == "buys":
        assert table["actual"] == target.tolist()
        assert table["probability_yes"] == finished.predicted[order, 1].tolist()
    elif name == "spent":
        np.testing.assert_allclose(table["actual"], target, rtol=1e-6)
        assert table["value"] == finished.predicted[order].tolist()
    else:
        assert table["value_3"] == finished.predicted[order, 2].tolist()


def test_the_sample_is_of_the_training_part_alone(folder: Path) -> None:
    run, made = trained(folder, "reviews", out="sampled")
    groups, target = contents.read_training_sample(run)
    training, labels = made.dataset.part("train")
    assert training.text is not None
    assert groups.text is not None
    texts = training.text[:, 0].tolist()
    places = [texts.index(text) for text in groups.text[:, 0]]
    assert len(set(places)) == len(groups) <= 256
    assert target.tolist() == labels[places].tolist()
    assert max(map(len, texts)) == len(groups.text[0, 0])  # the longest first


def test_beyond_the_budget_the_source_is_named_and_its_test_part_scored(folder: Path) -> None:
    whole, _ = trained(folder, "buys", out="whole")
    run, made = trained(folder, "buys", "data.keep_rows=0", out="bare")
    assert sorted(path.name for path in (run.path / "rows").iterdir()) == [
        "trained_rows.npz", "training_sample.parquet", "validation_answers.parquet"
    ]  # fmt: skip
    assert run_folder.read_facts(run).kept == {"test": 0, "validation": 0}
    command = f"dle-evaluate {run.path} --data {folder / 'buys.csv'}"
    for needs in (evaluate.evaluate, lambda bare: export.export_run(bare, folder / "bundle")):
        with pytest.raises(InputError, match=r"45 rows did not fit into data\.keep_rows=0") as caught:
            needs(run)
        assert command in caught.value.message
    assert not (folder / "bundle").exists()

    other = people.write_people(folder / "later.csv", 80, seed=1)
    assert not evaluate.is_test_part(run, sources.read(str(other)))
    assert evaluate.evaluate(run, str(other)).rows == 80
    assert "test" not in run_folder.read_metrics(run)

    source = shutil.copy(folder / "buys.csv", folder / "elsewhere.csv")
    assert evaluate.is_test_part(run, sources.read(str(source)))
    assert not evaluate.is_test_part(whole, sources.read(str(source))), "it has its test part: all rows are meant"
    found = evaluate.evaluate(run, str(source))
    assert found.rows == len(made.dataset.split.test) == 45
    assert found.test == evaluate.evaluate(whole).test
    assert run.report.is_file()
    assert export.export_run(run, folder / "bundle").test == found.test
    assert evaluate.evaluate(whole, str(source)).rows == 300


def test_the_test_part_of_images_is_found_elsewhere(folder: Path, tmp_path: Path) -> None:
    run, made = trained(folder, "pictures", "data.keep_rows=0", out="bare-pictures")
    shutil.copytree(folder / "pictures", tmp_path / "moved")
    assert evaluate.evaluate(run, str(tmp_path / "moved")).rows == len(made.dataset.split.test)
    first = next((tmp_path / "moved" / "red").iterdir())
    first.write_bytes(many_inputs.picture("blue", 999))
    assert not evaluate.is_test_part(run, sources.read(str(tmp_path / "moved")))


@pytest.mark.parametrize("stops", ["write", "between", "before metrics"])
def test_stopped_while_it_writes_a_run_is_unfinished_and_resumed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: str
) -> None:
    whole, _ = trained(folder, "buys", out=f"uninterrupted-{stops.replace(' ', '-')}")
    made = prepared(folder, "buys")
    run = prepare.create(tmp_path / "run", made)
    calls: list[Path] = []

    def breaking(function: Callable[..., None], when: int) -> Callable[..., None]:
        def called(*arguments: Any, **options: Any) -> None:
            calls.append(run.path)
            if len(calls) == when:
                raise Interrupted("stopped")
            function(*arguments, **options)

        return called

    with monkeypatch.context() as patched:
        if stops == "write":
            patched.setattr(pq.ParquetWriter, "close", breaking(lambda *_: None, 1))
        elif stops == "between":
            patched.setattr(kept_rows, "write", breaking(kept_rows.write, 3))
        else:
            patched.setattr(train, "write_metrics", breaking(run_folder.write_metrics, 1))
        with pytest.raises(Interrupted):
            train.train(run, made)
    assert not run.metrics.exists()
    assert not [path for path in run.path.rglob(".*") if path.is_file()], "nothing half-written stays"
    with pytest.raises(InputError, match="has not finished: dle-train --resume"):
        evaluate.evaluate(run)
    train.train(run, prepare.reopen(run))
    assert evaluate.evaluate(run).test == evaluate.evaluate(whole).test
    assert documents.read(run.reference, dict) == documents.read(whole.reference, dict)


KILLED = """
import os, signal, sys
from pathlib import Path
import pyarrow.parquet as pq
from dle_training.runs import prepare, train
from dle_training.runs.folder import RunFolder

write = pq.ParquetWriter.write_table
def killed(writer, table, *arguments, **options):
    write(writer, table, *arguments, **options)
    if table.num_rows == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

pq.ParquetWriter.write_table = killed
run = RunFolder(Path(sys.argv[1]))
train.train(run, prepare.reopen(run))
"""


@pytest.mark.parametrize("part", ["test", "validation"])
def test_killed_while_it_writes_rows_a_run_is_resumed(folder: Path, tmp_path: Path, part: str) -> None:
    made = prepared(folder, "buys", "split.test=0.2")
    run = prepare.create(tmp_path / "run", made)
    command = [sys.executable, "-c", KILLED, str(run.path), str(len(getattr(made.dataset.split, part)))]
    assert subprocess.run(command, check=False, timeout=240).returncode == -signal.SIGKILL
    assert not run.metrics.exists()
    assert not run.part(part).exists()
    train.train(run, prepare.reopen(run))
    assert evaluate.evaluate(run).rows == len(made.dataset.split.test)
    assert len(contents.read_part(run, "validation")[0]) == len(made.dataset.split.validation)


@pytest.mark.parametrize(
    "settings",
    [[], ["data.keep_rows=0"], ["study.refit=true"], ["split.folds=2"]],
    ids=["own", "none", "refit", "folds"],
)
def test_a_study_ends_in_a_run_that_holds_everything(folder: Path, tmp_path: Path, settings: list[str]) -> None:
    source = shutil.copy(folder / "buys.csv", tmp_path / "people.csv")
    fixed = {"data": {"source": str(source), "target": "buys"}, "device": "cpu"}
    small = ["preset=fast", "training.epochs=2", "model.hidden=[8]", "study.pruner=none", "study.trials=2", *settings]
    plan = studies.plan(studies.request(fixed, small, {}, ["optimizer.lr={log: [1e-3, 1e-2]}"]))
    study = studies.create(StudyFolder(tmp_path / "study"), plan)
    dataset = plan.prepared.dataset
    workers.run(study, 1, lambda: dataset, Watcher(), None)
    selected = selection.select(study, lambda: dataset, lambda name: [])
    Path(source).unlink()
    run = run_folder.found(study.folder.path)
    assert run.path.stat().st_mode & 0o777 == 0o700
    assert not (study.folder.trial(0).path / "rows").exists(), "rows of every trial would fill the disk"
    assert export.export_run(run, tmp_path / "bundle").test == selected.test.test
    if settings == ["data.keep_rows=0"]:
        with pytest.raises(InputError, match="keeps no test rows"):
            evaluate.evaluate(run)
    else:
        assert evaluate.evaluate(run).test == selected.test.test
    assert pq.read_table(run.validation_answers).num_rows == len(dataset.split.validation)


def test_nobody_else_can_look_into_runs_and_studies(folder: Path, tmp_path: Path) -> None:
    made = prepared(folder, "buys")
    run = prepare.create(tmp_path / "run", made)
    assert run.path.stat().st_mode & 0o777 == 0o700
    train.train(run, made)
    train.train(run, prepare.reopen(run))
    assert run.path.stat().st_mode & 0o777 == 0o700
    fixed = {"data": {"source": str(folder / "buys.csv"), "target": "buys"}, "device": "cpu"}
    asked = studies.request(fixed, [], {}, ["optimizer.lr={log: [1e-3, 1e-2]}"])
    study = studies.create(StudyFolder(tmp_path / "study"), studies.plan(asked))
    assert study.folder.path.stat().st_mode & 0o777 == 0o700


def test_a_trial_tells_how_to_make_a_run_of_it(tmp_path: Path) -> None:
    write_atomic(tmp_path / "study" / "study.yaml", "name: x\n")
    trial = tmp_path / "study" / "trials" / "003"
    write_atomic(trial / "config.yaml", "seed: 1\n")
    for read in (run_folder.found, lambda path: compare.compare([path], lambda done, total: None)):
        with pytest.raises(InputError) as caught:
            read(trial)
        said = str([caught.value.message, *caught.value.details])
        assert f"Name the study, {tmp_path / 'study'}" in said
        assert f"dle-train --config {trial / 'config.yaml'} --out {tmp_path / 'study'}-003" in said
