"""publish: the card, the scan, and the push to a private data set on the loopback Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from helpers.ask import gate, qa, splits
from helpers.clean import chunks as chunking
from helpers.clean import names, reviews
from helpers.core import files, workdir
from helpers.publish import cards, dataset
from tests.conftest import REPOSITORY
from tests.fakes import hub as fake
from tests.fakes.hub import FakeHub

REPO = "someone/reviews-qa"


def some(count: int, **fields) -> list[dict]:
    texts = [
        (f"What is said about a{n} b{n} c{n}?", f"Customers speak of d{n} e{n}. They stay.")
        for n in range(count)
    ]
    made = [qa.make_pair(f"c{n}", [f"r{n}"], both, "gpt-4o", "qa-1") for n, both in enumerate(texts)]
    return [pair | fields for pair in made]


def saved(folder: Path, rows: list[dict], card: str | None = None) -> Path:
    train, test = splits.split_pairs(rows)
    dataset.save_dataset(
        train, test, folder, card or cards.dataset_card(train, test, company="Velo", source="a file")
    )
    return folder


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


# ---- the card


def test_the_dataset_is_read_back_with_its_card(tmp_path):
    from datasets import load_from_disk

    train, test = splits.split_pairs(some(20))
    facts = {"company": 'Velo "24":\nbikes', "source": "a | b", "cost_usd": 0.12}
    rejected = [{"reason": "refusal (As an AI)"}, {"reason": "refusal (Sorry)"}, {"reason": "broken JSON"}]
    card = cards.dataset_card(
        train, test, rejected=rejected, redacted=Counter(EMAIL=3), languages={"en"}, **facts
    )
    for _ in range(2):  # the second time replaces the first
        dataset.save_dataset(train, test, tmp_path / "qa_dataset", card)
    read = load_from_disk(tmp_path / "qa_dataset")
    assert list(read["train"]) == train and list(read["test"]) == test
    assert (tmp_path / "qa_dataset" / "README.md").read_text(encoding="utf-8") == card
    said = front_matter(card)
    assert 'Velo "24": bikes' in said["pretty_name"]
    assert said["language"] == ["en"] and {each["split"] for each in said["configs"][0]["data_files"]} == {
        *read
    }
    for line in (
        "| pairs to train on | 17 |", "| pairs held out | 3 |", "| reviews behind them | 20 |", "| cost usd | 0.12 |",
        "| source | a / b |", "| teacher | gpt-4o |", "| prompt version | qa-1 |", "placeholders: 3 × EMAIL.",
        "rejected 3 pairs or replies and kept 20: 2 × refusal, 1 × broken JSON.",
    ):  # fmt: skip
        assert line in card


def test_the_licence_is_a_persons_to_give_except_for_the_samples():
    train, test = splits.split_pairs(some(20))
    facts = {"company": "Velo", "source": "s"}
    other = cards.dataset_card(train, test, **facts)
    assert front_matter(other)["license"] == "other" and "No licence is granted here" in other
    assert "Whether personal data was replaced is not recorded" in other
    given = cards.dataset_card(train, test, licence="cc-by-4.0", **facts)
    assert front_matter(given)["license"] == "cc-by-4.0" and "`cc-by-4.0`" in given.split("## Licence")[1]
    ours = cards.dataset_card(*splits.split_pairs(some(20, teacher="sample")), **facts)
    assert front_matter(ours)["license"] == "apache-2.0" and "Apache License 2.0" in ours


def test_the_source_is_what_the_work_dir_knows(tmp_path):
    assert "not recorded" in cards.source_of(tmp_path, some(2))
    pairs = some(2)
    files.write_jsonl(
        tmp_path / "snapshot_rows" / "s.000001.jsonl", [{"review_id": "another"}, {"error": "x"}]
    )
    assert "not recorded" in cards.source_of(tmp_path, pairs), (
        "what was once collected is not where a file is from"
    )
    bought = [{"review_id": name} for pair in pairs for name in pair["review_ids"]]
    files.write_jsonl(tmp_path / "snapshot_rows" / "s.000002.jsonl", bought)
    assert cards.source_of(tmp_path, pairs) == "Trustpilot, collected through Bright Data"
    sample = [{"review_ids": [reviews.sample()[0]["review_id"]]}]
    assert "fictional" in cards.source_of(tmp_path, sample)


# ---- the scan

SECRETS = [
    ("SECRET", "hf_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3f"),
    ("SECRET", "sk-" + "proj-aB3dE5gH7jK9mN1pQ3sT5vW7yZ9"),
    ("SECRET", "AKIA" + "IOSFODNN7EXAMPLE"),
    ("SECRET", "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3f5g"),
    ("SECRET", "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q"),
    ("SECRET", "xoxb-" + "123456789012-abcdefABCDEF"),
    ("SECRET", "-----BEGIN RSA PRIVATE KEY-----\nMIIEow" + "IBAAKCAQEA7\n-----END RSA PRIVATE KEY-----"),
    ("SECRET", "0f1e2d3c4b5a6978" * 4),
    ("SECRET", "6f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0"),
    ("EMAIL", "ada@example.com"),
    ("PHONE", "+44 20 7946 0958"),
    ("NAME", "Ada Lovelace"),
    # Names that the scan once missed, since it looked for them letter for letter:
    ("NAME", "ADA LOVELACE"),
    ("NAME", "Mary-Jane Watson"),
    ("NAME", "Seán O’Brien"),
    ("NAME", "Jürgen T."),
]
PEOPLE = {"Ada Lovelace", "Other Name", "Mary-Jane Watson", "Seán O'Brien", "Jürgen T."}


@pytest.mark.parametrize("kind, secret", SECRETS)
@pytest.mark.parametrize("field", ["question", "answer", "teacher", "card"])
def test_what_must_not_be_uploaded_is_found_wherever_it_stands_and_never_shown(tmp_path, kind, secret, field):
    rows, card = some(3), "# A card\n\nof this data"
    if field == "card":
        card += f"\nand {secret} too"
    else:
        rows[1][field] = f"Write to {secret} now"
    files.write_jsonl(tmp_path / "train.jsonl", rows)
    files.write_text(tmp_path / "README.md", card)
    found = list(dataset.scan(tmp_path, {names.parts(name) for name in PEOPLE}))
    place = ("README.md", 4) if field == "card" else ("train.jsonl", 2)
    assert {(row["file"], row["row"]) for row in found} == {place} or "\n" in secret
    assert found[0]["kind"] == kind and f"[{kind}]" in found[0]["excerpt"]
    value = secret.partition("= '")[2].rstrip("'") or secret.rpartition(": ")[2]
    assert not any(value in row["excerpt"] or value[6:14] in row["excerpt"] for row in found)


@pytest.mark.parametrize("said, kind", [
    ("call\n+43 664 1234567", "PHONE"), ("pay\nDE89370400440532013000", "IBAN"), ("key\nhf_" + "a1" * 17, "SECRET"),
])  # fmt: skip
def test_what_begins_a_line_inside_a_list_is_found_too(tmp_path, said, kind):
    """As a list is printed, the break is a letter n before it."""
    rows = some(1, facts=[said]) + some(1, messages=[{"role": "user", "content": said}])
    files.write_jsonl(tmp_path / "train.jsonl", rows)
    assert [(row["row"], row["kind"]) for row in dataset.scan(tmp_path)] == [(1, kind), (2, kind)]


def test_this_machines_own_keys_are_found_whatever_their_form(tmp_path, monkeypatch):
    monkeypatch.setenv("BRIGHTDATA_API_KEY", "plainword")
    files.write_text(tmp_path / "README.md", "it was plainword then")
    (found,) = dataset.scan(tmp_path)
    assert found["kind"] == "SECRET" and "plainword" not in found["excerpt"]


def test_the_scan_passes_ids_and_ordinary_prose(tmp_path):
    rows = some(3, id="8c4737c4e29a4108", review_ids=["447900123456" * 2, "8c4737c4e29a41081a5b76ab"])
    prose = "The token: a bell. Their password rules, 1,999 euros, 2026-01-01, Good service is the key to success."
    files.write_jsonl(tmp_path / "train.jsonl", [row | {"answer": prose} for row in rows])
    assert list(dataset.scan(tmp_path, {("ada", "lovelace"), ("good", "service")})) == []


def test_an_answer_with_a_line_separator_inside_is_scanned_as_one_row(tmp_path):
    """splitlines() cut the JSON at U+2028, so that a data set with one such answer could never be pushed."""
    files.write_jsonl(tmp_path / "train.jsonl", some(1, answer="One\u2028two, hf_" + "a1" * 12))
    (row,) = dataset.scan(tmp_path)
    assert (row["row"], row["kind"]) == (1, "SECRET")


def test_the_samples_pairs_and_card_pass_the_scan(tmp_path):
    """Also against the 200 and more full names of the reviewers."""
    files.write_jsonl(tmp_path / "reviews.jsonl", reviews.sample())
    reviewers = dataset.reviewer_names(tmp_path)
    kept, _ = gate.quality_gate(qa.sample_pairs(chunking.sample()), chunking.sample())
    train, test = splits.split_pairs(kept)
    files.write_jsonl(tmp_path / "up" / "train.jsonl", kept)
    card = cards.dataset_card(train, test, company="Velomarsh", source="s", redacted=Counter(EMAIL=7))
    files.write_text(tmp_path / "up" / "README.md", card)
    assert len(reviewers) > 200
    assert list(dataset.scan(tmp_path / "up", reviewers)) == []
    assert dataset.reviewer_names(tmp_path / "empty") == set()


# ---- the push


@pytest.fixture
def hub(monkeypatch):
    """The loopback Hub, for this process and for those that it starts."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    with FakeHub() as hub:
        hub.api(monkeypatch)
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))
        monkeypatch.setenv("HF_TOKEN", hub.token)
        yield hub


