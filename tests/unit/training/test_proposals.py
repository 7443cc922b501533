"""Proposals are what a user of a shell types, and within `in_python` what a user of Python types."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from dle_bundle.proposals import in_python
from dle_bundle.schema import Field, ImageShape, Outputs, Schema
from dle_training import api
from dle_training.config import run_config
from dle_training.settings import proposals


@pytest.mark.parametrize(
    ("key", "value", "column", "typed"),
    [
        ("data.skip_bad", True, None, "data.skip_bad=true"),
        ("data.kinds", "numeric", "zip", "data.kinds.zip=numeric"),
        ("data.kinds", "numeric", "zip code", "'data.kinds={zip code: numeric}'"),
        ("data.kinds", "numeric", "a.b", "'data.kinds={a.b: numeric}'"),
        ("data.kinds", "numeric", "null", "data.kinds.null=numeric"),
        ("data.date_formats", "%d.%m.%Y", "born", """'data.date_formats.born="%d.%m.%Y"'"""),
        ("data.na_values", ["", "NA", "it's"], "x", None),
        ("data.na_values", ["NA", "no value"], None, "'data.na_values=[NA, no value]'"),
        ("data.na_values", ["5k", "2024-01-31"], "x", "'data.na_values.x=[5k, 2024-01-31]'"),
        ("data.drop", ["true", "1", "1e3", "~", "[x]"], None, None),
        ("data.delimiter", "\t", None, """'data.delimiter="\\t"'"""),
        ("data.delimiter", "~", None, """'data.delimiter="~"'"""),
        ("data.delimiter", "|", None, "'data.delimiter=|'"),
        ("data.comment", "2023", None, """'data.comment="2023"'"""),
        ("data.sheet", "null", None, """'data.sheet="null"'"""),
        ("data.skip_rows", 2, None, "data.skip_rows=2"),
        ("optimizer.lr", 1e-5, None, "optimizer.lr=1e-05"),
        ("preprocessing.image_size", (8, 24), None, "'preprocessing.image_size=[8, 24]'"),
        ("model.timm.pretrained", False, None, "model.timm.pretrained=false"),
        ("data.target", "two words", None, "'data.target=two words'"),
        ("seed", 3, None, "seed=3"),
    ],
)
def test_both_doors_read_a_setting_alike(key: str, value: Any, column: str | None, typed: str | None) -> None:
    shell = proposals.setting(key, value, column)
    assert typed in (None, shell)
    expected = run_config.load(None, shlex.split(shell))
    with in_python():
        python = proposals.setting(key, value, column)
    arguments: dict[str, Any] = eval(f"dict({python})")
    named = {"data": {"target": arguments["target"]}} if "target" in arguments else arguments
    assert run_config.load(None, None, dict(api.dotted(named))) == expected
    assert expected != run_config.RunConfig()


def test_options_and_calls() -> None:
    run, forecast = Path("runs/my run"), {"data.time": "sold at", "data.window": 7, "seed": 1}
    assert proposals.together(forecast) == "--set 'data.time=sold at' --set data.window=7 --set seed=1"
    assert (proposals.flag("sheet", "June 2024"), proposals.flag("sheet")) == ("--sheet 'June 2024'", "--sheet")
    assert proposals.option("split.by", "time:sold at") == "--split 'time:sold at'"
    switches = [proposals.option("training.baseline", value) for value in (True, False)]
    assert switches == ["--baseline", "--no-baseline"]
    assert proposals.resuming(run) == "dle-train --resume --out 'runs/my run'"
    assert proposals.evaluating(run) == "dle-evaluate 'runs/my run'"
    with in_python():
        assert proposals.together(forecast) == "data={'time': 'sold at', 'window': 7}, seed=1"
        assert (proposals.flag("sheet", "June 2024"), proposals.flag("sheet")) == ("sheet='June 2024'", "sheet=…")
        assert proposals.option("split.by", "time:sold at") == "split={'by': 'time:sold at'}"
        assert proposals.option("data.target", "y") == "target='y'"
        assert proposals.resuming(run) == "dle_training.train(…, out='runs/my run', resume=True)"
        assert proposals.evaluating(run) == "dle_training.Run('runs/my run').evaluate()"
        assert proposals.another_folder() == "choose another folder with out=…"
    assert proposals.another_folder() == "choose another folder with --out"


def test_images_to_predict_are_a_folder() -> None:
    image = Field(name="image", kind="image", required=True, image=ImageShape(channels=1, height=8, width=8))
    number = Field(name="x", kind="numeric", required=True)
    outputs = Outputs(target="y", task="regression")
    for fields, source in (((image,), "images/"), ((image, number), "rows.csv"), ((number,), "rows.csv")):
        found = proposals.predicting("bundles/b", Schema(inputs=fields, outputs=outputs))
        assert found == f"dle-predict bundles/b {source} --out predictions.csv"
