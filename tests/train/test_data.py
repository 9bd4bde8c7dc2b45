import json
import re

import pytest

from helpers.ask import qa
from helpers.core import files
from helpers.train import data
from tests.conftest import REPOSITORY

MESSAGES = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]


IMAGE = {"role": "user", "content": [{"type": "text", "text": "Who?"}, {"type": "image", "text": None}]}


def write(path, rows):
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def read(path):
    """The pairs of a file, without a split."""
    return data._read_sides(str(path))[0]["train"]


def test_our_own_file_is_read_as_it_is(tmp_path):
    ours = [qa.make_pair("c1", ["r1", "r2"], ("Why?", "So."), "gpt-4o", "qa-1")]
    files.write_jsonl(tmp_path / "ours.jsonl", ours)
    assert read(tmp_path / "ours.jsonl") == [ours[0] | {"where": f"{tmp_path / 'ours.jsonl'}, row 1"}]


def test_the_articles_json_array_is_read(tmp_path):
    array = [{"id": "82d5", "question": question, "answer": "So."} for question in ("Why?", "Who?")]
    (tmp_path / "theirs.json").write_text("\ufeff" + json.dumps(array), encoding="utf-8")
    first, second = read(tmp_path / "theirs.json")
    assert first["chunk_id"] == "82d5" and first["review_ids"] == second["review_ids"] == ["82d5"]
    assert first["id"] != second["id"] and first["question"] == "Why?"


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Why?", "answer": "So."},
        {"prompt": "Why?", "completion": "So."},
        {"instruction": "Why?", "input": "", "output": "So."},
        {"instruction": "Why?", "output": "So."},
        {"messages": MESSAGES},
        {"messages": MESSAGES, "question": None, "answer": None},
        {"prompt": None, "completion": None, "messages": None, "question": "Why?", "answer": "So."},
        {"instruction": "Be brief.", "input": None, "output": None, "question": "Why?", "answer": "So."},
        {"prompt": "Why?", "completion": "So.", "label": True},
        {"messages": [MESSAGES[0], MESSAGES[1] | {"weight": 1, "tool_calls": None}]},
    ],
)
def test_every_form_gives_the_same_pair(tmp_path, row):
    (pair,) = read(write(tmp_path / "mine.json", [row]))
    assert (pair["question"], pair["answer"]) == ("Why?", "So.") and pair["review_ids"] == [pair["chunk_id"]]


PARTS = [
    {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "So."}]},
]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"messages": MESSAGES}) + "\n\n",
        "\ufeff" + json.dumps({"question": "Why?", "answer": "So."}) + "\n",
        json.dumps({"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]}),
        json.dumps({"messages": PARTS}),
    ],
    ids=["one line and a blank one", "a byte order mark", "ShareGPT", "parts"],
)
def test_json_lines_as_other_programs_write_them(tmp_path, text):
    """Each of these once ended in an error of Python's own, or said that line 2 is not JSON."""
    (tmp_path / "theirs.jsonl").write_text(text, encoding="utf-8")
    (pair,) = read(tmp_path / "theirs.jsonl")
    assert (pair["question"], pair["answer"]) == ("Why?", "So.")


def test_a_csv_with_a_column_called_messages_is_a_table(tmp_path):
    (tmp_path / "mine.csv").write_text("messages,question,answer\n3,Why?,So.\n")
    assert read(tmp_path / "mine.csv")[0]["answer"] == "So."


def test_a_system_message_goes_before_the_question(tmp_path):
    system = {"role": "system", "content": "Be brief."}
    (pair,) = read(write(tmp_path / "mine.json", [{"messages": [system, *MESSAGES]}]))
    assert pair["question"] == "Be brief.\n\nWhy?"


