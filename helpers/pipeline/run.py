"""Run the notebooks in order, skip what is done, and make one page of all that they showed.

`python -m helpers.pipeline run --work-dir DIR [--only 01,02] [-p NAME VALUE …] [--timeout-minutes 180]`
leaves the executed copies in DIR/executed and the page in DIR/report.html. After Ctrl-C or a failure the
same command continues. Exit codes: 0 done, 1 a notebook failed, 2 nothing was started, 130 Ctrl-C.
A done notebook is one whose manifest stands (helpers.core.files), and whose executed copy has the same cells
and parameters. This module decides nothing else; the notebooks do the work.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from datetime import date
from functools import partial
from pathlib import Path

import yaml

from helpers.core import runtime, workdir
from helpers.pipeline import notebooks, report

NOTEBOOKS = runtime.REPOSITORY / "notebooks"
say = partial(print, flush=True)  # stdout may be a pipe, and somebody is waiting


class Failed(Exception):
    """A notebook did not end as it should; the message is what to show."""


def select(only: str) -> list[Path]:
    """The notebooks whose numbers or names stand in `only`, in order; all for "". Raises ValueError."""
    found = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    wanted = {name.strip() for name in only.split(",") if name.strip()}
    if unknown := sorted(wanted - {path.stem for path in found} - {path.stem[:2] for path in found}):
        names = ", ".join(path.stem for path in found)
        raise ValueError(f"--only {only}: there is no notebook {', '.join(unknown)}; there are {names}")
    if not found:
        raise FileNotFoundError(f"there is no notebook in {NOTEBOOKS}")
    return [path for path in found if not wanted or wanted & {path.stem, path.stem[:2]}]


def plan(paths: list[Path], given: dict[str, str], work_dir: Path) -> list[tuple[Path, dict[str, object]]]:
    """Each notebook with its parameters: work_dir, and what of `given` (name → text) it knows.

    Raises ValueError for a name that no notebook knows, and for a value that does not fit the default.
    """
    known = {path: notebooks.parameters(path) for path in paths}
    if "work_dir" in given:
        raise ValueError("-p work_dir: use --work-dir DIR, which is passed to every notebook")
    if unknown := sorted(set(given).difference(*known.values())):
        listing = "".join(f"\n  {path.stem}: {', '.join(names)}" for path, names in known.items())
        names = ", ".join(unknown)
        raise ValueError(f"-p {names}: not a parameter of any selected notebook. They have{listing}")
    if without := [path.name for path, names in known.items() if "work_dir" not in names]:
        raise ValueError(f"{', '.join(without)}: the `parameters` cell must set work_dir")
    planned = []
    for path, defaults in known.items():
        values = {name: value_of(name, given[name], defaults[name]) for name in given if name in defaults}
        planned.append((path, {"work_dir": str(work_dir), **values}))
    return planned


def value_of(name: str, text: str, default: object) -> object:
    """What -p NAME TEXT means, a YAML scalar, for a parameter with this default. Raises ValueError."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if isinstance(value, date) or (isinstance(default, str) and not isinstance(value, str | None)):
        return text  # a question such as `42` or `what: this` is still a text
    if isinstance(default, str) and not text:
        return ""
    if isinstance(default, bool) and not isinstance(value, bool):
        raise ValueError(f"-p {name} {text}: expected true or false (the default is {default})")
    if isinstance(default, int | float) and not isinstance(default, bool) and value is not None:
        with contextlib.suppress(ValueError):
            value = float(value) if isinstance(value, str) else value  # YAML takes 2e-4 for a text
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"-p {name} {text}: expected a number (the default is {default})")
    return value


def is_done(path: Path, executed: Path, work_dir: Path, parameters: dict[str, object]) -> bool:
    """True when the stage's files stand and the executed copy is of these cells with these parameters."""
    if not executed.exists() or not workdir.is_finished(work_dir, path.stem):
        return False
    now, then = notebooks.read(path), notebooks.read(executed)
    before = {**then.metadata.get("papermill", {}).get("parameters", {}), "work_dir": str(work_dir)}
    sources = [[(cell.cell_type, cell.source) for cell in notebooks.own_cells(book)] for book in (now, then)]
    return before == parameters and sources[0] == sources[1]  # a moved work_dir is still the same work


