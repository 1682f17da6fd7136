"""Settings of the whole suite: offline, quiet, and one thread per torch operation on shared machines."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("STEERLENS_PROGRESS", "0")