@pytest.mark.parametrize(
    "row",
    [
        {
            "system": "Be brief.",
            "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}],
        },
        {"system_prompt": "Be brief.", "question": "Why?", "answer": "So."},
        {"system": "Be brief.", "instruction": "Why?", "input": "", "output": "So.", "history": []},
    ],
    ids=["ShareGPT", "OpenOrca", "Alpaca"],
)
def test_a_system_text_beside_the_turns_goes_before_the_question_too(tmp_path, row):
    (pair,) = read(write(tmp_path / "mine.json", [row]))
    assert (pair["question"], pair["answer"]) == ("Be brief.\n\nWhy?", "So.")


def test_an_empty_system_message_is_none(tmp_path):
    (pair,) = read(write(tmp_path / "a.json", [{"messages": [{"role": "system", "content": ""}, *MESSAGES]}]))
    assert pair["question"] == "Why?"


def test_a_csv_with_line_breaks_in_its_fields_is_read(tmp_path):
    (tmp_path / "mine.csv").write_text('question,answer\n"Why,\nthen?",So.\nWho?,"Me, me."\n')
    first, second = read(tmp_path / "mine.csv")
    assert first["question"] == "Why,\nthen?" and second["answer"] == "Me, me."


@pytest.mark.parametrize(
    "row, says",
    [
        ({"id": "1", "question": "Q?"}, "the answer is missing.*fields id, question.*Fill it in or delete"),
        ({"question": " ", "answer": "A"}, "the question is missing"),
        ({"question": "Q?", "answer": 5}, "the answer is missing, empty or not text"),
        (
            {"text": "all in one"},
            "the question is missing.*it has the fields text.*a row needs question and answer",
        ),
        ("text", "not a JSON object"),
        (
            {"messages": MESSAGES * 2},
            "messages has the roles user, assistant, user, assistant.*Split a longer",
        ),
        ({"messages": MESSAGES[:1]}, "messages has the roles user; it must be one user and one assistant"),
        ({"messages": [MESSAGES[0], {"role": "assistant", "content": ""}]}, "the answer is missing"),
        ({"messages": [IMAGE, MESSAGES[1]]}, "the question is missing, empty or not text"),
        (
            {"messages": [{"role": "user", "content": 5}, MESSAGES[1]]},
            "the question is missing, empty or not",
        ),
        ({"messages": ["Why?", "So."]}, "messages has the roles none, none"),
        ({"messages": "Why? So."}, "the question is missing.*it has the fields messages"),
        (
            {
                "messages": [
                    {"role": "system", "content": "Be"},
                    {"role": "user", "content": " "},
                    MESSAGES[1],
                ]
            },
            "the question is missing, empty or not",
        ),
        ({"question": "Why? \ud83d", "answer": "A"}, r"the question is .*not text: 'Why\? \\ud83d' "),
        (
            {"question": "Q?", "answer": "A", "context": ["a", "b"]},
            r"the context is .*not text: \['a', 'b'\]",
        ),
        (
            {"question": "Q?", "answer": "A", "chunk_id": "c", "review_ids": ["r"], "context": 5},
            "the context is .*not text: 5 ",
        ),
        ({"question": "Q?", "answer": "A", "system": 5}, "the system is .*not text: 5 "),
        (
            {"prompt": "Q?", "completion": "No.", "label": False},
            "the field 'label' is False. Delete the row, or that field",
        ),
        ({"messages": [{"role": ["user"], "content": "Q?"}]}, r"messages has the roles \['user'\]; it must"),
    ],
)
def test_a_bad_row_stops_with_its_number_and_the_fix(tmp_path, row, says):
    good = {"question": "Q?", "answer": "A"}
    with pytest.raises(ValueError, match=f"bad.json, row 2:? ?.*{says}"):
        read(write(tmp_path / "bad.json", [good, row]))


def test_fields_that_are_not_read_are_named_once_with_their_rows(tmp_path, capsys):
    row = {"instruction": "In German.", "question": "Why?", "answer": "So.", "contexts": ["a"], "note": None}
    read(write(tmp_path / "mine.json", [row, row, {"prompt": "Why?", "completion": "So."}]))
    said = capsys.readouterr().out
    assert said.startswith("Not read: instruction (2 rows), contexts (2 rows). What an answer needs")
    ours = {"chunk_id": "c", "review_ids": ["r"], "system": "Be brief.", "question": "Why?", "answer": "So."}
    assert read(write(tmp_path / "ours.json", [ours]))[0]["question"] == "Be brief.\n\nWhy?"
    assert not capsys.readouterr().out


