from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import bundles
from tests.inprocess import InProcess

from dle_serving.settings import ServerSettings


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a bundle of each kind, and two versions of one."""
    folder = tmp_path_factory.mktemp("bundles")
    bundles.write(folder / "a", bundles.INCOME)
    bundles.write(folder / "b", bundles.DIGIT, name="digit", version=9)
    bundles.write(folder / "c", bundles.DIGIT, name="digit", version=10)
    bundles.write(folder / "d", bundles.PRICE, name="price")
    bundles.write(folder / "e", bundles.SPAM, name="spam")
    return folder


@pytest.fixture(scope="session")
def service(many: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """The application with all of these loaded, small limits, income first."""
    home = tmp_path_factory.mktemp("home")
    running = InProcess(
        ServerSettings(bundles=(many,), home=home, batch_rows=8, max_body_bytes=100_000, max_rows=2_000)
    )
    yield running
    running.close()


INPUTS = {
    "picture": bundles.PICTURE,
    "signal": bundles.SIGNAL,
    "review": bundles.REVIEW,
    "forecast": bundles.FORECAST,
    "promotion": bundles.PROMOTION,
}


@pytest.fixture(scope="session")
def inputs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds models of an image, of series and of text."""
    folder = tmp_path_factory.mktemp("inputs")
    for place, (name, schema) in enumerate(INPUTS.items()):
        bundles.write(folder / f"{place}", schema, name=name)
    return folder


@pytest.fixture
def inputs(inputs_folder: Path, tmp_path: Path) -> Iterator[InProcess]:
    """The application with these loaded, the model of an image first."""
    running = InProcess(ServerSettings(bundles=(inputs_folder,), home=tmp_path, batch_rows=8, max_body_bytes=200_000))
    yield running
    running.close()
