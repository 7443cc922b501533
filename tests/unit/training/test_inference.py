"""Inputs: what is dropped and why, what can be overruled, and that all faults are found together."""

import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dle_bundle.errors import InputError
from dle_training.config.run_config import DataConfig
from dle_training.data.columns import inference
from dle_training.data.columns.inference import InferredInputs

N = 40
GOOD = [index % 7 for index in range(N)]


def infer(
    columns: dict[str, Any], config: DataConfig | None = None, apart: dict[str, str] | None = None
) -> InferredInputs:
    table = pa.table(columns)
    return inference.infer(table, config or DataConfig(), np.arange(len(table)), apart or {})


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("c", [3] * N, "constant: 3"),
        ("c", ["x"] * N, "constant: 'x'"),
        ("c", ["true"] * N, "constant: 1"),
        ("c", ["2024-01-01"] * N, "constant: the same date-time"),
        (
            "c",
            [f"2024-01-01 10:00:00.{index:03}" for index in range(N)],
            "constant: the same second; fractions of a second are not used; if they matter, give a column of seconds",
        ),
        ("c", pa.array(range(N), pa.timestamp("ms")), "constant: the same second; fractions of a second are not used"),
        ("c", [1 + 2e-16 * (index % 3) for index in range(N)], "nearly constant: 1 to 1.0000000000000004, one number"),
        ("c", [1e-9 * (1 + 2e-16 * (index % 3)) for index in range(N)], "nearly constant"),
        ("c", [1e-310 * index for index in range(N)], "nearly constant"),
        ("c", [None] * N, "no value in any row"),
        ("c", ["", "NA"] * (N // 2), "no value but words that mean missing: 'NA' in 20 rows"),
        ("c", ["NA", *[""] * (N - 1)], "no value but words that mean missing: 'NA' in 1 row;"),
        ("c", [float("nan")] * N, "no value in any row"),
        ("c", list(range(N)), "row number"),
        ("c", [str(index + 1) for index in range(N)], "row number"),
        ("customer_id", [index * 17 % 1009 for index in range(N)], "identifier: a different whole number"),
        ("PassengerId", [float(index * 17 % 1009) for index in range(N)], "identifier: a different whole number"),
        ("Unnamed: 0", [index + 5 for index in range(N)], "identifier: a different whole number"),
        ("Belegnr.", [str(index + 1900) for index in range(N)], "identifier: a different whole number"),
        ("Kundennummer", [index + 5 for index in range(N)], "identifier: a different whole number"),
        (
            "code",
            [f"k{index}" for index in range(N)],
            "identifier: 40 distinct texts in 40 rows, such as 'k0' and 'k1'",
        ),
        (
            "paid",
            [f"{'$€'[index % 2]}{index}" for index in range(N)],
            "identifier: 40 distinct texts in 40 rows, such as '$0' and '€1'; numbers with different units ('$', '€')",
        ),
        (
            "band",
            [f"{'<>'[index % 2]}{index}" for index in range(N)],
            "identifier: 40 distinct texts in 40 rows, such as '<0' and '>1'; '<0', '>1' fit no format of numbers",
        ),
    ],
)
def test_dropped_with_a_reason(name: str, values: list[Any], reason: str) -> None:
    inputs = infer({name: values, "good": GOOD})
    assert [field.name for field in inputs.fields] == ["good"]
    assert inputs.dropped[name].startswith(reason)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("amount", [index * 17 % 1009 for index in range(N)]),  # distinct, but not named like a key
        ("shop_id", [index % 5 for index in range(N)]),  # named like a key, but repeated
        ("year", list(range(1980, 1980 + N))),
        ("paid", [index * 13 % 1009 for index in range(N)]),
        ("metres", [index * 17 % 1009 * 1e-9 for index in range(N)]),
        ("farads", [(5 + index * 17 % 1009) * 1e-30 for index in range(N)]),
        ("mass", [index * 17 % 1009 * 1e30 for index in range(N)]),
        ("offset", [1e9 + 1000 * index for index in range(N)]),
        ("flag", [1, None] * (N // 2)),  # that it is missing says something
        ("flag", ["x", None] * (N // 2)),
        ("text", [f"of {index % 9} distinct texts" for index in range(N)]),
    ],
)
def test_kept(name: str, values: list[Any]) -> None:
    assert [field.name for field in infer({name: values}).fields] == [name]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([f"this is remark {index} of many" for index in range(N)], "text"),
        ([f"日本語の文章を書きました{index}" for index in range(N)], "text"),
        ([f"remark {index % 4} is of four" for index in range(N)], "categorical"),
        ([f"folder/{index}.JPG" for index in range(N)], "image"),
        ([b"\x89PNG" + bytes([index]) for index in range(N)], "image"),
        ([[1.0, 2.0, float(index)] for index in range(N)], "sequence"),
        ([[[1, index], [2, 3]] for index in range(N)], "sequence"),
    ],
)
def test_what_is_no_plain_column(values: list[Any], kind: str) -> None:
    assert [field.kind for field in infer({"column": values}).fields] == [kind]


