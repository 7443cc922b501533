"""`resolve` makes every open choice, once, before training, from the schema and the number of training rows.

It replaces each null in the configuration that stands for a default by its value. The `config.yaml` of a run holds the
result, so the run opens, exports and replays even if later versions choose otherwise. No other code has defaults.
"""

from msgspec.structs import asdict, replace

from dle_bundle.errors import InputError
from dle_bundle.schema import Schema
from dle_training.augmentation.settings import AugmentationConfig
from dle_training.config import devices
from dle_training.config.run_config import ObjectiveConfig, RunConfig, TrainingConfig
from dle_training.models import mlp, pack, registry
from dle_training.models.families import ModelConfig
from dle_training.models.family import Facts, InputKind, Recipe
from dle_training.models.pack import PackConfig
from dle_training.optimization import optimizers, schedules
from dle_training.optimization.optimizers import OptimizerConfig
from dle_training.optimization.schedules import ScheduleConfig
from dle_training.preprocessing.settings import PreprocessingConfig, Scaling
from dle_training.scoring import metrics, table_baselines
from dle_training.settings.proposals import option, setting, together

LEAST_PATIENCE = 10
PIECEWISE_BINS, LEAST_ROWS_FOR_BINS = 32, 10_000
BATCH_SIZES = ((2_800, 32), (4_500, 64), (6_400, 128), (32_000, 256), (108_000, 512))
"""Pairs (limit, batch size): training parts with fewer rows than the limit (Gorishniy et al., "TabM", 2024)."""
LARGEST_BATCH = 1024


def facts_of(config: RunConfig, schema: Schema, rows: int) -> Facts:
    """What the defaults of `config` depend on, for data of this `schema` with `rows` training rows."""
    return Facts(registry.inputs(schema), rows, schema.outputs.classes is None, config.preset)


def resolve(config: RunConfig, schema: Schema, rows: int) -> RunConfig:
    """The configuration without open choices, for data of this `schema` with `rows` training rows.

    Raises InputError for an unusable model, metric, dropout or device.
    """
    chosen = registry.choose(config.model.name, registry.inputs(schema), config.preset)
    if config.preset == "best" and pack.FAMILY.name not in chosen.values():
        raise InputError(
            f"preset=best trains model.name={pack.FAMILY.name}, which reads columns alone, but the model is "
            f"{registry.joined(chosen)}; set {option('preset', 'default')}"
        )
    _check_latency(config, chosen)
    recipe = registry.family(next(iter(chosen.values()))).recipe  # of the input that costs most to train
    preprocessing = _preprocessing(config.preprocessing, recipe, schema, rows)
    # a score in the target's unit would listen to the series of the highest level alone
    weighted = config.objective.class_weights is not None or preprocessing.window_scaling != "none"
    model = _model(config, chosen, facts_of(config, schema, rows))
    training = _training(config.training, recipe, schema, rows, weighted=weighted)
    return replace(
        config,
        data=replace(config.data, target=schema.outputs.target),
        preprocessing=preprocessing,
        model=model,
        augmentation=_augmentation(config.augmentation, recipe),
        objective=_objective(config.objective, recipe, schema),
        optimizer=_optimizer(config.optimizer, recipe, schema),
        schedule=_schedule(config.schedule, recipe),
        training=replace(training, baseline=_baseline(config.training, schema, rows, model)),
        device=devices.choose(config.device).type,
    )


def _preprocessing(config: PreprocessingConfig, recipe: Recipe, schema: Schema, rows: int) -> PreprocessingConfig:
    config = replace(
        config,
        numeric=config.numeric or recipe.numeric,
        signs=recipe.signs if config.signs is None else config.signs,
    )
    bins = recipe.piecewise_bins if config.piecewise_bins is None else config.piecewise_bins
    if bins is None:
        bins = PIECEWISE_BINS if config.numeric == "standard" and rows >= LEAST_ROWS_FOR_BINS else 0
    if config.quantiles is None:
        config = replace(config, quantiles=recipe.quantiles)
    if schema.image and (shape := schema.image[0].image) is not None:  # one for all columns
        size = shape.height if shape.height == shape.width else (shape.height, shape.width)
        config = replace(config, image_size=size, image_fit=shape.fit)
    return replace(config, piecewise_bins=bins, window_scaling=_window_scaling(config, schema))


