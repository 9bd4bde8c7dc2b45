"""Is the house in order? Lines per room and module, arrows that run one way, imports that stay cheap.

`python -m tests.house`, part of `make lint`, lists what is wrong and ends with 1. Every line counts, docstrings and
blank ones too. The longest functions are a report and no error.
"""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

HELPERS = Path(__file__).resolve().parents[1] / "helpers"
# A room grows only for something new. Three are larger than they were meant to be, collect 620, ask 1,200 and sql 500:
# lower a number here whenever a room has become smaller.
BUDGETS = dict(
    core=600, collect=660, clean=830, ask=1810, train=1050, prove=600, publish=632, sql=1028, pipeline=401
)
TOTAL, MODULE, FUNCTION, BRANCHES = 7622, 300, 50, 12
ORDER = list(BUDGETS)[:7]  # each may import from those before it
MAY = {room: {*ORDER[:at], room} for at, room in enumerate(ORDER)}
MAY |= {"sql": {*ORDER[:6], "sql"}, "pipeline": {"core", "pipeline"}}
HEAVY = {"torch", "transformers", "datasets", "unsloth", "peft", "trl", "pandas", "matplotlib"}
BRANCH = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)


def imports(nodes) -> set[str]:
    """The dotted names that these nodes import, `from a import b` as a.b."""
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {
        f"{n.module}.{alias.name}" for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names
    }


def check(helpers: Path = HELPERS) -> tuple[list[str], list[str]]:
    """What is wrong, and the functions that are too long or branch too often, the longest first."""
    wrong, functions, graph, rooms = [], [], {}, {}
    for path in sorted(helpers.rglob("*.py")):
        room, name = path.parent.name, f"{path.parent.name}/{path.stem}"
        tree, lines = ast.parse(path.read_text("utf-8")), path.read_text("utf-8").count("\n")
        rooms[room] = rooms.get(room, 0) + lines
        if lines > MODULE:
            wrong.append(f"{name} has {lines} lines; a module has at most {MODULE}")
        nodes = list(ast.walk(tree))  # an import inside a function is an import too
        graph[name] = {"/".join(n.split(".")[1:3]) for n in imports(nodes) if n.startswith("helpers.")}
        for other in sorted({n.split("/")[0] for n in graph[name]} - MAY.get(room, set())):
            wrong.append(f"{name} imports from {other}, which {room} does not stand on")
        heavies = {n.split(".")[0] for n in imports(tree.body)} & HEAVY
        for heavy in sorted(heavies) if name != "train/cpu_loss" else ():  # it defines a torch function
            wrong.append(f"{name} imports {heavy} at its top; import it in the function that needs it")
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                forks = sum(isinstance(n, BRANCH) for n in ast.walk(node))
                if length > FUNCTION or forks > BRANCHES:
                    functions.append((length, f"{name}.{node.name}: {length} lines, {forks} branches"))
    for room, most in (BUDGETS | {"helpers": TOTAL}).items():
        lines = sum(rooms.values()) if room == "helpers" else rooms.get(room, 0)
        if lines > most:
            wrong.append(f"{room} has {lines} lines, {lines - most} more than its {most}")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        wrong.append(f"modules import each other in a circle: {' > '.join(error.args[1])}")
    return wrong, [line for _, line in sorted(functions, reverse=True)]


if __name__ == "__main__":
    wrong, functions = check()
    print(*functions[:10], *wrong, sep="\n")
    sys.exit(1 if wrong else 0)