READ = f"""
import json
from pathlib import Path
from helpers.train import data
found, why = data.load_qa_dataset({REPO!r}, Path("nowhere"))
print(why)
print(json.dumps({{side: list(rows) for side, rows in found.remove_columns("where").items()}}))
"""


def hashed(pair: dict) -> dict:
    return pair | {"review_ids": [files.content_id(name) for name in pair["review_ids"]]}


def test_a_push_is_private_and_notebook_05_reads_the_same_rows_back_but_for_the_reviews_ids(hub, tmp_path):
    rows, folder = some(60), tmp_path / "qa_dataset"
    before = files.fingerprint(saved(folder, rows))
    url = dataset.push_dataset(folder, REPO)
    assert files.fingerprint(folder) == before, "a push left something in the data set's folder"
    assert url == f"{hub.endpoint}/datasets/{REPO}"
    repo = hub.repos[f"datasets/{REPO}"]
    assert repo.private and set(repo.files) == {".gitattributes", "README.md", "train.jsonl", "test.jsonl"}
    read = subprocess.run(  # in a process of its own: `datasets` reads HF_ENDPOINT when it is imported
        [sys.executable, "-c", READ],
        env=os.environ | hub.environment(tmp_path / "home"),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert read.returncode == 0, read.stderr
    why, back = read.stdout.strip().splitlines()[-2:]
    back = json.loads(back)
    train, test = ([*map(hashed, side)] for side in splits.split_pairs(rows))
    assert "Hub data set" in why and back["test"] == test
    assert sorted(back["train"] + back["validation"], key=lambda pair: pair["id"]) == train
    sent = repo.files["train.jsonl"] + repo.files["test.jsonl"]
    assert not any(name.encode() in sent for pair in rows for name in pair["review_ids"])


def test_a_secret_stops_the_push_before_anything_is_sent(hub, tmp_path):
    rows = some(20)
    rows[7]["answer"] += " Ask ada@example.com with hf_" + "aB3dE5gH7jK9mN1pQ3sT5v."
    with pytest.raises(ValueError) as stopped:
        dataset.push_dataset(saved(tmp_path / "qa_dataset", rows), REPO)
    said = str(stopped.value)
    assert not hub.requests and not hub.repos
    assert "Nothing was uploaded to someone/reviews-qa" in said and ".jsonl, row " in said
    assert "EMAIL: " in said and "SECRET: " in said and "ada@" not in said and "aB3dE5" not in said


def test_a_public_repository_is_refused_unless_told(hub, tmp_path):
    folder = saved(tmp_path / "qa_dataset", some(20))
    repo = hub.add(f"datasets/{REPO}", {}, private=False)
    with pytest.raises(PermissionError, match="is public; .*Make it private.*private=False"):
        dataset.push_dataset(folder, REPO)
    assert set(repo.files) == {".gitattributes"}
    dataset.push_dataset(folder, REPO, private=False)
    assert "train.jsonl" in repo.files


@pytest.mark.parametrize("trouble", ["drop", "lose", 500])
@pytest.mark.parametrize("where", ["/repos/create", "/preupload/", "PUT /lfs/", "/commit/"])
def test_a_push_that_breaks_off_goes_on_and_uploads_nothing_twice(hub, tmp_path, monkeypatch, where, trouble):
    monkeypatch.setattr(fake, "LFS_BYTES", 1000)  # the data goes by LFS, as large files do
    folder = saved(tmp_path / "qa_dataset", some(60))
    hub.troubles = [(where, trouble)] * 40  # more than the client tries by itself
    with pytest.raises(ConnectionError, match="(?s)broke off.*uploads no large file twice") as broken:
        dataset.push_dataset(folder, REPO)
    assert hub.token not in str(broken.value)
    hub.troubles.clear()
    dataset.push_dataset(folder, REPO)
    dataset.push_dataset(folder, REPO)
    repo = hub.repos[f"datasets/{REPO}"]
    assert repo.private and len(repo.files["train.jsonl"].splitlines()) == 51
    assert len(repo.commits) == 2, "a commit of its own for nothing"
    if (where, trouble) != ("PUT /lfs/", "lose"):  # the only time that the client cannot know what arrived
        assert hub.lfs_received == sum(map(len, hub.lfs.values()))


# ---- a model

MODEL = "someone/reviews-gemma"
LARGE = {"merged/model.safetensors": b"\0\xff" * 5000, "gguf/model-q8_0.gguf": b"GGUF\xff" * 3000}
SMALL = {
    "README.md": b"# A card\n",
    "NOTICE": b"Gemma is provided\n",
    "parity.json": b"{}\n",
    "merged/config.json": b"{}",
}
VOCABULARY = {"adapter/tokenizer.json": b'{"ada@example.com": 1}'}  # words of the base model


@pytest.fixture
def model_dir(tmp_path) -> Path:
    """A work_dir whose publish/ has passed the gate, and a file beside it that no notebook made."""
    for name, data in {
        **LARGE,
        **SMALL,
        **VOCABULARY,
        "adapter/adapter_model.safetensors": b"\xfe" * 900,
    }.items():
        path = tmp_path / "work" / "publish" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "work" / "publish" / "notes.txt").write_text("not made by the notebook")
    made = [f"publish/{form}" for form in ("adapter", "merged", "gguf")]
    workdir.finish_stage(tmp_path / "work", "08_publish.parity", made, ["publish/parity.json"])
    return tmp_path / "work"


