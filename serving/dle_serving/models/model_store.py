"""Bundles in BentoML's model store, from which `bentoml build` takes the models of a bento.

A stored model is a folder of the store with the bundle, unchanged, in a folder inside it.
"""

import os
import shutil
from pathlib import Path

import bentoml
from bentoml.exceptions import BentoMLException, NotFound

from dle_bundle.errors import InputError

_FOLDER = "bundle"


def free_tag(name: str, version: int) -> str:
    """The tag NAME:VERSION of a bundle that is not stored yet; BentoML has no capital letters in a tag.

    Raises InputError if BentoML takes no such name, or if the store holds the tag already.
    """
    try:
        tag = bentoml.Tag(name.lower(), str(version))
        bentoml.models.get(tag)
    except NotFound:
        return str(tag)
    except ValueError as error:
        raise InputError(f"BentoML cannot store a model under this name: {error}") from None
    raise InputError(
        f"{tag} is in BentoML's model store already: choose another --version, or first "
        f"remove it with bentoml models delete {tag}"
    )


def store(tag: str, bundle: Path) -> None:
    """Copy the folder `bundle` into the store as `tag`; raises InputError if the store refuses."""
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")  # BentoML would report the new model to its makers
    try:
        with bentoml.models.create(tag) as model:
            shutil.copytree(bundle, model.path_of(_FOLDER))
    except BentoMLException as error:
        raise InputError(f"BentoML's model store does not take {tag}: {error}") from None


def bundle_of(tag: str) -> Path:
    """The folder of the bundle that is stored as `tag`; raises InputError if there is none."""
    try:
        folder = Path(bentoml.models.get(tag).path_of(_FOLDER))
    except BentoMLException:
        raise InputError(
            f"DLE_BENTO_MODELS: {tag} is not in BentoML's model store: dle-export RUN --bentoml puts a "
            "model there, bentoml models list shows them"
        ) from None
    if not folder.is_dir():
        raise InputError(f"DLE_BENTO_MODELS: {tag} is no bundle: dle-export RUN --bentoml stores one")
    return folder
