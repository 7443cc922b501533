import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from tests import bundles

from dle_bundle.rows.decoder import RowDecoder
from dle_bundle.schema import Field, Outputs, Schema
from dle_cli.serve import _request
from dle_serving.server.launcher import RunningServer
from dle_serving.server.readiness import LoadedModel

QUOTED = Schema(
    inputs=(Field(name="it's", kind="categorical", required=True, categories=("$a b",), example="$a b"),),
    outputs=Outputs(target="y", task="regression"),
)


def ready(home: Path, name: str, version: int = 1) -> RunningServer:
    return RunningServer("http://127.0.0.1:3000", (LoadedModel(name, version, "regression", "cpu"),), 1, home)


def body(command: str) -> str:
    words = shlex.split(command)
    assert words[:3] == ["curl", "-s", "http://127.0.0.1:3000/predict"]
    return words[-1]


@pytest.mark.parametrize("inside", [False, True])
def test_the_next_command_asks_the_first_model_for_its_whole_example(tmp_path: Path, inside: bool) -> None:
    bundles.write(tmp_path / "all" / "a", bundles.PRICE, name="quoted", version=1)
    folder = bundles.write(tmp_path / "all" / "b", QUOTED, name="quoted", version=2)
    command = _request(ready(tmp_path, "quoted", 2), [tmp_path / "all" if inside else folder])
    assert json.loads(body(command)) == {"rows": [{"it's": "$a b"}]}


def test_where_keys_are_asked_for_there_is_a_place_for_one(tmp_path: Path) -> None:
    folder = bundles.write(tmp_path / "price", bundles.PRICE, name="price")
    command = _request(replace(ready(tmp_path, "price"), keys=True), [folder])
    assert "-H 'authorization: Bearer KEY' -H" in command


def test_a_long_example_is_in_a_file(tmp_path: Path) -> None:
    fields = tuple(Field(name=f"größe {index}", kind="numeric", required=True, example=0.5) for index in range(40))
    wide = Schema(inputs=fields, outputs=Outputs(target="y", task="regression"))
    folder = bundles.write(tmp_path / "wide", wide, name="wide")
    home = tmp_path / "a home"
    named = body(_request(ready(home, "wide"), [folder]))
    assert named == f"@{home / 'example.json'}"
    assert json.loads(Path(named[1:]).read_bytes()) == {"rows": [{field.name: 0.5 for field in fields}]}


def test_a_model_of_one_image_is_asked_with_a_file(tmp_path: Path) -> None:
    folder = bundles.write(tmp_path / "picture", bundles.PICTURE, name="picture")
    command = _request(replace(ready(tmp_path / "a home", "picture"), keys=True), [folder])
    words = shlex.split(command)
    assert words[3:-2] == ["-H", "authorization: Bearer KEY", "-H", "content-type: image/png"]
    assert words[-2:] == ["--data-binary", f"@{tmp_path / 'a home' / 'example.png'}"]
    content = Path(words[-1][1:]).read_bytes()
    assert RowDecoder(bundles.PICTURE).image_row(content).image[0][0] is not None


@pytest.mark.parametrize("schema", [bundles.SIGNAL, bundles.REVIEW, bundles.FORECAST, bundles.PROMOTION])
def test_series_and_text_are_asked_for_as_typed(tmp_path: Path, schema: Schema) -> None:
    folder = bundles.write(tmp_path / "model", schema, name="model")
    assert len(RowDecoder(schema).decode(body(_request(ready(tmp_path, "model"), [folder])).encode())) == 1
