"""Many image files, read here or by workers: the same pixels in the same order, and every fault."""

import io
import multiprocessing
import operator
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from dle_bundle import integrity
from dle_bundle.errors import InputError, WorkError
from dle_bundle.images.pixels import ImageFiles, ImageSource
from dle_bundle.schema import ImageShape
from dle_training.data.images import image_files
from dle_training.data.images.image_files import Stream
from dle_training.data.processes import ProcessPool

SHAPE = ImageShape(channels=3, height=12, width=10)
COUNT = 100
AMPLE = 1 << 30
DEADLINE = 60.0


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[ImageSource]:
    """Files of JPEG and PNG, and the content of such."""
    folder = tmp_path_factory.mktemp("images")
    numbers = np.random.default_rng(0)
    found: list[ImageSource] = []
    for index in range(COUNT):
        image = Image.fromarray(numbers.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        place = folder / f"{index}.{'png' if index % 2 else 'jpg'}"
        image.save(place)
        found.append(place.read_bytes() if index % 5 == 0 else str(place))
    return found


def cut(order: torch.Tensor, size: int) -> list[torch.Tensor]:
    return [order[start : start + size] for start in range(0, len(order), size)]


@pytest.fixture(scope="module")
def pixels(places: list[ImageSource]) -> npt.NDArray[np.uint8]:
    return np.asarray(ImageFiles(places, SHAPE))


@pytest.mark.parametrize("workers", [None, 1, 2])
def test_all_fit_the_memory(places: list[ImageSource], pixels: npt.NDArray[np.uint8], workers: int | None) -> None:
    done: list[int] = []
    totals = set()

    def progress(count: int, total: int) -> None:
        done.append(count)
        totals.add(total)

    with image_files.reporting_to(progress):
        read = image_files.read_all(places, SHAPE, memory_bytes=pixels.nbytes, workers=workers)
    found, broken = read.images, read.broken
    files = [place for place in places if isinstance(place, str)]
    assert read.digests == {file: integrity.digest(Path(file)) for file in files}
    image_files.read_all(places[:3], SHAPE, memory_bytes=AMPLE)  # of which nothing is told
    assert isinstance(found, np.ndarray)
    assert (found == pixels).all()
    assert broken == {}
    assert done == sorted(done)
    assert done[-1] == COUNT
    assert totals == {COUNT}


@pytest.mark.parametrize("workers", [1, 2])
def test_they_do_not_fit(places: list[ImageSource], pixels: npt.NDArray[np.uint8], workers: int) -> None:
    read = image_files.read_all(places, SHAPE, memory_bytes=pixels.nbytes - 1, workers=workers)
    found, broken = read.images, read.broken
    assert isinstance(found, ImageFiles)
    assert (found.shape, broken) == (pixels.shape, {})
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(3))
    with Stream(found, workers=workers) as stream:
        for _ in range(2):  # the workers live on
            batches = cut(order, 7)
            for rows, batch in zip(batches, stream.batches(batches), strict=True):
                assert batch.dtype == torch.uint8
                assert (batch.numpy() == pixels[rows.numpy()]).all()
        first = next(stream.batches(cut(order, 7)))  # one that stops early disturbs nobody
        one, other = stream.batches(cut(order, 9)), stream.batches(cut(order, 7))
        assert (next(other) == first).all()
        assert len(next(one)) == 9


