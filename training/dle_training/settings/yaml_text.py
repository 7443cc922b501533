"""Reading and writing YAML and `KEY=VALUE` settings, and checking them against structs.

PyYAML reads YAML 1.1: `1e-3` is a string, `no` is false, `1:30` is 90, and the last of two equal keys wins. The reader
and the writer here follow the core schema of YAML 1.2 instead, so values mean what they look like and a key given twice
is an error. msgspec stops at the first error. `to_struct` walks the tree itself, so it reports all errors together.
"""

import contextlib
import re
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
import yaml

from dle_bundle.errors import InputError, nearest
from dle_bundle.proposals import MARKS, argument, for_python

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
        """Construct a mapping whose keys stay text as written, because a class may be called 1 or true."""
        mapping: dict[Any, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key.start_mark)
            if key.value in mapping:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            mapping[key.value] = self.construct_object(value, deep=deep)
        return mapping


class _Writer(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # the C version is used if PyYAML has it
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # PyYAML fills it class by class

    def ignore_aliases(self, data: object) -> bool:
        return True


for _tag, _pattern, _first in _SCALARS:
    for _class in (_Reader, _Writer):
        _class.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), [*_first, ""])


def parse(text: str) -> Any:
    """Parse YAML text. Raises yaml.YAMLError."""
    return yaml.load(text, _Reader)  # noqa: S506 (derived from SafeLoader)


def write(tree: Tree) -> str:
    """Return the tree as YAML text, with the keys in their order. `parse` returns an equal tree from it."""
    return yaml.dump(tree, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=110)


def inline(value: object) -> str:
    """Return a value as YAML on one line: `{log: [0.0001, 0.01]}`."""
    text = yaml.dump(value, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=10**9, default_flow_style=True)
    return text.removesuffix("\n").removesuffix("\n...")