def _window_scaling(config: PreprocessingConfig, schema: Schema) -> Scaling:
    layout, asked = schema.layout, config.window_scaling
    if layout is None or layout.window is None:
        if asked not in (None, "none"):
            raise InputError(
                f"preprocessing.window_scaling={asked} needs data.window: it scales the windows of a forecast"
            )
        return "none"
    if asked == "series" and schema.scaled_by is None:
        raise InputError(
            "preprocessing.window_scaling=series: the data was read without the series as an input; set it for all "
            f"trials: {together({'preprocessing.window_scaling': 'series'})}"
        )
    return asked or layout.scaling or "none"


def _model(run: RunConfig, chosen: dict[InputKind, str], facts: Facts) -> ModelConfig:
    config = run.model
    if pack.FAMILY.name in chosen.values():
        config = replace(config, pack=_pack(run, registry.pack_settings(config), facts.rows))
    each = registry.dropouts(config, chosen)
    dropout = each if len(set(each.values())) > 1 else next(iter(each.values()))
    return replace(registry.complete(config, facts), name=registry.joined(chosen), dropout=dropout)


def _pack(run: RunConfig, settings: PackConfig, rows: int) -> PackConfig:
    """The settings of a pack with `rows` training rows.

    It has no folds if rows are not split at random, or if it is cross-validated: each fold is then scored by rows that
    it must not learn from. Raises InputError for settings that a pack cannot follow.
    """
    at_random, folds = run.split.by in ("random", "stratified"), settings.folds or 1
    faults = []
    if run.training.refit:
        faults.append("training.refit=true: its members are chosen by the validation part; see model.pack.folds")
    if run.training.metric not in (None, "loss", "log_loss", "rmse"):
        faults.append(f"training.metric={run.training.metric}: its members are chosen by their loss")
    if run.training.metric == "log_loss" and run.objective.class_weights is not None:
        faults.append("training.metric=log_loss: with objective.class_weights, its members are chosen by weighted loss")
    if run.training.ema:
        faults.append(f"training.ema={run.training.ema:g}: its members keep their weights of single epochs")
    if run.optimizer.name != "adamw":
        faults.append(
            f"optimizer.name={run.optimizer.name}: its members learn with adamw; for muon, see model.pack.muon_lr"
        )
    if run.optimizer.beta2 not in (None, pack.FAMILY.recipe.beta2):
        faults.append(f"optimizer.beta2={run.optimizer.beta2:g}: its members learn with {pack.FAMILY.recipe.beta2:g}")
    if run.schedule.regularisation not in (None, pack.FAMILY.recipe.regularisation):
        faults.append(f"schedule.regularisation={run.schedule.regularisation}: its members keep what they draw")
    if folds > 1 and not at_random:
        faults.append(f"model.pack.folds={folds}: needs rows that are split at random, not by {run.split.by}")
    if folds > 1 and run.split.folds is not None:
        faults.append(f"model.pack.folds={folds}: it is cross-validated already, on split.folds")
    if folds > rows:
        faults.append(f"model.pack.folds={folds}: expected at most one for each of {rows} training rows")
    if faults:
        other = without_pack(run)
        raise InputError(f"the model pack cannot follow these settings; remove them, or set {other}", faults)
    if run.split.folds is not None or not at_random:
        return replace(settings, folds=1)
    return settings


def without_pack(run: RunConfig) -> str:
    """Return how a user trains another model of a table than a pack."""
    return option("preset", "fast") if run.preset == "best" else setting("model.name", mlp.FAMILY.name)


