"""Whether the values of a configuration have the types that constructors ask for."""

import inspect
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from hydra.utils import get_object

from lightning_lazy.errors import InputError

_LISTED = (list, tuple, Sequence, Iterable)
_NAMED = (dict, Mapping, MutableMapping)
_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    NoneType: "null",
    **dict.fromkeys(_LISTED, "a list"),
    **dict.fromkeys(_NAMED, "names with values"),
}


def find(target: object) -> Any:
    """Return the class or function that ``_target_`` names.

    Raises:
        InputError: It is not there, or nothing that can be called.
    """
    try:
        found = get_object(target) if isinstance(target, str) else None
    except (ImportError, ValueError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise InputError(
            f"_target_ must name a class or function, got {target}, which is not there ({reason}): "
            "check its spelling"
        ) from error
    if not callable(found):
        raise InputError(
            f"_target_ must name a class or function, got {target!r}: write module.Class"
        )
    return found


def check_types(node: Any) -> None:
    """Check single values in a node, and in the nodes inside it, against the annotations.

    Parameters are judged whose annotation is a class, a literal or a union of these. Of lists and
    of settings without a ``_target_`` the contents are not judged.

    Args:
        node: Plain containers; what has a ``_target_`` is judged.

    Raises:
        InputError: A value is of another type.
    """
    if isinstance(node, list | tuple):
        for child in node:
            check_types(child)
    if not isinstance(node, Mapping):
        return
    for child in node.values():
        check_types(child)
    if "_target_" in node:
        for name, parameter in parameters(node["_target_"]).items():
            if name in node:
                _check_type(name, node[name], parameter)


def parameters(target: object) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of what ``_target_`` names; none where Python does not know them."""
    found = find(target)
    try:
        return inspect.signature(found, eval_str=True).parameters
    except NameError:  # annotations of names that only type checkers import
        return inspect.signature(found).parameters
    except ValueError:  # written in C
        return {}


def _check_type(name: str, value: object, parameter: inspect.Parameter) -> None:
    kinds = _kinds(parameter.annotation)
    built = isinstance(value, Mapping) and "_target_" in value
    default = type(value) is type(parameter.default) and value == parameter.default
    if kinds is None or default or built:
        return
    if not any(_is_a(value, kind) for kind in kinds):
        words = [_WORDS.get(kind, f"a {kind.__name__}") for kind in kinds if isinstance(kind, type)]
        words += [str(kind[0]) for kind in kinds if isinstance(kind, tuple)]
        raise InputError(f"{name} must be {' or '.join(words)}, got {value!r}; change {name}")


def _kinds(annotation: Any) -> "list[type | tuple[Any]] | None":
    """Return classes and single values that an annotation allows; ``None``: it says other things.

    >>> _kinds(int | Literal["full"] | list[int])
    [<class 'int'>, ('full',), <class 'list'>]
    """
    if annotation is inspect.Parameter.empty:
        return None
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return [annotation]
    if get_origin(annotation) is Literal:
        return [(value,) for value in get_args(annotation)]
    if get_origin(annotation) not in (Union, UnionType):
        return [get_origin(annotation)] if isinstance(get_origin(annotation), type) else None
    parts = [_kinds(part) for part in get_args(annotation)]
    return None if None in parts else [kind for part in parts for kind in part or ()]


def _is_a(value: object, kind: "type | tuple[Any]") -> bool:
    """Return whether a value is of a kind; whole numbers are numbers, true and false are not."""
    if isinstance(kind, tuple):
        return type(value) is type(kind[0]) and value == kind[0]
    if isinstance(value, bool):
        return kind in (bool, object)
    if kind is float:
        return isinstance(value, int | float)
    if isinstance(value, Mapping):
        return kind in (*_NAMED, object)
    if isinstance(value, list):
        return kind in (*_LISTED, object)
    return kind in type(value).__mro__
