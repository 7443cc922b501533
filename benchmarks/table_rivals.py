"""Trains boosted trees or a linear model on the rows of a run, and prints test scores as JSON: a part of `tables.py`.

    python table_rivals.py NAME TABLE TARGET SPLIT [COLUMN…]

NAME is hist_gradient_boosting, linear, lightgbm, catboost, realmlp_td or tabm_d (both of pytabkit, the latter with
the package tabm); TABLE a Parquet file, SPLIT the `split.npz` of a run. Each COLUMN is left out.
Everything has its defaults, and trains on the training and validation rows together. Columns of text are categories,
as each library reads them. The linear model is a logistic or ridge regression after StandardScaler and one-hot
categories. It runs in an environment of its own, which needs pandas, pyarrow, scikit-learn and the named library.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    log_loss,
    roc_auc_score,
    root_mean_squared_error,
)


def main() -> None:
    """Train, answer the test rows and print the scores."""
    name, source, target, split, *left_out = sys.argv[1:]
    table, parts = pd.read_parquet(source), np.load(split)
    values = table.pop(target)
    table = table.drop(columns=["split", *left_out], errors="ignore")
    texts = [str(column) for column in table if not pd.api.types.is_numeric_dtype(table[column])]
    for column in texts:
        table[column] = table[column].astype("string").fillna("missing").astype("category")
    regression = values.dtype.kind == "f"
    if not regression:
        values = values.astype(str)
    rows, test = np.concatenate([parts["train"], parts["validation"]]), parts["test"]
    model = MAKERS[name](regression, texts)
    begun = time.perf_counter()
    model.fit(table.iloc[rows], values.iloc[rows])
    seconds = time.perf_counter() - begun
    actual = values.iloc[test]
    if regression:
        scores = {"rmse": root_mean_squared_error(actual, model.predict(table.iloc[test]))}
    else:
        answers = model.predict_proba(table.iloc[test])
        classes = np.asarray(model.classes_)
        right = classes[answers.argmax(axis=1)]
        scores = {"accuracy": accuracy_score(actual, right), "log_loss": log_loss(actual, answers, labels=classes)}
        if len(classes) == 2:
            positive = actual == classes[1]
            scores["roc_auc"] = roc_auc_score(positive, answers[:, 1])
            scores["average_precision"] = average_precision_score(positive, answers[:, 1])
    print(json.dumps({"seconds": seconds, **{key: float(score) for key, score in scores.items()}}))


def _hist_gradient_boosting(regression: bool, texts: list[str]) -> Any:
    from sklearn import ensemble

    kind = ensemble.HistGradientBoostingRegressor if regression else ensemble.HistGradientBoostingClassifier
    return kind(categorical_features="from_dtype", random_state=0)


def _linear(regression: bool, texts: list[str]) -> Any:
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), texts),
        (
            make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
            make_column_selector(dtype_include="number"),
        ),
    )
    return make_pipeline(columns, Ridge() if regression else LogisticRegression(max_iter=3000))


def _lightgbm(regression: bool, texts: list[str]) -> Any:
    import lightgbm  # type: ignore[import-not-found]

    return (lightgbm.LGBMRegressor if regression else lightgbm.LGBMClassifier)(random_state=0, verbose=-1)


def _catboost(regression: bool, texts: list[str]) -> Any:
    import catboost  # type: ignore[import-not-found]

    kind = catboost.CatBoostRegressor if regression else catboost.CatBoostClassifier
    return kind(cat_features=texts, random_seed=0, verbose=False, allow_writing_files=False)


def _realmlp_td(regression: bool, texts: list[str]) -> Any:
    import pytabkit  # type: ignore[import-not-found]

    kind = pytabkit.RealMLP_TD_Regressor if regression else pytabkit.RealMLP_TD_Classifier
    return _without_gaps(kind(device="cpu", random_state=0), texts)


def _tabm_d(regression: bool, texts: list[str]) -> Any:
    import pytabkit

    kind = pytabkit.TabM_D_Regressor if regression else pytabkit.TabM_D_Classifier
    return _without_gaps(kind(device="cpu", random_state=0), texts)


def _without_gaps(model: Any, texts: list[str]) -> Any:
    """The model after what pytabkit needs: medians for missing numbers, an indicator of them, and plain text."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    columns = make_column_transformer(
        (FunctionTransformer(lambda table: table.astype(object), feature_names_out="one-to-one"), texts),
        (SimpleImputer(strategy="median", add_indicator=True), make_column_selector(dtype_include="number")),
    )
    return make_pipeline(columns.set_output(transform="pandas"), model)


MAKERS = {
    "hist_gradient_boosting": _hist_gradient_boosting,
    "linear": _linear,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
    "realmlp_td": _realmlp_td,
    "tabm_d": _tabm_d,
}

if __name__ == "__main__":
    main()
