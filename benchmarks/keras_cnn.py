"""The worker of `train_loop.py --keras`: the layers of the project's `cnn` in Keras on TensorFlow.

    PYTHON benchmarks/keras_cnn.py DATA.npz '{"width": 32, …}'

PYTHON is an interpreter that has tensorflow-cpu and not the project. DATA holds `X` uint8 (N, H, W, 1) and `y` (N,).
The first epoch, in which Keras compiles, is not counted. The last line of output is JSON: the rows per second, and the
number of trained weights.
"""

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Train and print."""
    data, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    tensorflow: Any = importlib.import_module("tensorflow")
    tensorflow.config.threading.set_intra_op_parallelism_threads(settings["threads"])
    keras: Any = importlib.import_module("keras")
    with np.load(data, allow_pickle=False) as arrays:
        pixels, target = arrays["X"], arrays["y"]
    model = network(keras, settings, pixels.shape[1:])
    optimizer = keras.optimizers.AdamW(settings["lr"], weight_decay=settings["weight_decay"])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(pixels, target, batch_size=settings["batch"], verbose=0)
    begun = time.perf_counter()
    model.fit(pixels, target, batch_size=settings["batch"], epochs=settings["epochs"], verbose=0)
    seconds = time.perf_counter() - begun
    parameters = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    print(json.dumps({"rows_per_second": settings["epochs"] * len(target) / seconds, "parameters": parameters}))


def network(keras: Any, settings: dict[str, Any], shape: tuple[int, ...]) -> Any:
    """Return stages of convolution, pooling, normalisation, ReLU and residual blocks, then mean, dropout and logits."""
    layers = keras.layers

    def convolved(maps: Any, width: int) -> Any:
        return layers.Conv2D(width, 3, padding="same", use_bias=False)(maps)

    def normed(maps: Any) -> Any:
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(maps)

    inputs = keras.Input(shape, dtype="uint8")
    maps = layers.Rescaling(1 / (255 * settings["std"]), -settings["mean"] / settings["std"])(inputs)
    width = settings["width"]
    for blocks in settings["blocks"]:
        maps = layers.ReLU()(normed(layers.MaxPooling2D(2)(convolved(maps, width))))
        for _ in range(blocks):
            inner = layers.ReLU()(normed(convolved(maps, width)))
            maps = layers.ReLU()(layers.Add()([maps, normed(convolved(inner, width))]))
        width *= 2
    features = layers.Dropout(settings["dropout"])(layers.GlobalAveragePooling2D()(maps))
    return keras.Model(inputs, layers.Dense(settings["classes"])(features))


if __name__ == "__main__":
    main()
