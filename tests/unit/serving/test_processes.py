"""In processes of their own, since what is tested changes a process as a whole."""

import subprocess
import sys

SETTLE = """
import gc
from dle_serving.server.processes import settle
before = gc.get_threshold()[0]
settle()
assert gc.get_freeze_count() > 1000
assert gc.isenabled()
assert gc.get_threshold()[0] > 10 * before
"""


def test_what_is_loaded_is_not_collected_again_and_the_rest_seldom() -> None:
    subprocess.run([sys.executable, "-c", SETTLE], check=True)