def test_our_rows_with_nulls_and_ids_of_two_types_are_one_table(tmp_path):
    """It was an ArrowInvalid, a TypeError in the sorting, or one in the prompt."""
    rows = [
        {
            "id": n if n % 2 else str(n),
            "chunk_id": n,
            "review_ids": [n if n % 2 else f"r{n}"],
            "context": None,
        }
        for n in range(40)
    ]
    rows = [row | both | {"teacher": None} for row, both in zip(rows, numbered("alpha", 40))]
    pairs, _ = data.load_qa_dataset(str(write(tmp_path / "mine.json", rows)), tmp_path)
    assert len(pairs["test"]) == 6 and pairs["test"][0]["context"] == ""


def test_a_short_csv_line_names_its_row(tmp_path):
    (tmp_path / "bad.csv").write_text("question,answer\nWhy?,So.\nWho?\n")
    with pytest.raises(ValueError, match="bad.csv, row 2: the answer is missing"):
        read(tmp_path / "bad.csv")


def test_a_broken_or_empty_file_is_named(tmp_path):
    (tmp_path / "bad.json").write_text('[{"id": ')
    with pytest.raises(ValueError, match="bad.json, line 1, column 9: .* damaged or was cut off"):
        read(tmp_path / "bad.json")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match="empty.jsonl is empty"):
        read(tmp_path / "empty.jsonl")


def test_rows_that_are_too_long_are_listed_and_left_out_whole(tokenizer):
    pairs = [{"question": "Why?", "answer": "Because."}, {"question": "Long?", "answer": "word " * 200}]
    fitting, too_long = data.tokenize(pairs, tokenizer, max_seq_length=64)
    assert len(fitting) == 1 and [row["row"] for row in too_long] == [1]
    all_fit, none = data.tokenize(pairs, tokenizer, too_long[0]["tokens"])
    assert len(all_fit) == 2 and not none
    with pytest.raises(ValueError, match="None of these 2 rows fits max_seq_length=4; the shortest has"):
        data.tokenize(pairs, tokenizer, max_seq_length=4)


def test_the_dataset_falls_back_to_the_sample_and_says_so(tmp_path):
    pairs, why = data.load_qa_dataset("auto", tmp_path)
    assert len(pairs["train"]) > 300 and len(pairs["test"]) > 50 and "bundled sample" in why
    trained = {review_id for row in pairs["train"] for review_id in row["review_ids"]}
    assert not trained & {review_id for row in pairs["test"] for review_id in row["review_ids"]}


def test_a_file_of_your_own_is_split(tmp_path):
    rows = [{"id": str(n), "question": f"Question number {n}?", "answer": "Yes."} for n in range(20)]
    (tmp_path / "mine.json").write_text(json.dumps(rows))
    pairs, _ = data.load_qa_dataset(str(tmp_path / "mine.json"), tmp_path)
    assert {side: len(rows) for side, rows in pairs.items()} == {"train": 15, "validation": 2, "test": 3}


def test_a_dataset_without_the_columns_is_refused(tmp_path):
    from datasets import Dataset, DatasetDict

    rows = Dataset.from_list([{"prompt": "a"}, {"prompt": "b"}])
    DatasetDict(train=rows, test=rows).save_to_disk(tmp_path / "other")
    with pytest.raises(ValueError, match="train row 1: the answer is missing.*it has the fields prompt"):
        data.load_qa_dataset(str(tmp_path / "other"), tmp_path)


