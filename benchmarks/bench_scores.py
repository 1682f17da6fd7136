"""How much faster are scores that resume from a prefix than whole hooked forward passes? Prints ratios only.

python benchmarks/bench_scores.py [model]        # tiny-llama unless told; smollm2-135m-instruct takes minutes
"""

import sys
import time
from collections.abc import Sequence

import torch
from torch.testing import assert_close

import steerlens as sl
from steerlens.concepts import Question
from steerlens.evaluation import score_questions
from steerlens.models import TokenBatch

STRENGTHS = (0.5, 1.0, 2.0, 4.0)
REPEATS = 3


def whole_passes(
    model: sl.LensModel, questions: Sequence[Question], interventions: Sequence[sl.Intervention]
) -> torch.Tensor:
    """Propensities by one whole batched forward per intervention.

    As in the library, continuations of a question that differ in their last token alone share a row.
    """
    rows: dict[tuple[int, ...], int] = {}
    wanted = []  # slot of a continuation, its row, columns from the right, token
    lengths = []
    for q in questions:
        n_prompt = len(model.encode(q.context))
        for answer in (q.positive, q.negative):
            ids = model.encode(q.context + answer)
            row = rows.setdefault(tuple(ids[:-1]), len(rows))
            if row == len(lengths):
                lengths.append(n_prompt)
            slot = len({w[0] for w in wanted})
            wanted += [(slot, row, len(ids) - j, ids[j]) for j in range(n_prompt, len(ids))]
    tokens = TokenBatch.from_rows([list(r) for r in rows], pad_id=model.pad_id, padding_side="left", n_prompt=lengths)
    tokens = tokens.to(model.device)
    slot, row, back, token = torch.tensor(wanted).unbind(dim=1)
    out = []
    for intervention in interventions:
        with sl.steer(model, intervention.plan, strength=intervention.strength):
            found = model.logits(tokens, keep_last=int(back.max())).float().log_softmax(dim=-1).cpu()
        scores = torch.zeros(2 * len(questions), dtype=torch.float64)
        scores.index_add_(0, slot, found[row, found.shape[1] - back, token].double())
        out.append(scores[0::2] - scores[1::2])
    return torch.stack(out)


def seconds(work: object, *args: object) -> float:
    """The shortest of a few runs."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work(*args)  # type: ignore[operator]
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    model = sl.load_model(sys.argv[1] if len(sys.argv) > 1 else "tiny-llama")
    questions = sl.load_concept("sentiment").split(seed=0)[2].questions[:24]
    print(f"{model.name}: time of whole hooked passes / time of score_questions")
    print(f"{'block':>6} {'interventions':>14} {'ratio':>7}")
    for layer in sorted({0, model.n_layers // 2, model.n_layers - 1}):
        for count in (1, 4, 16):
            interventions = [
                sl.Intervention(
                    {sl.Site.resid_post(layer): sl.maps.random_direction(model.d_model, norm=1.0, seed=i)},
                    STRENGTHS[i % len(STRENGTHS)],
                )
                for i in range(count)
            ]
            reference = whole_passes(model, questions, interventions)
            assert_close(score_questions(model, questions, interventions).propensity, reference, atol=1e-3, rtol=1e-3)
            ratio = seconds(whole_passes, model, questions, interventions) / seconds(
                score_questions, model, questions, interventions
            )
            print(f"{layer:>6} {count:>14} {ratio:>7.2f}")


if __name__ == "__main__":
    main()
