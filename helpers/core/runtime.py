"""Where am I: the platform, secrets and the device, each choice with its reason."""

import os
import platform as _platform
import shutil
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from helpers.core import files

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLES = REPOSITORY / "helpers" / "samples"
PLATFORMS = files.read_json(Path(__file__).with_name("platforms.json"))  # where keys go, what is kept
LEAST_DISK_GIB = 1.0  # two checkpoints, an adapter and the outputs of all notebooks
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch, which spins: benchmarks/waiting.json
warnings.filterwarnings("ignore", "IProgress not found")  # tqdm's, in JupyterLab: its bars of text will do


def bfloat16_pays() -> bool:
    """Whether this processor is faster in bfloat16 than in float32: with AMX, on Arm, on an AMD (docs/evidence.md)."""
    known = Path("/proc/cpuinfo")
    words = set(known.read_text().split()) if known.exists() else set()
    return bool(words & {"amx_bf16", "bf16"}) or {"avx512_bf16", "AuthenticAMD"} <= words


os.environ.setdefault("UNSLOTH_CPU_BF16", str(int(bfloat16_pays())))  # or unsloth goes by the flags alone


class MissingSecret(LookupError):
    """A key that this step needs was found nowhere, or can be none; the message says where to put it."""


def platform() -> str:
    """`colab`, `kaggle` or `local`, by the variables that each platform sets."""
    kaggle = os.environ.get("KAGGLE_KERNEL_RUN_TYPE") and Path("/kaggle/working").is_dir()
    return "colab" if os.environ.get("COLAB_RELEASE_TAG") else "kaggle" if kaggle else "local"


def secret(name: str) -> str:
    """A key from the environment, the platform's secrets page or `.env`; MissingSecret names the click."""
    where = platform()  # the environment comes first: without an open page, Colab's blocks for 10 seconds
    places = filter(Path.is_file, (Path(".env"), REPOSITORY / ".env"))  # a kernel may stand in notebooks/
    lines = (line for path in places for line in path.read_text("utf-8").splitlines())
    pairs = (line.removeprefix("export ").partition("=") for line in lines)
    dotenv = (value.strip().strip("'\"") for key, _, value in pairs if key.strip() == name)
    key = (os.environ.get(name) or _from_page(where, name) or next(dotenv, "")).strip()
    if key.split() == [key] and key.isascii() and key.isprintable():  # a client shows any other in its error
        return key
    problem = "holds a space or another sign that no key has" if key else "is not set"
    raise MissingSecret(f"{name} {problem}. To set it: {PLATFORMS[where]['secret'].format(name=name)}.")


def _from_page(where: str, name: str) -> str | None:
    if where == "colab":
        from google.colab import userdata
        from IPython import get_ipython

        silent = userdata.TimeoutException, userdata.SecretNotFoundError, userdata.NotebookAccessError
        with suppress(*silent):  # a plain Python process has no way to the page, and userdata breaks there
            return userdata.get(name) if get_ipython() else None
    if where == "kaggle":
        from kaggle_secrets import UserSecretsClient, ValidationError
        from kaggle_web_client import BackendError, CredentialError

        with suppress(ConnectionError, BackendError, CredentialError, ValidationError):
            return UserSecretsClient().get_secret(name)


class Device(NamedTuple):
    """What the model runs on. `memory_gib` is the free GPU memory, or the free RAM without a GPU."""

    kind: str
    name: str
    memory_gib: float
    disk_gib: float
    why: str
    capability: tuple[int, int] = (0, 0)  # CUDA compute capability


def device(work_dir: Path = Path()) -> Device:
    """Torch's device and `work_dir`'s free disk; RuntimeError for a GPU without kernels, OSError."""
    import psutil
    import torch

    disk = shutil.disk_usage(work_dir).free / 2**30
    if disk < LEAST_DISK_GIB:
        raise OSError(f"{work_dir} has {disk:.1f} GiB of disk left: free some or choose another work_dir")
    if not torch.cuda.is_available():
        name = f"{_platform.machine()} CPU, {torch.get_num_threads()} threads"
        return Device("cpu", name, psutil.virtual_memory().available / 2**30, disk, "torch sees no GPU")
    name, (major, minor) = torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0)
    # Kernels for sm_86 also run on sm_89, but none for another major number do.
    kernels = [int(arch.rstrip("af").partition("_")[2]) for arch in torch.cuda.get_arch_list()]
    if not any(10 * major <= kernel <= 10 * major + minor for kernel in kernels):
        what = f"{name} (sm_{major}{minor}) does not work: torch {torch.__version__} has no kernels for it"
        raise RuntimeError(f"{what}. On Kaggle, open Settings > Accelerator and switch to GPU T4 x2")
    memory = torch.cuda.mem_get_info()[0] / 2**30
    return Device("cuda", name, memory, disk, "torch sees a CUDA GPU", (major, minor))
