"""GET /openapi.json: the API of this server, with the inputs, examples and predictions of each of its models.

Ranges and categories that training saw are not limits, so they appear as `x-observed-range` and
`x-observed-categories`: `minimum` or `enum` would make clients reject the rows that show drift.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from dle_bundle.schema import Field, Schema, SequenceShape
from dle_serving.models.repository import Repository
from dle_serving.models.served import ServedModel
from dle_serving.routes.contract import Request, Response, Route
from dle_serving.routes.drift import DriftReport
from dle_serving.routes.feedback import FeedbackRequest, FeedbackResponse

JsonObject = dict[str, Any]

_TYPES = {"numeric": "number", "boolean": "boolean", "sequence": "array"}
"""The JSON type of each kind of input; all other kinds are strings."""
_REASONS = {
    400: "The request is invalid; `details` lists the first 100 faults of all rows",
    401: "The API key is missing or unknown",
    403: "The API key lacks the scope that the route requires",
    404: "The model, version or path does not exist",
    405: "The path does not support this method",
    413: "The body has more bytes or rows than the service allows",
    415: "The body has an unsupported media type",
    500: "An internal error of the service",
    503: "The models are not loaded, the server is overloaded, or the feedback store cannot be reached",
    504: "The request waited longer than its timeout; no work on it began",
}
_TIMEOUT: JsonObject = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "required": False,
    "description": "time in milliseconds after which no work on the request shall begin",
    "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
}
_SUMMARIES = {
    "/predict": "Predictions of the first model",
    "/schema": "Inputs and outputs of the first model",
    "/drift": "Drift of the first model's inputs, predictions and accuracy",
    "/feedback": "Report the true values of earlier predictions, of any model",
    "/livez": "Whether the process is alive",
    "/healthz": "The same, under BentoML's name",
    "/readyz": "Whether every model is loaded, verified and warmed up",
    "/metrics": "Metrics for Prometheus",
    "/openapi.json": "This document",
    "/schema.json": "What BentoML's clients read before they call /predict and /feedback",
    "/docs": "This document as an interactive page",
}
_TAGS = {"predict": "predictions", "feedback": "feedback", "metrics": "monitoring", None: "health and this page"}
"""Headings of the page /docs, by the scope of the routes."""
_MODEL_SUMMARIES = {
    "predict": "Predictions of",
    "schema": "Inputs and outputs of",
    "drift": "Drift of the inputs, predictions and accuracy of",
}
_ID = "ASpqbbSAyZ8pTgABP2aZmk0xq7vWc0oFoZr3b1uQyV9kXw2e"
"""An example id, which no server accepts: each server signs ids with its own keys."""
ERROR: JsonObject = {
    "type": "object",
    "required": ["error", "details"],
    "properties": {
        "error": {"type": "string"},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["row", "field", "code", "message"],
                "properties": {
                    "row": {"type": ["integer", "null"], "description": "counts from 0; null means the whole request"},
                    "field": {"type": ["string", "null"]},
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                },
            },
        },
    },
}


class OpenApiHandler:
    """Handles GET /openapi.json."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self.routes: Sequence[Route] = ()

    async def __call__(self, request: Request) -> Response:
        """The document; raises NotReady while the models load."""
        request.flags()
        return Response(msgspec.json.encode(document(self._repository.all(), self.routes)))


def document(models: Sequence[ServedModel], routes: Sequence[Route]) -> JsonObject:
    """OpenAPI 3.1 for `routes` and `models`; a path with a model parameter appears once for each model."""
    paths: JsonObject = {}
    schemas: JsonObject = {"Error": ERROR, **monitoring_schemas(models[0])}
    for served in models:
        schemas[_component(served, "Rows")] = rows_schema(served.schema)
        schemas[_component(served, "Predictions")] = predictions_schema(served.schema)
    for route in routes:
        if route.path == "/docs/{file}":
            continue
        if "{model}" not in route.path:
            paths[route.path] = {route.method.lower(): _operation(route, models[0], _SUMMARIES[route.path])}
            continue
        for served in sorted(
            models, key=lambda served: served.version
        ):  # the highest version, which a path without one uses, comes last
            path = route.path.replace("{model}", served.name).replace("{version}", str(served.version))
            summary = f"{_MODEL_SUMMARIES[path.rpartition('/')[2]]} {served.name}"
            paths[path] = {route.method.lower(): _operation(route, served, summary)}
    components = {"schemas": schemas}
    if any(401 in route.codes for route in routes):
        components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Predictions of {', '.join(dict.fromkeys(served.name for served in models))}",
            "version": str(models[0].version),
        },
        "paths": paths,
        "components": components,
    }


def rows_schema(schema: Schema) -> JsonObject:
    """JSON schema of `{"rows": […]}` for one model, with a valid example."""
    row = {
        "type": "object",
        "properties": {field.name: _input(field) for field in schema.inputs},
        "required": [field.name for field in schema.inputs if field.required],
        "additionalProperties": False,
    }
    example = {field.name: field.example for field in schema.inputs if field.example is not None}
    return {
        "type": "object",
        "properties": {"rows": {"type": "array", "items": row}},
        "required": ["rows"],
        "additionalProperties": False,
        "examples": [{"rows": [example]}],
    }


