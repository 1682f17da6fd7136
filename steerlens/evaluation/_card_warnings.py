"""What a reader of a steering card must not overlook, by fixed rules."""

from collections.abc import Sequence

from steerlens.evaluation._card import CardControl, CardCost, CardEffect, CardRandom, CardReliability


def card_warnings(
    effect: CardEffect,
    reliability: CardReliability,
    cost: CardCost,
    random: CardRandom,
    controls: Sequence[CardControl],
) -> tuple[str, ...]:
    """What a reader must not overlook, by fixed rules."""
    e, found = effect.at_budget, []
    if not effect.reached:
        found.append(
            f"The budget was not met: the effect is that at strength {effect.strength:.3g}, which costs "
            f"{effect.kl:.2g} nats of KL."
        )
    if e.low <= 0 <= e.high:
        found.append(
            "The interval of the effect holds zero. These questions would show a mean effect of "
            f"{effect.detectable:.2g} nats with a power of 0.8: smaller ones are not excluded."
        )
    elif e.high < 0:
        found.append("The effect is below zero: the map steers the wrong way.")
    if random.low <= e.value <= random.high:
        found.append(f"The effect lies among those of {random.n} random directions.")
    if random.reached < random.n:
        found.append(
            f"Only {random.reached} of {random.n} random directions reached the budget: their range is that of a "
            "smaller dose, and z too large."
        )
    for c in controls:
        if c.role in ("permuted", "other concept", "wrong layer") and c.effect.high >= e.low and e.value > 0:
            found.append(f"The control {c.name!r} ({c.role}) cannot be told from the method by intervals alone.")
        if c.role in ("prompt", "few-shot") and c.effect.low > e.high:
            found.append(f"{c.name!r} does more than the method ({c.effect}), at {c.kl:.3g} nats of KL.")
    if reliability.unmoved.value == 1:
        found.append("The map moves nothing: no slope is larger than rounding makes it.")
    elif reliability.anti_steerable.low > 0.1:
        found.append("More than a tenth of the questions have a slope that is not above zero.")
        if reliability.unmoved.low > 0.1:
            found.append("More than a tenth of the questions are not moved at all; they are counted among those.")
    if reliability.anti_shown is not None and reliability.anti_shown.low > 0.025:
        found.append("Some questions are steered the wrong way, beyond what resampled pairs explain.")
    if reliability.bimodal_p <= 0.05:
        found.append("Slopes have more than one mode: the mean describes no question.")
    if cost.option_mass.high < -0.05:
        found.append("Steering drives answers away from both options: propensity is a ratio of what is left.")
    if cost.capability is not None and cost.capability.high < 0:
        found.append("Accuracy on the capability items falls.")
    return tuple(found)