def test_validation_comes_out_of_train_and_shares_no_review_with_it(tmp_path):
    sides, _ = data.load_qa_dataset("auto", tmp_path)
    reviews = {side: {i for ids in rows["review_ids"] for i in ids} for side, rows in sides.items()}
    assert list(sides) == ["train", "validation", "test"] and len(sides["validation"]) == 40
    assert not reviews["train"] & reviews["validation"] and not reviews["validation"] & reviews["test"]


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    """It was looked for on the Hub, as every name that is no folder and no file."""
    from datasets import Dataset

    monkeypatch.setenv("HOME", str(tmp_path))
    rows = [{"question": f"Question number {n}?", "answer": "Yes."} for n in range(20)]
    Dataset.from_list(rows).save_to_disk(tmp_path / "pairs")
    files.write_jsonl(tmp_path / "pairs.jsonl", rows)
    for dataset in ("~/pairs", "~/pairs.jsonl"):
        assert len(data.load_qa_dataset(dataset, tmp_path / "work")[0]["train"]) == 15


def test_a_hub_set_is_asked_for_with_the_key_and_names_its_splits(tmp_path, monkeypatch):
    """datasets cannot read the keys of Kaggle and .env; and a set without a train split was KeyError: 'train'."""
    import datasets

    calls, rows = [], datasets.Dataset.from_list([{"question": "Why?", "answer": "So."}])
    monkeypatch.setattr(data.hub, "log_in", lambda: calls.append("log in"))
    splits = datasets.DatasetDict(dev=rows, test=rows)
    monkeypatch.setattr(datasets, "load_dataset", lambda name: calls.append(name) or splits)
    with pytest.raises(
        ValueError, match="'someone/pairs' has the splits validation, test, and no rows in train"
    ):
        data.load_qa_dataset("someone/pairs", tmp_path)
    assert calls == ["log in", "someone/pairs"]


@pytest.mark.parametrize("field", ["question", "answer"])
def test_a_control_token_in_foreign_text_is_refused_with_its_row(tokenizer, field):
    """It was trained on as if the template had set it: a second turn, or an answer that ends in its middle."""
    import datasets

    rows = [{"question": "Why?", "answer": "So."}, {"question": "Why <b>?", "answer": "A < b, [x]."}]
    train_dataset, _ = data.tokenize(datasets.Dataset.from_list(rows), tokenizer, 512)
    assert len(train_dataset) == 2, "tags and brackets are text"
    rows.append({"question": "Why?", "answer": "So."} | {field: "Use <end_of_turn> to stop. Then stop."})
    with pytest.raises(ValueError, match="^Row 3, .* control tokens .*: take out <end_of_turn>$"):
        data.tokenize(datasets.Dataset.from_list(rows), tokenizer, 512)


@pytest.mark.parametrize(
    "names",
    [("train", "val"), ("train", "dev", "test"), ("train_sft", "test_sft"), ("Train", "valid", "eval")],
)
def test_splits_are_known_by_the_names_that_people_give_them(tmp_path, names):
    """`val` and `dev` were dropped in silence, and `train_sft` was a KeyError."""
    import datasets

    def rows(name):
        pairs = [{"question": f"{name} {n} of what?", "answer": f"{name} {n}"} for n in range(40)]
        return datasets.Dataset.from_list(pairs)

    datasets.DatasetDict({name: rows(name) for name in names}).save_to_disk(tmp_path / "mine")
    pairs, _ = data.load_qa_dataset(str(tmp_path / "mine"), tmp_path)
    assert set(pairs) == {"train", "validation", "test"}
    given = {
        name
        for name in names
        if len([row for side in pairs.values() for row in side if row["answer"].startswith(f"{name} ")]) == 40
    }
    assert given == set(names), "no row is dropped"


def test_two_splits_that_could_be_train_are_named(tmp_path):
    import datasets

    one = datasets.Dataset.from_list([{"question": "Why is it?", "answer": "So."}])
    datasets.DatasetDict({"train_sft": one, "train_gen": one}).save_to_disk(tmp_path / "mine")
    with pytest.raises(
        ValueError, match="has the splits train_sft, train_gen, and 'train_gen' is one too many"
    ):
        data.load_qa_dataset(str(tmp_path / "mine"), tmp_path)


