"""Several hypotheses on one set of records."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from steerlens.errors import OptionError
from steerlens.theories._hypothesis import Hypothesis
from steerlens.theories._verdict import Outcome, Registration, Verdict

DECIDED = (Outcome.SUPPORTED, Outcome.REFUTED)


def judge_all(
    hypotheses: Sequence[Hypothesis],
    records: pd.DataFrame | Mapping[str, pd.DataFrame],
    *,
    level: float = 0.95,
    registered: Mapping[str, Registration] | None = None,
    late: Collection[str] = (),
) -> tuple[Verdict, ...]:
    """Verdicts over a study's hypotheses: wrong about any primary one with probability at most 1 − level.

    Holm's method, stepped down by levels in place of p-values. With m primary hypotheses all are judged at
    1 − (1 − level)/m. Those that are decided stand; the u that are not are judged at 1 − (1 − level)/u, and so on until
    none is decided. A hypothesis's p-value is the smallest 1 − level at which it is decided, so this is Holm's
    procedure on those. A decision that "supported" should have been "refuted", or that a theory upon its margin was
    either, is what is counted as wrong. Void ones count towards m: they were asked. Exploratory ones do not, and are
    judged at their own level. None is judged at less than its own level.

    Args:
        hypotheses: Of one study, with different ids.
        records: Columns `THEORY_COLUMNS`; or, by id, the records that each hypothesis is to read.
        level: Of the study: that no primary verdict is wrong.
        registered: By id, from `registrations`. A hypothesis that is not in it is void; None asks for no registration.
        late: Ids of those that were registered when records had been measured: they are exploratory, whatever they
            were declared.

    Raises:
        OptionError: If an id occurs twice, the level is not in (0, 1), or records of a hypothesis are not given.

    References:
        holm1979.
    """
    ids = [h.id for h in hypotheses]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice or not 0 < level < 1:
        raise OptionError(f"Expected different ids and a level in (0, 1), but {twice or level} was given.")
    if not isinstance(records, pd.DataFrame) and (without := sorted(set(ids) - set(records))):
        raise OptionError(f"There are records for {', '.join(records)}, but none for {', '.join(without)}.")
    of = {h.id: records if isinstance(records, pd.DataFrame) else records[h.id] for h in hypotheses}
    verdicts: dict[str, Verdict] = {}
    for h in hypotheses:
        if registered is not None and h.id not in registered:
            reason = f"{h.id} was not registered before the test half was read."
            verdicts[h.id] = Verdict(Outcome.VOID, reason, h.id, level, None, "Register it.", h.exploratory)
        elif h.exploratory or h.id in late:
            found = h.judge(of[h.id], registered=None if registered is None else registered[h.id])
            said = (
                f"{found.reason} It was registered after measuring: a hint, no test." if h.id in late else found.reason
            )
            verdicts[h.id] = replace(found, reason=said, exploratory=True)
    m_void = sum(not v.exploratory for v in verdicts.values())
    open_ = [h for h in hypotheses if h.id not in verdicts]
    while open_:
        at = 1 - (1 - level) / (len(open_) + m_void)
        judged = [h.judge(of[h.id], level=max(at, h.level), registered=(registered or {}).get(h.id)) for h in open_]
        verdicts |= {v.hypothesis: v for v in judged}
        settled = [v for v in judged if v.outcome in DECIDED]
        if not settled:
            break
        open_ = [h for h in open_ if verdicts[h.id].outcome not in DECIDED]
    return tuple(verdicts[h.id] for h in hypotheses)
