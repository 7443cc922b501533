"""YAML text and `KEY=VALUE` settings to and from plain trees, and trees to structs with every fault at once.

PyYAML reads YAML 1.1, in which `1e-3` is a string, `no` is false, `1:30` is 90 and a key given twice is the last one.
The reader and the writer here follow YAML 1.2's core schema instead, so that a value means what it looks like.
msgspec stops at the first fault; `to_struct` goes through the tree itself and asks msgspec for one value at a time.
"""

import re
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
import yaml

from dle_bundle.errors import InputError, nearest

T = TypeVar("T", bound=msgspec.Struct)
Tree = dict[str, Any]

_SCALARS = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", "~nN"),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+|\.inf)|\.nan",
        "-+.0123456789",
    ),
)


class _Reader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012 (PyYAML fills it class by class)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Keys are taken as they are written, as text: a class may be called 1 or true."""
        mapping: dict[Any, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key.start_mark)
            if key.value in mapping:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            mapping[key.value] = self.construct_object(value, deep=deep)
        return mapping


class _Writer(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # in C where PyYAML has it
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # PyYAML fills it class by class

    def ignore_aliases(self, data: object) -> bool:
        return True


for _tag, _pattern, _first in _SCALARS:
    for _class in (_Reader, _Writer):
        _class.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), [*_first, ""])


def parse(text: str) -> Any:
    """The value that YAML text stands for. Raises yaml.YAMLError."""
    return yaml.load(text, _Reader)  # noqa: S506 (derived from SafeLoader)


def write(tree: Tree) -> str:
    """YAML text that `parse` reads back as the same tree, keys in the given order."""
    return yaml.dump(tree, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=110)


def inline(value: object) -> str:
    """YAML text of a value in one line: `{log: [0.0001, 0.01]}`."""
    text = yaml.dump(value, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=10**9, default_flow_style=True)
    return text.removesuffix("\n").removesuffix("\n...")


def brief(value: object) -> str:
    """The same in few characters, for people: numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else inline(value)


def settings(assignments: list[str], into: Tree) -> list[str]:
    """Apply `a.b=VALUE` assignments (VALUE in YAML) to the tree `into`; returns the faults."""
    faults = []
    for text in assignments:
        try:
            assign(into, *assignment("--set", text, "training.epochs=20"))
        except ValueError as fault:
            faults.append(str(fault))
    return faults


def assignment(flag: str, text: str, example: str, *, listed: bool = False) -> tuple[str, Any]:
    """The key and the value of `a.b=VALUE`; VALUE is YAML, or with `listed` what is between the brackets of a list.

    Raises ValueError with the fault, which names `flag` and, where there is no such key, an `example`.
    """
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ValueError(f"{flag} {text}: expected KEY=VALUE, as in {example}")
    try:
        return key, parse(f"[{value}]" if listed else value)
    except yaml.YAMLError as error:
        raise ValueError(f"{flag} {text}: the value is not YAML: {_one_line(error)}") from None


def assign(tree: Tree, key: str, value: object) -> None:
    """Set the dotted `key`, making the mappings on the way."""
    *path, last = key.split(".")
    for name in path:
        below = tree.get(name)
        if not isinstance(below, dict):
            below = tree[name] = {}
        tree = below
    tree[last] = value


def has(tree: Tree, key: str) -> bool:
    """Whether the tree sets the dotted `key`."""
    value: Any = tree
    for name in key.split("."):
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
    return True


def read(path_name: str, text: str) -> Tree:
    """The mapping in a YAML file. Raises InputError where it is no YAML or no mapping."""
    try:
        tree = parse(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path_name} is not readable as YAML: {_one_line(error)}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise InputError(f"{path_name}: expected a mapping of settings, found {found(tree)}")
    return tree


def to_struct(tree: Tree, kind: type[T], what: str, faults: Iterable[str] = ()) -> T:
    """The struct that `tree` describes. Raises InputError with the faults so far and each key that does not fit."""
    faults = [*faults, *misfits(tree, kind)]
    if not faults:
        try:
            return msgspec.convert(tree, kind)
        except msgspec.ValidationError as error:  # what only whole structs know: __post_init__
            faults = [str(error).split(" - at `$")[0]]
    raise InputError(f"{what} must change", faults)


def misfits(value: Any, annotation: Any, path: str = "") -> Iterator[str]:
    """Every fault of `value`, which stands at `path` where `annotation` is expected, but what only structs know."""
    kinds = _alternatives(annotation)
    below = f"{path}." if path else ""
    if isinstance(value, dict) and (struct := next((kind for kind in kinds if is_struct(kind)), None)):
        fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
        for name, item in value.items():
            if name in fields:
                yield from misfits(item, fields[name], f"{below}{name}")
            else:
                yield f"{below}{name}: unknown key{nearest(name, fields) or f' (known here: {_list(fields)})'}"
    elif isinstance(value, dict) and (items := _items(kinds, dict)):
        for key, item in value.items():
            yield from misfits(item, items[1], f"{below}{key}")
    elif isinstance(value, list) and (items := _items(kinds, tuple)):
        for index, item in enumerate(value):
            yield from misfits(item, items[0], f"{path}[{index}]")
    else:
        try:
            msgspec.convert(value, annotation)
        except msgspec.ValidationError as error:
            yield f"{path}: expected {_expected(error, kinds, value)}, found {found(value)}"


def types_at(kind: type[msgspec.Struct], key: str) -> list[Any]:
    """The types that the dotted `key` may have in such a struct, without constraints; none where there is no such key.

    A key ends at a field that is no struct itself: what is in a dict has none.
    """
    kinds: list[Any] = [kind]
    for name in key.split("."):
        struct = next((kind for kind in kinds if is_struct(kind)), None)
        fields = {field.name: field.type for field in msgspec.structs.fields(struct)} if struct else {}
        kinds = _alternatives(fields[name]) if name in fields else []
    return kinds


def is_struct(kind: Any) -> bool:
    """Whether such a type is a section of settings."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def takes_mapping(kinds: list[Any]) -> bool:
    """Whether one of these types is a dict, whose keys are no settings."""
    return any(typing.get_origin(kind) is dict for kind in kinds)


def found(value: object) -> str:
    """How a fault tells what it found."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"the list {msgspec.json.encode(value, enc_hook=str).decode()}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def _alternatives(annotation: Any) -> list[Any]:
    """The members of a union, or the one type that the annotation is, without constraints."""
    bare = typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation
    if typing.get_origin(bare) in (types.UnionType, typing.Union):
        return [kind for member in typing.get_args(bare) for kind in _alternatives(member)]
    return [bare]


def _items(kinds: list[Any], container: type) -> tuple[Any, ...]:
    """The type arguments of the alternative that is such a container; none where no alternative is."""
    return next((typing.get_args(kind) for kind in kinds if typing.get_origin(kind) is container), ())


def _expected(error: msgspec.ValidationError, kinds: list[Any], value: object) -> str:
    choices = [str(choice) for kind in kinds for choice in typing.get_args(kind) if typing.get_origin(kind) is Literal]
    if choices:
        return f"{_list(choices)}{nearest(str(value), choices) if isinstance(value, str) else ''}"
    if any(is_struct(kind) for kind in kinds):
        return "a mapping"
    return str(error).removeprefix("Expected ").split(", got ")[0].replace("`", "")


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())