def test_the_stream_has_several_images_of_a_row(places: list[ImageSource], pixels: npt.NDArray[np.uint8]) -> None:
    with Stream(ImageFiles(places, SHAPE).reshape(COUNT // 2, -1, 12, 10)) as stream:
        (batch,) = stream.batches([torch.tensor([4, 0])])
    assert (batch.numpy() == pixels.reshape(-1, 6, 12, 10)[[4, 0]]).all()


@pytest.mark.parametrize("memory", [AMPLE, 0])
@pytest.mark.parametrize("workers", [None, 2])
def test_every_fault_is_told_and_black(places: list[ImageSource], memory: int, workers: int | None) -> None:
    content = places[0]
    assert isinstance(content, bytes)
    bad: dict[int, tuple[ImageSource, str]] = {
        3: (content[: len(content) // 2], "truncated"),
        40: (b"a text", "not an image"),
        41: (b"", "empty"),
        99: ("gone.png", "no such file or directory"),
    }
    mixed = [bad[index][0] if index in bad else place for index, place in enumerate(places)]
    read = image_files.read_all(mixed, SHAPE, memory_bytes=memory, workers=workers)
    found, broken = read.images, read.broken
    assert broken == {index: reason for index, (_, reason) in bad.items()}
    array = np.asarray(found)
    assert not array[list(bad)].any()
    assert array[[2, 4, 98]].any(axis=(1, 2, 3)).all()


def test_no_images() -> None:
    read = image_files.read_all([], SHAPE, memory_bytes=0)
    found, broken = read.images, read.broken
    assert (found.shape, broken) == ((0, 3, 12, 10), {})
    assert image_files.survey([]) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_goes_while_it_is_streamed(workers: int) -> None:
    with (
        Stream(ImageFiles(["gone.png"] * 4, SHAPE), workers=workers) as stream,
        pytest.raises(InputError, match=r"gone\.png: no such file or directory, though it could be read before"),
    ):
        next(stream.batches([torch.tensor([0]), torch.tensor([1])]))


def test_a_survey(tmp_path: Path) -> None:
    def content(mode: str, height: int, width: int) -> bytes:
        out = io.BytesIO()
        Image.new(mode, (width, height)).save(out, "png")
        return out.getvalue()

    alike: list[ImageSource] = [content("L", 20, 30)] * 5
    assert image_files.survey([*alike, b"no image", str(tmp_path / "gone.png")]) == [(False, 20, 30)] * 5
    assert image_files.survey([*alike, content("RGB", 40, 12)])[-1] == (True, 40, 12)
    assert image_files.survey(alike * 2_000) == [(False, 20, 30)] * image_files.SURVEYED


def test_workers_have_no_use_for_torch() -> None:
    code = "import sys, dle_training.data.images.image_files; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


ENDLESS = """
import os, sys
from dle_bundle.schema import ImageShape
from dle_training.data.images import image_files

if __name__ == "__mp_main__" and len(sys.argv) > 2:  # a worker that starts, and waits at the gate
    os.write(1, b"starting\\n")
    open(sys.argv[2]).close()
    os.write(1, b"started\\n")

if __name__ == "__main__":
    places, shape = [sys.argv[1]] * 1_000_000, ImageShape(channels=3, height=12, width=10)
    said = []
    begun = lambda *_: said or said.append(print("reading", flush=True))
    with image_files.reporting_to(begun):
        image_files.read_all(places, shape, memory_bytes=0, workers=2)
"""


@contextmanager
def endless(folder: Path, *gate: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that reads images with two workers and does not come to an end; with a `gate`, both wait there first.

    The workers hold its pipes too, so `communicate` returns when the last of them has ended.
    """
    script, image = folder / "endless.py", folder / "a.png"
    script.write_text(ENDLESS)
    Image.new("RGB", (40, 30)).save(image)
    command = [sys.executable, str(script), str(image), *gate]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, start_new_session=True) as parent:
        try:
            yield parent
        finally:
            with suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)  # whatever is left where the test has failed


@pytest.mark.e2e
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(blow: signal.Signals, tmp_path: Path) -> None:
    with endless(tmp_path) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"reading\n"
        if blow == signal.SIGINT:
            os.killpg(parent.pid, blow)  # as a terminal does
        else:
            parent.send_signal(blow)
        _, said = parent.communicate(timeout=DEADLINE)
    assert parent.returncode == -blow
    assert said.count(b"KeyboardInterrupt") == (blow == signal.SIGINT), "workers say nothing"


@pytest.mark.e2e
def test_workers_that_are_starting_do_not_hear_ctrl_c(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with endless(tmp_path, str(gate)) as parent:
        assert parent.stdout is not None
        assert [parent.stdout.readline() for _ in range(2)] == [b"starting\n"] * 2
        os.killpg(parent.pid, signal.SIGINT)
        with opened(gate):
            assert [parent.stdout.readline() for _ in range(2)] == [b"started\n"] * 2
            _, said = parent.communicate(timeout=DEADLINE)
    assert parent.returncode == -signal.SIGINT
    assert said.count(b"KeyboardInterrupt") == said.count(b"Traceback") == 1, "only the parent speaks"


@contextmanager
def opened(gate: Path) -> Iterator[None]:
    """Meanwhile nobody who opens this named pipe has to wait."""
    file = os.open(gate, os.O_RDWR)
    try:
        yield
    finally:
        os.close(file)


def test_a_worker_that_dies_fails_the_work() -> None:
    workers = ProcessPool(2)
    with pytest.raises(WorkError, match="A worker process that decodes images has died"):
        list(workers.run(os._exit, [(1,)] * 10))
    workers.close()
    assert not multiprocessing.active_children()


def test_a_worker_that_dies_while_calls_are_cancelled_leaves_no_process(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    waits, dies = (os.open, str(gate), os.O_RDONLY), (os._exit, 1)
    workers = ProcessPool(2)
    answers = workers.run(operator.call, [(pow, 2, 3), waits, dies, *[(pow, 2, 4)] * 10])
    assert next(answers) == 8
    assert isinstance(answers, Generator)
    answers.close()
    with opened(gate):
        workers.close()
    assert not multiprocessing.active_children()
