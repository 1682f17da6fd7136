"""A small task for models that have learned nothing."""

from steerlens.concepts import InContextTask, TaskPrompt, task_prompts

WORDS = ("cat", "dog", "tree", "car", "hat", "book", "river", "stone", "lamp", "door", "bird", "shoe")
TASK = InContextTask("plural", tuple((w, w + "s") for w in WORDS), sentence="one {input}, two {output}")


def prompts(n_shots: int, *, shuffled: bool = False, which: slice = slice(None)) -> tuple[TaskPrompt, ...]:
    return task_prompts(TASK, TASK[which], format="qa", n_shots=n_shots, shuffled=shuffled, seed=0)
