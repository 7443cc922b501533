"""GET /docs: the interactive documentation of the service, which works without internet access.

The page uses the Swagger UI that BentoML ships, but not BentoML's own page, which loads files from the internet. If
the service requires API keys, /openapi.json does too: the page asks for a key, keeps it in memory, and sends it with
each request that the reader tries.
"""

import asyncio
from pathlib import Path

from bentoml._internal import server as bentoml_server

from dle_serving.errors import NotFound
from dle_serving.routes.contract import Request, Response

ASSETS = Path(bentoml_server.__file__).parent / "static_content"
ASSET_TYPES = {
    "swagger-ui.css": b"text/css",
    "swagger-ui-bundle.js": b"text/javascript",
    "favicon-light-32x32.png": b"image/png",
}
_PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Prediction service</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" type="image/png" href="docs/favicon-light-32x32.png">
<style>
form { max-width: 40em; margin: 4em auto 0; font: 16px sans-serif; }
output { display: block; max-width: 40em; margin: 1em auto 0; font: 16px sans-serif; white-space: pre-line; }
input { width: 24em; max-width: 100%; padding: .4em; font: inherit; }
button { padding: .4em 1em; font: inherit; }
</style>
</head>
<body>
<form hidden>
<label for="key">API key, with the scope predict</label><br>
<input id="key" type="password" autocomplete="off" autofocus required> <button>Show</button>
</form>
<output></output>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js" charset="utf-8"></script>
<script>
const form = document.querySelector("form"), output = document.querySelector("output");
async function show(key) {
  const answer = await fetch("openapi.json", {headers: key ? {authorization: `Bearer ${key}`} : {}});
  const content = await answer.json();
  form.hidden = ![401, 403].includes(answer.status);
  output.textContent = answer.ok || (answer.status === 401 && !key) ? "" : content.error;
  if (!answer.ok) return;
  const ui = SwaggerUIBundle({
    spec: content, dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
    onComplete: () => key && ui.preauthorizeApiKey("bearer", key),
  });
}
form.addEventListener("submit", event => { event.preventDefault(); show(form.elements.key.value.trim()); });
show("");
</script>
</body>
</html>
"""


async def page(request: Request) -> Response:
    """The page."""
    request.flags()
    return Response(_PAGE, b"text/html; charset=utf-8")


async def asset(request: Request) -> Response:
    """A file that the page loads; raises NotFound for any other name."""
    request.flags()
    name = request.parameters["file"]
    if name not in ASSET_TYPES:
        raise NotFound(f"expected one of {', '.join(ASSET_TYPES)}, got {name[:100]!r}")
    content = await asyncio.to_thread((ASSETS / name).read_bytes)
    return Response(content, ASSET_TYPES[name], headers=((b"cache-control", b"max-age=86400"),))
