"""The worker container's health check: exit status 0 while Redis has lately heard of the worker in this container."""

import os
import socket
import sys

from worker.jobs import Jobs

jobs = Jobs(os.environ["MODA_REDIS_URL"])
sys.exit(not any(name.startswith(f"{socket.gethostname()}-") for name in jobs.workers()))
