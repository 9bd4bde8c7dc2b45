import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.core import runtime, workdir

REPOSITORY = runtime.REPOSITORY


def test_the_work_dir_is_made(tmp_path):
    assert workdir.open_work_dir(str(tmp_path / "a" / "b")).is_dir()


def test_a_work_dir_that_cannot_be_written_is_named_with_the_fix():
    with pytest.raises(
        PermissionError, match="'/proc/nowhere' cannot be written: .*; set the parameter work_dir"
    ):
        workdir.open_work_dir("/proc/nowhere")


def test_a_file_in_the_place_of_the_work_dir_is_named(tmp_path):
    (tmp_path / "work").write_text("")
    with pytest.raises(PermissionError, match="work' cannot be written: File exists"):
        workdir.open_work_dir(str(tmp_path / "work"))


def test_a_secret_comes_from_the_environment_then_from_dotenv(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(runtime.MissingSecret, match=r"OPENAI_API_KEY is not set.*\.env"):
        runtime.secret("OPENAI_API_KEY")
    (tmp_path / ".env").write_text("# keys\nexport OPENAI_API_KEY='from-file'\n")
    assert runtime.secret("OPENAI_API_KEY") == "from-file"
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    assert runtime.secret("OPENAI_API_KEY") == "from-environment"


@pytest.mark.parametrize("key", ["sk-one\nsk-one", "sk-one…", "sk one", "sk-\x7fone"])
def test_what_can_be_no_key_is_refused_without_showing_it(monkeypatch, key):
    """The clients of OpenAI and the Hub say `Illegal header value b'Bearer …'`, with the key in it."""
    monkeypatch.setenv("OPENAI_API_KEY", f" {key}\n")
    with pytest.raises(runtime.MissingSecret, match="OPENAI_API_KEY holds a space or another sign") as caught:
        runtime.secret("OPENAI_API_KEY")
    assert "sk" not in str(caught.value)


def test_the_dotenv_beside_the_repository_is_found_from_another_folder(tmp_path, monkeypatch):
    """`make lab` starts kernels in notebooks/, where the .env of the repository was not looked for."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / ".env").write_text("OPENAI_API_KEY=from-the-repository\n")
    monkeypatch.setattr(runtime, "REPOSITORY", tmp_path)
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert runtime.secret("OPENAI_API_KEY") == "from-the-repository"


def test_the_default_work_dir_says_why(capsys, monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    assert workdir.default_work_dir() == REPOSITORY / "work"
    assert "stays on this machine's disk" in capsys.readouterr().out
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    assert workdir.default_work_dir() == Path("/content/work")
    assert "DISCONNECT DELETES IT" in capsys.readouterr().out


@pytest.fixture
def gpu(monkeypatch):
    """A stand-in for a CUDA GPU of a given name and compute capability, under a torch built for some kernels."""
    import torch

    def make(name, capability, kernels):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: kernels)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (14 * 2**30, 15 * 2**30))

    return make


KERNELS = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90a", "sm_100", "sm_120"]


@pytest.mark.parametrize(
    "name, capability", [("Tesla T4", (7, 5)), ("L4", (8, 9)), ("H200", (9, 0)), ("B200", (10, 0))]
)
def test_a_gpu_with_kernels_is_taken(gpu, name, capability):
    gpu(name, capability, KERNELS)
    found = runtime.device()
    assert (found.kind, found.name, found.capability, found.memory_gib) == ("cuda", name, capability, 14.0)


def test_kaggles_p100_is_refused_with_the_click(gpu):
    gpu("Tesla P100-PCIE-16GB", (6, 0), KERNELS)
    with pytest.raises(RuntimeError, match=r"P100.*sm_60.*no kernels.*switch to GPU T4 x2"):
        runtime.device()


def test_a_full_disk_is_named_before_anything_starts(monkeypatch):
    monkeypatch.setattr(runtime, "LEAST_DISK_GIB", 1e9)
    with pytest.raises(OSError, match="GiB of disk left"):
        runtime.device()


def test_whether_checkpoints_outlive_the_runtime(monkeypatch, tmp_path):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    assert workdir.survives(tmp_path)[0]
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    safe, why = workdir.survives(tmp_path)
    assert not safe and "click Mount Drive" in why
    assert workdir.survives(Path("/content/drive/MyDrive/work"))[0]


def test_light_stages_import_nothing_heavy():
    """On a laptop, `import` of what collects, cleans and asks is instant."""
    rooms = ("core", "collect", "clean", "ask")
    paths = [path for room in rooms for path in sorted((REPOSITORY / "helpers" / room).glob("*.py"))]
    modules = [f"helpers.{path.parent.name}.{path.stem}" for path in paths] + ["helpers.train.checkpoints"]
    heavy = {"torch", "transformers", "datasets", "unsloth", "peft", "trl", "matplotlib", "pandas"}
    code = f"""
import importlib, sys
for module in {modules}:
    importlib.import_module(module)
    if heavy := sorted({heavy} & set(sys.modules)):
        sys.exit(f"{{module}} imports {{heavy}}")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("given, taken", [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_torchs_threads_wait_awake_for_a_moment(given, taken):
    """They slept at once, and each small step of a training waited for them to wake up; said by libgomp itself."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    env |= {"OMP_DISPLAY_ENV": "VERBOSE"} | given
    command = [sys.executable, "-c", "import helpers.core.runtime, torch"]
    said = subprocess.run(
        command, env=env, cwd=runtime.REPOSITORY, check=True, capture_output=True, text=True
    ).stderr
    assert f"GOMP_SPINCOUNT = '{taken}'" in said
