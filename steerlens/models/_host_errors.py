"""The host libraries' many exceptions as one of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from steerlens.errors import ModelError, SteerlensError


@contextmanager
def as_model_error(what: str, advice: str) -> Iterator[None]:
    """Turn whatever the host raises into an error that says what was tried and what works.

    A broken file can make it raise anything: a configuration with no heads divides by zero.

    Raises:
        ModelError: For every exception but our own, which pass.
    """
    try:
        yield
    except SteerlensError:
        raise
    except Exception as error:
        raise ModelError(f"Could not load {what}: {host_reason(error)} {advice}") from error


def host_reason(error: Exception) -> str:
    """What the host said, on one line; with the kind of error where its text alone says little."""
    said = " ".join(str(error).split())[:400]
    if isinstance(error, (OSError, ValueError, RuntimeError, ImportError)) and said:
        return said
    return f"{type(error).__name__}: {said}" if said else f"{type(error).__name__}."
