import os

import pytest
import typer

from dle_bundle.errors import counted
from dle_cli import console
from dle_cli.console import Console


def test_titles_headers_and_cells_are_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    Console(json=False, quiet=False).table("[/red] all", [("[bold]a", "[/b]")], ("[/red]", "[bold]nein"))
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("[/red] all\n", "[bold]a", "[/b]", "[/red]   ", "[bold]nein"))


def test_a_title_wider_than_its_table_is_one_line_and_no_line_ends_in_blanks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    title = "Test part: 3,096 rows" * 10
    Console(json=False, quiet=False).table(title, [("r2", "0.5"), ("a", "1")])
    lines = capsys.readouterr().out.split("\n")
    assert lines[0] == title
    assert lines == [line.rstrip() for line in lines]


def test_counts_agree_with_their_noun() -> None:
    assert [counted(count, "row") for count in (0, 1, 3096)] == ["0 rows", "1 row", "3,096 rows"]


def test_a_long_table_ends_with_the_number_of_further_rows(capsys: pytest.CaptureFixture[str]) -> None:
    for count, printed in ((22, 22), (23, 20), (2000, 20)):
        Console(json=False, quiet=False).table("Columns", [(f"c{index}", "x") for index in range(count)], rest="see it")
        lines = capsys.readouterr().out.split("\n")
        assert len([line for line in lines if line.lstrip().startswith("c")]) == printed
        assert (f"… and {count - printed:,} more: see it" in lines) == (printed < count)


def test_of_many_warnings_the_first_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    speaker = Console(json=False, quiet=False)
    speaker.lines([f"n{index}" for index in range(12)], speaker.say, "see it")
    assert capsys.readouterr().out.splitlines() == [*(f"n{index}" for index in range(10)), "… and 2 more: see it"]
    speaker.lines(["a", "b"], speaker.say, "see it")
    assert capsys.readouterr().out == "a\nb\n"


@pytest.mark.parametrize(("given", "set_"), [(None, "20000"), ("7", "7")])
def test_threads_that_wait_sleep_soon_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: str | None, set_: str
) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", given or "")  # so that it is restored
    if given is None:
        monkeypatch.delenv("GOMP_SPINCOUNT")
    app, found = typer.Typer(), list[str]()

    @app.command()
    def look() -> None:
        found.append(os.environ["GOMP_SPINCOUNT"])

    monkeypatch.setattr("sys.argv", ["look"])
    with pytest.raises(SystemExit):
        console.run(app)
    assert found == [set_]
