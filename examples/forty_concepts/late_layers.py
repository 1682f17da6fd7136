"""T9 at late blocks: does the logit lens's best alignment predict the mean shift's best effect over forty-two concepts?

At blocks 12 to 24 the logit lens names the answer on four concepts of forty-two, so that nothing can be said there.

python examples/forty_concepts/late_layers.py FOLDER     goes on where it was stopped; several may share a folder
"""

import sys
from pathlib import Path

import pandas as pd

import steerlens as sl
from steerlens.activations import ReadOnce
from steerlens.evaluation import ComparisonPlan, output_alignment, run_comparison
from steerlens.theories import load_theory_study, records_of, theory, tidy

STUDY = load_theory_study(Path(__file__).parent / "study.toml")
LAYERS = (24, 26, 28)
EFFECT = "effect_at_budget"


def profile(model: sl.LensModel, pairs: sl.ConceptDataset) -> pd.DataFrame:
    """Alignment of the answers, and the mean shift's effect at the budget, at every block, on held-out pairs."""
    fit, _, test = STUDY.split(pairs)
    found = output_alignment(model, fit, test, layers=LAYERS, seed=STUDY.seed).frame
    aligned = found[["layer", "site", "n"]].assign(
        quantity="alignment", value=found["aligned"], low=found["aligned_low"], high=found["aligned_high"], level=0.95,
        model=model.name, concept=pairs.name,
    )  # fmt: skip
    blocks, sites = [aligned], [sl.Site.resid_post(layer) for layer in LAYERS]
    read = ReadOnce.of(model, sl.ConceptDataset(pairs.name, (*fit, *test)), sites)
    for site in sites:
        plan = ComparisonPlan(
            sites=(site,), methods=(sl.maps.MeanShift(),), n_random=0, controls=False, strengths=STUDY.strengths,
            budget=STUDY.budget, seed=STUDY.seed,
        )  # fmt: skip
        records = records_of(run_comparison(model, fit, test, plan, neutral=STUDY.texts, read=read)[0])
        blocks.append(records[records["quantity"] == EFFECT])
    return tidy(*blocks)


def main() -> None:
    """Measure what is missing, and judge when nothing is."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    model = sl.load_model(STUDY.model, dtype=STUDY.dtype)
    for pairs in STUDY.concepts:
        path, claim = folder / f"{pairs.name}.parquet", folder / f"{pairs.name}.claim"
        if path.exists() or claim.exists():
            continue
        claim.touch()
        try:
            profile(model, pairs).to_parquet(claim, index=False)
            claim.replace(path)
        finally:
            claim.unlink(missing_ok=True)
    missing = [p.name for p in STUDY.concepts if not (folder / f"{p.name}.parquet").exists()]
    if missing:
        sys.exit(f"Not measured yet, by this process or another: {', '.join(missing)}.")
    records = pd.concat([pd.read_parquet(folder / f"{p.name}.parquet") for p in STUDY.concepts], ignore_index=True)
    print(theory("T9").judge(records))


if __name__ == "__main__":
    main()