@contextlib.contextmanager
def local_kernel() -> Iterator:
    """A kernel of this very Python, reached through files: not even a loopback network is needed."""
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # or a debugger that nobody uses warns
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_core.utils import run_sync

    with tempfile.TemporaryDirectory(prefix="kernel-", ignore_cleanup_errors=True) as folder:
        kernel = AsyncKernelManager(
            kernel_name="python3",
            # without folders to search, what is left is ipykernel's own specification: sys.executable
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            transport="tcp" if os.name == "nt" else "ipc",
            connection_file=str(Path(folder) / "kernel.json"),
        )
        # plots belong in the notebook, whatever the terminal asks for, and a user's start-up files do not
        inline = "module://matplotlib_inline.backend_inline"
        kernel.kernel_spec.env = {"MPLBACKEND": inline, "IPYTHONDIR": str(Path(folder) / "ipython")}
        try:
            yield kernel
            run_sync(kernel.shutdown_kernel)()
        finally:
            if kernel.has_kernel:  # after an error or Ctrl-C there is nothing to wait for
                run_sync(kernel.shutdown_kernel)(now=True)


def execute(path: Path, executed: Path, parameters: dict[str, object], timeout_minutes: float) -> None:
    """Run one notebook into `executed`, showing what it prints. Raises Failed with what went wrong.

    Until it succeeds the copy has a hidden name; after a failure it is kept as NAME.failed.ipynb.
    """
    import papermill

    executed.parent.mkdir(exist_ok=True)
    unfinished = executed.with_name(f".{path.stem}.partial.ipynb")
    failed = executed.with_name(f"{path.stem}.failed.ipynb")
    # papermill fills in {names} in paths
    source, target = (str(name).replace("{", "{{").replace("}", "}}") for name in (path, unfinished))
    deadline = time.monotonic() + timeout_minutes * 60
    running = {"source": ""}

    def show(cell, cell_index: int) -> None:
        running["source"] = cell.source
        if not notebooks.tags(cell) & {"parameters", "injected-parameters"}:
            say(f"  [{cell_index + 1}/{len(prepared.cells)}] {cell.source.strip().splitlines()[0][:90]}")

    try:
        prepared = papermill.execute_notebook(
            source, target, parameters, kernel_name="python3", prepare_only=True
        )
        if lost := unreached(prepared, parameters):  # papermill itself would only warn
            raise Failed(
                f"{path.name} would not see the parameter {', '.join(lost)}: delete the cell tagged"
                " `injected-parameters` that stands above its `parameters` cell"
            )
        with local_kernel() as kernel:
            papermill.execute_notebook(
                target,
                target,
                kernel_name="python3",
                cwd=runtime.REPOSITORY,
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                start_timeout=180,
                iopub_timeout=60,
                km=kernel,
                timeout_func=lambda cell: max(0.1, deadline - time.monotonic()),
                on_cell_execute=show,
            )
        unfinished.replace(executed)
        failed.unlink(missing_ok=True)
    except papermill.PapermillExecutionError as error:
        unfinished.replace(failed)
        trace = report.plain("\n".join(error.traceback)).splitlines()[-12:]
        trace = trace or [f"{error.ename}: {error.evalue}"]
        raise Failed(failure(path, error.source, trace, failed)) from None
    except TimeoutError:
        unfinished.replace(failed)
        reason = f"It took longer than {timeout_minutes:g} minutes; allow more with --timeout-minutes"
        raise Failed(failure(path, running["source"], [reason], failed)) from None
    except RuntimeError as error:  # nbclient's word for a kernel that is gone
        unfinished.replace(failed)
        reason = f"{error}. A kernel that dies has most often run out of memory"
        raise Failed(failure(path, running["source"], [reason], failed)) from None
    finally:
        unfinished.unlink(missing_ok=True)


def unreached(prepared, parameters: dict[str, object]) -> list[str]:
    """The parameters that do not have their value after the tagged cells, taken in their order."""
    seen = {}
    for cell in prepared.cells:
        if notebooks.tags(cell) & {"parameters", "injected-parameters"}:
            seen |= notebooks.constants(cell.source)
    return [name for name, value in parameters.items() if name not in seen or seen[name] != value]


def failure(path: Path, source: str, error: list[str], kept: Path) -> str:
    cell = textwrap.indent(source, "    ")
    lines = [f"\n{path.stem} failed in this cell:", "", cell, "", *error, "", f"The copy so far: {kept}"]
    return "\n".join(lines)


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
    try:
        paths = select(options.only)
        work_dir = workdir.open_work_dir(options.work_dir).resolve()
        planned = plan(paths, dict(options.p), work_dir)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        run(planned, work_dir, options.timeout_minutes)
        for line in report.summary(work_dir):
            say(line)
        say(f"report: {report.write(work_dir)}")
    except (Failed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What is finished is kept; the same command continues from here.", file=sys.stderr)
        return 130
    return 0