def predictions_schema(schema: Schema) -> JsonObject:
    """JSON schema of the response of one model."""
    outputs = schema.outputs
    properties: JsonObject = {
        "id": {"type": "string", "description": "identifies this prediction in feedback; absent with ids=false"}
    }
    if outputs.classes is None and outputs.horizon > 1:
        steps = {"type": "array", "items": {"type": "number"}, "minItems": outputs.horizon, "maxItems": outputs.horizon}
        properties["values"] = {**steps, "description": f"{outputs.target}, step by step", **_unit(outputs.unit)}
    elif outputs.classes is None:
        properties["value"] = {"type": "number", "description": outputs.target, **_unit(outputs.unit)}
    else:
        properties["label"] = {"enum": list(outputs.classes), "description": outputs.target}
        properties["probability"] = {"type": "number", "description": "probability of the label"}
        properties["probabilities"] = {"type": "object", "additionalProperties": {"type": "number"}}
    prediction = {"type": "object", "properties": properties, "required": [name for name in properties if name != "id"]}
    return {
        "type": "object",
        "required": ["model", "version", "predictions"],
        "properties": {
            "model": {"type": "string"},
            "version": {"type": "integer"},
            "predictions": {"type": "array", "items": prediction},
        },
    }


def monitoring_schemas(served: ServedModel) -> JsonObject:
    """JSON schemas of the bodies of /feedback and /drift, with an example of feedback for one model."""
    _, schemas = msgspec.json.schema_components(
        [FeedbackRequest, FeedbackResponse, DriftReport], ref_template="#/components/schemas/{name}"
    )
    horizon = served.schema.outputs.horizon
    actual: Any = served.labels[0] if served.labels else 1.5 if horizon == 1 else [1.5] * horizon
    schemas["FeedbackRequest"]["examples"] = [{"items": [{"id": _ID, "actual": actual}]}]
    return schemas


def _input(field: Field) -> JsonObject:
    plain = ["string", "integer"] if field.json_type == "integer" else [_TYPES.get(field.kind, "string")]
    if field.number_format is not None:
        plain = ["number", "string"]
    types = plain if field.required else [*plain, "null"]
    described: JsonObject = {"type": types[0] if len(types) == 1 else types, **_unit(field.unit)}
    if field.kind == "datetime" and field.date_format is None:
        described["description"] = "ISO 8601 date or date-time; UTC if it has no time zone"
    elif field.date_format is not None:
        described["description"] = (
            f"date-time in the format {field.date_format}, or ISO 8601; UTC if it has no time zone"
        )
    if field.number_format is not None:
        described["description"] = f"a number, or a text like {field.number_format.example}"
    if field.image is not None:
        described |= {"contentEncoding": "base64", "contentMediaType": "image/*"}
        described["description"] = f"an image file as base64; the model sees it {field.form}"
    if field.sequence is not None:
        least = field.sequence.ahead or field.sequence.window or 1
        described |= {"items": _step(field.sequence), "minItems": least, "maxItems": field.sequence.max_steps}
        of = "steps" if field.sequence.ahead is None else "the steps to forecast"
        described["description"] = f"a list of {of}, each a list of its channels; training saw {field.form}"
    if field.observed_range is not None:
        described["x-observed-range"] = list(field.observed_range)
    if field.categories is not None:
        described["x-observed-categories"] = list(field.categories)
    if field.example is not None:
        described["examples"] = [field.example]
    return described


def _step(shape: SequenceShape) -> JsonObject:
    """One step of a series: a list with a number per channel, or just the number if there is one channel."""
    kinds = ["number", *(["string"] if shape.number_formats else []), *([] if shape.complete else ["null"])]
    number: JsonObject = {"type": kinds[0] if len(kinds) == 1 else kinds}
    width = len(shape.channels)
    step: JsonObject = {"type": "array", "items": number, "minItems": width, "maxItems": width}
    return {"anyOf": [number, step]} if width == 1 else step


def _unit(unit: str | None) -> JsonObject:
    return {} if unit is None else {"x-unit": unit}


def _operation(route: Route, served: ServedModel, summary: str) -> JsonObject:
    responses = {str(code): _error(_REASONS[code]) for code in sorted({400, 405, 500, *route.codes})}
    operation: JsonObject = {
        "summary": summary,
        "tags": [_TAGS[route.scope]],
        "responses": {"200": {"description": "Success"}, **responses},
    }
    if 401 in route.codes:
        operation["security"] = [{"bearer": [route.scope]}]
    if route.path == "/feedback":
        operation["requestBody"] = {"required": True, "content": _json("#/components/schemas/FeedbackRequest")}
        operation["responses"]["200"]["content"] = _json("#/components/schemas/FeedbackResponse")
    elif route.path.endswith("/drift"):
        operation["parameters"] = [_flag("bins", "include the count and fraction of each bin", default=False)]
        operation["responses"]["200"]["content"] = _json("#/components/schemas/DriftReport")
    elif route.method == "POST":
        operation["parameters"] = [_flag("ids", "include prediction ids", default=True), _TIMEOUT]
        operation["requestBody"] = {
            "required": True,
            "content": _json(f"#/components/schemas/{_component(served, 'Rows')}") | _files(served.media_types),
        }
        operation["responses"]["200"]["content"] = _json(f"#/components/schemas/{_component(served, 'Predictions')}")
    return operation


def _flag(name: str, description: str, *, default: bool) -> JsonObject:
    return {"name": name, "in": "query", "schema": {"type": "boolean", "default": default}, "description": description}


def _error(description: str) -> JsonObject:
    return {"description": description, "content": _json("#/components/schemas/Error")}


def _json(reference: str) -> JsonObject:
    return {"application/json": {"schema": {"$ref": reference}}}


def _files(media_types: Sequence[str]) -> JsonObject:
    return {media: {"schema": {"type": "string", "format": "binary"}} for media in media_types}


def _component(served: ServedModel, what: str) -> str:
    return f"{what}-{re.sub(r'[^A-Za-z0-9._-]', '_', served.name)}-{served.version}"
