"""Every shipped method, with little training where it trains: what laws and degenerate data are tried on."""

from dataclasses import replace

from steerlens.maps import METHODS, Training

SHIPPED = [replace(m, training=Training(steps=60)) if hasattr(m, "training") else m for m in METHODS]
