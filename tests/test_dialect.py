"""One dialect for errors and imports, whoever wrote the file: CONTRIBUTING, Style."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    str(file.relative_to(ROOT)).replace("\\", "/"): file
    for package in ("diffusion_core", "diffusion_lab")
    for file in sorted((ROOT / package).rglob("*.py"))
}
CORE = [name for name in FILES if name.startswith("diffusion_core/")]
EVERY = pytest.mark.parametrize("name", FILES)

# Messages that begin with these words do not say what was given. Each has its reason.
WITHOUT_GOT = {
    "data must have positive variances": "what was given is said: a mixture of points",
}


def tree(name: str) -> ast.Module:
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def text(node: ast.expr) -> str:
    """Return a string or an f-string as it is written, each {expression} as {}."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text(part) for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "{}"


def refusals(module: ast.Module) -> list[str]:
    """Return the messages of all `raise ValueError(..)`, TypeError, or a name for either."""
    raised = [node.exc for node in ast.walk(module) if isinstance(node, ast.Raise)]
    calls = [exc for exc in raised if isinstance(exc, ast.Call) and exc.args]
    kinds = ("ValueError", "TypeError", "error")
    return [text(call.args[0]) for call in calls if ast.unparse(call.func) in kinds]


@pytest.mark.parametrize("name", CORE)
def test_a_refusal_reads_name_must_wanted_got_given(name):
    for message in refusals(tree(name)):
        assert re.match(r"(\{\}|\w+)[\w ,(){}]* must ", message), message
        assert ", got " in message or message.startswith(tuple(WITHOUT_GOT)), message


def test_every_exception_is_still_one():
    messages = [message for name in CORE for message in refusals(tree(name))]
    assert len(messages) > 40
    for start in WITHOUT_GOT:
        assert [m for m in messages if m.startswith(start) and ", got " not in m], start


@EVERY
def test_no_string_says_it_in_another_dialect(name):
    """A docstring says "Raises ValueError for ..", a message "got" and not "but it is"."""
    strings = [n for n in ast.walk(tree(name)) if isinstance(n, ast.Constant | ast.JoinedStr)]
    for string in map(text, strings):
        assert "Errors:" not in string and "but it is" not in string, string


@EVERY
def test_imports_are_in_one_dialect(name):
    """Inside diffusion_core an import is relative, and `torch.Generator` is written out."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            written = ast.unparse(node)
            assert name not in CORE or "diffusion_core" not in written, written
            assert "Generator" not in [alias.name for alias in node.names], written
