"""The pipeline on tiny notebooks made here, with real kernels, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from helpers.core import files, runtime
from helpers.pipeline import notebooks, report
from helpers.pipeline import run as pipeline

STAGE = """from pathlib import Path
from helpers.core import workdir
with Path(work_dir, 'runs.txt').open('a') as runs: runs.write('{name} {word}\\n')
Path(work_dir, '{name}.txt').write_text({word!r})
workdir.finish_stage(Path(work_dir), '{name}', reads=[], writes=['{name}.txt'])"""


def parameters_cell(source: str, tag: str = "parameters"):
    return new_code_cell(source, metadata={"tags": [tag]})


def save(path: Path, *cells) -> Path:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=list(cells), metadata={"kernelspec": kernel}), path)
    return path


def stage(folder: Path, name: str, *cells, defaults: str = "", word: str = "one") -> Path:
    """A notebook that counts its runs in runs.txt and finishes its stage with one file."""
    return save(
        folder / f"{name}.ipynb",
        new_markdown_cell(f"# The stage {name}\n\nIt writes [a file](00_other.ipynb)."),
        parameters_cell(f"work_dir = ''\n{defaults}"),
        *cells,
        new_code_cell(STAGE.format(name=name, word=word)),
    )


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder for notebooks that the pipeline takes for its own."""
    path = tmp_path / "notebooks"
    path.mkdir()
    monkeypatch.setattr(pipeline, "NOTEBOOKS", path)
    return path


@pytest.fixture
def work_dir(tmp_path) -> Path:
    return tmp_path / "work dir"


def run(work_dir: Path, *more: str) -> int:
    """The exit code of the command line, which Python itself makes 1 of a text that it prints."""
    try:
        pipeline.main(["run", "--work-dir", str(work_dir), *more])
    except SystemExit as end:
        if isinstance(end.code, int):
            return end.code
        print(end.code, file=sys.stderr)
        return 1
    return 0


def runs(work_dir: Path) -> list[str]:
    return (work_dir / "runs.txt").read_text().splitlines()


def test_runs_in_order_skips_what_is_done_and_reruns_what_changed(folder, work_dir, capfd):
    stage(folder, "01_one", defaults="size = 1")
    stage(
        folder,
        "02_two",
        new_code_cell("import os, sys\nprint('python', sys.executable)\nprint('in', os.getcwd())"),
    )

    assert run(work_dir) == 0
    assert runs(work_dir) == ["01_one one", "02_two one"]
    shown = capfd.readouterr().out
    assert "[1/2] 01_one: The stage 01_one" in shown and "02_two: done in" in shown
    assert len(re.findall(r"^  \d+ s: \S", shown, re.M)) == 3 + 4, "the seconds of each notebook's cells"
    assert f"python {sys.executable}" in shown and f"in {runtime.REPOSITORY}" in shown
    assert shown.rstrip().endswith(f"report: {work_dir / 'report.html'}")
    assert sorted(path.name for path in (work_dir / "executed").iterdir()) == ["01_one.ipynb", "02_two.ipynb"]

    assert run(work_dir) == 0
    assert len(runs(work_dir)) == 2
    shown = capfd.readouterr().out
    assert "01_one: already done" in shown and "02_two: already done" in shown

    stage(folder, "02_two", word="changed")  # the cells changed
    assert run(work_dir) == 0
    assert runs(work_dir)[2:] == ["02_two changed"]

    assert run(work_dir, "-p", "size", "2") == 0  # a parameter changed, of the first notebook only
    assert runs(work_dir)[3:] == ["01_one one"]

    (work_dir / "02_two.txt").write_text("touched")  # a result changed
    assert run(work_dir, "--only", "02", "-p", "work_dir", "x") == 2
    assert run(work_dir, "--only", "02") == 0
    assert runs(work_dir)[4:] == ["02_two changed"]

    moved = work_dir.rename(work_dir.with_name("moved"))  # the same work in another place
    assert run(moved, "-p", "size", "2") == 0
    assert len(runs(moved)) == 5


def test_a_file_of_ones_own_that_was_exchanged_is_read_again(folder, work_dir, tmp_path):
    """A newer export under the same name was never read: the notebook was already done."""
    stage(folder, "01_one", defaults="source = 'sample'")
    mine, other = tmp_path / "mine.csv", tmp_path / "other.csv"
    mine.write_text("old")
    other.write_text("new")  # before the first run
    for _ in range(2):
        assert run(work_dir, "-p", "source", str(mine)) == 0
    assert len(runs(work_dir)) == 1
    other.rename(mine)
    for _ in range(2):
        assert run(work_dir, "-p", "source", str(mine)) == 0
    assert len(runs(work_dir)) == 2
    mine.unlink()  # what was read of it stands
    assert run(work_dir, "-p", "source", str(mine)) == 0
    assert len(runs(work_dir)) == 2