def _check_latency(run: RunConfig, chosen: dict[InputKind, str]) -> None:
    """Raise InputError for a limit of latency, or a distillation, that this model cannot have."""
    asked, faults = run.training, []
    given = {"training.max_latency": asked.max_latency, "training.distill": asked.distill or None}
    for key, value in given.items():
        if value is None:
            continue
        if set(chosen) != {"table"}:
            faults.append(f"{key}: is for tables of columns alone; remove it")
        elif key == "training.distill" and pack.FAMILY.name not in chosen.values():
            faults.append(f"{key}: needs the model {pack.FAMILY.name}; set {setting('model.name', pack.FAMILY.name)}")
        elif run.split.folds is not None:
            faults.append(f"{key}: cannot be cross-validated; remove it, or split.folds")
    if faults:
        raise InputError("the latency of this model cannot be limited so", faults)


def _augmentation(config: AugmentationConfig, recipe: Recipe) -> AugmentationConfig:
    values = asdict(config)
    return replace(
        config,
        **{key: getattr(recipe.augmentation, key) if value is None else value for key, value in values.items()},
    )


def _objective(config: ObjectiveConfig, recipe: Recipe, schema: Schema) -> ObjectiveConfig:
    regression = schema.outputs.classes is None
    clamp = regression and recipe.clamp if config.clamp is None else config.clamp
    return replace(config, task="regression" if regression else "classification", clamp=clamp)


def _optimizer(config: OptimizerConfig, recipe: Recipe, schema: Schema) -> OptimizerConfig:
    lr = config.lr or optimizers.OPTIMIZERS[config.name].lr
    if lr is None:
        regression = schema.outputs.classes is None
        lr = recipe.regression_lr if regression and recipe.regression_lr is not None else recipe.lr
    return replace(
        config,
        lr=lr,
        beta2=recipe.beta2 if config.beta2 is None else config.beta2,
        weight_decay=recipe.weight_decay if config.weight_decay is None else config.weight_decay,
    )


def _schedule(config: ScheduleConfig, recipe: Recipe) -> ScheduleConfig:
    name = config.name or recipe.schedule
    default = schedules.SCHEDULES[name].gamma
    return replace(
        config,
        name=name,
        gamma=default if config.gamma is None else config.gamma,
        regularisation=config.regularisation or recipe.regularisation,
    )


def _training(config: TrainingConfig, recipe: Recipe, schema: Schema, rows: int, *, weighted: bool) -> TrainingConfig:
    size = config.batch_size
    if size is None:
        size = recipe.batch_size or next((size for below, size in BATCH_SIZES if rows < below), LARGEST_BATCH)
        size = min(size, recipe.largest_batch or size)
    steps = max(rows // size + (rows % size > 1), 1)  # a single remaining row joins the last batch
    epochs = config.epochs or max(recipe.epochs, -(-recipe.least_steps // steps))
    return replace(
        config,
        batch_size=size,
        epochs=epochs,
        metric=metrics.choose(config.metric, schema.outputs.task, weighted=weighted).name,
        patience=_patience(epochs, recipe) if config.patience is None else config.patience,
        distill=False if (config.distill, config.max_latency) == (None, None) else config.distill,
    )


def _baseline(config: TrainingConfig, schema: Schema, rows: int, model: ModelConfig) -> bool:
    """Whether baselines are trained beside the model. With folds, each of them has about as many rows as training."""
    others = [registry.KIND_NAMES[kind] for kind in registry.inputs(schema) if kind != "table"]
    if others and config.baseline:
        raise InputError(
            f"training.baseline=true: baselines read columns alone, but the data has {' and '.join(others)}: use "
            f"{option('training.baseline', False)}"
        )
    if others or config.baseline is not None:
        return bool(config.baseline)
    return table_baselines.cells(schema, rows, registry.folds(model)) <= table_baselines.MOST_CELLS


def _patience(epochs: int, recipe: Recipe) -> int:
    # with many epochs of few steps each, the first epochs say little about the final score
    return max(LEAST_PATIENCE, epochs // 3) if recipe.patience is None else recipe.patience
