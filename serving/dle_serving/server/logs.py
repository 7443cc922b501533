"""Logging of the service's processes: one line per event on standard error."""

import logging
import os


def log_plainly(process: str) -> None:
    """Set up the log of this process, and silence BentoML's own lines below warnings, which repeat ours."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {process} {os.getpid()}: %(message)s"))
    logger = logging.getLogger("dle_serving")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    logging.getLogger("bentoml").setLevel(logging.WARNING)
