"""Finds the route of a path, by a dictionary or segment by segment."""

from collections.abc import Iterable, Mapping

from dle_serving.monitoring.metrics import CLIENT_LEFT
from dle_serving.routes.contract import Route

UNKNOWN = "unknown"
"""The route label, in the metrics, of requests whose path has no route."""
_COMMON_CODES = (200, 400, 405, 500, 503)


class Router:
    """Matches paths to routes. Paths without parameters match first, then the others in order."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._plain = {route.path: route for route in self.routes if "{" not in route.path}
        self._templates = [(route.path.split("/"), route) for route in self.routes if "{" in route.path]

    def find(self, path: str) -> tuple[Route, Mapping[str, str]] | None:
        """The route and the parameters in its path, or None."""
        plain = self._plain.get(path)
        if plain is not None:
            return plain, {}
        segments = path.split("/")
        for template, route in self._templates:
            if len(template) == len(segments):
                pairs = list(zip(template, segments, strict=True))
                if all(part == given or (part.startswith("{") and given) for part, given in pairs):
                    return route, {part[1:-1]: given for part, given in pairs if part.startswith("{")}
        return None

    def responses(self) -> list[tuple[str, int]]:
        """Every pair of a route's name and a status code that it may return."""
        known = [(route.path, code) for route in self.routes for code in sorted({*_COMMON_CODES, *route.codes})]
        left = [(route.path, CLIENT_LEFT) for route in self.routes]
        return [*known, *left, (UNKNOWN, 404), (UNKNOWN, 500), (UNKNOWN, CLIENT_LEFT)]
