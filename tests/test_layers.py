"""The shape of the course: who imports whom, how long things are, what they promise."""

import ast
import inspect
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import diffusion_core as dc

ROOT = Path(__file__).parents[1]
PACKAGES = ("diffusion_core", "diffusion_lab")
FILES = sorted(f for package in PACKAGES for f in (ROOT / package).rglob("*.py"))
SOURCES = {f.relative_to(ROOT).with_suffix("").as_posix(): f for f in FILES}
CORE = [name for name in SOURCES if name.startswith("diffusion_core/")]
EVERY = pytest.mark.parametrize("name", SOURCES)
EVERY_OF_THE_CORE = pytest.mark.parametrize("name", CORE)

# The floors of diffusion_core, the lowest first. A part imports from floors below its own only.
FLOORS = (
    {"checks", "conventions", "devices", "progress", "projections"},
    {"schedules", "processes"},
    {
        "distances",
        "gaussian",
        "nets",
        "metrics",
        "toys",
        "traces",
        "download",
        "averages",
    },
    {"grids", "tables"},
    {
        "predictions",
        "process",
        "decoders",
        "controls",
        "data",
        "checkpoints",
        "judge",
        "training_checks",
    },
    {
        "consistency",
        "mixtures",
        "elbo",
        "losses",
        "samplers",
        "score_matching",
        "guidance",
        "sde",
        "training",
        "vae_losses",
    },
    {
        "elbo_weights",
        "flow",
        "langevin",
        "latents",
        "likelihood",
        "priors",
        "pretrained",
        "probabilistic_pca",
        "reversal",
    },
    {"autoguidance", "classes", "couplings", "measurements", "step_wrappers"},
    {"posteriors", "solvers"},
    {"__init__"},
)
# Training, checkpoints and data know no idea: the loss is passed in. What judges knows networks.
IDEAS = FLOORS[5] - {"training"} | FLOORS[3] | {"schedules", "gaussian"}
IDEAS |= {"controls", "predictions", "process", "decoders", "distances", "elbo_weights", "priors"}
IDEAS |= {
    "conventions",
    "couplings",
    "flow",
    "langevin",
    "likelihood",
    "reversal",
    "solvers",
    "traces",
}
IDEAS |= {"autoguidance", "classes", "measurements", "posteriors", "step_wrappers"}
IDEAS |= {"latents", "probabilistic_pca"}
READ_A_SCHEDULE = {  # the networks that answer with a law of each pixel, and what loads one
    "diffusion_core/nets/levels",
    "diffusion_core/nets/pixels",
    "diffusion_core/nets/spike_slab",
    "diffusion_core/pretrained",
}
NO_IDEA = set().union(*FLOORS) - IDEAS - {"__init__"}
TORCH_AND_NUMPY = IDEAS | {"nets", "metrics", "checks", "devices"}
SCIPY = {"likelihood", "couplings"}  # inside functions: it takes long to import
ONLY_LAB = {"matplotlib", "ipywidgets", "anywidget", "traitlets", "IPython", "isal"}
ONLY_LAB |= {"diffusion_lab"}


def part(name: str) -> str:
    """Return the part of its package that a file belongs to: "diffusion_core/nets/unet", nets."""
    return name.split("/")[1]


def floor(name: str) -> int:
    return next(i for i, parts in enumerate(FLOORS) if part(name) in parts)


def tree(name: str) -> ast.Module:
    return ast.parse(SOURCES[name].read_text(encoding="utf-8"))


def imports(name: str) -> set[str]:
    """Return what a file imports, each by its full dotted name, also inside functions."""
    package = tuple(name.split("/")[:-1])
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*start, *filter(None, [node.module])))
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def files_imported(name: str) -> set[str]:
    """Return the files of ours that an import of this file runs: importlib and faces count, too."""
    found = set()
    for dotted in imports(name):
        path = dotted.replace(".", "/")
        modules = {path, f"{path}/__init__"} & SOURCES.keys()
        parent = path.rsplit("/", 1)[0]  # what was imported is a name of this module
        found |= modules or {parent, f"{parent}/__init__"} & SOURCES.keys()
    if "importlib" in imports(name):
        pattern = rf"{name.rsplit('/', 1)[0]}/lesson_\d\d(/__init__)?"
        found |= {other for other in SOURCES if re.fullmatch(pattern, other)}
    faces = {f"{folder}/__init__" for other in found for folder in folders(other)}
    return found | faces - {f"{folder}/__init__" for folder in folders(name)} - {name}


def folders(name: str) -> list[str]:
    """Return the packages that a file lies in, the inner ones last."""
    parts = name.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]


def functions(name: str):
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef):
            yield node


def test_every_part_of_the_core_stands_on_one_floor():
    assert sorted(part(name) for name in CORE if name.count("/") == 1) == sorted(
        set().union(*FLOORS) - {"nets"}
    )


@EVERY_OF_THE_CORE
def test_imports_of_the_core_go_down_to_a_lower_floor(name):
    below = {other for other in files_imported(name) if part(other) != part(name)}
    assert all(floor(other) < floor(name) for other in below), sorted(below)


@EVERY_OF_THE_CORE
def test_what_trains_stores_and_judges_knows_no_idea(name):
    if part(name) in NO_IDEA and name not in READ_A_SCHEDULE:
        assert not {part(other) for other in files_imported(name)} & IDEAS


@EVERY_OF_THE_CORE
def test_foreign_imports_of_the_core(name):
    foreign = {i.split(".")[0] for i in imports(name)} - {"diffusion_core"}
    foreign -= sys.stdlib_module_names
    assert not foreign & ONLY_LAB
    if part(name) in TORCH_AND_NUMPY:
        assert foreign <= {"torch", "numpy"} | ({"scipy"} if part(name) in SCIPY else set())


def test_no_circle_of_imports_none_through_importlib_either():
    graph = {name: files_imported(name) for name in SOURCES}
    assert "diffusion_lab/exercises/lesson_14/__init__" in graph["diffusion_lab/exercises/__init__"]
    assert len(list(TopologicalSorter(graph).static_order())) == len(SOURCES)


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
def test_a_module_has_at_most_200_lines_and_a_file_of_exercises_300(name):
    limit = 300 if name.startswith("diffusion_lab/exercises/") else 200
    assert len(SOURCES[name].read_text(encoding="utf-8").splitlines()) <= limit


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
    assert not [name for name in SOURCES if name.endswith("/utils")]
    for name in SOURCES:
        names = {n.id for n in ast.walk(tree(name)) if isinstance(n, ast.Name)}
        assert all(n.isascii() for n in names), name
