"""The project's own rules, as functions from a source to its offences.

Each rule says what ruff, mypy and import-linter cannot. A rule takes one `Source` and
returns messages that read "path:line: observed, expected"; an empty list is good.
`test_rules.py` runs every rule over the repository, and over a planted violation.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

__all__ = ["LOCK_RULES", "PYTHON_RULES", "ROOT", "TEXT_RULES", "Rule", "Source", "sources"]

ROOT = Path(__file__).parents[2]

MODULE_LINES_MAX = 500  # past that it is two modules
BANNED_NAMES = frozenset(
    {"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}
)
CLOCKS = frozenset(
    f"{module}.{name}{ns}"
    for module in ("time", "timeit")
    for name in (
        "time",
        "monotonic",
        "perf_counter",
        "process_time",
        "thread_time",
        "default_timer",
    )
    for ns in ("", "_ns")
)
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
PURE_ROOMS = ("engine", "keys", "nbd")
OUTER_ROOMS = ("api", "app", "cli", "client", "console", "nbd")
AMBIENT_METHODS = frozenset({"generate", "generate_key", "generate_private_key"})
INDEX_ADDRESS = re.compile(
    r"(?i)pypi\.org|pythonhosted|(index-url|find-links)\s*[=\s]\s*\S|/simple/"
)
EXCUSE = re.compile(r"#\s*(?:noqa|type:\s*ignore)\b(?P<rest>.*)")
EXCUSE_WITH_REASON = re.compile(
    r"#\s*(?:noqa:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|type:\s*ignore\[[\w\-, ]+\])\s*(?:#|-|:)\s*\w+"
)
FOLDERS = ("src", "tests", "bench", "demo", "docs", "scripts", ".ci", "changelog.d")

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One file of the repository: where it is, and what it says."""

    path: PurePosixPath
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree, for a Python source."""
        return ast.parse(self.text, str(self.path))

    @property
    def shipped(self) -> bool:
        """Whether it is part of the package."""
        return self.path.parts[0] == "src"

    @property
    def room(self) -> str:
        """The room it stands in, or nothing."""
        parts = self.path.parts
        return parts[2] if self.shipped and len(parts) > 3 else ""

    def at(self, line: int, message: str) -> str:
        """A message with its place."""
        return f"{self.path}:{line}: {message}"


Rule = Callable[[Source], list[str]]


def sources() -> list[Source]:
    """Every text file of the repository, apart from what tools leave behind."""
    files = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    for folder in FOLDERS:
        files += (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return [
        Source(PurePosixPath(path.relative_to(ROOT).as_posix()), text)
        for path in sorted(files)
        if "__pycache__" not in path.parts and (text := _text(path)) is not None
    ]


def module_is_short(source: Source) -> list[str]:
    """No module has more than 500 lines."""
    lines = source.text.count("\n")
    if lines <= MODULE_LINES_MAX:
        return []
    return [source.at(lines, f"{lines} lines, expected at most {MODULE_LINES_MAX}")]


def name_says_what_it_holds(source: Source) -> list[str]:
    """No module or folder is named utils, helpers, common, manager or misc."""
    words = {
        word for part in source.path.parts for word in re.split(r"[_\-.]", part.removesuffix(".py"))
    }
    return [
        source.at(1, f"named {word!r}, expected what it holds") for word in words & BANNED_NAMES
    ]


def public_names_are_documented(source: Source) -> list[str]:
    """Every module, and every public class, function and method in src, has a docstring."""
    if not source.shipped:
        return []
    undocumented = (
        [source.at(1, "module without a docstring")] if not _documented(source.tree) else []
    )
    return undocumented + [
        source.at(node.lineno, f"{node.name} without a docstring")
        for node in _public(source.tree)
        if not _documented(node) and not _decorated(node, "overload", "override", "setter")
    ]


def no_test_asserts_elapsed_time(source: Source) -> list[str]:
    """No assert in tests depends on what a clock of this machine returned."""
    if source.path.parts[0] != "tests":
        return []
    clocks = _clock_names(source.tree)
    offences = []
    for function in (node for node in ast.walk(source.tree) if isinstance(node, FUNCTIONS)):
        tainted = _tainted_by_clock(function, clocks)
        offences += [
            source.at(
                node.lineno, "asserts elapsed time, expected a promise that load cannot break"
            )
            for node in ast.walk(function)
            if isinstance(node, ast.Assert) and _reads(node.test, clocks, tainted)
        ]
    return sorted(set(offences))


def tests_are_named_for_their_promise(source: Source) -> list[str]:
    """Every test is named test_<subject>_<condition>_<outcome> and has its promise as docstring."""
    if source.path.parts[0] != "tests" or not source.path.name.startswith("test_"):
        return []
    offences = []
    for node in ast.walk(source.tree):
        if not isinstance(node, FUNCTIONS) or not node.name.startswith("test"):
            continue
        if not re.fullmatch(r"test(_[a-z0-9]+){3,}", node.name):
            offences.append(
                source.at(
                    node.lineno, f"{node.name}, expected test_<subject>_<condition>_<outcome>"
                )
            )
        if not _documented(node):
            offences.append(source.at(node.lineno, f"{node.name} without its promise as docstring"))
    return offences


def input_is_checked_by_raising(source: Source) -> list[str]:
    """No public function of a room that meets the outside asserts about its arguments."""
    if source.room not in OUTER_ROOMS:
        return []
    offences = []
    for node in _public(source.tree):
        if isinstance(node, ast.ClassDef):
            continue
        spec = node.args
        arguments = {arg.arg for arg in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)}
        offences += [
            source.at(
                inner.lineno, f"{node.name} asserts about its input, expected an error raised"
            )
            for inner in ast.walk(node)
            if isinstance(inner, ast.Assert) and _names(inner.test) & (arguments - {"self", "cls"})
        ]
    return offences


def nothing_is_unfinished(source: Source) -> list[str]:
    """Nothing in src is marked as to be done, raises NotImplementedError, or is a bare `...`."""
    if not source.shipped:
        return []
    offences = [
        source.at(token.start[0], "an unfinished mark, expected finished code")
        for token in tokenize.generate_tokens(io.StringIO(source.text).readline)
        if token.type == tokenize.COMMENT and UNFINISHED.search(token.string)
    ]
    offences += [
        source.at(node.lineno, "NotImplementedError, expected an implementation")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Name) and node.id == "NotImplementedError"
    ]
    return offences + [
        source.at(node.lineno, f"{node.name} has no body, expected an implementation")
        for node in _functions_outside_protocols(source.tree)
        if _is_ellipsis(node.body[-1]) and not _decorated(node, "overload", "abstractmethod")
    ]


def pure_rooms_take_what_they_need(source: Source) -> list[str]:
    """engine, keys and nbd open no file, print nothing, and draw no randomness of their own."""
    if source.room not in PURE_ROOMS:
        return []
    offences = []
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        name = _dotted(node.func)
        if name in {"open", "print", "input"}:
            offences.append(source.at(node.lineno, f"calls {name}, expected a port handed in"))
        elif name.rpartition(".")[2] in AMBIENT_METHODS and "." in name:
            offences.append(source.at(node.lineno, f"calls {name}, expected an Entropy handed in"))
    return offences


def exceptions_give_their_reason(source: Source) -> list[str]:
    """Every noqa and type: ignore names its code and its reason."""
    return [
        source.at(token.start[0], "an excuse without code and reason, expected `noqa: CODE - why`")
        for token in tokenize.generate_tokens(io.StringIO(source.text).readline)
        if token.type == tokenize.COMMENT
        and EXCUSE.match(token.string)
        and not EXCUSE_WITH_REASON.match(token.string)
    ]


def linter_exceptions_give_their_reason(source: Source) -> list[str]:
    """Every rule of ruff that pyproject.toml turns off says why on its line."""
    if source.path != PurePosixPath("pyproject.toml"):
        return []
    return [
        source.at(number, f"{line.strip()}, expected a reason behind it")
        for number, line in enumerate(source.text.splitlines(), 1)
        if re.match(r'    "[A-Z]+\d*",', line) and not re.search(r"# \S+ \S+", line)
    ]


def no_index_address(source: Source) -> list[str]:
    """No file names the address of a package index: everyone installs from his own."""
    if source.path.parts[:2] == ("tests", "project"):
        return []  # this file and its planted violations
    return [
        source.at(number, "the address of a package index, expected none")
        for number, line in enumerate(source.text.splitlines(), 1)
        if INDEX_ADDRESS.search(line.replace("--no-emit-index-url", "").replace("--no-index", ""))
    ]


def changelog_fragment_is_named(source: Source) -> list[str]:
    """A changelog fragment is named +<slug>.<type>.md, with a type that towncrier knows."""
    folder, name = source.path.parent, source.path.name
    if folder != PurePosixPath("changelog.d") or name == "README.md":
        return []
    if re.fullmatch(r"\+[a-z0-9-]+\.(security|breaking|added|changed|fixed)\.md", name):
        return []
    return [source.at(1, "a fragment's name, expected +<slug>.<type>.md")]


def lock_pins_versions_and_hashes(source: Source) -> list[str]:
    """A lock pins every requirement with == and a sha256, and holds no address."""
    requirements = re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n", "", source.text))
    return [
        source.at(1, f"{text.split()[0]}, expected name==version with a sha256 and no address")
        for text in filter(str.strip, requirements)
        if not re.match(r"[\w.\-]+==[\w.]+[\s;]", text)
        or "--hash=sha256:" not in text
        or "//" in text
    ]


PYTHON_RULES: tuple[Rule, ...] = (
    module_is_short,
    name_says_what_it_holds,
    public_names_are_documented,
    no_test_asserts_elapsed_time,
    tests_are_named_for_their_promise,
    input_is_checked_by_raising,
    nothing_is_unfinished,
    pure_rooms_take_what_they_need,
    exceptions_give_their_reason,
)
TEXT_RULES: tuple[Rule, ...] = (
    no_index_address,
    linter_exceptions_give_their_reason,
    changelog_fragment_is_named,
)
LOCK_RULES: tuple[Rule, ...] = (lock_pins_versions_and_hashes,)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None  # a vector, an image


def _documented(node: ast.Module | ast.ClassDef | Function) -> bool:
    return bool(ast.get_docstring(node))


def _decorated(node: ast.ClassDef | Function, *names: str) -> bool:
    return any(_dotted(each).rpartition(".")[2] in names for each in node.decorator_list)


def _public(node: ast.Module | ast.ClassDef) -> Iterator[ast.ClassDef | Function]:
    """Public classes and functions, and the public members of public classes."""
    for child in node.body:
        if not isinstance(child, (ast.ClassDef, *FUNCTIONS)) or child.name.startswith("_"):
            continue
        yield child
        if isinstance(child, ast.ClassDef):
            yield from _public(child)


def _functions_outside_protocols(node: ast.AST) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and any(_is_protocol(base) for base in child.bases):
            continue
        if isinstance(child, FUNCTIONS):
            yield child
        yield from _functions_outside_protocols(child)


def _is_protocol(base: ast.expr) -> bool:
    return _dotted(base.value if isinstance(base, ast.Subscript) else base).endswith("Protocol")


def _is_ellipsis(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and node.value.value is Ellipsis
    )


def _dotted(node: ast.expr) -> str:
    """`a.b.c` for a name or an attribute, "?.c" where what precedes has no name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return "?"


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _clock_names(tree: ast.Module) -> set[str]:
    """Every spelling under which this module can call a clock."""
    spellings = set(CLOCKS)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            renamed = {each.asname: each.name for each in node.names if each.asname}
            for alias, module in renamed.items():
                spellings |= {
                    f"{alias}.{clock.partition('.')[2]}"
                    for clock in CLOCKS
                    if clock.startswith(f"{module}.")
                }
        elif isinstance(node, ast.ImportFrom):
            spellings |= {
                each.asname or each.name
                for each in node.names
                if f"{node.module}.{each.name}" in CLOCKS
            }
    return spellings


def _tainted_by_clock(function: Function, clocks: set[str]) -> set[str]:
    """Names that hold what a clock returned, or what was computed from it."""
    tainted: set[str] = set()
    while True:
        before = len(tainted)
        for node in ast.walk(function):
            match node:
                case ast.Assign(targets=targets, value=value):
                    pass
                case (
                    ast.AugAssign(target=target, value=value)
                    | ast.NamedExpr(target=target, value=value)
                ):
                    targets = [target]
                case ast.AnnAssign(target=target, value=ast.expr() as value):
                    targets = [target]
                case _:
                    continue
            if _reads(value, clocks, tainted):
                tainted.update(*(_names(target) for target in targets))
        if len(tainted) == before:
            return tainted


def _reads(expression: ast.expr, clocks: set[str], tainted: set[str]) -> bool:
    return any(
        (isinstance(node, ast.Name) and node.id in tainted)
        or (isinstance(node, ast.Call) and _dotted(node.func) in clocks)
        for node in ast.walk(expression)
    )
