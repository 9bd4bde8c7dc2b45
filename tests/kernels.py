"""The tests' kernels: on files instead of ports, and forked from a process that has imported what they will import.

A fresh kernel of a training notebook imports Unsloth for 14 s, and one that begins from the sample asks the quality
gate for 8 s. In `make test`, where OMP_NUM_THREADS is 1, so that no thread can be lost in a fork, kernels in the
repository's folder are copies of one process per worker that has done both, or, where PLAIN is set, of one that has
imported TRL as notebook 09 does, without Unsloth, which changes it. All others are fresh: those of `make test-all`,
those of other folders, and those whose environment says something else of what is read at import.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from functools import cache
from pathlib import Path

import jupyter_client
import traitlets
from jupyter_client.provisioning import local_provisioner

REPOSITORY = str(Path(__file__).resolve().parent.parent)
READ_AT_IMPORT = (
    "HF_",
    "HUGGING",
    "TRANSFORMERS",
    "UNSLOTH",
    "TORCH",
    "CUDA",
    "OMP",
    "PYTHON",
    "PATH",
    "HOME",
    "COLAB",
    "KAGGLE",
)
PLAIN = "KERNELS_WITHOUT_UNSLOTH"
fresh_kernel = local_provisioner.launch_kernel


class KernelManager(jupyter_client.AsyncKernelManager):
    """A TCP port that was free may be taken, by another worker, before the kernel binds it; no file can."""

    transport = traitlets.Unicode("ipc")

    @traitlets.default("ip")
    def _name_of_its_sockets(self) -> str:
        return f"{tempfile.gettempdir()}/kernel-{uuid.uuid4().hex}"


class Forked:
    """What jupyter_client uses of a subprocess.Popen, for a process that is a child of another."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int):
        self.pid = pid

    def poll(self) -> int | None:
        return None if Path(f"/proc/{self.pid}").exists() else 0

    wait = poll

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    terminate = kill


def launch(command: list[str], env: dict[str, str], **options):
    """A kernel: forked where that makes no difference, else a fresh process."""
    if os.environ.get("OMP_NUM_THREADS") != "1" or str(options.get("cwd") or Path.cwd()) != REPOSITORY:
        return fresh_kernel(command, env=env, **options)
    original, own = _original(PLAIN in env)
    said = [
        {name: value for name, value in one.items() if name.startswith(READ_AT_IMPORT) and name not in own}
        for one in (env, environment())
    ]
    if said[0] != said[1]:
        return fresh_kernel(command, env=env, **options)
    original.stdin.write(json.dumps([command[command.index("-m") + 2 :], env]) + "\n")
    original.stdin.flush()
    return Forked(int(original.stdout.readline()))


def start_up(patch, folder: Path, source: str) -> None:
    """Kernels, forked ones too, run `source` before their first cell, by IPython's start-up files in `folder`."""
    place = folder / "profile_default" / "startup"
    place.mkdir(parents=True)
    (place / "first.py").write_text(f"import sys; sys.path.append({REPOSITORY!r})\n{source}\n")
    patch.setenv("IPYTHONDIR", str(folder))


@cache
def environment() -> dict[str, str]:
    """As it is before a test changes it, if it is asked for before."""
    return dict(os.environ)


@cache
def _original(plain: bool) -> tuple[subprocess.Popen, set[str]]:
    """The process that is copied, and what Unsloth's import adds to its environment: a test's process may have it."""
    command = [sys.executable, "-m", "tests.kernels", *[PLAIN] * plain]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment(), start_new_session=True, **pipes)
    return process, set(json.loads(process.stdout.readline()))


def serve() -> None:
    """Import what the notebooks import; then a kernel for each line of stdin, and its process id as a line."""
    answers, given = os.fdopen(os.dup(1), "w"), set(os.environ)
    os.dup2(2, 1)  # what is printed goes where a kernel's own output goes
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # before matplotlib is imported
    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # a kernel ends when it has lost its parent
    if PLAIN not in sys.argv:
        import unsloth  # noqa: F401  # before the others, as in the notebooks

        from helpers.train import data

        data.sample()
    import trl  # noqa: F401
    from ipykernel import kernelapp

    print(json.dumps(sorted(set(os.environ) - given)), file=answers, flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system buries them
    for line in sys.stdin:
        arguments, env = json.loads(line)
        if pid := os.fork():
            os.setpgid(pid, pid)
            print(pid, file=answers, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.clear()
        os.environ.update(env)
        sys.path[:] = [path for path in sys.path if path != REPOSITORY]
        kernelapp.launch_new_instance(arguments)
        os._exit(0)


if __name__ == "__main__":
    serve()
