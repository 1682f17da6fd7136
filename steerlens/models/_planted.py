"""Planted models: small transformers trained here, in seconds, on a task whose concept has a known geometry.

What steering should do to them is known from the task, and how they read the concept is learned, not assumed.
The weights follow from a recipe alone; they are trained once and kept in the cache under the recipe's hash.
"""

import dataclasses
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional

from steerlens.errors import ModelError
from steerlens.models._cache import cache_home
from steerlens.models._host import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from steerlens.models._planted_tasks import PlantedTask, planted_task, planted_words
from steerlens.models._tiny import seeded_model
from steerlens.progress import progress

VERSION = 1
"""Of the training loop below; what else determines the weights is hashed."""

TRAINING: dict[str, Any] = {
    "seed": 0, "steps": 240, "warm_up": 30, "batch": 128, "learning_rate": 3e-3, "weight_decay": 0.1,
    "held_out": 0.2, "accuracy": 0.99,
}  # fmt: skip
SHAPE: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 64, "tie_word_embeddings": False,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")


def planted_config() -> PretrainedConfig:
    """Two layers of Llama over the words of all planted languages."""
    import transformers as hf

    return hf.LlamaConfig(vocab_size=len(_SPECIALS) + len(planted_words()), **SHAPE)


def planted_tokenizer() -> PreTrainedTokenizerBase:
    """One token a word; a text begins with `<bos>`, and a word that no planted language has is `<unk>`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = (*_SPECIALS, *planted_words())
    core = Tokenizer(models.WordLevel(vocab={word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 1)]
    )
    build: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerBase = build(
        tokenizer_object=core, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )
    return made


def planted_file(name: str) -> Path:
    """Where the trained weights are, or will be: another recipe is another file."""
    return cache_home() / "models" / f"{name}-v{VERSION}-{recipe_hash(name)[:12]}.safetensors"


def recipe_hash(name: str) -> str:
    """SHA-256 of all that determines the weights: the texts, the shape and the training."""
    examples = [dataclasses.astuple(e) for e in planted_task(name).examples]
    recipe = [VERSION, name, examples, planted_words(), SHAPE, TRAINING]
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def planted_weights(name: str) -> tuple[PreTrainedModel, str]:
    """The trained model, and the identity of its weights; trained if this machine does not have it.

    Raises:
        UnknownNameError: There is no such planted model.
        ModelError: The cache cannot be written.
    """
    path = planted_file(name)
    data = _kept(path)
    if data is None:
        trained = train_planted(planted_task(name))
        data = safetensors.torch.save({key: value.contiguous() for key, value in trained.state_dict().items()})
        _keep(path, data)
    model: Any = seeded_model(planted_config(), seed=0, dtype=torch.float32)
    model.load_state_dict(safetensors.torch.load(data))
    return cast("PreTrainedModel", model), f"{name}:{hashlib.sha256(data).hexdigest()[:24]}"


def train_planted(task: PlantedTask) -> PreTrainedModel:
    """Train on four fifths of the prompts, chosen by the seed, to say the answer and then stop.

    Raises:
        ModelError: It did not learn the task; with the recipe that ships it does.
    """
    recipe = TRAINING
    generator = torch.Generator().manual_seed(recipe["seed"])
    ids, answers = _as_ids(task)
    order = torch.randperm(len(ids), generator=generator)
    cut = round(len(ids) * (1 - recipe["held_out"]))
    model: Any = seeded_model(planted_config(), seed=recipe["seed"], dtype=torch.float32)
    model.requires_grad_()
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=recipe["weight_decay"])
    steps, warm_up = recipe["steps"], recipe["warm_up"]
    with progress(f"train {task.name}", steps) as advance, torch.enable_grad():
        for step in range(steps):
            rate = recipe["learning_rate"] * min((step + 1) / warm_up, 1 - step / steps)
            for group in optimiser.param_groups:
                group["lr"] = rate
            rows = order[:cut][torch.randint(cut, (recipe["batch"],), generator=generator)]
            logits = model(ids[rows]).logits[:, -2:].flatten(0, 1)
            optimiser.zero_grad()
            torch.autograd.backward(functional.cross_entropy(logits, answers[rows].flatten()))
            optimiser.step()
            advance(1)
    model.requires_grad_(False)
    found = held_out_accuracy(model, ids[order[cut:]], answers[order[cut:]])
    if found < recipe["accuracy"]:
        raise ModelError(f"{task.name!r} answers {found:.3f} of held-out prompts, less than {recipe['accuracy']}.")
    return cast("PreTrainedModel", model)


def held_out_accuracy(model: Any, ids: Int[Tensor, "batch token"], answers: Int[Tensor, "batch 2"]) -> float:
    """Share of prompts whose likeliest next token is the answer."""
    with torch.no_grad():
        scores: Float[Tensor, "batch vocab"] = model(ids).logits[:, -2]
    return float((scores.argmax(dim=-1) == answers[:, 0]).double().mean())


def _as_ids(task: PlantedTask) -> tuple[Int[Tensor, "batch token"], Int[Tensor, "batch 2"]]:
    """Prompt and answer of every example, and what follows the last two tokens: the answer, and the end."""
    tokenizer: Any = planted_tokenizer()
    ids = torch.tensor(tokenizer([f"{e.prompt} {e.answer}" for e in task.examples])["input_ids"])
    return ids, torch.stack([ids[:, -1], torch.full_like(ids[:, -1], SHAPE["eos_token_id"])], dim=1)


def _kept(path: Path) -> bytes | None:
    """The weights in the cache; None if there are none, or none that can be read."""
    try:
        data = path.read_bytes()
        safetensors.torch.load(data)
    except (OSError, SafetensorError):
        return None
    return data


def _keep(path: Path, data: bytes) -> None:
    """Write the weights so that a kill leaves no half of them, and another process may do the same meanwhile."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.replace(partial, path)
    except OSError as error:
        raise ModelError(
            f"The cache folder {str(path.parent)!r} cannot be written: {error}. Set STEERLENS_CACHE to another."
        ) from error
