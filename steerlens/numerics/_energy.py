"""Energy distance between two samples."""

from jaxtyping import Float
from torch import Tensor, cdist

EXACT = "donot_use_mm_for_euclid_dist"


def energy_distance(x: Float[Tensor, "n d_model"], y: Float[Tensor, "m d_model"]) -> Float[Tensor, ""]:
    """Squared energy distance, 2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖, zero if and only if the laws agree.

    The unbiased form (a row is never compared with itself): it can be slightly negative for equal laws.
    Differentiable, except where two rows coincide; there the gradient is taken as zero.

    References:
        szekely2013, section 6.
    """
    n, m = x.shape[0], y.shape[0]
    between = cdist(x, y, compute_mode=EXACT).mean()
    within_x = cdist(x, x, compute_mode=EXACT).sum() / max(n * (n - 1), 1)
    within_y = cdist(y, y, compute_mode=EXACT).sum() / max(m * (m - 1), 1)
    return 2 * between - within_x - within_y
