"""The shape of the package: who imports whom, how long things are, what they promise."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import diffusion_core as dc

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "diffusion_core"
FILES = sorted(PACKAGE.rglob("*.py"))
SOURCES = {str(f.relative_to(PACKAGE).with_suffix("")).replace("\\", "/"): f for f in FILES}
EVERY = pytest.mark.parametrize("name", SOURCES)

# DESIGN, section 3. `checks` and `devices` are below everything, so all may import them.
BOTTOM = {"checks", "devices", "progress"}
MATHS = {"gaussian", "schedules"}
ON_MATHS = MATHS | {"process", "mixtures"}
ON_ALL = ON_MATHS | {"decoders", "elbo", "weights", "score", "sde", "samplers", "guidance"}
MAY_IMPORT = {
    "checks": set(),
    "progress": set(),
    "devices": set(),
    "gaussian": set(),
    "schedules": set(),
    "nets": set(),
    "metrics": set(),
    "toys": set(),
    "download": set(),
    "data": {"download"},
    "process": ON_MATHS,
    "mixtures": ON_MATHS,
    "decoders": MATHS,
    "weights": MATHS | {"process"},
    "elbo": ON_ALL | {"decoders"},
    "score": ON_ALL,
    "sde": ON_ALL,
    "samplers": ON_ALL,
    "guidance": ON_ALL,
    # DESIGN names schedules, process, checkpoints; the losses also draw their eps: gaussian.
    "losses": MATHS | {"process"},
    "training": {"checkpoints"},
    "checkpoints": set(),
    "judge": {"nets"},
    "pretrained": {"checkpoints", "nets"},
    "lab": ON_ALL | {"nets", "metrics", "toys", "data", "losses", "training", "checkpoints"},
    "__init__": ON_ALL | {"nets", "metrics", "toys", "data", "losses", "training", "checkpoints"},
}
TORCH_AND_NUMPY = MATHS | {"nets", "metrics", "process", "mixtures", "checks", "devices"}
ONLY_LAB = {"matplotlib", "ipywidgets", "IPython", "isal"}


def part(name: str) -> str:
    """Return the part of the package that a file belongs to: "nets/unet" is in nets."""
    return name.split("/")[0]


def tree(name: str) -> ast.Module:
    return ast.parse(SOURCES[name].read_text(encoding="utf-8"))


def imports(name: str) -> set[str]:
    """Return what a file imports, each by its full dotted name, also inside functions."""
    package = ("diffusion_core", *name.split("/")[:-1])
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*start, *filter(None, [node.module])))
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def functions(name: str):
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef):
            yield node


@EVERY
def test_imports_of_ours_go_downwards(name):
    ours = {i.split(".")[1] for i in imports(name) if i.startswith("diffusion_core.")}
    assert ours <= MAY_IMPORT[part(name)] | BOTTOM | {part(name)}


@EVERY
def test_foreign_imports(name):
    foreign = {i.split(".")[0] for i in imports(name)} - {"diffusion_core"}
    foreign -= sys.stdlib_module_names
    if part(name) in TORCH_AND_NUMPY:
        assert foreign <= {"torch", "numpy"}
    if part(name) != "lab":
        assert not foreign & ONLY_LAB


@pytest.mark.parametrize("name", [n for n in SOURCES if part(n) != "lab"])
def test_lab_is_the_only_part_that_loads_matplotlib_or_widgets(name):
    assert not any(i.startswith("diffusion_lab") for i in imports(name))


def test_importing_the_package_loads_neither_matplotlib_nor_widgets():
    code = (
        "import sys, diffusion_core; "
        "print({'matplotlib', 'ipywidgets', 'IPython', 'sklearn'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.strip() == "set()", run.stderr


def test_trap_23_only_devices_names_cuda():
    lessons = sorted((ROOT / "notebooks" / "src").glob("*.py"))
    naming = [f.name for f in FILES + lessons if "cuda" in f.read_text(encoding="utf-8").lower()]
    assert naming == ["devices.py"]


@EVERY
def test_trap_23_a_tensor_goes_to_the_cpu_before_it_becomes_an_array(name):
    for function in functions(name):
        code = ast.unparse(function)
        assert ".numpy()" not in code or ".cpu()" in code, function.name


@EVERY
def test_no_global_seeding(name):
    """Networks may be initialised under fork_rng, which puts the global generator back."""

    def seeds(node):
        call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        return call and node.func.attr in ("manual_seed", "manual_seed_all", "seed")

    def on_a_generator(node):
        return "Generator(" in ast.unparse(node.func)

    module = tree(name)
    forked = {
        id(inner)
        for node in ast.walk(module)
        if isinstance(node, ast.With) and any("fork_rng" in ast.unparse(i) for i in node.items)
        for inner in ast.walk(node)
    }
    loose = [
        ast.unparse(n)
        for n in ast.walk(module)
        if seeds(n) and not on_a_generator(n) and id(n) not in forked
    ]
    assert loose == []


# Sizes.


@EVERY
def test_a_module_has_at_most_200_lines(name):
    assert len(SOURCES[name].read_text(encoding="utf-8").splitlines()) <= 200


@EVERY
def test_a_function_is_short_and_takes_few_positional_parameters(name):
    """30 lines of body, docstring not counted; 5 positional parameters, self not counted."""
    for function in functions(name):
        body = function.body[1:] if ast.get_docstring(function) else function.body
        lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
        assert lines <= 30, f"{function.name}: {lines} lines"
        args = [a.arg for a in function.args.posonlyargs + function.args.args]
        args = args[1:] if args[:1] in (["self"], ["cls"]) else args
        assert len(args) <= 5, f"{function.name}: {args}"


# What is public.


def public(name: str):
    """Yield the public functions, classes and methods of a file."""
    for node in tree(name).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (
                    n
                    for n in node.body
                    if isinstance(n, ast.FunctionDef)
                    and not n.name.startswith("_")
                    and n.name != "forward"
                )


@EVERY
def test_docstrings_exist_and_have_at_most_12_lines(name):
    assert ast.get_docstring(tree(name))
    for node in public(name):
        text = ast.get_docstring(node)
        assert text, f"{node.name} has no docstring"
        assert len(text.splitlines()) <= 12, node.name
        first = text.splitlines()[0]
        assert first[0].isupper() or "(" in first, f"{node.name}: {first}"


@EVERY
def test_public_functions_are_annotated(name):
    for node in public(name):
        if isinstance(node, ast.FunctionDef):
            args = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            bare = [a.arg for a in args if a.annotation is None and a.arg != "self"]
            assert not bare and node.returns is not None, f"{node.name}: {bare}"


def test_everything_exported_exists_once():
    assert len(dc.__all__) == len(set(dc.__all__))
    for name in dc.__all__:
        assert inspect.getdoc(getattr(dc, name)), name


def test_no_class_of_ours_is_a_base_class():
    classes = [n for name in SOURCES for n in ast.walk(tree(name)) if isinstance(n, ast.ClassDef)]
    bases = {ast.unparse(base).split(".")[-1] for n in classes for base in n.bases}
    assert not bases & ({n.name for n in classes} | {"ABC", "Protocol"})


def test_identifiers_are_ascii_and_there_is_no_utils():
    assert "utils" not in SOURCES
    for name in SOURCES:
        names = {n.id for n in ast.walk(tree(name)) if isinstance(n, ast.Name)}
        assert all(n.isascii() for n in names), name
