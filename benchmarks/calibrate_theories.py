"""Sensitivity and specificity of the theories on simulated studies; prints the sections of docs/theories.md.

python benchmarks/calibrate_theories.py [N_STUDIES] [T1 T2 …]
"""

import sys
import time

from steerlens.theories import THEORIES, Admissibility, Hypothesis, admissibility, theory

N_STUDIES = 200
SEED = 0


def row(hypothesis: Hypothesis, found: Admissibility) -> str:
    shares = (found.supported_if_true, found.refuted_if_false, found.silent_if_null, found.undecided_if_barely)
    cells = " | ".join(f"{s.value:.2f} [{s.low:.2f}, {s.high:.2f}]" for s in shares)
    verdict = "yes" if found.admissible else "**no**"
    return f"| {hypothesis.id} | {hypothesis.theory.split(':')[0]} | {cells} | {verdict} |"


def section(hypothesis: Hypothesis) -> str:
    about = (type(hypothesis).__doc__ or "").split("\n\n")
    lines = [f"### {hypothesis.id} `{type(hypothesis).__name__}`", "", hypothesis.theory, ""]
    lines += [" ".join(about[0].split()), "", "Predicts:", ""]
    lines += [f"- {p}" + (" (counts where it was measured)" if p.optional else "") for p in hypothesis.predictions]
    lines += ["", "Refuted by:", "", *(f"- {p.against}" for p in hypothesis.predictions if p.against), ""]
    notes = [" ".join(part.split()) for part in about[1:] if not part.lstrip().startswith(("References:", "Args:"))]
    lines += [line for note in notes for line in (note, "")]
    return "\n".join([*lines, f"Needs {hypothesis.min_units} units. Source: {', '.join(hypothesis.citations)}.", ""])


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else N_STUDIES
    chosen = [theory(i) for i in sys.argv[2:]] or list(THEORIES)
    started = time.perf_counter()
    for h in chosen:
        print(row(h, admissibility(h, n_studies=n, seed=SEED)), flush=True)
    print(f"\n{n} studies of each case, {time.perf_counter() - started:.0f} s\n")
    print("\n".join(section(h) for h in chosen))


if __name__ == "__main__":
    main()
