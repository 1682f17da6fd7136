"""What a comparison does not show."""

from steerlens.evaluation import Comparison
from steerlens.evaluation._text_baselines import IN_CHAT
from steerlens.reports._numbers import counted, general, is_number, listed
from steerlens.reports._select import budget_of, short_of_budget

_METRICS = {
    "effect": "the change in log-odds",
    "kl": "KL on neutral text",
    "perplexity_ratio": "perplexity on neutral text",
    "displacement": "relative displacement",
}


def limits(comparison: Comparison) -> tuple[str, ...]:
    """Plain sentences: what intervals cover, what was chosen where, and what was not measured."""
    return (
        *_intervals(comparison),
        *_selection(comparison),
        *_controls(comparison),
        *_prompts(comparison),
        _scope(comparison),
        _unmeasured(comparison),
    )


def _intervals(comparison: Comparison) -> list[str]:
    head, found = comparison.headline, []
    test = comparison.records[comparison.records["split"] == "test"]
    levels = sorted({f"{100 * x:.3g} %" for x in (*test["level"], *comparison.contrasts["level"]) if is_number(x)})
    kinds = sorted({str(x) for x in test["interval"].dropna()})
    if levels:
        how = f" ({listed(kinds)})" if kinds else ""
        found.append(
            f"Intervals are at the {listed(levels)} level{how} and each stands on its own: nothing is "
            f"corrected for looking at {counted(len(head), 'method')} and "
            f"{counted(len(comparison.contrasts), 'contrast')}."
        )
    counts = sorted({(int(n), int(c)) for n, c in zip(head["n"], head["n_clusters"], strict=True) if is_number(n)})
    if counts:
        said = listed([f"{counted(n, 'question')} in {counted(c, 'group')}" for n, c in counts])
        found.append(
            f"Effects rest on {said} of the test half. Questions of a group are resampled together, so the "
            "number of groups limits how narrow an interval can be."
        )
    return found


def _selection(comparison: Comparison) -> list[str]:
    head = comparison.headline
    tried = max((int(n) for n in head["n_tried"] if is_number(n)), default=1)
    budget = general(budget_of(comparison))
    found = [
        f"Methods are compared where KL on neutral text first meets {budget} nats per token, {_met(comparison)} "
        "Another budget may order them differently."
    ]
    if tried > 1:
        found.append(
            f"All methods stand at one site of {tried}, where their mean effect at the budget was largest on the "
            "selection half; the test half was not used to choose it. A method that does more elsewhere would look "
            "worse here than it is. The family named as ahead is the one whose best method has the largest effect "
            "on the test half."
        )
    else:
        found.append("One site was tried. A method that needs another layer would look worse here than it is.")
    return found


def _met(comparison: Comparison) -> str:
    if comparison.doses.empty:
        return (
            "by interpolation between the strengths tried. The perplexity ratio is that of the nearest strength tried "
            "above 0."
        )
    own = comparison.doses[comparison.doses["role"] == "method"]
    least, most = (general(float(x)) for x in (own["kl"].min(), own["kl"].max()))
    return (
        "at a strength of its own that was found on the selection half of the texts and measured once on the other "
        f"half. There KL is not exactly the budget, but {least} to {most}; intervals take the strengths as they are."
    )


def _controls(comparison: Comparison) -> list[str]:
    head = comparison.headline
    counts = [int(n) for n in head["random_n"] if is_number(n)]
    if not counts or min(counts) < 2:
        return ["Too few random directions were measured, so an effect may be that of any push of its size."]
    return [
        f"The random range is that of {min(counts)} directions per site, each as long as the mean shift "
        "there; with so few, its ends are themselves rough. Random directions are translations: they are "
        "no control for what a projection or a learned map does besides moving the mean." + _short(comparison)
    ]


def _short(comparison: Comparison) -> str:
    short = next((s for _, row in comparison.headline.iterrows() if (s := short_of_budget(row))), "")
    return f" Only {short} of them reached the budget; the range is that of a smaller dose." if short else ""


def _prompts(comparison: Comparison) -> list[str]:
    said = comparison.records[comparison.records["role"] == "text"]
    if said.empty or said["method"].str.endswith(IN_CHAT).any():
        return []
    return [
        "Prompts and examples were given as plain text, as the questions are. A chat model may follow them better in "
        "its own format, so that as rivals they may look weaker than they are."
    ]


def _scope(comparison: Comparison) -> str:
    p = comparison.provenance
    return (
        f"One model ({p.model.get('name')}), one concept ({p.concept.get('name')}), one set of fitted "
        "maps: nothing here says how far the order of methods carries over, and the intervals do not "
        "include the variation from fitting the maps on other pairs."
    )


def _unmeasured(comparison: Comparison) -> str:
    measured = set(comparison.records["metric"])
    missing = [name for metric, name in _METRICS.items() if metric not in measured]
    missing += ["abilities on benchmarks", "effects on other concepts"]
    missing += ["prompting as a rival"] if "text" not in set(comparison.records["role"]) else []
    shown = "generated texts are shown, not scored" if comparison.generations else "no text was generated"
    return f"Not measured: {listed(missing)}. Effects are log-odds of given continuations; {shown}."
