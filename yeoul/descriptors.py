"""allow_descriptors(): room for as many open descriptors as a process needs; called by the web process and the executor."""

from __future__ import annotations

import logging
import resource

logger = logging.getLogger(__name__)


def allow_descriptors(num_wanted: int, flag: str) -> None:
    """Raises this process's own limit, as far as the system lets it; fewer than ``flag`` needs is a line in the log."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = num_wanted if hard == resource.RLIM_INFINITY else min(num_wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible < num_wanted:
        logger.warning("%d descriptors may be open, fewer than %s needs, %d", possible, flag, num_wanted)
