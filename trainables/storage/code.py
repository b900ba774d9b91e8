"""Fingerprints of code: of all definitions that some functions and classes of `core` use, wherever these are.

A definition is a function, a class or an assignment at the top level of a module. Its fingerprint is that of its syntax tree and of
the trees of everything that it refers to. Comments, docstrings, layout, import statements, and the names of files and packages do
not count, so moving a definition or renaming a file changes no fingerprint.
"""

import ast
import copy
import functools
import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import core


class Definition(NamedTuple):
    """The place of a definition."""

    module: str
    """Name of the module, such as `core.losses.crl`."""
    name: str
    """Name at its top level; empty for the statements of the module that define nothing."""


@dataclass(frozen=True)
class _Module:
    """The top level of a module."""

    nodes: dict[str, list[ast.stmt]]
    """Statements that define each name, without documentation; those under the empty name define nothing."""
    imports: dict[str, tuple[str, str]]
    """For each imported name, the module, and the name there; the latter is empty if the name is that of the module itself."""


class Code:
    """The definitions of a package and the references between them.

    Args:
        package: name of the package.
        root: its folder.
    """

    def __init__(self, package: str, root: Path):
        self._modules: dict[str, _Module] = {}
        for path in sorted(root.rglob("*.py")):
            parts = [package, *path.relative_to(root).with_suffix("").parts]
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            self._modules[name] = _parsed(path.read_text(encoding="utf-8"), package)
        self._references: dict[Definition, frozenset[Definition]] = {}
        self._dumps: dict[Definition, str] = {}

    def definitions(self) -> Iterator[Definition]:
        """All definitions of the package."""
        for name, module in self._modules.items():
            yield from (Definition(name, own) for own in module.nodes)

    def fingerprint(self, roots: Iterable[Definition], opaque: Collection[str] = ()) -> str:
        """The fingerprint of some definitions and of all that they use.

        Args:
            roots: the definitions.
            opaque: names of definitions that are left out, with what only they use.

        Raises:
            KeyError: a root does not exist.
        """
        found, texts = self.closure(roots, opaque), []
        for definition in found:
            used = sorted(_digest(self._dump(one)) for one in self._uses(definition) if one.name not in opaque)
            texts.append(f"{self._dump(definition)}\n{' '.join(used)}")
        return _digest("\n".join(sorted(texts)))

    def closure(self, roots: Iterable[Definition], opaque: Collection[str] = ()) -> set[Definition]:
        """Some definitions and all that they use; see `fingerprint`."""
        pending, found = [self._resolved(root) for root in roots], set()
        while pending:
            definition = pending.pop()
            if definition not in found and definition.name not in opaque:
                found.add(definition)
                pending += self._uses(definition)
        return found

    def _resolved(self, place: Definition) -> Definition:
        """The place where a name is defined, following imports; for the name of a module, the module with an empty name.

        Raises:
            KeyError: there is no such name.
        """
        module, name = place
        while name and name not in self._modules[module].nodes:
            if name in self._modules[module].imports:
                module, name = self._modules[module].imports[name]
            elif f"{module}.{name}" in self._modules:
                module, name = f"{module}.{name}", ""
            else:
                raise KeyError(name)
        return Definition(module, name)

    def _uses(self, definition: Definition) -> frozenset[Definition]:
        self._analyse(definition)
        return self._references[definition]

    def _dump(self, definition: Definition) -> str:
        self._analyse(definition)
        return self._dumps[definition]

    def _analyse(self, definition: Definition) -> None:
        if definition in self._dumps:
            return
        scope = _Scope(self, definition.module)
        trees = [ast.dump(scope.visit(copy.deepcopy(node))) for node in self._modules[definition.module].nodes[definition.name]]
        used = scope.used - {definition}
        if definition.name and self._modules[definition.module].nodes.get(""):
            used.add(Definition(definition.module, ""))  # statements that run when the module is imported
        self._dumps[definition], self._references[definition] = "\n".join(trees), frozenset(used)

    def target(self, module: str, names: Sequence[str]) -> tuple[Definition | None, int]:
        """The definition that a chain of names in a module refers to, such as `data.split`, and the number of names up to it.

        Returns:
            A module has an empty name. None and 0 if the first name is from elsewhere.
        """
        found, length = None, 0
        for name in names:
            try:
                found = self._resolved(Definition(found.module if found else module, name))
            except KeyError:
                break
            length += 1
            if found.name:
                break
        return found, length

    def everything_in(self, module: str) -> set[Definition]:
        """All definitions of a module."""
        return {Definition(module, name) for name in self._modules[module].nodes}


class _Scope(ast.NodeTransformer):
    """Collects the references of a definition, and removes the path from each, so that only the name of its target is left."""

    def __init__(self, code: Code, module: str):
        self.code, self.module = code, module
        self.used: set[Definition] = set()

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self._chain(node, [node.id], node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        names, inner = [node.attr], node.value
        while isinstance(inner, ast.Attribute):
            names, inner = [inner.attr, *names], inner.value
        return self._chain(node, [inner.id, *names], inner) if isinstance(inner, ast.Name) else self.generic_visit(node)

    def _chain(self, node: ast.AST, names: list[str], first: ast.Name) -> ast.AST:
        found, length = self.code.target(self.module, names)
        if found is None:
            return node
        self.used |= {found} if found.name else self.code.everything_in(found.module)  # of a module itself, anything may be used
        replaced: ast.expr = ast.Name(found.name, first.ctx)
        for name in names[length:]:
            replaced = ast.Attribute(replaced, name, ast.Load())
        return replaced


def _parsed(source: str, package: str) -> _Module:
    """The definitions and imports of a module; imports inside functions count as those of the module."""
    tree = undocumented(source)
    imports: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == package:
                    imports[alias.asname or package] = (alias.name if alias.asname else package, "")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            imports |= {alias.asname or alias.name: (str(node.module), alias.name) for alias in node.names}
    nodes: dict[str, list[ast.stmt]] = {}
    for statement in _without_imports(tree, package).body:
        for name in _defined(statement):
            nodes.setdefault(name, []).append(statement)
    return _Module(nodes, imports)


class _ImportRemover(ast.NodeTransformer):
    def __init__(self, package: str):
        self.package = package

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if (node.module or "").split(".")[0] == self.package else node

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        node.names = [alias for alias in node.names if alias.name.split(".")[0] != self.package]
        return node if node.names else None


def _without_imports(tree: ast.Module, package: str) -> ast.Module:
    """A module without its imports from a package."""
    return _ImportRemover(package).visit(tree)


def _defined(statement: ast.stmt) -> list[str]:
    """The names that a statement of the top level defines; one empty name if there are none."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            names = [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
            return [name for name in names if name != "__all__"] or ([] if names == ["__all__"] else [""])
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Import() | ast.ImportFrom():
            return []
    return [""]


def undocumented(source: str) -> ast.Module:
    """The syntax tree of a module, without the strings that only document."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            kept = [line for line in body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))]
            setattr(node, "body", kept)  # noqa: B010
    return tree


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@functools.cache
def core_code() -> Code:
    """The code of `core`, read once per process."""
    return Code("core", Path(core.__file__).parent)
