"""Maps bound to a model."""

from steerlens.interventions._steer import Intervention, steer

__all__ = ["Intervention", "steer"]