def test_refuses_what_it_cannot_do_before_anything_runs(folder, work_dir, capsys):
    stage(folder, "01_one", defaults="size = 1\nname = 'x'")
    stage(folder, "02_two", defaults="share = 0.5")

    assert run(work_dir, "-p", "sise", "2") == 2
    refused = capsys.readouterr().err
    assert (
        "sise" in refused
        and "01_one: work_dir, size, name" in refused
        and "02_two: work_dir, share" in refused
    )
    assert run(work_dir, "--only", "02", "-p", "size", "2") == 2
    assert "size" in capsys.readouterr().err
    assert run(work_dir, "-p", "work_dir", "elsewhere") == 2
    assert "--work-dir" in capsys.readouterr().err
    assert run(work_dir, "--only", "07") == 2
    assert "07" in capsys.readouterr().err
    assert run(work_dir, "-p", "share", "much") == 2
    assert "share much" in capsys.readouterr().err

    in_its_place = work_dir.with_name("file")
    in_its_place.write_text("")
    assert run(in_its_place) == 2
    assert str(in_its_place) in capsys.readouterr().err
    assert not (work_dir / "runs.txt").exists()


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([new_code_cell("work_dir = ''")], "0 cells tagged"),
        ([parameters_cell("work_dir = ''"), parameters_cell("b = 1")], "2 cells tagged"),
        ([parameters_cell("work_dir = ''\nsize = 2 * 512")], "only hold"),
        ([parameters_cell("import os\nwork_dir = ''")], "only hold"),
        ([parameters_cell("work_dir = ")], "only hold"),
    ],
)
def test_refuses_a_notebook_without_exactly_one_plain_parameters_cell(folder, work_dir, capsys, cells, words):
    save(folder / "01_one.ipynb", *cells)
    assert run(work_dir) == 2
    refused = capsys.readouterr().err
    assert "01_one.ipynb" in refused and words in refused


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("2e-4", 1e-3, 2e-4),  # YAML itself takes 2e-4 for a text
        ("-1", 30, -1),
        ("0.5", 1, 0.5),
        ("true", False, True),
        ("no", True, False),
        ("1", False, True),
        ("", "auto", ""),
        ("42", "a question", "42"),
        ("yes", "a question", "yes"),
        ("what: this?", "a question", "what: this?"),
        ("gemma3:4b", None, "gemma3:4b"),
        ("null", None, None),
        ("[a, b]", [], ["a", "b"]),
    ],
)
def test_reads_a_value_as_yaml_that_fits_the_default(text, default, value):
    found = pipeline.value_of("name", text, default)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("text", "default"), [("ture", False), ("many", 3), ("true", 3), ("[1", {})])
def test_refuses_a_value_that_does_not_fit_the_default(text, default):
    """`confirm_spend ture` would be a non-empty text, and so a yes."""
    with pytest.raises(ValueError, match=re.escape(f"name {text}: expected")):
        pipeline.value_of("name", text, default)


def test_a_parameter_that_would_never_reach_the_notebook_stops_it(folder, work_dir, capsys):
    """papermill replaces a leftover injected cell where it stands; above the defaults it has no effect."""
    save(
        folder / "01_one.ipynb",
        parameters_cell("size = 9", tag="injected-parameters"),
        parameters_cell("work_dir = ''\nsize = 1"),
        new_code_cell("open('/never', 'w')"),
    )
    assert run(work_dir, "-p", "size", "2") == 2
    assert "01_one.ipynb: delete the cell tagged `injected-parameters`" in capsys.readouterr().err
    assert not (work_dir / "executed").exists()


def test_a_failure_shows_the_cell_and_keeps_the_copy(folder, work_dir, capsys):
    stage(folder, "01_one")
    stage(folder, "02_two", new_code_cell("total = 1\ntotal / 0"))
    stage(folder, "03_three")
    assert run(work_dir) == 1
    shown = capsys.readouterr().err
    assert "    total = 1\n    total / 0" in shown and "ZeroDivisionError: division by zero" in shown
    assert "\x1b" not in shown and "unfinished_02_two.ipynb" in shown
    names = sorted(path.name for path in (work_dir / "executed").iterdir())
    assert names == ["01_one.ipynb", "unfinished_02_two.ipynb"]

    stage(folder, "02_two")
    assert run(work_dir) == 0
    assert runs(work_dir) == ["01_one one", "02_two one", "03_three one"]
    assert not (work_dir / "executed" / "unfinished_02_two.ipynb").exists()