def brief(value: object) -> str:
    """Return a value as short YAML for display. Floats are rounded to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else inline(value)


def settings(assignments: list[str], into: Tree) -> list[str]:
    """Apply `a.b=VALUE` assignments (VALUE is YAML) to the tree `into`. Returns the errors."""
    faults = []
    for text in assignments:
        try:
            assign(into, *assignment("--set", text, "training.epochs=20"))
        except ValueError as fault:
            faults.append(str(fault))
    return faults


def assignment(flag: str, text: str, example: str, *, listed: bool = False) -> tuple[str, Any]:
    r"""Split `a.b=VALUE` into its key and its value.

    VALUE is YAML. A single mark, such as `|` or `#`, is text, though YAML gives it another meaning; `\t` is a tab. With
    `listed` VALUE is the inside of a YAML list, without the brackets. Raises ValueError, which names `flag` and, if
    KEY= is missing, shows the `example`.
    """
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ValueError(f"{flag} {text}: expected KEY=VALUE, as in {example}")
    if value == "\\t" or (len(value) == 1 and value in MARKS):
        return key, "\t" if value == "\\t" else value
    try:
        return key, parse(f"[{value}]" if listed else value)
    except yaml.YAMLError as error:
        raise ValueError(f"{flag} {text}: the value is not YAML: {_one_line(error)}") from None


def assign(tree: Tree, key: str, value: object) -> None:
    """Set the dotted `key` in the tree. Missing mappings on its path are created."""
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
    """Parse the text of a YAML file. Raises InputError if it is not valid YAML or not a mapping."""
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
    """Convert `tree` to a struct of this kind. Raises InputError with `faults` and every error in the tree together."""
    faults = [*faults, *misfits(tree, kind)]
    if not faults:
        try:
            return msgspec.convert(tree, kind)
        except msgspec.ValidationError as error:  # from a __post_init__, which checks a whole struct
            faults = [str(error).split(" - at `$")[0]]
    raise InputError(f"{what} must change", faults)


def misfits(value: Any, annotation: Any, path: str = "", whole: Any = None) -> Iterator[str]:
    """Yield every error of `value`, found at `path`, against the type `annotation`, except those of __post_init__.

    `whole` is the type of all settings, in which a key may have another place.
    """
    kinds, whole = _alternatives(annotation), whole or annotation
    below = f"{path}." if path else ""
    if isinstance(value, dict) and (struct := next((kind for kind in kinds if is_struct(kind)), None)):
        fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
        for name, item in value.items():
            if name in fields:
                yield from misfits(item, fields[name], f"{below}{name}", whole)
            else:
                meant = _meant(_places(name, whole), item) or nearest(name, fields)
                yield f"{below}{name}: unknown key{meant or f' (known here: {_list(fields)})'}"
    elif isinstance(value, dict) and (items := _items(kinds, dict)):
        for key, item in value.items():
            yield from misfits(item, items[1], f"{below}{key}", whole)
    elif isinstance(value, list) and (items := _items(kinds, tuple)):
        each = (misfits(item, items[0], f"{path}[{index}]", whole) for index, item in enumerate(value))
        yield from [fault for faults in each for fault in faults] or _misfit(value, annotation, path)
    else:
        yield from _misfit(value, annotation, path)


def _misfit(value: Any, annotation: Any, path: str) -> Iterator[str]:
    """Yield the error of a value as a whole, if there is one."""
    try:
        msgspec.convert(value, annotation)
    except msgspec.ValidationError as error:
        inner = [f"{path}.{name}" for name in _taking(value, _alternatives(annotation))]
        yield f"{path}: expected {_expected(error, annotation, value)}, found {found(value)}{_meant(inner, value)}"


def types_at(kind: type[msgspec.Struct], key: str) -> list[Any]:
    """Return the types that the setting `key` accepts in a struct of this kind, without their constraints.

    The list is empty if the struct has no such setting. The entries of a dict field are not settings.
    """
    kinds: list[Any] = [kind]
    for name in key.split("."):
        struct = next((kind for kind in kinds if is_struct(kind)), None)
        fields = {field.name: field.type for field in msgspec.structs.fields(struct)} if struct else {}
        kinds = _alternatives(fields[name]) if name in fields else []
    return kinds


def _meant(keys: Iterable[str], value: object) -> str:
    """The text ` (did you mean …?)` for the settings `keys`, with this value where Python takes it; else empty."""
    meant = [argument(key, value) if for_python() else repr(key) for key in keys]
    return f" (did you mean {' or '.join(meant)}?)" if meant else ""


def _taking(value: object, kinds: list[Any]) -> list[str]:
    """The name of the first setting of a section that takes this value, which was given for the whole section."""
    for struct in filter(is_struct, kinds if value is not None else []):
        for field in msgspec.structs.fields(struct):
            with contextlib.suppress(msgspec.ValidationError):
                msgspec.convert(value, field.type)
                return [field.name]
    return []


def _places(name: str, annotation: Any, above: str = "") -> Iterator[str]:
    """The dotted keys of the settings that are called `name`, for the last word of a key is easily taken for all."""
    for struct in filter(is_struct, _alternatives(annotation)):
        for field in msgspec.structs.fields(struct):
            key = f"{above}{field.name}"
            if field.name == name and not any(map(is_struct, _alternatives(field.type))):
                yield key
            yield from _places(name, field.type, f"{key}.")


def is_struct(kind: Any) -> bool:
    """Whether this type is a section of settings."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def takes_mapping(kinds: list[Any]) -> bool:
    """Whether one of these types is a dict. The keys of a dict are not settings."""
    return any(typing.get_origin(kind) is dict for kind in kinds)


def found(value: object) -> str:
    """Describe a value for the "found ..." part of an error message."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"the list {msgspec.json.encode(value, enc_hook=str).decode()}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def _alternatives(annotation: Any) -> list[Any]:
    """Return the members of a union, or the single type that the annotation is, without constraints."""
    bare = typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation
    if typing.get_origin(bare) in (types.UnionType, typing.Union):
        return [kind for member in typing.get_args(bare) for kind in _alternatives(member)]
    return [bare]


def _items(kinds: list[Any], container: type) -> tuple[Any, ...]:
    """Return the type arguments of the first alternative that is this container. Empty if none is."""
    return next((typing.get_args(kind) for kind in kinds if typing.get_origin(kind) is container), ())


def _expected(error: msgspec.ValidationError, annotation: Any, value: object) -> str:
    kinds = _alternatives(annotation)
    choices = [str(choice) for kind in kinds for choice in typing.get_args(kind) if typing.get_origin(kind) is Literal]
    if choices:
        return f"{_list(choices)}{nearest(str(value), choices) if isinstance(value, str) else ''}"
    if (struct := next(filter(is_struct, kinds), None)) is not None:
        return f"a mapping of {_list(field.name for field in msgspec.structs.fields(struct))}"
    expected = str(error).removeprefix("Expected ").split(", got ")[0].replace("`", "")
    if expected in ("array", "array | null"):
        try:
            msgspec.convert([value], annotation)
        except msgspec.ValidationError:
            return "a list"
        return f"a list, such as {inline([value])}"
    if expected in ("object", "object | null"):
        return "a mapping"
    return expected.replace("array of", "a list of").replace("array", "list").replace("object", "mapping")


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())
