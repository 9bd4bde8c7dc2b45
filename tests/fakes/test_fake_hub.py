"""The fake Hub against the real clients: what goes up comes down again, and troubles end as on the Hub."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfFileSystem, _upload_large_folder
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import _http

from tests.conftest import REPOSITORY
from tests.fakes.hub import FakeHub

WEIGHTS = bytes(range(256)) * 2000
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),  # huggingface_hub's own calls
    pytest.mark.filterwarnings("ignore:(?s).*`upload_large_folder` is DEPRECATED:FutureWarning"),
]
FILES = {
    "README.md": "---\nlicense: mit\n---\nCafé ☕\n".encode(),
    "config.json": b"{}",
    "empty.bin": b"",
    "notes/long.txt": b"0123456789" * 1024**2 + b"!",  # more than 10 MiB: LFS because of its size
    "notes/a b#?.txt": b"odd name",
    "weights.safetensors": WEIGHTS,
}
NAME = "someone/gemma"


@pytest.fixture
def hub():
    with FakeHub() as hub:
        yield hub


@pytest.fixture
def api(hub, monkeypatch):
    return hub.api(monkeypatch)


@pytest.fixture
def sleeps(monkeypatch) -> list[float]:
    """The seconds that the client would have slept between its tries."""
    slept = []
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=slept.append))
    return slept


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "folder"


def without_attributes(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name != ".gitattributes"}


def on_disk(folder: str | Path) -> dict[str, bytes]:
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return without_attributes({str(path.relative_to(folder)): path.read_bytes() for path in paths})


def run(code: str, hub: FakeHub, tmp_path: Path) -> str:
    """What a program prints whose libraries take the fake for the Hub."""
    variables = os.environ | hub.environment(tmp_path / "home")
    done = subprocess.run([sys.executable, "-c", code], env=variables, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_folder_comes_back_byte_for_byte(hub, api, folder, tmp_path, kind):
    of = {"repo_id": NAME, "repo_type": kind}
    api.create_repo(**of, private=True)
    made = api.upload_folder(**of, folder_path=folder, commit_message="First")
    repo = hub.repos[f"{kind}s/{NAME}"]
    assert without_attributes(repo.files) == FILES
    assert repo.commits[-1].id == made.oid and repo.commits[-1].message == "First"
    by_lfs = {path for operation, path in repo.commits[-1].operations if operation == "lfsFile"}
    assert by_lfs == {"weights.safetensors", "notes/long.txt"}
    assert hub.lfs_received == len(WEIGHTS) + len(FILES["notes/long.txt"])
    assert on_disk(api.snapshot_download(**of, cache_dir=tmp_path / "cache")) == FILES
    assert on_disk(api.snapshot_download(**of, cache_dir=tmp_path / "by id", revision=made.oid)) == FILES
    for name, data in FILES.items():
        at = api.hf_hub_download(**of, filename=name, cache_dir=tmp_path / "cache")
        assert Path(at).read_bytes() == data
    assert not [line for line in hub.requests if "xet" in line]


def test_the_same_upload_again_makes_no_commit(hub, api, folder):
    api.create_repo(NAME)
    first = api.upload_folder(repo_id=NAME, folder_path=folder)
    received = hub.lfs_received
    assert api.upload_folder(repo_id=NAME, folder_path=folder).oid == first.oid
    assert len(hub.repos[f"models/{NAME}"].commits) == 2 and hub.lfs_received == received


def test_upload_large_folder(hub, api, folder, monkeypatch):
    monkeypatch.setattr(_upload_large_folder, "WAITING_TIME_IF_NO_TASKS", 0.01)  # 10 seconds
    api.upload_large_folder(repo_id=NAME, repo_type="model", folder_path=folder, private=True, num_workers=2)
    assert without_attributes(hub.repos[f"models/{NAME}"].files) == FILES


def test_creating_a_repository(hub, api):
    assert api.create_repo(NAME, private=True).repo_id == NAME
    assert api.create_repo("gemma", private=False, exist_ok=True).repo_id == NAME
    assert hub.repos[f"models/{NAME}"].private
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(NAME)
    url = api.create_repo(NAME, repo_type="dataset")
    assert (url.repo_type, url.repo_id) == ("dataset", NAME) and not hub.repos[f"datasets/{NAME}"].private
    with pytest.raises(HfHubHTTPError, match="403.*google"):
        api.create_repo("google/gemma")
    assert len(hub.repos) == 2


def test_what_is_listed(hub, api, folder):
    hub.add(f"datasets/{NAME}", FILES, private=True)
    of = {"repo_id": NAME, "repo_type": "dataset"}
    assert api.whoami()["name"] == "someone"
    info = api.dataset_info(NAME, files_metadata=True)
    assert info.private and info.id == NAME and info.sha == hub.repos[f"datasets/{NAME}"].commits[-1].id
    sizes = {each.rfilename: (each.size, bool(each.lfs)) for each in info.siblings}
    assert sizes["weights.safetensors"] == (len(WEIGHTS), True) and sizes["empty.bin"] == (0, False)
    assert set(api.list_repo_files(**of)) == {".gitattributes", *FILES}
    at_top = {".gitattributes", "README.md", "config.json", "empty.bin", "notes", "weights.safetensors"}
    assert {each.path for each in api.list_repo_tree(**of)} == at_top
    inside = {"notes/long.txt", "notes/a b#?.txt"}
    assert {each.path for each in api.list_repo_tree(**of, path_in_repo="notes")} == inside
    everything = {each.path for each in api.list_repo_tree(**of, recursive=True)}
    assert everything == {".gitattributes", "notes", *FILES}
    assert [each.path for each in api.get_paths_info(**of, paths=["notes", "no"])] == ["notes"]
    assert api.file_exists(**of, filename="config.json") and not api.file_exists(**of, filename="no.json")
    assert api.repo_exists(**of) and not api.repo_exists(NAME)


def test_a_part_of_a_file(hub, api):
    hub.add(f"models/{NAME}", FILES)
    disk = HfFileSystem(endpoint=hub.endpoint, token=hub.token)
    assert disk.cat_file(f"{NAME}/weights.safetensors", start=250, end=260) == WEIGHTS[250:260]
    with disk.open(f"{NAME}/weights.safetensors") as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"\xfd\xfe\xff"
    url = f"{hub.endpoint}/{NAME}/resolve/main/weights.safetensors"
    answer = httpx.get(url, headers={"Range": "bytes=5-"})
    assert (answer.status_code, answer.content) == (206, WEIGHTS[5:])
    assert answer.headers["Content-Range"] == f"bytes 5-{len(WEIGHTS) - 1}/{len(WEIGHTS)}"


def test_files_that_are_deleted(hub, api, folder):
    repo = hub.add(
        f"models/{NAME}", {"old/a.bin": b"a", "old/b.txt": b"b", "old.txt": b"c", "old.txt.bak": b"d"}
    )
    api.upload_folder(repo_id=NAME, folder_path=folder, delete_patterns=["*.bin"])
    assert set(without_attributes(repo.files)) == {*FILES, "old/b.txt", "old.txt", "old.txt.bak"}
    api.delete_folder("old", NAME)
    api.delete_file("old.txt", NAME)
    assert set(without_attributes(repo.files)) == {*FILES, "old.txt.bak"}
    with pytest.raises(EntryNotFoundError, match="A file with this name"):
        api.delete_file("old.txt", NAME)
    done = [each.operations for each in repo.commits[-2:]]
    assert done == [[("deletedFolder", "old")], [("deletedFile", "old.txt")]]


def test_a_commit_is_applied_whole_or_not_at_all(hub, api):
    repo = hub.add(f"models/{NAME}", {"a.txt": b"a"})
    start = repo.commits[-1].id
    good, bad = CommitOperationAdd("b.txt", b"b"), CommitOperationDelete("no.txt")
    with pytest.raises(EntryNotFoundError):
        api.create_commit(NAME, [good, bad], commit_message="Both")
    assert len(repo.commits) == 1
    api.create_commit(
        NAME, [good, CommitOperationDelete("a.txt")], commit_message="Both", parent_commit=start
    )
    assert without_attributes(repo.files) == {"b.txt": b"b"}
    with pytest.raises(HfHubHTTPError, match="412"):
        api.upload_file(repo_id=NAME, path_in_repo="c", path_or_fileobj=b"c", parent_commit=start)


def test_what_is_not_there(hub, api, tmp_path):
    hub.add(f"models/{NAME}", FILES)
    for token in (hub.token, False):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("someone/nothing", token=token)
        with pytest.raises(RepositoryNotFoundError):
            api.hf_hub_download("someone/nothing", "config.json", token=token, cache_dir=tmp_path)
    with pytest.raises(RepositoryNotFoundError):
        api.upload_file(repo_id="someone/nothing", path_in_repo="a", path_or_fileobj=b"a")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download(NAME, "no.json", cache_dir=tmp_path)
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download(NAME, "config.json", revision="v1", cache_dir=tmp_path)


def test_private_stays_private(hub, api, tmp_path):
    repo = hub.add(f"models/{NAME}", FILES, private=True)
    with pytest.raises(RepositoryNotFoundError):
        api.hf_hub_download(NAME, "config.json", token=False, cache_dir=tmp_path)
    api.create_repo(NAME, private=False, exist_ok=True)
    api.upload_file(repo_id=NAME, path_in_repo="a.txt", path_or_fileobj=b"a")
    assert repo.private and api.model_info(NAME).private


def test_tokens(hub, api):
    repo = hub.add(f"models/{NAME}", FILES)
    hub.add("models/google/gemma", FILES)
    new = {"path_in_repo": "a", "path_or_fileobj": b"a"}
    with pytest.raises(HfHubHTTPError, match="403"):
        api.upload_file(repo_id="google/gemma", **new)
    with pytest.raises(HfHubHTTPError, match="Invalid username or password"):
        api.upload_file(repo_id=NAME, **new, token=False)
    assert api.model_info(NAME, token=False).id == NAME
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami(token="hf_wrong")
    for call in (api.model_info, api.create_repo, partial(api.upload_file, **new)):
        with pytest.raises(
            HfHubHTTPError, match="(?s)401.*Invalid credentials in Authorization header"
        ) as caught:
            call(repo_id=NAME, token="hf_wrong")
        assert not isinstance(caught.value, RepositoryNotFoundError)
    assert len(repo.commits) == 1


def test_an_upload_through_broken_connections(hub, api, folder, sleeps):
    """The client tries again by itself; each file is received whole once."""
    api.create_repo(NAME)
    hub.troubles = [("PUT /lfs/", "drop"), ("PUT /lfs/", 503), ("preupload", 500), ("objects/batch", "drop")]
    api.upload_folder(repo_id=NAME, folder_path=folder)
    repo = hub.repos[f"models/{NAME}"]
    assert without_attributes(repo.files) == FILES and len(repo.commits) == 2 and hub.troubles == []
    assert hub.lfs_received == len(WEIGHTS) + len(FILES["notes/long.txt"])
    assert len([line for line in hub.requests if line.startswith("PUT")]) == 4 and len(sleeps) == 4


def test_an_upload_that_fails_and_is_repeated(hub, api, folder, sleeps):
    (folder / "notes/long.txt").unlink()  # one LFS file: no others are in flight when it fails
    api.create_repo(NAME)
    repo = hub.repos[f"models/{NAME}"]
    hub.troubles = [("PUT /lfs/", "drop")] * 6
    with pytest.raises(RuntimeError, match="weights.safetensors"):
        api.upload_folder(repo_id=NAME, folder_path=folder)
    assert (len(repo.commits), hub.lfs_received, len(sleeps)) == (1, 0, 5)
    hub.troubles = [("/commit/", "drop")]
    with pytest.raises(httpx.TransportError):
        api.upload_folder(repo_id=NAME, folder_path=folder)
    assert len(repo.commits) == 1
    hub.troubles = [("/commit/", 500)]
    with pytest.raises(HfHubHTTPError, match="500"):
        api.upload_folder(repo_id=NAME, folder_path=folder)
    hub.troubles = [("/commit/", "lose")]
    with pytest.raises(httpx.TransportError):
        api.upload_folder(repo_id=NAME, folder_path=folder)
    assert on_disk(folder) == without_attributes(repo.files)
    api.upload_folder(repo_id=NAME, folder_path=folder)  # the client sees that nothing has changed
    assert len(repo.commits) == 2 and hub.lfs_received == len(WEIGHTS)


def test_a_drop_comes_in_the_middle_of_a_body(hub):
    hub.troubles = [("PUT", "drop")]
    with socket.create_connection(("127.0.0.1", hub.server.server_port), timeout=5) as connection:
        connection.sendall(b"PUT /lfs/x HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + bytes(500))
        assert connection.recv(1) == b""  # closed, although 500 bytes are still to come


def test_a_commit_is_known_by_what_is_in_it(hub):
    ids = {hub.add("models/a/b", {"a": data}).commits[-1].id for data in (b"1", b"2", b"2")}
    assert len(ids) == 2


def test_retry_after_is_honoured(hub, api, folder, sleeps):
    api.create_repo(NAME)
    hub.troubles, hub.retry_after = [("preupload", 429), ("PUT /lfs/", 503)], 7
    api.upload_folder(repo_id=NAME, folder_path=folder)
    assert sleeps == [8.0, 1]  # the client adds a second


def test_datasets(hub, tmp_path):
    code = """