def test_a_cell_that_takes_too_long_is_stopped(folder, work_dir, capsys):
    stage(folder, "01_one", new_code_cell("import time\ntime.sleep(60)"))
    began = time.monotonic()
    assert run(work_dir, "--timeout-minutes", "0.01") == 1
    assert time.monotonic() - began < 30
    shown = capsys.readouterr().err
    assert "--timeout-minutes" in shown and "time.sleep(60)" in shown


def test_a_kernel_that_dies_is_named(folder, work_dir, capsys):
    stage(folder, "01_one", new_code_cell("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"))
    assert run(work_dir) == 1
    shown = capsys.readouterr().err
    assert "memory" in shown and "os.kill" in shown
    assert [path.name for path in (work_dir / "executed").iterdir()] == ["unfinished_01_one.ipynb"]


def start(folder: Path, work_dir: Path, **environment: str) -> subprocess.Popen:
    """The command line in a process of its own, on the notebooks in `folder`."""
    code = (
        "import sys; from pathlib import Path; from helpers.pipeline import run as pipeline;"
        f"pipeline.NOTEBOOKS = Path({str(folder)!r});"
        f"pipeline.main(['run', '--work-dir', {str(work_dir)!r}])"
    )
    return subprocess.Popen(
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job ignores it
        args=[sys.executable, "-c", code],
        cwd=runtime.REPOSITORY,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
        start_new_session=True,
    )


def test_progress_is_seen_while_a_cell_runs_and_ctrl_c_loses_nothing(folder, work_dir):
    stage(folder, "01_one")
    says = "import os, sys, time\nprint('kernel', os.getpid())\nprint('half way', file=sys.stderr)"
    stage(folder, "02_two", new_code_cell(f"{says}\ntime.sleep(60)"))
    process = start(folder, work_dir)
    seen = []
    for line in process.stdout:
        seen.append(line)
        if "half way" in line:  # it can only come while the cell sleeps
            os.kill(process.pid, signal.SIGINT)
            break
    rest = process.stdout.read()
    assert process.wait(timeout=30) == 130
    assert "same command continues" in rest and "Traceback" not in rest
    kernel = next(int(line.split()[1]) for line in seen if line.startswith("kernel "))
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)
    names = sorted(path.name for path in (work_dir / "executed").iterdir())
    assert names == ["01_one.ipynb", "unfinished_02_two.ipynb"]

    stage(folder, "02_two")
    assert run(work_dir) == 0
    assert runs(work_dir) == ["01_one one", "02_two one"]


def test_a_python3_kernel_that_the_user_registered_is_not_taken(folder, work_dir, tmp_path):
    """It may be of another Python, which has none of the packages."""
    other = tmp_path / "home" / "kernels" / "python3"
    other.mkdir(parents=True)
    specification = {
        "argv": ["/no/such/python", "{connection_file}"],
        "display_name": "x",
        "language": "python",
    }
    (other / "kernel.json").write_text(json.dumps(specification))
    stage(folder, "01_one", new_code_cell("import sys\nprint('python', sys.executable)"))
    process = start(folder, work_dir, JUPYTER_DATA_DIR=str(tmp_path / "home"))
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    assert f"python {sys.executable}" in shown


SHOWS = """import pandas as pd
from IPython.display import HTML, Markdown, display
display(pd.DataFrame({"stars": [5, 1], "text": ["<b>good</b>", "bad"]}))
display(HTML("<script>alert(1)</script><i>kept</i>"))
display(Markdown("**strong**"))
print("\\x1b[31mred\\x1b[0m & plain")"""
PLOTS = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"


def test_the_report_holds_tables_pictures_texts_and_headline_scores(folder, work_dir, capsys):
    badge = new_markdown_cell(
        "[![Open](https://example.org/badge.svg)](https://example.org)\n\n## A part\n\nWhy.\n\n- More."
    )
    stage(folder, "06_evaluate", badge, new_code_cell(SHOWS), new_code_cell(PLOTS))
    work_dir.mkdir()
    base, tuned = (
        {"answer_loss": 4.91, "rouge_l": 0.05, "chrf": 8.3},
        {"answer_loss": 2.76, "rouge_l": 0.24, "chrf": 31.9},
    )
    (work_dir / "evaluation.json").write_text(json.dumps({"count": 60, "base": base, "tuned": tuned}))
    (work_dir / "training.json").write_text(
        json.dumps({"model_name": "tiny/model", "steps": 30, "seconds": 75})
    )
    assert run(work_dir) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "held-out answer loss  base 4.91  tuned 2.76  44 % lower" in shown
    assert "ROUGE-L  base 0.05  tuned 0.24" in shown and "chrF  base 8.3  tuned 31.9" in shown

    page = (work_dir / "report.html").read_text()
    assert (
        '<section id="06_evaluate">\n<h2>The stage 06_evaluate</h2>' in page and 'href="#06_evaluate"' in page
    )
    assert "<h3>A part</h3>\n<p>Why.</p>\n<ul>\n<li>More.</li>" in page
    assert "<h1>The stage" not in page and "<p>It writes a file.</p>" in page
    assert (
        "<td>&lt;b&gt;good&lt;/b&gt;</td>" in page
        and "<i>kept</i>" in page
        and "<strong>strong</strong>" in page
    )
    assert 'src="data:image/png;base64,iVBOR' in page
    assert "red &amp; plain" in page and "\x1b" not in page
    assert "44 % lower" in page and "tiny/model · 30 steps · trained in 1 min 15 s" in page
    assert "judged on 60 held-out questions" in page
    for outside in ("<script", "badge.svg", 'href="00_other.ipynb"', 'src="http', "url(", "@import", "<link"):
        assert outside not in page


