"""Where am I: the platform, secrets, the work folder and the device, each choice with its reason.

It detects and explains; it installs nothing and changes no setting.
"""

from __future__ import annotations

import os
import platform as _platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DRIVE = Path("/content/drive/MyDrive")
KAGGLE_INPUT = Path("/kaggle/input")
GIB = 2**30
LEAST_DISK_GIB = 1.0  # two checkpoints, an adapter and the outputs of all notebooks

CLICKS = {
    "colab": "open the key symbol (Secrets) on the left, add {name}, and switch on 'Notebook access'",
    "kaggle": "open Add-ons > Secrets, add {name}, and tick it for this notebook",
    "headless": "no Colab page is open to answer, so set {name} in the environment of the command that runs this",
    "offline": "open Settings > Turn on internet, then Add-ons > Secrets, add {name}, and tick it for this notebook",
    "local": "put {name}=… into the file .env in the folder you start from, or export it",
}


class MissingSecret(LookupError):
    """A key that this step needs was found nowhere; the message says where to put it."""


def platform() -> tuple[str, str]:
    """`colab`, `kaggle` or `local`, and how it was recognised."""
    if os.environ.get("COLAB_RELEASE_TAG"):
        return "colab", "COLAB_RELEASE_TAG is set"
    if os.environ.get("KAGGLE_KERNEL_RUN_TYPE") and Path("/kaggle/working").is_dir():
        return "kaggle", "KAGGLE_KERNEL_RUN_TYPE is set and /kaggle/working exists"
    return "local", "neither Colab's nor Kaggle's variables are set"


def secret(name: str) -> str:
    """A key such as OPENAI_API_KEY: from the environment, the platform's secrets page, or `.env`.

    The environment comes first because asking Colab's page blocks for 10 seconds when no page is open, as under
    papermill. Raises MissingSecret, which names the click. The value is never printed or stored.
    """
    where, _ = platform()
    value, click = os.environ.get(name), where
    if not value:
        value, click = _from_page(where, name)
    value = value or _from_dotenv(name)
    if not value:
        raise MissingSecret(f"{name} is not set. To set it: {CLICKS[click].format(name=name)}.")
    return value.strip()


def _from_page(where: str, name: str) -> tuple[str | None, str]:
    """The value that the platform's secrets page holds, and which of CLICKS helps where it is None."""
    if where == "colab":
        from google.colab import userdata
        from IPython import get_ipython

        if get_ipython() is None:  # a plain Python process has no way to the page, and userdata breaks there
            return None, "headless"
        try:
            return userdata.get(name), where
        except userdata.TimeoutException:
            return None, "headless"
        except (userdata.SecretNotFoundError, userdata.NotebookAccessError):
            return None, where
    if where == "kaggle":
        from kaggle_secrets import UserSecretsClient, ValidationError
        from kaggle_web_client import BackendError, CredentialError

        try:
            return UserSecretsClient().get_secret(name), where
        except ConnectionError:
            return None, "offline"
        except (BackendError, CredentialError, ValidationError):
            return None, where
    return None, where


def _from_dotenv(name: str) -> str | None:
    dotenv = Path(".env")
    if not dotenv.is_file():
        return None
    for line in dotenv.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition("=")
        if key.removeprefix("export ").strip() == name:
            return value.strip().strip("'\"")
    return None


def default_work_dir() -> Path:
    """The folder where results outlive this runtime, as far as the platform has one; prints why."""
    where, _ = platform()
    if where == "colab" and DRIVE.is_dir():
        folder, why = DRIVE / "gemma-from-reviews", "Google Drive survives a disconnect"
    elif where == "colab":
        folder, why = (
            Path("/content/work"),
            "Drive is not mounted: A DISCONNECT DELETES IT, and another tab cannot see it. Files panel > Mount Drive",
        )
    elif where == "kaggle":
        folder, why = (
            Path("/kaggle/working"),
            "Save Version keeps it, and Add Input > Your Work brings it along",
        )
    else:
        folder, why = REPOSITORY / "work", "a folder in this repository, ignored by git"
    print(f"work_dir = {folder} ({why})")
    return folder


