"""What the first cell of every notebook runs: it makes `helpers` importable and, on Colab and Kaggle, installs.

There it runs colab_setup.sh, shows what that prints, and sets what must stand before `import torch`. RuntimeError has
the script's last line, the click that helps. At home nothing is installed: `make setup` does that, once.
"""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent
RESTART = "GEMMA_RESTART_FIRST"  # goes with this kernel: a rerun without the restart must not go on
SETTINGS = {
    "CUDA_VISIBLE_DEVICES": "0",  # of Kaggle's T4 x2, Unsloth uses one
    "UNSLOTH_COMPILE_LOCATION": "/tmp/unsloth_compiled_cache",  # in work_dir, another version would meet it again
    "HF_HUB_CACHE": "/tmp/huggingface",  # Kaggle's large disk; /kaggle/working is for results
}


def install() -> None:
    loaded = " ".join(sorted({name.partition(".")[0] for name in sys.modules}))
    environment = os.environ | {"PYTHON": sys.executable, "LOADED": loaded}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    line = "it printed nothing"
    with subprocess.Popen(["bash", REPOSITORY / "colab_setup.sh"], env=environment, **streams) as script:
        for line in script.stdout:
            print(line, end="", flush=True)
    if script.returncode == 3:
        os.environ[RESTART] = line.strip()
    if script.returncode:
        raise RuntimeError(line.strip())


if str(REPOSITORY) not in sys.path:
    sys.path.insert(0, str(REPOSITORY))
if os.environ.get("COLAB_RELEASE_TAG") or os.environ.get("KAGGLE_KERNEL_RUN_TYPE"):
    if RESTART in os.environ:
        raise RuntimeError(os.environ[RESTART])
    install()
    os.environ.update(SETTINGS | os.environ)
    import helpers.core.runtime  # noqa: F401 - which sets what torch reads when it is imported