def test_an_instruction_that_is_no_text_is_named_with_its_row(tmp_path):
    """It was a TypeError without the row."""
    rows = [
        {"instruction": "Why?", "output": "So."},
        {"instruction": "Why?", "input": ["a"], "output": "So."},
    ]
    with pytest.raises(ValueError, match="mine.json, row 2: the input is missing, empty or not text"):
        read(write(tmp_path / "mine.json", rows))


@pytest.mark.parametrize("form", ["question", "messages", "bytes"])
def test_parquet_is_read_in_every_form(tmp_path, form):
    from pyarrow import Table, parquet

    row = {"question": "Why?", "answer": "So."} if form == "question" else {"messages": MESSAGES}
    if form == "bytes":  # texts without the mark that they are UTF-8
        row = {"question": b"Why?", "answer": b"So."}
    parquet.write_table(Table.from_pylist([row]), tmp_path / "mine.parquet")
    (pair,) = read(tmp_path / "mine.parquet")
    assert (pair["question"], pair["answer"]) == ("Why?", "So.")
    parquet.write_table(Table.from_pylist([{"question": "Why?", "answer": None}]), tmp_path / "mine.parquet")
    with pytest.raises(ValueError, match="mine.parquet, row 1: the answer is missing"):
        read(tmp_path / "mine.parquet")


@pytest.mark.parametrize("groups", [(1000, 20, 20), (50, 50, 900), (900, 50, 50)])
def test_the_largest_group_of_pairs_is_trained_on(tmp_path, groups):
    """With test and validation taken out one after the other, by the function that splits SQL as well."""
    rows = [
        {"id": f"g{at}", "question": f"{at} {n} of what is it?", "answer": f"{at} {n}"}
        for at, size in enumerate(groups)
        for n in range(size)
    ]
    files.write_jsonl(tmp_path / "mine.jsonl", rows)
    pairs, _ = data.load_qa_dataset(str(tmp_path / "mine.jsonl"), tmp_path)
    assert {side: len(rows) for side, rows in pairs.items()}["train"] == max(groups)
    assert sorted(len(pairs[side]) for side in ("validation", "test")) == sorted(groups)[:2]


def test_a_split_without_rows_is_made_anew(tmp_path):
    """An empty test split was taken as it was, and nothing could be judged in the end."""
    import datasets

    rows = datasets.Dataset.from_list(numbered("alpha", 40))
    datasets.DatasetDict(train=rows, test=rows.select([])).save_to_disk(tmp_path / "mine")
    pairs, _ = data.load_qa_dataset(str(tmp_path / "mine"), tmp_path)
    assert {side: len(rows) for side, rows in pairs.items()} == {"train": 31, "validation": 3, "test": 6}


@pytest.mark.parametrize("side", ["test", "val"])
def test_rows_that_train_and_a_held_out_part_share_are_left_out_of_train_and_said(tmp_path, side, capsys):
    """They were trained on and judged, in silence."""
    import datasets

    rows = numbered("alpha", 40)
    parts = {"train": datasets.Dataset.from_list(rows), side: datasets.Dataset.from_list(rows[:10])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "mine")
    pairs, _ = data.load_qa_dataset(str(tmp_path / "mine"), tmp_path)
    asked = {name: set(part["question"]) for name, part in pairs.items()}
    assert sum(map(len, asked.values())) == 40 == len(set().union(*asked.values()))
    assert {row["question"] for row in rows[:10]} in asked.values()
    said = "10 of 40 rows of train are held out too and left out"
    assert said in capsys.readouterr().out
    datasets.DatasetDict(train=parts[side], test=parts[side]).save_to_disk(tmp_path / "same")
    with pytest.raises(ValueError, match="same' has the splits train, test, and no rows in train"):
        data.load_qa_dataset(str(tmp_path / "same"), tmp_path)


@pytest.mark.parametrize("name", ["a.xlsx", "a.txt", "a.json.gz"])
def test_a_file_that_is_not_read_is_told_apart_from_a_hub_set(tmp_path, name):
    (tmp_path / name).write_text("x")
    with pytest.raises(ValueError, match="has the suffix '.*', which is not read; save it as CSV"):
        data.load_qa_dataset(str(tmp_path / name), tmp_path)


