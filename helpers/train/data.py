"""Question–answer pairs to train on, from the forms that people have them in (05, 06).

A row is one of
    {"question": …, "answer": …}                              with or without context and notebook 04's other fields
    {"prompt": …, "completion": …}
    {"instruction": …, "input": …, "output": …}               Alpaca's, with or without input
    {"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}]}
where a system message may come first, a content may be a list of text parts, and ShareGPT's names are read too. A
row that is none of these stops with its number: nothing is guessed, and nothing is left out.
"""

from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from helpers.ask import gate, qa, sheet_pairs, sheets, splits
from helpers.clean import chunks
from helpers.core import files, hub, tables, workdir
from helpers.train import models

FORM = "question and answer, prompt and completion, instruction and output, or messages"
PAIRS = ("prompt", "completion"), ("instruction", "output", "input"), ("question", "answer")
FORMS = ("messages",), ("conversations",), *PAIRS
ROLES = {"user": "question", "human": "question", "assistant": "answer", "gpt": "answer", "system": "system"}
SPLITS = {"train": ("train",), "validation": ("val", "dev"), "test": ("test", "eval")}  # and how theirs begin
KEPT = "trained_on"  # beside the adapter, the pairs of its training in their three parts


def from_row(row: dict, where: str, unread: Counter) -> dict:
    """One pair from a row of any form: that of which most fields have a value. `unread` counts what is not read.

    `where`, its place, becomes a field. ValueError begins with it and names the field and the fix.
    """
    if row.get("label") is False:  # as in TRL's data of answers that people wanted or not
        raise ValueError(f"{where}: the field 'label' is False. Delete the row, or that field")
    forms = [form for form in FORMS if form[1:] or isinstance(row.get(form[0]), list)]
    form = max(forms, key=lambda names: sum(bool(row.get(name)) for name in names) / len(names))
    given = zip(("question", "answer", "input"), map(row.get, form))
    texts = {"system": row.get("system") or row.get("system_prompt"), "context": row.get("context")}
    texts |= given if form[1:] else _from_turns(row[form[0]], where)
    for name, text in texts.items():
        text = texts[name] = "" if text is None else text
        whole = isinstance(text, str) and text == text.encode(errors="ignore").decode()  # no half of an emoji
        if not whole or not text.strip() and name in ("question", "answer"):
            wrong = f"the {name} is missing, empty or not text: {text!r:.60}"
            fields = f"it has the fields {', '.join(map(str, row))}"
            raise ValueError(f"{where}: {wrong} ({fields}). Fill it in or delete it; a row needs {FORM}.")
    # Gemma has no system turn: its template, too, puts it before the question.
    parts = (texts.get(name, "") for name in ("system", "question", "input"))
    question, answer = "\n\n".join(filter(str.strip, parts)), texts["answer"]
    source = str(row.get("id") or files.content_id([question, answer]))
    pair = qa.make_pair(source, [source], (question, answer), "unknown", "unknown", texts["context"])
    fields = pair.keys() - texts if row.get("chunk_id") is not None else ()  # of notebook 04
    own = {name: row[name] for name in fields if row.get(name) is not None}
    pair |= {name: [*map(str, v)] if isinstance(v, list) else str(v) for name, v in own.items()}
    read = {*form, *own, "id", "context", "system", "system_prompt", "where"}
    unread.update(name for name in row if row[name] not in (None, "", []) and name not in read)
    return pair | {"where": where}


def kind(pair: dict) -> str:
    """What a pair is about: "review", or of the overview pairs "whole", "topic" or "part", as the sheet's id says."""
    return pair["chunk_id"].partition("-")[0] if pair.get("kind") == "overview" else "review"


def prompts(pairs: Iterable[dict], open_book: bool) -> list[str]:
    """What the model is asked for each pair: its question, and with an open book its context before it."""
    return [models.prompt(pair["question"], pair.get("context", "") if open_book else "") for pair in pairs]


def _from_turns(turns: list, where: str) -> dict[str, str | None]:
    """Question, answer and perhaps a system text of a conversation, None for what is not text."""
    turns = [turn if isinstance(turn, dict) else {} for turn in turns]
    roles = [str(turn.get("role", turn.get("from", "none"))) for turn in turns]
    if [*map(ROLES.get, roles)] not in (["question", "answer"], ["system", "question", "answer"]):
        need = "one user and one assistant message behind at most a system message. Split a longer dialogue"
        raise ValueError(f"{where}: messages has the roles {', '.join(roles)}; it must be {need} into rows.")
    return {ROLES[role]: _text(turn.get("content", turn.get("value"))) for role, turn in zip(roles, turns)}


