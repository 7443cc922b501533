"""/docs: the service's documentation for people, a page that works without the internet.

Swagger UI comes with BentoML. Its own page is not used, for it calls home.
"""

import asyncio
from pathlib import Path

from bentoml._internal import server as bentoml_server

from dle_serving.errors import NotFound
from dle_serving.routes.contract import Request, Response

ASSETS = Path(bentoml_server.__file__).parent / "static_content"
FILES = {
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
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js" charset="utf-8"></script>
<script>
SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null});
</script>
</body>
</html>
"""


async def page(request: Request) -> Response:
    """The page itself."""
    request.flags()
    return Response(_PAGE, b"text/html; charset=utf-8")


async def asset(request: Request) -> Response:
    """A file that the page needs; raises NotFound for any other."""
    request.flags()
    name = request.parameters["file"]
    if name not in FILES:
        raise NotFound(f"expected one of {', '.join(FILES)}, got {name[:100]!r}")
    content = await asyncio.to_thread((ASSETS / name).read_bytes)
    return Response(content, FILES[name], headers=((b"cache-control", b"max-age=86400"),))
