"""Run the notebooks in order, skip what is done, and make one page of all that they showed.

`python -m helpers.pipeline run --work-dir DIR [--only 01,02] [-p NAME VALUE …] [--timeout-minutes 180]`
leaves the executed copies in DIR/executed and the page in DIR/report.html. After Ctrl-C or a failure the
same command continues. Exit codes: 0 done, 1 a notebook failed, 2 nothing was started, 130 Ctrl-C.
"""

import argparse
import os
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import papermill
import pydantic
import yaml
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from helpers.core import runtime, workdir
from helpers.pipeline import notebooks, report

NOTEBOOKS = runtime.REPOSITORY / "notebooks"
REASONS = {  # where nbclient's own words do not name the fix
    CellTimeoutError: "It took longer than --timeout-minutes allows",
    DeadKernelError: "The kernel died. Most often it has run out of memory",
}
KINDS = {str: str, bool: bool, int: int | float, float: int | float}  # by the kind of the default
say = partial(print, flush=True)  # stdout may be a pipe, and somebody is waiting


def select(only: str) -> list[Path]:
    """The notebooks whose numbers stand in `only`, in order; all for "". Raises ValueError."""
    paths = {path.name[:2]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    wanted = only.replace(" ", "").split(",") if only else paths
    if unknown := ", ".join(sorted(set(wanted) - paths.keys())):
        raise ValueError(f"--only {only}: there is no notebook with the number {unknown}")
    return [path for number, path in paths.items() if number in wanted]


def plan(paths: list[Path], given: dict[str, str], work_dir: Path) -> dict[Path, dict[str, object]]:
    """work_dir and what of `given` (name → text) each notebook knows; ValueError for a name that none does."""
    known = {path: notebooks.parameters(path) for path in paths}
    if "work_dir" in given:
        raise ValueError("-p work_dir: use --work-dir DIR, which is passed to every notebook")
    if unknown := ", ".join(sorted(set(given).difference(*known.values()))):
        listing = "".join(f"\n  {path.stem}: {', '.join(names)}" for path, names in known.items())
        raise ValueError(f"-p {unknown}: not a parameter of any selected notebook. They have{listing}")
    return {
        path: {"work_dir": str(work_dir)} | {n: value_of(n, given[n], own[n]) for n in given if n in own}
        for path, own in known.items()
    }


def value_of(name: str, text: str, default: object) -> object:
    """What -p NAME TEXT means where the default is a text, yes or no, or a number; else YAML. Raises ValueError."""
    kind = KINDS.get(type(default))
    try:
        return pydantic.TypeAdapter(kind).validate_strings(text) if kind else yaml.safe_load(text)
    except (yaml.YAMLError, pydantic.ValidationError):
        raise ValueError(f"-p {name} {text}: expected {type(default).__name__}, such as {default}") from None


def is_done(path: Path, executed: Path, parameters: dict[str, object]) -> bool:
    """True when the stage's files stand and the executed copy is of these cells, parameters and files of one's own."""
    if not (executed.exists() and workdir.is_finished(Path(parameters["work_dir"]), path.stem)):
        return False
    texts = (os.path.join(runtime.REPOSITORY, text) for text in parameters.values() if isinstance(text, str))
    changed = max((os.path.getctime(text) for text in texts if os.path.isfile(text)), default=0)
    now, then = notebooks.read(path), notebooks.read(executed)
    before = then.metadata.papermill.parameters | {"work_dir": parameters["work_dir"]}  # it may have moved
    sources = [[(cell.cell_type, cell.source) for cell in notebooks.authored(book)] for book in (now, then)]
    return before == parameters and sources[0] == sources[1] and changed < executed.stat().st_mtime


def execute(path: Path, executed: Path, parameters: dict[str, object], timeout_minutes: float) -> None:
    """Run one notebook into `executed`, till then unfinished_NAME.ipynb, and show what it prints, or SystemExit."""
    unfinished = executed.with_name(f"unfinished_{path.name}")
    unfinished.parent.mkdir(exist_ok=True)
    deadline = time.monotonic() + timeout_minutes * 60
    count, running = len(notebooks.read(path).cells) + 1, ""

    def show(cell, cell_index: int) -> None:
        nonlocal running
        running = cell.source
        say(f"  [{cell_index + 1}/{count}] {running.strip().splitlines()[0][:90]}")

    options = dict(kernel_name="python3", cwd=runtime.REPOSITORY, on_cell_execute=show, progress_bar=False)
    options |= dict(timeout_func=lambda cell: max(0.1, deadline - time.monotonic()))
    options |= dict(shutdown_kernel="immediate")  # else a busy one outlives Ctrl-C, and trains or pays on
    options |= dict(stdout_file=sys.stdout, stderr_file=sys.stderr)
    try:
        papermill.execute_notebook(path, unfinished, parameters, **options)
    except (papermill.PapermillExecutionError, CellTimeoutError, RuntimeError) as error:
        reason = REASONS.get(type(error)) or "\n".join(report.plain(str(error)).splitlines()[-12:])
        where = f"{path.stem} failed in this cell:\n\n{textwrap.indent(running, '    ')}"
        raise SystemExit(f"\n{where}\n\n{reason}\n\nThe copy so far: {unfinished}") from None
    unfinished.replace(executed)


def run(planned: dict[Path, dict[str, object]], work_dir: Path, timeout_minutes: float) -> None:
    """Execute what is not done. Raises SystemExit where a notebook fails."""
    for number, (path, parameters) in enumerate(planned.items(), 1):
        executed = work_dir / "executed" / path.name
        if is_done(path, executed, parameters):
            say(f"{path.stem}: already done")
            continue
        say(f"\n[{number}/{len(planned)}] {path.stem}: {notebooks.title(notebooks.read(path), path.stem)}")
        began = time.monotonic()
        execute(path, executed, parameters, timeout_minutes)
        say(f"{path.stem}: done in {report.duration(time.monotonic() - began)}; its slowest cells:")
        code = [cell for cell in notebooks.read(executed).cells if cell.cell_type == "code" and cell.source]
        for cell in sorted(code, key=lambda cell: -cell.metadata.papermill.duration)[:5]:
            line = cell.source.strip().partition("\n")[0]
            say(f"  {report.duration(cell.metadata.papermill.duration)}: {line}")


def main(arguments: list[str] | None = None) -> None:
    """The command line. Raises SystemExit with a text or a code where it does not end well."""
    parser = argparse.ArgumentParser(prog="python -m helpers.pipeline", description=__doc__.splitlines()[0])
    command = parser.add_subparsers(required=True).add_parser("run", help="run what is not done yet")
    add = command.add_argument
    add("--work-dir", default="", metavar="DIR", help="where all results go; default: the platform's folder")
    add("--only", default="", metavar="01,02", help="numbers of the notebooks to run; default: all")
    add("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="for all that have NAME")
    add("--timeout-minutes", type=float, default=180, help="the longest that one notebook may take")
    options = parser.parse_args(arguments)
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # plots belong in the notebook
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # a `python3` that the user registered may be another Python
    try:
        work_dir = workdir.open_work_dir(options.work_dir).resolve()
        planned = plan(select(options.only), dict(options.p), work_dir)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{error}\n")
    try:
        run(planned, work_dir, options.timeout_minutes)
        for score in report.headline(work_dir):
            say("{name}  base {base}  tuned {tuned}  {change}".format(**score).rstrip())
        if why := workdir.stale(work_dir / "evaluation.json", work_dir / "adapter"):
            say(f"no scores: {why}")
        say(f"report: {report.write(work_dir)}")
    except KeyboardInterrupt:
        parser.exit(130, "\nStopped. What is finished is kept; the same command continues from here.\n")