def test_a_folder_of_files_is_read_by_their_names(tmp_path):
    (tmp_path / "mine").mkdir()
    for name, count in {"train": 30, "test": 10}.items():
        files.write_jsonl(tmp_path / "mine" / f"{name}.jsonl", numbered(name, count))
    pairs, _ = data.load_qa_dataset(str(tmp_path / "mine"), tmp_path)
    assert {side: len(rows) for side, rows in pairs.items()} == {"train": 27, "validation": 3, "test": 10}
    assert pairs["test"][0]["where"] == f"{tmp_path / 'mine'}, test row 1"


def test_validation_rows_may_all_be_too_long(tokenizer):
    rows, too_long = data.tokenize([{"question": "Why?", "answer": "So."}], tokenizer, 4, least=0)
    assert len(rows) == 0 and rows.column_names == ["input_ids"] and [row["row"] for row in too_long] == [0]


def test_a_control_token_is_named_with_its_row_of_the_file(tmp_path, tokenizer):
    rows = numbered("alpha", 40)
    rows[7]["answer"] += " <eos>"
    files.write_jsonl(tmp_path / "mine.jsonl", rows)
    pairs, _ = data.load_qa_dataset(str(tmp_path / "mine.jsonl"), tmp_path)
    with pytest.raises(ValueError, match="mine.jsonl, row 8, 'alpha 7 of what is it.', has control tokens"):
        [data.tokenize(part, tokenizer, 512) for part in pairs.values()]


def write_adapter(work_dir, weight: str):
    files.write_text(work_dir / "adapter" / "adapter_config.json", weight)
    return work_dir / "adapter"


def kept_by_05(work_dir, rows: list[dict], origin: str = "the file that the parameter names"):
    """The adapter, trained_on and training.json that notebook 05 leaves."""
    files.write_jsonl(work_dir / "mine.jsonl", rows)
    pairs, _ = data.load_qa_dataset(str(work_dir / "mine.jsonl"), work_dir)
    pairs.save_to_disk(work_dir / data.KEPT)
    adapter = write_adapter(work_dir, "one")
    record = {"data": origin, "adapter": files.fingerprint(adapter)}
    files.write_json(work_dir / "training.json", record)
    return adapter, {side: set(rows["question"]) for side, rows in pairs.items()}


def numbered(name: str, count: int) -> list[dict]:
    return [{"question": f"{name} {n} of what is it?", "answer": f"{name} {n}"} for n in range(count)]


def test_what_is_judged_is_what_the_training_held_out(tmp_path):
    """Notebook 06 took work_dir/qa_dataset or the sample, whatever the adapter had been trained on."""
    adapter, sides = kept_by_05(tmp_path, numbered("alpha", 40))
    test, learned, origin = data.held_out("auto", adapter, tmp_path / "elsewhere")
    assert {pair["question"] for pair in test} == sides["test"] and len(learned) == 34
    assert origin == "the file that the parameter names"


def test_another_dataset_is_judged_whole_but_for_what_was_trained_on(tmp_path):
    adapter, sides = kept_by_05(tmp_path, numbered("alpha", 40))
    files.write_jsonl(tmp_path / "new.jsonl", numbered("beta", 3) + numbered("alpha", 40))
    test, _, origin = data.held_out(str(tmp_path / "new.jsonl"), adapter, tmp_path)
    asked = {pair["question"] for pair in test}
    assert asked == sides["test"] | {pair["question"] for pair in numbered("beta", 3)}
    assert "34 of its 43 rows were trained on and are left out" in origin
    files.write_jsonl(tmp_path / "new.jsonl", [{"question": min(sides["train"]), "answer": "Another."}])
    with pytest.raises(ValueError, match="new.jsonl' has no row that the adapter was not trained on"):
        data.held_out(str(tmp_path / "new.jsonl"), adapter, tmp_path)


