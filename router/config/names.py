"""The names by which models are asked for: those that mean a route, and what a name may look like."""

from router.config.explain import shown

RESERVED_NAMES = ("auto", "headgate/auto")
_LONGEST_NAME = 256


def means_a_route(name: str) -> bool:
    """Whether `name` is empty or asks for a choice of model."""
    return not name.strip() or name in RESERVED_NAMES or name.startswith("router-")


def fault_of_name(name: str) -> str:
    """Why `name` cannot be asked for as it is written; empty where nothing speaks against it."""
    if name == name.strip() and len(name) <= _LONGEST_NAME and name.isprintable():
        return ""
    allowed = f"up to {_LONGEST_NAME} characters, no blanks around them and no control characters among them"
    return f"expected a name of {allowed}, got {shown(name)}"
