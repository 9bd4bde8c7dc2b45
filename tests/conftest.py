"""What the tests share: offline mode, a tiny random Gemma 3 with a small tokenizer, the real 270M."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from tests import kernels

REPOSITORY = Path(__file__).resolve().parent.parent
ALL = bool(os.environ.get("ALL"))  # make test-all: the proofs in their full size
sys.path.insert(0, str(REPOSITORY))
os.environ["HF_HUB_OFFLINE"] = "1"

whole = pytest.mark.skipif(not ALL, reason="in full: make test-all")


@pytest.fixture(scope="session", autouse=True)
def kernels_are_quick():
    kernels.environment()
    with (
        mock.patch("jupyter_client.AsyncKernelManager", kernels.KernelManager),  # where nbclient takes it
        mock.patch("jupyter_client.provisioning.local_provisioner.launch_kernel", kernels.launch),
    ):
        yield


@pytest.fixture(scope="session")
def tokenizer():
    from benchmarks.machine import tiny_tokenizer

    return tiny_tokenizer()


@pytest.fixture(scope="session")
def tiny_gemma(tmp_path_factory, tokenizer) -> Path:
    """A folder with a random Gemma 3 of two layers, which trains in a second a step."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        sliding_window=64,
        eos_token_id=[1, 5],
        bos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,  # tied and random, it would only repeat the last token
    )
    folder = tmp_path_factory.mktemp("tiny-gemma")
    Gemma3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tuned(tiny_gemma):
    """The tiny Gemma with an adapter that changes its answers, and its tokenizer; it never ends by itself."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    from helpers.train import models

    set_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_gemma), config)
    tokenizer = AutoTokenizer.from_pretrained(tiny_gemma)
    model.generation_config.suppress_tokens = models.stop_ids(tokenizer)
    return model, tokenizer


@pytest.fixture(scope="session")
def real_gemma() -> Path:
    """The folder of the real Gemma 3 270M, built into the cache if it is not there."""
    from helpers.train import local_gemma

    return local_gemma.path()


@pytest.fixture(scope="module")  # not the session: while it is open, no test can start an event loop
def browser():
    """Chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    from tests.browser import ONE_COMMAND, find

    if not (found := find()):
        pytest.fail(f"this test needs Chromium: {ONE_COMMAND}, or set CHROMIUM to its path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def spawn():
    """spawn(program, *arguments, cwd=…, NAME=value): a Python process with that environment, killed at the end."""
    started = []

    def spawn(
        program: str, *arguments: object, cwd: Path = REPOSITORY, **environment: str
    ) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            cwd=cwd,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield spawn
    for process in started:
        process.kill()
        process.wait()
