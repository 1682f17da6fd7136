"""Steering methods of other packages, found by their entry points."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import final

from steerlens.errors import OptionError

GROUP = "steerlens.maps"
"""Entry-point group: the name is the method's, the value its class (``my_package.maps:MyMethod``)."""


@final
@dataclass(frozen=True)
class Plugin:
    """A method that another package announces; nothing of that package has been imported yet."""

    name: str
    package: str
    entry: EntryPoint

    def load(self) -> object:
        """The method with its default hyperparameters.

        Raises:
            OptionError: If the package cannot be imported, or what it announces is no method.
        """
        try:
            method: object = self.entry.load()()
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise OptionError(
                f"The steering method {self.name!r} of {self.package!r} cannot be loaded from {self.entry.value!r}: "
                f"{error}. Mend or uninstall {self.package!r}."
            ) from error
        if not hasattr(method, "fit") and not hasattr(method, "fit_output"):
            raise OptionError(
                f"{self.entry.value!r} of {self.package!r} is announced as the steering method {self.name!r}, but has "
                "neither fit(source, target) nor fit_output(model, pairs, site)."
            )
        return method


def plugins() -> dict[str, Plugin]:
    """Announced methods by name, of all installed packages.

    Raises:
        OptionError: If two packages announce one name.
    """
    found: dict[str, Plugin] = {}
    for entry in entry_points(group=GROUP):
        package = entry.dist.name if entry.dist is not None else "?"
        plugin = Plugin(entry.name, package, entry)
        other = found.setdefault(entry.name, plugin)
        if (other.package, other.entry.value) != (package, entry.value):
            raise OptionError(
                f"Two packages announce the steering method {entry.name!r}: {other.package!r} and {package!r}. "
                "Uninstall one, or use its class instead of its name."
            )
    return found