def test_a_model_is_pushed_private_and_whole_without_what_the_notebook_did_not_make(hub, model_dir):
    assert dataset.push_model(model_dir, MODEL) == f"{hub.endpoint}/{MODEL}"
    repo = hub.repos[f"models/{MODEL}"]
    made = {
        str(path.relative_to(model_dir / "publish"))
        for path in (model_dir / "publish").rglob("*")
        if path.is_file()
    }
    assert (
        repo.private
        and len(repo.commits) == 2
        and set(repo.files) == made - {"notes.txt"} | {".gitattributes"}
    )
    assert all(repo.files[name] == data for name, data in LARGE.items())


def test_a_file_of_the_last_push_that_is_gone_here_goes_there_too_and_a_persons_own_stays(hub, model_dir):
    hub.add(f"models/{MODEL}", {"gguf/model-bf16.gguf": b"old", "photo.png": b"mine"}, private=True)
    dataset.push_model(model_dir, MODEL)
    there = set(hub.repos[f"models/{MODEL}"].files)
    assert "gguf/model-bf16.gguf" not in there and {"photo.png", "gguf/model-q8_0.gguf"} <= there


PUSH = f"from pathlib import Path; from helpers.publish import dataset; dataset.push_model(Path('work'), {MODEL!r})"


def test_a_push_that_is_killed_half_way_and_repeated_ends_with_one_complete_repository(
    hub, model_dir, tmp_path
):
    """The process dies when one large file has arrived and the other is on its way, by SIGKILL."""
    import hashlib
    import time

    last = hashlib.sha256(LARGE["merged/model.safetensors"]).hexdigest()
    hub.troubles = [(f"PUT /lfs/{last}", 503)] * 100  # this file does not get through: the client tries again
    process = subprocess.Popen(
        [sys.executable, "-c", PUSH],
        env=os.environ | hub.environment(tmp_path / "home") | {"PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    while not (hub.lfs and any(last in line for line in hub.requests)) and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.wait()
    repo = hub.repos[f"models/{MODEL}"]
    arrived = set(hub.lfs)
    assert process.returncode == -9 and arrived and last not in arrived
    assert set(repo.files) == {".gitattributes"}, "half a model is visible"
    hub.troubles, hub.requests = [], []
    dataset.push_model(model_dir, MODEL)
    assert repo.private and len(repo.commits) == 2 and "README.md" in repo.files
    assert all(repo.files[name] == data for name, data in LARGE.items())
    sent = {line.rpartition("/")[2] for line in hub.requests if line.startswith("PUT")}
    assert last in sent and not sent & arrived, "a large file was sent twice"


@pytest.mark.parametrize("kind, secret", [SECRETS[0], ("EMAIL", "ada@example.com"), ("NAME", "Ada Lovelace")])
@pytest.mark.parametrize("file", ["README.md", "gguf/Modelfile", "merged/config.json"])
def test_a_key_an_address_or_a_reviewer_in_the_models_texts_stops_the_push(
    hub, model_dir, file, kind, secret
):
    files.write_jsonl(model_dir / "reviews.jsonl", [{"reviewer_name": "Ada Lovelace"}])
    path = model_dir / "publish" / file
    path.write_text((path.read_text() if path.exists() else "") + f"\nWritten by {secret} in May\n")
    made = [f"publish/{form}" for form in ("adapter", "merged", "gguf")]
    workdir.finish_stage(model_dir, "08_publish.parity", made, ["publish/parity.json"])
    with pytest.raises(ValueError, match=rf"{path.name}, row \d: {kind}") as stopped:
        dataset.push_model(model_dir, MODEL)
    assert secret not in str(stopped.value) and not hub.requests and not hub.repos


@pytest.mark.parametrize("file", ["merged/model.safetensors", "adapter/tokenizer.json", "parity.json"])
def test_nothing_is_pushed_that_the_gate_has_not_seen(hub, model_dir, file):
    (model_dir / "publish" / file).write_bytes(b"another model")
    with pytest.raises(PermissionError, match="the parity gate has not passed for the files in"):
        dataset.push_model(model_dir, MODEL)
    assert not hub.requests


def test_a_model_needs_a_private_place(hub, model_dir):
    hub.add(f"models/{MODEL}", {}, private=False)
    with pytest.raises(PermissionError, match="is public; "):
        dataset.push_model(model_dir, MODEL)
    dataset.push_model(model_dir, MODEL, private=False)