def _text(content: object) -> str | None:
    parts = content if isinstance(content, list) else [{"text": content}]  # of which some may be images
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    return "".join(texts) if all(isinstance(text, str) for text in texts) else None


def load_qa_dataset(dataset: str, work_dir: Path) -> tuple:
    """Question–answer pairs, a DatasetDict of `train`, `validation` and `test`, and where they came from.

    `dataset` is `auto` (work_dir/qa_dataset, else the bundled sample), `sample`, a file of core.tables.SUFFIXES, a
    folder of such files (train, test) or of `save_to_disk`, or a Hub id. Test and validation rows that it lacks come
    out of train. ValueError names the row and the field.
    """
    from datasets import Dataset, DatasetDict

    folder, held = work_dir / "qa_dataset", set()
    given = dataset if dataset != "auto" else str(folder) if folder.is_dir() else "sample"
    sides, why = _read_sides(given)
    if given == str(folder):
        why = f"work_dir/qa_dataset, from notebook 04{workdir.outdated(folder)}"
    elif given != dataset:
        why = workdir.sample_instead(work_dir, "work_dir has no qa_dataset")
    for side in filter(sides.get, reversed(SPLITS)):  # of what two sides have, the test's stays
        rows, seen = sides[side], {(pair["question"], pair["context"]) for pair in sides[side]}
        sides[side] = [pair for pair in rows if (pair["question"], pair["context"]) not in held]
        if twice := len(rows) - len(sides[side]):
            print(f"{twice} of {len(rows)} rows of {side} are held out too and left out")
        held |= seen
    if not sides.get("train"):
        raise ValueError(f"dataset = {dataset!r} has the splits {', '.join(sides)}, and no rows in train")
    missing = [side for side in ("test", "validation") if not sides.get(side)]
    share = 0.15 if "test" in missing else min(0.1, splits.VALIDATION_ROWS / len(sides["train"]))
    if missing:  # both at once, or the second may find one group left
        parts = splits.split_pairs(sides["train"], share, validation=0.1 * (len(missing) == 2))
        sides |= zip(("train", *missing), parts)
    return DatasetDict({side: Dataset.from_list(sides[side]) for side in SPLITS}), why


def _read_sides(dataset: str) -> tuple[dict[str, list[dict]], str]:
    """The pairs by the names of SPLITS, as far as the data have them, and where they came from."""
    import datasets

    path = Path(dataset).expanduser()
    if dataset == "sample":
        what, loaded = "", sample()
    elif path.is_file() or path.suffix.lower() in tables.SUFFIXES:
        what, loaded = "file", tables.read_records(path)
    elif any(path.glob("dataset_*.json")):
        what, loaded = "folder", datasets.load_from_disk(str(path))
    elif path.is_dir():
        tabular = [file for file in sorted(path.iterdir()) if file.suffix.lower() in tables.SUFFIXES]
        what, loaded = "folder", {file.stem: tables.read_records(file) for file in tabular}
    else:
        hub.log_in()
        what, loaded = "Hub data set", datasets.load_dataset(dataset)
    loaded, sides, unread = loaded if isinstance(loaded, dict) else {"train": loaded}, {}, Counter()
    for side, rows in loaded.items():
        name = next((name for name, starts in SPLITS.items() if side.lower().startswith(starts)), side)
        if name in sides or name not in SPLITS:
            problem = f"has the splits {', '.join(loaded)}, and {side!r} is one too many or none of {', '.join(SPLITS)}"
            raise ValueError(f"dataset = {dataset!r} {problem}: save those that you want with save_to_disk")
        place = f"{path}, {side} row" if len(loaded) > 1 else f"{path}, row"
        sides[name] = [from_row(row, f"{place} {n}", unread) for n, row in enumerate(rows, 1)]
    if unread:
        names = ", ".join(f"{name} ({count} rows)" for name, count in unread.items())
        print(f"Not read: {names}. What an answer needs belongs into the question or the context.")
    return sides, f"the {what} that the parameter names" if what else "the bundled sample"


