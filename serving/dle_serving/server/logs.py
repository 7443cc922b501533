"""What the service's processes write: one line an event on standard error."""

import logging
import os


def log_plainly(who: str) -> None:
    """Set up the log of this process; BentoML's own lines say nothing that ours do not."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {who} {os.getpid()}: %(message)s"))
    logger = logging.getLogger("dle_serving")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    logging.getLogger("bentoml").setLevel(logging.WARNING)
