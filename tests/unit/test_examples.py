"""The examples in the docstrings of dle_bundle and dle_training run, and every public module of PyTorch has one."""

import doctest
import importlib
import pkgutil
from types import ModuleType

import pytest
import torch
from torch import nn

import dle_bundle
import dle_training


def _modules() -> list[ModuleType]:
    packages = (dle_bundle, dle_training)
    found = [each for package in packages for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return [importlib.import_module(each.name) for each in found]


def _tests(module: ModuleType) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder().find(module) if test.examples]


def _networks(module: ModuleType) -> list[type[nn.Module]]:
    """The public subclasses of `nn.Module` that this module defines."""
    own = [thing for thing in vars(module).values() if isinstance(thing, type) and issubclass(thing, nn.Module)]
    return [thing for thing in own if thing.__module__ == module.__name__ and not thing.__name__.startswith("_")]


EXAMPLES = [test for module in _modules() for test in _tests(module)]
NETWORKS = [network for module in _modules() for network in _networks(module)]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_example_gives_what_it_shows(example: doctest.DocTest) -> None:
    torch.manual_seed(0)
    said: list[str] = []
    result = doctest.DocTestRunner().run(example, out=said.append)
    assert result.attempted == len(example.examples)
    assert not result.failed, "".join(said)


def test_some_examples_are_found() -> None:
    names = {example.name for example in EXAMPLES}
    assert {"dle_bundle.rows.decoder.RowDecoder", "dle_training.models.dropout.Dropout"} <= names
    assert "Network" in {network.__name__ for network in NETWORKS}


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: f"{network.__module__}.{network.__name__}")
def test_a_public_module_shows_its_shapes_and_an_example(network: type[nn.Module]) -> None:
    said = network.__doc__ or ""
    assert "Shape: " in said
    assert "Example:\n" in said
    assert ">>> " in said