@cache  # it takes seconds, and 07 and 08 ask again
def sample() -> list[dict]:
    """The bundled sample's pairs that pass the quality gate; not to be changed."""
    pieces = chunks.sample()
    pages = sheets.fact_sheets(sheet_pairs.sample_topics(), pieces)
    return gate.quality_gate(qa.sample_pairs(pieces) + sheet_pairs.sample_pairs(pages), pieces, pages)[0]


def kept(adapter: Path) -> dict[str, list[dict]]:
    """The pairs of this adapter's training, in three parts, as notebook 05 kept them beside it; {} where it did not."""
    if adapter == models.SAMPLE_ADAPTER:
        return {side: [*rows] for side, rows in load_qa_dataset("sample", adapter)[0].items()}
    folder = adapter.parent / KEPT
    return _read_sides(str(folder))[0] if folder.is_dir() else {}


def open_book(adapter: Path) -> bool:
    """Whether this adapter was trained to read the context before it answers, as its training.json says."""
    settings = files.read_json(adapter.parent / "training.json", {}).get("settings", {})
    return settings.get("open_book", adapter == models.SAMPLE_ADAPTER)


def from_reviews(pairs: list[dict]) -> bool:
    """Whether a teacher wrote the pairs from reviews, in notebook 04; of pairs from elsewhere nothing is known."""
    return any(pair["teacher"] != "unknown" for pair in pairs)


def held_out(dataset: str, adapter: Path, work_dir: Path) -> tuple[list[dict], list[dict], str]:
    """(pairs to judge this adapter on, those that it was trained on, where the first come from).

    With "auto" it is what notebook 05 held out, else the whole `dataset` without what was trained on. ValueError where
    the record is of another adapter, or its pairs are gone.
    """
    record = files.read_json(adapter.parent / "training.json", {})
    if why := workdir.stale(adapter.parent / "training.json", adapter):
        raise ValueError(why)
    sides, origin = kept(adapter), record.get("data", "the bundled sample")
    if adapter != models.SAMPLE_ADAPTER and bool(sides) != bool(record):
        missing = adapter.parent / ("training.json" if sides else KEPT)
        raise ValueError(f"{missing} is missing: run notebook 05 again, which trains nothing anew")
    if not sides:
        sides, origin = load_qa_dataset("auto", work_dir)
        origin += "; what the adapter was trained on is not recorded"
    learned, test = [*sides["train"], *sides["validation"]], [*sides["test"]]
    if dataset != "auto":
        given, origin = _read_sides(dataset)
        seen, rows = {pair["question"] for pair in learned}, sum(given.values(), [])
        test = [pair for pair in rows if pair["question"] not in seen]
        origin += f"; {len(rows) - len(test)} of its {len(rows)} rows were trained on and are left out"
        if not test:
            raise ValueError(f"dataset = {dataset!r} has no row that the adapter was not trained on")
    return test, learned, origin


def tokenize(rows, tokenizer, max_seq_length: int, open_book: bool = True, least: int = 1) -> tuple:
    """A Dataset of the `input_ids` of every pair that fits whole, and a list of the others, with row and length.

    ValueError when fewer than `least` fit, or when a text has a token of the chat template, as if it opened a turn.
    """
    from datasets import Dataset

    plain, usual = models.text_tokenizer(tokenizer), Counter(models.chat_ids(tokenizer, "a", "a"))
    control = {number for number, token in plain.added_tokens_decoder.items() if token.special}
    fitting, too_long = [], []
    for at, (row, prompt) in enumerate(zip(rows, prompts(rows, open_book))):
        ids, question = models.chat_ids(tokenizer, prompt, row["answer"]), row["question"]
        if surplus := Counter(number for number in ids if number in control) - usual:
            place, tokens = row.get("where", f"Row {at + 1}"), plain.convert_ids_to_tokens([*surplus])
            what = f"{question[:80]!r}, has control tokens of the chat template in its text"
            raise ValueError(f"{place}, {what}: take out {', '.join(tokens)}")
        if len(ids) <= max_seq_length:
            fitting.append(ids)
        else:
            too_long.append({"row": at, "tokens": len(ids), "question": question})
    if len(fitting) < least:
        shortest = f"the shortest has {min(row['tokens'] for row in too_long)} tokens"
        none = f"None of these {len(rows)} rows fits max_seq_length={max_seq_length}; {shortest}"
        raise ValueError(f"{none}. Raise max_seq_length, or shorten the answers.")
    return Dataset.from_dict({"input_ids": fitting}), too_long
