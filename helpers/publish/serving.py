"""Serve a GGUF file with llama.cpp's own server, which speaks OpenAI's API (stage 08).

    with serving.serve(work_dir / "publish" / "gguf" / "model-q8_0.gguf") as address:
        openai.OpenAI(base_url=f"{address}/v1", api_key="none")...

It is for one person on one machine: it listens on 127.0.0.1 and asks for no key.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serve(gguf: Path, context: int = 2048, parallel: int = 1) -> Iterator[str]:
    """Load `gguf` into a llama.cpp server in this process, and yield its address.

    `context` is in tokens and for each of the `parallel` conversations. Raises ModuleNotFoundError that
    names the package, and RuntimeError when llama.cpp cannot load the file.
    """
    try:
        import xllamacpp
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "llama.cpp's server comes with a package: pip install xllamacpp==2026.10.11549"
        ) from None
    params = xllamacpp.CommonParams()
    params.model.path, params.port = str(gguf), 0
    params.n_ctx, params.n_parallel = context * parallel, parallel
    params.use_jinja, params.warmup = True, False
    params.verbosity = 1  # errors; at its default of 3 it prints six lines for every answer
    server = xllamacpp.Server(params)
    yield server.listening_address
    del server