def test_a_given_kind_keeps_an_identifier() -> None:
    config = DataConfig(kinds={"id": "numeric", "key": "categorical"})
    inputs = infer({"id": list(range(N)), "key": [f"k{index}" for index in range(N)]}, config)
    assert [(field.name, field.kind) for field in inputs.fields] == [("id", "numeric"), ("key", "categorical")]


def test_fields() -> None:
    columns = {
        "a": [1.5, 2.5],
        "b": [1, None],
        "c": ["x", "y"],
        "d": ["2024/01/31", ""],
        "e": pa.array([3, 4]).dictionary_encode(),
        "y": [1, 2],
        "part": ["u", "v"],
    }
    inputs = infer(columns, apart={"y": "", "part": "says which"})
    assert {field.name: (field.kind, field.required) for field in inputs.fields} == {
        "a": ("numeric", True),
        "b": ("numeric", False),
        "c": ("categorical", True),
        "d": ("datetime", False),
        "e": ("categorical", True),
    }
    assert inputs.fields[3].date_format == "%Y/%m/%d"
    assert inputs.fields[4].json_type == "integer"
    assert inputs.dropped == {"part": "says which"}
    assert inputs.notes == ("d: dates read as %Y/%m/%d",)


def test_left_out_by_the_configuration() -> None:
    assert infer({"a": GOOD, "b": GOOD}, DataConfig(drop=("b",))).dropped == {"b": "left out by data.drop"}


def test_all_faults_together() -> None:
    with pytest.raises(InputError) as caught:
        infer({"a": [1.0, np.inf], "b": [{"x": 1}, {"x": 2}], "c": GOOD[:2]})
    assert len(caught.value.details) == 2


def test_nothing_left() -> None:
    with pytest.raises(InputError, match="No column is left") as caught:
        infer({"a": [1] * N, "b": list(range(N))})
    assert caught.value.details == ("a: constant: 1 in every row", "b: row number, such as 0 and 1")


def test_names_that_the_configuration_gets_wrong() -> None:
    config = DataConfig(
        drop=("agee",), kinds={"y": "numeric", "age": "numeric"}, date_formats={"age": "%Y", "born": "%Y"}
    )
    with pytest.raises(InputError) as caught:
        inference.check_names(config, ["age", "y"], "y")
    assert caught.value.details == (
        "data.drop: no column 'agee' (did you mean 'age'?)",
        "data.kinds: 'y' is the target",
        "data.date_formats: no column 'born'",
        "data.date_formats: 'age' is numeric by data.kinds",
    )


SHORT = [f"{('great', 'poor')[index % 2]} product {index}" if index % 3 else f"fine thing{index}" for index in range(N)]
HINDI = [f"किताब{index} अच्छी" for index in range(N)]


@pytest.mark.parametrize("says", [SHORT, HINDI, [f"本{index}" for index in range(N)]])
def test_words_of_any_script(says: list[str]) -> None:
    assert [field.kind for field in infer({"says": says}).fields] == ["text"]


def test_short_texts_are_text_for_want_of_other_inputs() -> None:
    inputs = infer({"id": list(range(N)), "says": SHORT, "y": GOOD}, apart={"y": ""})
    assert [(field.name, field.kind) for field in inputs.fields] == [("says", "text")]
    assert inputs.dropped == {"id": "row number, such as 0 and 1"}
    assert inputs.notes == ("says: short texts, nearly all distinct, read as text because there is no other input",)
    beside = infer({"says": SHORT, "good": GOOD})
    assert [field.name for field in beside.fields] == ["good"]
    assert beside.dropped["says"].startswith("identifier")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("c", [f"k{index}" for index in range(N)]),
        ("c", [f"ABC-{index:04}" for index in range(N)]),
        ("c", [str(uuid.UUID(int=index * 0x0123456789ABCDEF0123456789ABCDEF % 2**128)) for index in range(N)]),
        ("c", [f"{'ab'[index % 2]}nn.lee{index}@example.org" for index in range(N)]),
        ("customer_id", SHORT),
    ],
)
def test_identifiers_are_no_text(name: str, values: list[str]) -> None:
    with pytest.raises(InputError, match="No column is left") as caught:
        infer({name: values})
    assert caught.value.details[0].startswith(f"{name}: identifier")
    with pytest.raises(InputError, match="No column is left"):
        infer({"says": SHORT}, DataConfig(drop=("says",)))


def test_figures_in_texts_are_named() -> None:
    durations = [f"{row} h {row * 7 % 60} min" for row in range(40)]
    inputs = infer({"took": durations})
    assert inputs.fields[0].kind == "text"
    assert inputs.notes == ("took: '0 h 0 min', '1 h 7 min' fit no format of numbers or dates, and are read as text",)
