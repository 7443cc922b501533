"""/docs of a service with API keys, in a real browser: the page asks for a key, shows the contract, sends the key on.

A person's clicks are a script that a proxy adds to the page; what came of them is in the document's title.
"""

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from tests import bundles
from tests.e2e.servers import DEADLINE, serving
from tests.e2e.test_report_browser import BROWSER, FLAGS

from dle_serving import auth

pytestmark = pytest.mark.e2e
CLICKS = """
<script>
const found = async question => {
  for (;;) {
    const answer = question();
    if (answer) return answer;
    await new Promise(resolve => setTimeout(resolve, 50));
  }
};
const enter = key => { form.elements.key.value = key; form.querySelector("button").click(); };
(async () => {
  await found(() => !form.hidden);
  enter("wrong");
  const refused = await found(() => output.textContent);
  enter("KEY");
  const route = await found(() => document.querySelector("#operations-predictions-get_schema"));
  const asking = form.offsetParent ? "still asked" : "not asked again";
  route.querySelector("button").click();
  (await found(() => route.querySelector(".try-out__btn"))).click();
  (await found(() => route.querySelector(".execute"))).click();
  const status = await found(() => route.querySelector(".live-responses-table tbody .response-col_status"));
  const body = await found(() => route.querySelector(".live-responses-table .microlight"));
  const inputs = body.textContent.includes("workclass") ? "inputs" : "no inputs";
  document.title = [refused, asking, status.textContent.trim().slice(0, 3), inputs].join("; ");
})();
</script>
"""


@contextmanager
def proxy(url: str, key: str) -> Iterator[str]:
    """The same service at another port, with `CLICKS` in its page."""

    class Passing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name: text for name, text in self.headers.items() if name.lower() == "authorization"}
            answer = httpx.get(url + self.path, headers=headers, timeout=DEADLINE)
            body = answer.content
            if self.path == "/docs":
                body += CLICKS.replace("KEY", key).encode()
            self.send_response(answer.status_code)
            self.send_header("content-type", answer.headers["content-type"])
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Passing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_the_page_asks_for_a_key_and_tries_with_it(tmp_path: Path) -> None:
    if BROWSER is None:
        pytest.skip("NOT TESTED: no Chromium here (Debian: apt-get install chromium)")
    keys = tmp_path / "keys"
    key = auth.add(keys, "reader", ["predict"])
    bundle = bundles.write(tmp_path / "income")
    with serving(tmp_path, bundle, DLE_API_KEYS_FILE=str(keys)) as server, proxy(server.url, key) as url:
        options = [*FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom"]
        done = subprocess.run(
            [BROWSER, *options, f"{url}/docs"], capture_output=True, text=True, timeout=120, check=False
        )
    (title,) = re.findall("<title>(.*?)</title>", done.stdout)
    assert title == "unknown API key; not asked again; 200; inputs", done.stderr
