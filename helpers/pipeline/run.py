"""Run the notebooks in order, skip what is done, and make one page of all that they showed.

`python -m helpers.pipeline run --work-dir DIR [--only 01,02] [-p NAME VALUE …] [--timeout-minutes 180]`
leaves the executed copies in DIR/executed and the page in DIR/report.html. After Ctrl-C or a failure the
same command continues. Exit codes: 0 done, 1 a notebook failed, 2 nothing was started, 130 Ctrl-C.
A done notebook is one whose manifest stands (helpers.core.workdir), and whose executed copy has the same cells
and parameters. This module decides nothing else; the notebooks do the work.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import papermill
import yaml
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.utils import run_sync

from helpers.core import runtime, workdir
from helpers.pipeline import notebooks, report

NOTEBOOKS = runtime.REPOSITORY / "notebooks"
say = partial(print, flush=True)  # stdout may be a pipe, and somebody is waiting


class Failed(Exception):
    """A notebook did not end as it should; the message is what to show."""


def select(only: str) -> list[Path]:
    """The notebooks whose numbers or names stand in `only`, in order; all for "". Raises ValueError."""
    paths = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    wanted = {name.strip() for name in only.split(",") if name.strip()}
    if unknown := wanted - {name for path in paths for name in (path.stem, path.stem[:2])}:
        there = ", ".join(path.stem for path in paths)
        raise ValueError(
            f"--only {only}: there is no notebook {', '.join(sorted(unknown))}; there are {there}"
        )
    return [path for path in paths if not wanted or wanted & {path.stem, path.stem[:2]}]


def plan(paths: list[Path], given: dict[str, str], work_dir: Path) -> list[tuple[Path, dict[str, object]]]:
    """Each notebook with its parameters: work_dir, and what of `given` (name → text) it knows.

    Raises ValueError for a name that no notebook knows, and for a value that does not fit the default.
    """
    known = {path: notebooks.parameters(path) for path in paths}
    if "work_dir" in given:
        raise ValueError("-p work_dir: use --work-dir DIR, which is passed to every notebook")
    if unknown := ", ".join(sorted(set(given).difference(*known.values()))):
        listing = "".join(f"\n  {path.stem}: {', '.join(names)}" for path, names in known.items())
        raise ValueError(f"-p {unknown}: not a parameter of any selected notebook. They have{listing}")
    planned = []
    for path, defaults in known.items():
        values = {
            name: value_of(name, text, defaults[name]) for name, text in given.items() if name in defaults
        }
        planned.append((path, {"work_dir": str(work_dir), **values}))
    return planned


def value_of(name: str, text: str, default: object) -> object:
    """What -p NAME TEXT means: the text itself where the default is one, else YAML. Raises ValueError."""
    if isinstance(default, str):
        return text  # a question such as `42` or `what: this` is still a text
    try:
        value = yaml.safe_load(text)
        if type(default) in (int, float) and type(value) not in (int, float):
            value = float(text)  # YAML takes 2e-4 for a text
        if type(default) is bool and type(value) is not bool:
            raise ValueError
    except (yaml.YAMLError, ValueError):
        kind = type(default).__name__
        raise ValueError(f"-p {name} {text}: expected a value of type {kind}, such as {default}") from None
    return value


def is_done(path: Path, executed: Path, work_dir: Path, parameters: dict[str, object]) -> bool:
    """True when the stage's files stand and the executed copy is of these cells with these parameters."""
    if not executed.exists() or not workdir.is_finished(work_dir, path.stem):
        return False
    now, then = notebooks.read(path), notebooks.read(executed)
    before = {**then.metadata.get("papermill", {}).get("parameters", {}), "work_dir": str(work_dir)}
    sources = [[(cell.cell_type, cell.source) for cell in notebooks.own_cells(book)] for book in (now, then)]
    return before == parameters and sources[0] == sources[1]  # a moved work_dir is still the same work


