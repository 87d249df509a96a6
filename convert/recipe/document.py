"""YAML as plain values, with the line and the spelling of each; nothing in the text is ever executed."""

import re
from dataclasses import dataclass, field

import yaml

Value = None | str | int | float | bool | list["Value"] | dict[str, "Value"]
Where = tuple[str | int, ...]  # keys and indices from the top, e.g. ("targets", "gguf", "quants", 0)

# A recipe is a page of text; these bounds only stop aliases that multiply and files that are no recipes.
MAX_TEXT_BYTES = 256 * 1024
MAX_NODES = 10_000
MAX_DEPTH = 32

_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the plain words of YAML 1.2, which is what editors check against.

    YAML 1.1 would read `no` as false, 010 as 8, 2024-01-01 as a date and 1e-3 as text.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own name and shape


_Loader.add_implicit_resolver(_TAG + "null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(
    _TAG + "bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    _TAG + "int", re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    _TAG + "float",
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


@dataclass(frozen=True)
class Fault:
    """One mistake in a file, with its line."""

    line: int
    where: Where
    what: str
    hint: str


class DocumentError(Exception):
    """The text cannot be used as a document."""

    def __init__(self, line: int, what: str, hint: str, where: Where = ()) -> None:
        super().__init__(what)
        self.fault = Fault(line, where, what, hint)


@dataclass
class Document:
    """The values of a YAML text, and where each was written."""

    value: Value = None
    lines: dict[Where, int] = field(default_factory=dict)
    spelling: dict[Where, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def line(self, where: Where) -> int:
        """Find the line of a value; a missing key gets its parent's line."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)


def parse(raw: bytes, kind: str = "recipe", keys: str = "`model:` and `targets:`") -> Document:
    """Parse a YAML text; faults that leave a usable document are in it, others are raised.

    `kind` is the word for such a file in messages, and `keys` are those that it must have.
    """
    node = _compose(_decode(raw, kind), kind)
    if node is None:
        raise DocumentError(1, "the file is empty", f"a {kind} has at least {keys}")
    document = Document()
    document.value = _Walk(document, kind).value(node, (), depth=0)
    return document


def _decode(raw: bytes, kind: str) -> str:
    if len(raw) > MAX_TEXT_BYTES:
        what = f"larger than {MAX_TEXT_BYTES // 1024} KiB: this is not a {kind}"
        raise DocumentError(1, what, "give the path of a YAML file")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        what = f"byte 0x{raw[error.start]:02x} is not UTF-8 text"
        raise DocumentError(line, what, "save the file as UTF-8") from None


def _compose(text: str, kind: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"character U+{ord(text[error.position]):04X} is not allowed in YAML"
        raise DocumentError(line, what, "remove it, or write it as an escape in double quotes") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        what = " ".join(f"this is not YAML: {error.problem or error.context}".split())
        raise DocumentError(line, what, _syntax_hint(what, kind)) from None
    except RecursionError:
        raise _too_deep(1, (), kind) from None


def _syntax_hint(what: str, kind: str) -> str:
    if r"'\t'" in what:
        return "indent with spaces, not with tabs"
    if "single document" in what:
        return f"one file holds one {kind}: remove the `---` and everything below it"
    if "alias" in what:
        return "a `*` at the start of a value is read as an alias: put quotes around the text"
    return "look here and one line above for a missing space after `:`, an open bracket or an open quote"


def _too_deep(line: int, where: Where, kind: str) -> DocumentError:
    return DocumentError(line, "nested too deeply", f"a {kind} needs only a few levels", where[:4])


class _Walk:
    """Turns nodes into values. An alias is walked again at each use, so the nodes are counted."""

    def __init__(self, document: Document, kind: str) -> None:
        self._document = document
        self._kind = kind
        self._nodes = 0

    def value(self, node: yaml.Node, where: Where, depth: int) -> Value:
        """Return the plain value of one node."""
        line = node.start_mark.line + 1
        self._document.lines.setdefault(where, line)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            what = f"more than {MAX_NODES} values, counting those behind aliases"
            raise DocumentError(line, what, f"use fewer aliases in a {self._kind}", where[:4])
        if depth > MAX_DEPTH:
            raise _too_deep(line, where, self._kind)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, where, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.value(item, (*where, index), depth + 1) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, where, line)
        return self._unknown_tag(node, where, line)

    def _mapping(self, node: yaml.MappingNode, where: Where, depth: int) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                self._fault(line, where, "a key must be a plain word", "put the key in quotes")
                continue
            key = str(key_node.value)
            here = (*where, key)
            if key in values:
                first = self._document.lines[here]
                self._fault(line, here, f"given twice, first in line {first}", "keep one of them")
                continue
            self._document.lines[here] = line
            values[key] = self.value(value_node, here, depth + 1)
        return values

    def _scalar(self, node: yaml.ScalarNode, where: Where, line: int) -> Value:
        text = str(node.value)
        self._document.spelling[where] = text
        kind = node.tag.removeprefix(_TAG)
        try:
            return _plain(kind, text)
        except KeyError:
            return self._unknown_tag(node, where, line)
        except ValueError:
            self._fault(line, where, f"{text[:40]!r} cannot be read as {kind}", "fix it, or put it in quotes")
            return None

    def _unknown_tag(self, node: yaml.Node, where: Where, line: int) -> Value:
        tag = node.tag
        shown = "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag[:40]
        self._fault(line, where, f"the tag {shown} has no meaning in a {self._kind}", "remove the tag")
        return None

    def _fault(self, line: int, where: Where, what: str, hint: str) -> None:
        self._document.faults.append(Fault(line, where, what, hint))


def _plain(kind: str, text: str) -> Value:
    """Return the value of a scalar; KeyError for a kind of another schema, ValueError for an invalid one."""
    match kind:
        case "str":
            text.encode()  # ValueError: half of a surrogate pair, written as an escape
            return text
        case "null":
            return None
        case "bool":
            if text.lower() not in ("true", "false"):
                raise ValueError(text)
            return text.lower() == "true"
        case "int":
            if len(text) > 40:
                raise ValueError(text)
            return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    raise KeyError(kind)
