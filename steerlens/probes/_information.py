"""Usable information: how many bits about the concept a class of functions gets out of activations."""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from steerlens.numerics import Estimate
from steerlens.probes._intervals import mean_interval
from steerlens.probes._recalibration import bits
from steerlens.probes._scores import ProbeTable


@final
@dataclass(frozen=True, eq=False)
class VInformation:
    """I_V(X → Y) = H_V(Y | ∅) − H_V(Y | X) in bits for each row, on test rows.

    It is a lower bound of what the class could get with more rows to fit; below zero the probe is worse than the base
    rate. Unlike Shannon's information it can grow from layer to layer: computation makes information usable.

    Args:
        probe: Whose class of functions.
        information: In bits.
        entropy: H_V(Y | ∅), the bits of the base rate of the fit rows.
        pvi: Pointwise, ``−log₂ g[∅](y) + log₂ f[x](y)`` of every test row, mean over seeds, shape (n,): low where a row
            is hard for the class. Its mean is ``information``.
    """

    probe: str
    information: Estimate
    entropy: Estimate
    pvi: npt.NDArray[np.float64]

    def __str__(self) -> str:
        return f"{self.probe}: {self.information} of {self.entropy.value:.3g} bits"


def v_information(table: ProbeTable, probe: str) -> VInformation:
    """Usable information of one probe of a table.

    Args:
        table: Of `probe_table`.
        probe: Name of a probe in it.

    Raises:
        UnknownNameError: If there is no such probe.

    References:
        xu2020 (V-information); ethayarajh2022 (pointwise).
    """
    base = bits(np.full(len(table.y), table.base_log_odds), table.y)
    pvi = base - table.bits(probe)
    return VInformation(probe, mean_interval(pvi, table.codes, level=table.level), table.base, pvi.mean(axis=0))
