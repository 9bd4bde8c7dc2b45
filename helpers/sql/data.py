"""Questions over a schema, with their SQL: reading them, the prompt, and a split by schema (09).

    rows, why = data.load("sample", "schema")        # or a file that core.tables reads, or a Hub id
    train, validation, test = data.split(rows, 10_000, 2_500)
    dataset, too_long = data.tokenize(train, tokenizer, 512)

A row has the columns of `philschmid/gretel-synthetic-text-to-sql`: `sql_prompt` (the question), `sql_context`
(CREATE TABLE and INSERT statements) and `sql`; `load` adds `shown`, the part of the context that the model sees.
"""

import random
from collections import defaultdict
from contextlib import suppress
from functools import cache
from pathlib import Path

from sqlglot.errors import TokenError

from helpers.ask import splits
from helpers.core import files, hub, runtime, tables
from helpers.sql import dialects
from helpers.train import data as qa_data
from helpers.train import models

SAMPLE = runtime.SAMPLES / "text_to_sql.jsonl"
NEEDED = ("sql_prompt", "sql_context", "sql")

# The prompt of Google's guide, so that models trained with either understand the other's questions:
# ai.google.dev/gemma/docs/core/huggingface_text_finetune_qlora
PROMPT = Path(__file__).with_name("prompt.md").read_text("utf-8")


def load(dataset: str, context: str = "all") -> tuple[list[dict], str]:
    """All rows and where they come from: `sample`, a file (`core.tables`), or the train split of a Hub data set.

    `context` is what a prompt shows of sql_context: "all", or only the "schema", its CREATE statements.
    """
    if context not in ("all", "schema"):
        raise ValueError(f"context = {context!r}: a prompt shows 'all' of sql_context, or its 'schema' alone")
    path = Path(dataset).expanduser()
    if dataset == "sample":
        rows, why = files.read_jsonl(SAMPLE), "the bundled sample"
    elif "/" not in dataset or path.is_file() or path.suffix in tables.SUFFIXES:
        rows, why = tables.read_records(path), "the file that the parameter names"
    else:
        import datasets

        hub.log_in()
        rows = datasets.load_dataset(dataset, split="train").to_list()
        why = "the Hub data set that the parameter names"
    if not rows:
        raise ValueError(f"dataset = {dataset!r} holds no row; it needs {', '.join(NEEDED)} in each")
    for number, row in enumerate(rows, 1):
        if bad := [name for name in NEEDED if not isinstance(row.get(name), str) or not row[name].strip()]:
            problem = f"the column {bad[0]!r} is missing, empty or not text; it has {', '.join(row)}"
            raise ValueError(f"{dataset}, row {number}: {problem}. Each needs {', '.join(NEEDED)}.")
        row["shown"] = row["sql_context"]
        if context == "schema":
            row["shown"] = "\n".join(f"{statement};" for statement in create_statements(row["sql_context"]))
        if not row["shown"]:
            raise ValueError(f"{dataset}, row {number} has no CREATE statement: set context to 'all'")
    return rows, why


def has_pairs(dataset: str) -> bool:
    """Whether these are question–answer pairs and no SQL: "auto", a folder, or a file without a column of NEEDED."""
    path = Path(dataset).expanduser()
    if path.is_file():
        return not {*NEEDED}.intersection(*tables.read_records(path)[:1])
    return dataset == "auto" or path.is_dir()


def create_statements(context: str) -> list[str]:
    """The CREATE statements of a context, each on one line, without comments and semicolon; none of torn SQL."""
    with suppress(TokenError):
        return [sql for sql in dialects.statements(context) if sql.lower().startswith("create")]
    return []


@cache
def schema(context: str) -> str:
    """The CREATE statements without case, quotes, blanks and order, to tell whether two contexts have one schema."""
    made = filter(dialects.MAKES.match, create_statements(context))
    return "; ".join(sorted(map(dialects.normal, made))) or context.lower()


def group(row: dict, group_by: str = "schema") -> str:
    """What the row shares with the others of its group: the schema, or the text of the column `group_by`."""
    if group_by == "schema":
        return schema(row["sql_context"])
    return " ".join(str(row[group_by]).lower().split())


def split(rows: list[dict], train_size: int, test_size: int, group_by="schema", seed: int = 3407) -> tuple:
    """(train, validation, test) in seeded order; rows that share a schema stay on one side (`ask.splits`).

    A set smaller than train_size + test_size is divided in their proportion; of a larger one the rest is left out. Each
    side gets at least one group, train the largest. Validation comes out of train: at most 24 rows and a tenth of it.
    With `group_by` the name of a column, rows with the same text there stay together instead, for questions over one
    schema: "sql" keeps the same query on one side. Raises ValueError under three groups.
    """
    names, groups = ", ".join(rows[0]), defaultdict(list)
    if group_by not in ("schema", *rows[0]):
        raise ValueError(
            f"group_by={group_by!r} is not a column of the rows, which have {names}, nor 'schema'"
        )
    for row in rows:
        groups[group(row, group_by)].append(row)
    if len(groups) < 3:
        few = f"The {len(rows)} rows have {len(groups)} different {group_by}, and whole groups are held out"
        raise ValueError(f"{few}. Set group_by to another column ({names}): 'sql' holds out queries.")
    scale = min(1.0, len(rows) / (train_size + test_size))
    train_rows, test_rows = max(2, round(train_size * scale)), max(1, round(test_size * scale))
    sizes = {"validation": max(1, min(splits.VALIDATION_ROWS, train_rows // 10)), "test": test_rows}
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    named = [(name, row) for name in order for row in groups[name]]
    sides = splits.split(named, lambda row: row[:1], sizes, seed=None)
    for side in sides.values():
        random.Random(seed).shuffle(side)
    if scale == 1:
        del sides["train"][train_rows - sizes["validation"] :]
    return tuple([row for _, row in sides[side]] for side in ("train", "validation", "test"))


def pair(row: dict) -> dict[str, str]:
    """The row as `question` (schema and all) and `answer`, the form of the training and the evaluation."""
    shown = row.get("shown", row["sql_context"])
    return {"question": PROMPT.format(context=shown, question=row["sql_prompt"]), "answer": row["sql"]}


def tokenize(rows: list[dict], tokenizer, max_seq_length: int) -> tuple:
    """`masked` rows, and a list of those that are too long, whole, since cutting one off would cut off its SQL."""
    dataset, too_long = masked([pair(row) for row in rows], tokenizer, max_seq_length)
    return dataset, [long | {"question": rows[long["row"]]["sql_prompt"]} for long in too_long]


def masked(pairs: list[dict], tokenizer, max_seq_length: int, open_book: bool = True) -> tuple:
    """`train.data.tokenize` with `completion_mask`: 1 for the answer and the end of its turn, the learned part."""
    dataset, too_long = qa_data.tokenize(pairs, tokenizer, max_seq_length, open_book)
    left_out = {long["row"] for long in too_long}
    fit = [pair for at, pair in enumerate(pairs) if at not in left_out]
    starts = [len(models.chat_ids(tokenizer, text)) for text in qa_data.prompts(fit, open_book)]
    masks = [[0] * start + [1] * (len(ids) - start) for start, ids in zip(starts, dataset["input_ids"])]
    return dataset.add_column("completion_mask", masks), too_long
