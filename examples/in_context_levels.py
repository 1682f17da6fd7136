"""What examples do for the demo model: every built-in task with 0, 5 and 10 of them, with shuffled answers, and told.

Prints a table as Markdown. The sixteen tasks in docs/in-context.md took about a quarter of an hour on one core.
"""

import sys

import steerlens as sl
from steerlens.concepts import load_task, task_names, task_prompts
from steerlens.evaluation import score_tasks

N_WORDS = 40
SEED = 0
CONDITIONS = {
    "0-shot": {"format": "qa", "n_shots": 0},
    "5-shot": {"format": "qa", "n_shots": 5},
    "10-shot": {"format": "qa", "n_shots": 10},
    "10-shot, shuffled": {"format": "qa", "n_shots": 10, "shuffled": True},
    "told": {"format": "instruction", "n_shots": 0},
}


def levels(model: sl.LensModel, name: str) -> list[str]:
    """Accuracy in full answers under every condition, each with its interval."""
    fit, _, test = load_task(name).split(seed=SEED, fractions=(0.4, 0.1, 0.5))
    test = test[:N_WORDS]
    prompts = [p for condition in CONDITIONS.values() for p in task_prompts(fit, test, seed=SEED, **condition)]
    scores = score_tasks(model, prompts)
    parts = [scores.of_prompts(i * len(test), (i + 1) * len(test)) for i in range(len(CONDITIONS))]
    shares = [part.estimates("accuracy", seed=SEED)[0] for part in parts]
    (gained,) = parts[2].changes("accuracy", since=parts[3], seed=SEED)
    cells = [f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]" for e in (*shares, gained)]
    return [f"`{name}`", str(len(test)), *cells]


def main() -> None:
    """All tasks, or those named as arguments."""
    model = sl.load_model("smollm2-135m-instruct")
    columns = ["task", "n", *CONDITIONS, "10-shot less shuffled"]
    print("|", " | ".join(columns), "|")
    print("|", " | ".join(["---"] * len(columns)), "|", flush=True)
    for name in sys.argv[1:] or task_names():
        print("|", " | ".join(levels(model, name)), "|", flush=True)


if __name__ == "__main__":
    main()