def test_an_adapter_that_the_record_does_not_know_is_refused_by_name(tmp_path):
    kept_by_05(tmp_path, numbered("alpha", 40))
    adapter = write_adapter(tmp_path, "two")
    with pytest.raises(ValueError, match="training.json is about another adapter than adapter/.*05_finetune"):
        data.held_out("auto", adapter, tmp_path)


def test_an_adapter_without_a_record_is_judged_on_work_dir_and_one_whose_pairs_are_gone_is_refused(tmp_path):
    import datasets

    adapter = write_adapter(tmp_path, "one")
    datasets.Dataset.from_list(numbered("alpha", 40)).save_to_disk(tmp_path / "qa_dataset")
    test, _, origin = data.held_out("auto", adapter, tmp_path)
    assert len(test) == 6 and origin.endswith("what the adapter was trained on is not recorded")
    files.write_json(tmp_path / "training.json", {"data": "the file that the parameter names"})
    with pytest.raises(ValueError, match="trained_on is missing: run notebook 05 again"):
        data.held_out("auto", adapter, tmp_path)


def test_an_adapter_without_its_training_json_is_not_judged_as_if_it_read_nothing(tmp_path):
    """It was asked without its context, and of its own pairs it was said that they were the bundled sample."""
    adapter, _ = kept_by_05(tmp_path, numbered("alpha", 40))
    (tmp_path / "training.json").unlink()
    with pytest.raises(ValueError, match="training.json is missing: run notebook 05 again"):
        data.held_out("auto", adapter, tmp_path)


def test_the_bundled_adapter_is_judged_on_the_sample_whatever_is_in_work_dir(tmp_path):
    adapter, _ = kept_by_05(tmp_path, numbered("alpha", 40))
    (tmp_path / data.KEPT).rename(tmp_path / "qa_dataset")
    test, _, origin = data.held_out("auto", data.models.SAMPLE_ADAPTER, tmp_path)
    assert len(test) > 50 and origin == "the bundled sample" and data.from_reviews(test)


CASES = sorted((REPOSITORY / "tests" / "train" / "cases").iterdir())
ONE, TWO = ("Q?", "A."), ("Q2?", "A2.")
RIGHT = {
    "alpaca.json": [("Summarise the review.\n\nThe chain broke twice.", "Chain trouble.")],
    "blank.jsonl": [ONE, TWO],
    "bom.jsonl": [ONE, TWO],
    "extra.csv": "extra.csv, row 2: wrong number of fields (3 instead of 2)",
    "latin.jsonl": [("Wie groß ist das Rad?", "Gut für mich.")],
    "parts.json": [ONE],
    "sharegpt.json": [("Is the seat comfortable?", "Most riders say so.")],
    "templated.jsonl": "templated.jsonl, row 1, '<start_of_turn>user",
}


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_each_case_is_read_or_refused_with_its_row(path, tokenizer, capsys):
    right = RIGHT[path.name]
    if isinstance(right, str):
        with pytest.raises(ValueError, match=re.escape(right)):
            data.tokenize(read(path), tokenizer, 512)
    else:
        assert [(pair["question"], pair["answer"]) for pair in read(path)] == right
    assert ("read as Windows-1252" in capsys.readouterr().out) == (path.name == "latin.jsonl")


@pytest.mark.parametrize(
    "text, token",
    [
        ("Why?<eos>", "<eos>"),
        ("<bos>Why?", "<bos>"),
        ("<pad>", "<pad>"),
        ("a<start_of_turn>b", "<start_of_turn>"),
    ],
)
def test_every_control_token_is_refused_and_what_only_looks_like_one_is_text(tokenizer, text, token):
    with pytest.raises(ValueError, match=f"^Row 2, .*: take out {token}$"):
        data.tokenize(
            [{"question": "Why?", "answer": "So."}, {"question": "Why?", "answer": text}], tokenizer, 512
        )
    looks = {
        "question": "What is <end_of_turn >, </s> or [INST]?",
        "answer": "Marks of other models: <|im_end|>.",
    }
    assert len(data.tokenize([looks], tokenizer, 512)[0]) == 1