def test_scores_of_another_adapter_are_not_shown_and_the_notebook_to_run_is_named(tmp_path):
    """The page showed the scores of an adapter that had since been trained anew."""
    scores = {"answer_loss": 4.0, "rouge_l": 0.1, "chrf": 8.3}
    evaluation = {"count": 60, "base": scores, "tuned": scores}
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "weights").write_text("one")
    adapter = files.fingerprint(tmp_path / "adapter")
    files.write_json(tmp_path / "evaluation.json", evaluation | {"adapter": adapter})
    assert len(report.headline(tmp_path)) == 3 and "No scores" not in report.write(tmp_path).read_text()
    (tmp_path / "adapter" / "weights").write_text("two")
    page = report.write(tmp_path).read_text()
    assert 'class="score"' not in page and "judged on" not in page and report.headline(tmp_path) == []
    assert (
        "No scores: evaluation.json is about another adapter" in page and "run notebook 06_evaluate" in page
    )


def test_the_report_of_no_evaluation_has_no_scores(tmp_path):
    page = report.write(tmp_path).read_text()
    assert 'class="score"' not in page and report.headline(tmp_path) == []


def test_clean_keeps_what_reads_well_and_drops_what_differs(tmp_path):
    work_dir = tmp_path / "w"
    bar = new_output("stream", name="stdout", text="\r 10%|#")
    executed = new_notebook(
        metadata={
            "papermill": {"duration": 1},
            "widgets": {"x": 1},
            "accelerator": "GPU",
            "language_info": {"name": "python", "version": "3"},
        },
        cells=[
            parameters_cell("work_dir = ''"),
            parameters_cell(f"work_dir = {str(work_dir)!r}", tag="injected-parameters"),
            new_code_cell(
                "go()",
                execution_count=7,
                metadata={
                    "tags": [],
                    "papermill": {},
                    "execution": {"iopub.execute_input": "2026"},
                },
                outputs=[
                    new_output("stream", name="stdout", text=f"saved {work_dir}/a.txt, not {work_dir}ork\n"),
                    bar,
                    new_output("stream", name="stderr", text="warning"),
                    new_output("stream", name="stdout", text="\r100%|##\nafter\n"),
                    new_output("display_data", data={notebooks.WIDGET: {}, "text/plain": "HBox()"}),
                    new_output("display_data", data={"image/png": "aGk=", "text/html": f"<b>{work_dir}</b>"}),
                    new_output("execute_result", data={"text/plain": "1"}, execution_count=7),
                ],
            ),
        ],
    )
    source, target = tmp_path / "in.ipynb", tmp_path / "out.ipynb"
    nbformat.write(executed, source)
    notebooks.main(source, target, work_dir)
    cleaned = notebooks.read(target)
    nbformat.validate(cleaned)

    assert [cell.id for cell in cleaned.cells] == [executed.cells[0].id, executed.cells[2].id]
    assert set(cleaned.metadata) == {"accelerator", "kernelspec", "language_info"}
    assert cleaned.metadata.kernelspec.name == "python3"
    cell = cleaned.cells[1]
    assert cell.execution_count is None and cell.metadata == {}
    text, picture, result = cell.outputs
    assert text.text == f"saved work_dir/a.txt, not {work_dir}ork\nafter\n"
    assert picture.data == {"image/png": "aGk=", "text/html": "<b>work_dir</b>"}
    assert result.execution_count is None
    assert str(work_dir) + "/" not in target.read_text()
    assert notebooks.clean(cleaned) == cleaned
    assert len(executed.cells) == 3, "the notebook given stays as it was"


def test_parameters_of_a_notebook(tmp_path):
    path = save(tmp_path / "a.ipynb", parameters_cell("a = -1  # why\nb = '#1'\nc = [1, None]\nd = 2e-4"))
    assert notebooks.parameters(path) == {"a": -1, "b": "#1", "c": [1, None], "d": 2e-4}
