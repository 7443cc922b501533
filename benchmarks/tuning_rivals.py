"""Runs the search of `tuning.py` with Optuna and Lightning, or with Ray Tune, in an environment without this project.

    python benchmarks/tuning_rivals.py lightning|ray ARRAYS.npz '{"trials": 32, …}'

Prints the seconds of the search as its last line.
"""

import json
import logging
import os
import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def main() -> None:
    """Search with the library that the first argument names."""
    name, path, settings = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    with np.load(path) as arrays:
        tensors = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    print({"lightning": _lightning, "ray": _ray}[name](tensors, settings))


def _network(width: int, widths: list[int]) -> nn.Module:
    layers = [part for pair in pairwise((width, *widths)) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))


def _lightning(tensors: dict[str, torch.Tensor], settings: dict[str, Any]) -> float:
    import lightning
    import optuna
    from torch.utils.data import DataLoader, TensorDataset

    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    class Classifier(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self, lr: float, decay: float) -> None:
            super().__init__()
            self.network = _network(tensors["train_x"].shape[1], settings["widths"])
            self.lr, self.decay = lr, decay

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return F.binary_cross_entropy_with_logits(self.network(batch[0])[:, 0], batch[1])

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("loss", F.binary_cross_entropy_with_logits(self.network(batch[0])[:, 0], batch[1]))

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.decay)
            steps = settings["epochs"] * -(-len(tensors["train_x"]) // settings["batch"])
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    parts = {
        part: TensorDataset(tensors[f"{part}_x"], tensors[f"{part}_y"].float()) for part in ("train", "validation")
    }

    def objective(trial: optuna.Trial) -> float:
        lr, decay = settings["points"][trial.number]
        trainer = lightning.Trainer(
            max_epochs=settings["epochs"], accelerator="cpu", logger=False, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(
            Classifier(lr, decay),
            DataLoader(parts["train"], settings["batch"], shuffle=True),
            DataLoader(parts["validation"], 4096),
        )
        return float(trainer.callback_metrics["loss"])

    begun = time.perf_counter()
    optuna.create_study().optimize(objective, n_trials=settings["trials"])
    return time.perf_counter() - begun


def _ray(tensors: dict[str, torch.Tensor], settings: dict[str, Any]) -> float:
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    import ray
    from ray import tune

    def train(config: dict[str, Any], data: dict[str, torch.Tensor]) -> None:
        torch.set_num_threads(1)
        lr, decay = settings["points"][config["number"]]
        x, y = data["train_x"], data["train_y"].float()
        network = _network(x.shape[1], settings["widths"])
        optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=decay)
        steps = settings["epochs"] * -(-len(x) // settings["batch"])
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(settings["epochs"]):
            order = torch.randperm(len(x))
            for rows in torch.split(order, settings["batch"]):
                loss = F.binary_cross_entropy_with_logits(network(x[rows])[:, 0], y[rows])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            with torch.inference_mode():
                held = F.binary_cross_entropy_with_logits(
                    network(data["validation_x"])[:, 0], data["validation_y"].float()
                )
            tune.report({"loss": held.item()})

    ray.init(num_cpus=os.cpu_count(), log_to_driver=False, include_dashboard=False)
    begun = time.perf_counter()
    tuner = tune.Tuner(
        tune.with_parameters(train, data=tensors),
        param_space={"number": tune.grid_search(list(range(settings["trials"])))},
        tune_config=tune.TuneConfig(metric="loss", mode="min"),
        run_config=tune.RunConfig(verbose=0),
    )
    tuner.fit()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