def open_work_dir(work_dir: str) -> Path:
    """The notebook's `work_dir` parameter as a folder that can be written; "" means the default.

    Raises PermissionError or NotADirectoryError that names the folder and the fix.
    """
    folder = Path(work_dir).expanduser() if work_dir else default_work_dir()
    fix = f"work_dir = {str(folder)!r} cannot be written; set the parameter work_dir to a folder of yours"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(f"{fix} (a file is in its place)") from None
    except OSError as error:
        raise PermissionError(f"{fix} ({error.strerror})") from None
    bring(folder)
    return folder


def bring(folder: Path) -> None:
    """Copy into `folder` what earlier notebooks left elsewhere and `folder` lacks; says from where.

    That is a Kaggle output attached with Add Input, and the private Hub data set that WORK_REPO names.
    """
    # Three levels deep, and not all of a large data set:
    attached = (KAGGLE_INPUT.glob("*/" * depth + "manifests") for depth in (1, 2, 3))
    sources = sorted(path.parent for paths in attached for path in paths)
    if os.environ.get("WORK_REPO"):
        from helpers import work_repo

        sources.append(work_repo.fetch())
    for source in sources:
        brought = []
        for file in sorted(file for file in source.rglob("*") if file.is_file()):
            target = folder / file.relative_to(source)
            if not target.exists() and not target.name.startswith("."):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
                brought.append(file)
        if brought:
            print(f"{len(brought)} files of earlier notebooks come from {source}")


def survives(folder: Path) -> tuple[bool, str]:
    """Whether what is written to `folder` outlives this runtime, and the click that helps where it does not."""
    where, _ = platform()
    if where == "colab" and not folder.resolve().is_relative_to("/content/drive"):
        return False, (
            "this folder is lost with Colab's runtime. Open the folder symbol on the left, click Mount Drive, and "
            "run the notebook again from the top; or set WORK_REPO, and checkpoint_repo in notebook 05"
        )
    if where == "kaggle" and not folder.resolve().is_relative_to("/kaggle/working"):
        return False, "Kaggle keeps /kaggle/working only: leave work_dir empty, or set WORK_REPO"
    kept = {
        "colab": "Google Drive keeps it when the runtime ends",
        "kaggle": "Kaggle keeps /kaggle/working when you press Save Version, or with Persistence: Files only",
        "local": "it stays on this machine's disk",
    }
    return True, kept[where]


@dataclass(frozen=True)
class Device:
    """What the model runs on. `memory_gib` is the free GPU memory, or the free RAM without a GPU."""

    kind: str
    name: str
    memory_gib: float
    disk_gib: float
    why: str
    capability: tuple[int, int] = (0, 0)  # CUDA compute capability


def device(work_dir: Path = Path()) -> Device:
    """The device torch will use, its free memory and the free disk of `work_dir`, in GiB.

    Raises RuntimeError for a GPU that the installed torch has no kernels for, as Kaggle's P100, and OSError
    when the disk is nearly full.
    """
    import psutil
    import torch

    disk = shutil.disk_usage(work_dir).free / GIB
    if disk < LEAST_DISK_GIB:
        raise OSError(
            f"{work_dir} has {disk:.1f} GiB of disk left, under {LEAST_DISK_GIB}: free some or move work_dir"
        )
    if torch.cuda.is_available():
        name, (major, minor) = torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0)
        # Kernels for sm_86 also run on sm_89, but none for another major number do.
        kernels = [int(arch.rstrip("af").partition("_")[2]) for arch in torch.cuda.get_arch_list()]
        if not any(10 * major <= kernel <= 10 * major + minor for kernel in kernels):
            raise RuntimeError(
                f"{name} (sm_{major}{minor}) does not work: torch {torch.__version__} has no kernels for it. On "
                "Kaggle, open Settings > Accelerator and switch to GPU T4 x2; elsewhere, choose a newer GPU."
            )
        free, _ = torch.cuda.mem_get_info()
        return Device("cuda", name, free / GIB, disk, "torch sees a CUDA GPU", (major, minor))
    name = f"{_platform.machine()} CPU, {torch.get_num_threads()} threads"
    return Device("cpu", name, psutil.virtual_memory().available / GIB, disk, "torch sees no GPU")


def versions(**why: str) -> list[dict]:
    """One row a package: its installed version and the reason this notebook needs it."""
    python = {"package": "python", "version": sys.version.split()[0], "used for": "everything"}
    return [python] + [
        {"package": name, "version": version(name.replace("_", "-")), "used for": reason}
        for name, reason in why.items()
    ]