def execute(path: Path, executed: Path, parameters: dict[str, object], timeout_minutes: float) -> None:
    """Run one notebook into `executed`, showing what it prints. Raises Failed with what went wrong.

    The kernel is of this very Python. Until the notebook succeeds, its copy is NAME.unfinished.ipynb.
    """
    executed.parent.mkdir(exist_ok=True)
    unfinished = executed.with_suffix(".unfinished.ipynb")
    deadline = time.monotonic() + timeout_minutes * 60
    # without folders to search, what is left is ipykernel's own specification: sys.executable
    kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    total, running = len(notebooks.read(path).cells) + 1, ""

    def show(cell, cell_index: int) -> None:
        nonlocal running
        running = cell.source
        if not notebooks.tags(cell) & {"parameters", "injected-parameters"}:
            say(f"  [{cell_index + 1}/{total}] {running.strip().splitlines()[0][:90]}")

    try:
        papermill.execute_notebook(
            path,
            unfinished,
            parameters,
            kernel_name="python3",
            cwd=runtime.REPOSITORY,
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            km=kernel,
            timeout_func=lambda cell: max(0.1, deadline - time.monotonic()),
            on_cell_execute=show,
        )
        run_sync(kernel.shutdown_kernel)()
    except (papermill.PapermillExecutionError, TimeoutError, RuntimeError) as error:
        reason = "\n".join(report.plain(str(error)).splitlines()[-12:])
        if isinstance(error, TimeoutError):
            reason = f"It took longer than {timeout_minutes:g} minutes; allow more with --timeout-minutes"
        if isinstance(error, RuntimeError):  # nbclient's word for a kernel that is gone
            reason += ". A kernel that dies has most often run out of memory"
        cell = textwrap.indent(running, "    ")
        message = f"\n{path.stem} failed in this cell:\n\n{cell}\n\n{reason}\n\nThe copy so far: {unfinished}"
        raise Failed(message) from None
    finally:
        if kernel.has_kernel:  # after an error or Ctrl-C: it would train or pay on
            run_sync(kernel.shutdown_kernel)(now=True)
    unfinished.replace(executed)


def run(planned: list[tuple[Path, dict[str, object]]], work_dir: Path, timeout_minutes: float) -> None:
    """Execute what is not done. Raises Failed."""
    for number, (path, parameters) in enumerate(planned, 1):
        executed = work_dir / "executed" / path.name
        if is_done(path, executed, work_dir, parameters):
            say(f"{path.stem}: already done")
            continue
        say(f"\n[{number}/{len(planned)}] {path.stem}: {notebooks.title(notebooks.read(path), path.stem)}")
        began = time.monotonic()
        execute(path, executed, parameters, timeout_minutes)
        say(f"{path.stem}: done in {report.duration(time.monotonic() - began)}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m helpers.pipeline", description=__doc__.splitlines()[0])
    command = parser.add_subparsers(required=True).add_parser("run", help="run what is not done yet")
    add = command.add_argument
    add("--work-dir", default="", metavar="DIR", help="where all results go; default: the platform's folder")
    add("--only", default="", metavar="01,02", help="numbers of the notebooks to run; default: all")
    pair = ("NAME", "VALUE")
    add("-p", nargs=2, action="append", default=[], metavar=pair, help="for each notebook that has NAME")
    add("--timeout-minutes", type=float, default=180, help="the longest that one notebook may take")
    options = parser.parse_args(arguments)
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # plots belong in the notebook
    try:
        paths = select(options.only)
        work_dir = workdir.open_work_dir(options.work_dir).resolve()
        planned = plan(paths, dict(options.p), work_dir)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        run(planned, work_dir, options.timeout_minutes)
        for score in report.headline(work_dir):
            say("{name}  base {base}  tuned {tuned}  {change}".format(**score).rstrip())
        say(f"report: {report.write(work_dir)}")
    except (Failed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What is finished is kept; the same command continues from here.", file=sys.stderr)
        return 130
    return 0