from datasets import Dataset, DatasetDict, load_dataset
texts = {"train": ["Café\\u2028", "b", "c"], "test": ["d"]}
pairs = DatasetDict({name: Dataset.from_dict({"text": each}) for name, each in texts.items()})
pairs.push_to_hub("someone/pairs", private=True)
back = load_dataset("someone/pairs")
assert {name: part["text"] for name, part in back.items()} == texts
streamed = load_dataset("someone/pairs", split="train", streaming=True)
assert [row["text"] for row in streamed] == texts["train"]
pairs["train"] = pairs["train"].select([1])
pairs.push_to_hub("someone/pairs")
print(load_dataset("someone/pairs", split="train")["text"])
"""
    assert run(code, hub, tmp_path) == "['b']\n"
    repo = hub.repos["datasets/someone/pairs"]
    assert repo.private and len(repo.commits) == 3
    data = {f"data/{split}-00000-of-00001.parquet" for split in ("train", "test")}
    assert set(repo.files) == {".gitattributes", "README.md", *data}


def test_transformers_and_peft(hub, tmp_path):
    code = """
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig
from transformers import PreTrainedTokenizerFast
words = models.WordLevel({"<unk>": 0, "bikes": 1}, unk_token="<unk>")
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), unk_token="<unk>")
sizes = dict.fromkeys(("hidden_size", "intermediate_size", "head_dim"), 32) | dict(vocab_size=2, pad_token_id=0)
ones = dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads"), 1)
model = Gemma3ForCausalLM(Gemma3TextConfig(**sizes, **ones))
model.push_to_hub("someone/tiny", private=True)
tokenizer.push_to_hub("someone/tiny")
back = AutoModelForCausalLM.from_pretrained("someone/tiny", dtype=torch.float32)
def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
assert same(model, back)
assert AutoTokenizer.from_pretrained("someone/tiny").encode("bikes") == [1]
adapter = get_peft_model(back, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
adapter.push_to_hub("someone/adapter", private=True)
assert same(adapter, AutoPeftModelForCausalLM.from_pretrained("someone/adapter"))
"""
    run(code, hub, tmp_path)
    tiny, adapter = hub.repos["models/someone/tiny"], hub.repos["models/someone/adapter"]
    assert tiny.private and adapter.private
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(tiny.files)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(adapter.files)


def test_as_a_program(tmp_path):
    command = [sys.executable, "-m", "tests.fakes.hub", "--port", "0"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as server:
        try:
            variables = dict(server.stdout.readline().strip().split("=", 1) for _ in range(6))
            code = "from huggingface_hub import HfApi\nprint(HfApi().create_repo('mine', private=True))"
            client = [sys.executable, "-c", code]
            said = subprocess.run(client, env=os.environ | variables, text=True, capture_output=True).stdout
        finally:
            server.terminate()
    assert said == f"{variables['HF_ENDPOINT']}/someone/mine\n"
