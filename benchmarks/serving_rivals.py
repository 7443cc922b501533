"""The servers beside which `serving.py` measures: a bare uvicorn, FastAPI and Triton with ONNX Runtime.

    python serving_rivals.py bare ANSWER PORT             # the bytes of the file ANSWER, for any request
    python serving_rivals.py fastapi BUNDLE PORT          # needs fastapi, uvicorn, uvloop, httptools, onnxruntime
    python serving_rivals.py triton BUNDLE FOLDER PORT    # needs nvidia-pytriton, onnxruntime; FOLDER is written

Each runs in an environment of its own. FastAPI and Triton predict with the graph of the bundle on one thread. FastAPI
validates with a pydantic model and runs the graph once a request. Triton is the server of the wheel nvidia-pytriton
with its python backend, which batches requests; a request is JSON with the arrays of the graph. It needs the Python
whose libpython the system's loader finds, such as that of the distribution. Neither signs ids nor watches drift.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_TRITON_MODEL = """
import numpy as np
import onnxruntime
import triton_python_backend_utils as triton

class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        feeds = {}
        for name in NAMES:
            parts = [triton.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
            feeds[name] = np.concatenate(parts)
        if "categorical" in feeds:
            feeds["categorical"] = np.char.decode(feeds["categorical"].astype(bytes)).astype(object)
        (probabilities,) = self.session.run(["probabilities"], feeds)
        answers, start = [], 0
        for request in requests:
            end = start + len(triton.get_input_tensor_by_name(request, NAMES[0]).as_numpy())
            answers.append(triton.InferenceResponse([triton.Tensor("probabilities", probabilities[start:end])]))
            start = end
        return answers
"""


def bare(answer: str, port: str) -> None:
    """Serve a file's bytes."""
    import uvicorn

    body = Path(answer).read_bytes()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    uvicorn.run(app, port=int(port), log_level="warning", access_log=False, lifespan="off")


def fastapi(bundle: str, port: str) -> None:
    """Serve POST /predict as a FastAPI user writes it."""
    import numpy as np
    import uvicorn

    framework: Any = importlib.import_module("fastapi")
    onnxruntime: Any = importlib.import_module("onnxruntime")
    schema = json.loads((Path(bundle) / "schema.json").read_text())
    numeric, categorical = columns(schema)
    _, rows_model = pydantic_models(schema)
    session = onnxruntime.InferenceSession(str(Path(bundle) / "model.onnx"), one_thread(onnxruntime))
    classes = schema["outputs"]["classes"]
    app = framework.FastAPI()

    async def health() -> str:
        return "ok"

    async def predict(request: Any) -> dict[str, Any]:
        rows = [row.model_dump(by_alias=True) for row in request.rows]
        feeds: dict[str, Any] = {}
        if numeric:
            feeds["numeric"] = np.array([[row[name] for name in numeric] for row in rows], dtype=np.float64)
        if categorical:
            feeds["categorical"] = np.array([[row[name] or "" for name in categorical] for row in rows], dtype=object)
        labels, probabilities = session.run(["label", "probabilities"], feeds)
        return {
            "predictions": [
                {"label": label, "probability": max(each), "probabilities": dict(zip(classes, each, strict=True))}
                for label, each in zip(labels.tolist(), probabilities.tolist(), strict=True)
            ]
        }

    predict.__annotations__["request"] = rows_model
    app.post("/predict")(predict)
    app.get("/health")(health)
    uvicorn.run(app, port=int(port), log_level="warning", access_log=False)


def triton(bundle: str, folder: str, port: str) -> None:
    """Write a model repository, and become tritonserver."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    pytriton: Any = importlib.import_module("pytriton")
    packages = Path(pytriton.__file__).parents[1]
    server = packages / "pytriton" / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "backends" / "python" / "triton_python_backend_stub"
    if not stub.exists():
        stub.symlink_to(server / "python_backend_stubs" / version / stub.name)
    home = Path(folder) / "models"
    _write_repository(home / "income", Path(bundle).resolve() / "model.onnx", onnxruntime)
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
        "PYTHONPATH": str(packages),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
    }
    options = {"model-repository": home, "backend-directory": server / "backends", "http-port": port}
    fixed = ["--http-address=127.0.0.1", "--allow-grpc=false", "--allow-metrics=false"]
    program = str(server / "bin" / "tritonserver")
    os.execve(program, [program, *(f"--{name}={value}" for name, value in options.items()), *fixed], environment)


def _write_repository(home: Path, model: Path, onnxruntime: Any) -> None:
    session = onnxruntime.InferenceSession(str(model))
    types = {"tensor(double)": "TYPE_FP64", "tensor(string)": "TYPE_STRING"}
    taken = session.get_inputs()
    inputs = [f'{{name: "{each.name}" data_type: {types[each.type]} dims: [{each.shape[1]}]}}' for each in taken]
    classes = next(each.shape[1] for each in session.get_outputs() if each.name == "probabilities")
    (home / "1").mkdir(parents=True, exist_ok=True)
    names = [each.name for each in taken]
    (home / "1" / "model.py").write_text(f"MODEL = {str(model)!r}\nNAMES = {names!r}\n{_TRITON_MODEL}")
    config = [
        f'name: "{home.name}"',
        'backend: "python"',
        "max_batch_size: 256",
        "dynamic_batching {}",
        f"input [{', '.join(inputs)}]",
        f'output [{{name: "probabilities" data_type: TYPE_FP32 dims: [{classes}]}}]',
        "instance_group [{count: 1 kind: KIND_CPU}]",
    ]
    (home / "config.pbtxt").write_text("\n".join(config))


def columns(schema: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The names of the numeric and of the categorical columns, as the graph has them."""
    numeric = [field["name"] for field in schema["inputs"] if field["kind"] in ("numeric", "boolean")]
    categorical = [field["name"] for field in schema["inputs"] if field["kind"] == "categorical"]
    if len(numeric) + len(categorical) != len(schema["inputs"]):
        sys.exit("error: only numbers and categories are supported here")
    return numeric, categorical


def pydantic_models(schema: dict[str, Any]) -> tuple[Any, Any]:
    """A row and a request of rows as pydantic models."""
    pydantic: Any = importlib.import_module("pydantic")
    fields: dict[str, Any] = {}
    for index, field in enumerate(schema["inputs"]):
        kind: Any = str if field["kind"] == "categorical" else float
        required = field.get("required", False)
        default = pydantic.Field(... if required else None, alias=field["name"])
        fields[f"field_{index}"] = (kind if required else kind | None, default)
    row: Any = pydantic.create_model("Row", **fields)
    return row, pydantic.create_model("Rows", rows=(list[row], ...))


def one_thread(onnxruntime: Any) -> Any:
    """Options of a session that runs on the core of its server."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return options


if __name__ == "__main__":
    servers: dict[str, Callable[..., None]] = {"bare": bare, "fastapi": fastapi, "triton": triton}
    servers[sys.argv[1]](*sys.argv[2:])
