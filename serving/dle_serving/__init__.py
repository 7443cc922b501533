"""The prediction service: a bundle behind HTTP, without PyTorch. From Python, `load` opens a bundle for predictions."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from dle_serving.offline.loaded import LoadedModel
    from dle_serving.settings import Device


def load(bundle: "Path | str", device: "Device" = "auto") -> "LoadedModel":
    """Open the bundle in the folder `bundle` on `auto`, `cpu` or `cuda`; see `LoadedModel`.

    Raises BundleError if the bundle is incomplete or altered, InputError if there is no such device.
    """
    from pathlib import Path

    from dle_bundle.proposals import in_python
    from dle_serving.offline.loaded import LoadedModel

    with in_python():
        return LoadedModel(Path(bundle), device)
