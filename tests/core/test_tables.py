"""helpers.core.tables: tables as people's programs save them, and rows that cannot be read."""

from __future__ import annotations

import json

import pytest

from helpers.core import tables


def read(path, content: str | bytes) -> list[dict]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tables.read_rows(path)


def test_parquet_gives_what_json_would(tmp_path):
    """It was refused for its suffix, and most data sets of the Hub are in it."""
    import datetime
    import decimal

    from pyarrow import Table, parquet

    path, day = tmp_path / "mine.parquet", datetime.date(2026, 1, 31)
    rows = [
        {"text": "Gut", "turns": [{"role": "user", "content": "ä"}], "day": day, "stars": 5, "price": None},
        {"text": None, "turns": [], "day": None, "stars": None, "price": decimal.Decimal("1.50")},
    ]
    parquet.write_table(Table.from_pylist(rows), path)
    first, second = tables.read_records(path)
    assert first == {**rows[0], "day": "2026-01-31"} and second == {**rows[1], "price": "1.50"}
    assert [row["line"] for row in tables.read_rows(path)] == [1, 2]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="mine.parquet.*Either the file is corrupted"):
        tables.read_rows(path)


@pytest.fixture
def mine(tmp_path):
    return tmp_path / "mine.csv"


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_header_tells_the_delimiter(mine, mark):
    (row,) = read(mine, f'text{mark}stars\n"Good, really; good\t| yes"{mark}5\n')
    assert row == {"line": 2, "record": {"text": "Good, really; good\t| yes", "stars": "5"}}


def test_excels_separator_line_and_rows_without_content_are_no_records(mine):
    rows = read(mine, "sep=;\r\ntext;stars\r\n\r\nGood;5\r\n;\r\nBad;x\r\n")
    assert [(row["line"], row["record"]["text"]) for row in rows] == [(4, "Good"), (6, "Bad")]


def test_columns_without_a_name_or_with_the_same_name_are_told_apart(mine):
    (row,) = read(mine, "text,,text\nfirst,x,second\n")
    assert row["record"] == {"text": "first", "(column 2)": "x", "text (column 3)": "second"}


def test_columns_without_a_name_and_a_value_are_excels_and_dropped(mine):
    rows = read(mine, 'text,,stars,,,\n"Good",,5,,,\nBad,,1\n')
    assert [row["record"] for row in rows] == [{"text": "Good", "stars": "5"}, {"text": "Bad", "stars": "1"}]


def test_quotation_marks_behind_backslashes(mine):
    rows = read(mine, 'text,stars\n"He said \\"good, or bad\\" to me",5\n"",1\n')
    assert [row["record"]["text"] for row in rows] == ['He said "good, or bad" to me', ""]
    (row,) = read(mine, 'text,stars\n"It is in C:\\",5\n')
    assert row["record"]["text"] == "It is in C:\\"


def test_quoted_newlines_keep_the_line_numbers_of_the_editor(mine):
    rows = read(mine, 'text,stars\n"one\ntwo, ""three""",5\n"a\nb",1,2\nshort\nFine,4\n')
    assert [row["line"] for row in rows] == [2, 4, 6, 7]
    assert rows[0]["record"]["text"] == 'one\ntwo, "three"' and "reason" not in rows[0] | rows[3]
    assert rows[1]["reason"] == "wrong number of fields (3 instead of 2)"
    assert rows[1]["record"] == ["a\nb", "1", "2"] and rows[2]["record"] == {"text": "short", "stars": ""}


def test_a_quotation_mark_that_is_not_doubled_costs_its_row(mine):
    rows = read(mine, 'text,stars\n"A "good" one",5\nFine,4\n')
    assert [row.get("reason", "")[:15] for row in rows] == ["a quotation mar", ""]
    assert rows[0]["record"] == '"A "good" one",5\n' and rows[1]["record"]["text"] == "Fine"


@pytest.mark.parametrize("after", ["Fine {0},4\n", '"Fine {0}",4\n', '"So ""{0}""",4\n'])
def test_a_quotation_mark_that_never_closes_costs_one_line(mine, after):
    lines = "".join(after.format(number) for number in range(3))
    rows = read(mine, f'text,stars\nGood,5\n"Bad,1\n{lines}')
    (broken,) = [row for row in rows if "reason" in row]
    assert len(rows) == 5 and broken["line"] == 3 and broken["record"] == '"Bad,1\n'
    assert broken["reason"].startswith("a quotation mark is not closed")


def test_a_text_longer_than_csv_allows_is_one_text(mine):
    long = "word, word\n" * 16_000
    rows = read(mine, f'stars,text\n5,"{long}"\n4,Fine\n')
    assert [row["line"] for row in rows] == [2, 16_003] and rows[0]["record"]["text"] == long


def test_commas_in_the_questions_of_a_survey_are_no_delimiter(mine):
    rows = read(mine, "Date;Why, in your words, and how?\n31.01.2026;It came late, and wet.\n1.2.2026;Good\n")
    assert rows[0]["record"] == {
        "Date": "31.01.2026",
        "Why, in your words, and how?": "It came late, and wet.",
    }


def test_empty_fields_at_the_end_may_lack_or_be_too_many(mine, capsys):
    rows = read(mine, "text,stars,reply\nGood,5\nFine,4,,,\nBad\nWorse,1,Sorry,and,more\n")
    assert [row["record"]["stars"] for row in rows[:3]] == ["5", "4", ""]
    assert rows[3]["reason"] == "wrong number of fields (5 instead of 3)"


@pytest.mark.parametrize("header", ["stars,text", "text"])
def test_a_last_column_of_texts_without_quotes_is_read_with_a_note(mine, capsys, header):
    stars = "5," * (header != "text")
    rows = read(mine, f"{header}\n{stars}Good, and cheap\n{stars}Good, but late, and wet\n")
    assert [row["record"]["text"] for row in rows] == ["Good, and cheap", "Good, but late, and wet"]
    many = "mine.csv, 2 rows, the first in line 2: wrong number of fields"
    assert (many in capsys.readouterr().out) == (header != "text")  # one column has no other to be taken for
    if header == "text":
        return
    with pytest.raises(ValueError, match="row 2: wrong number of fields .*, the last ones read as one"):
        tables.read_records(mine)


def test_one_column_may_have_a_question_for_its_name(mine):
    rows = read(mine, 'What did you think?\n"Good,cheap; and fast"\nLate, but good\n')
    assert [row["record"]["What did you think?"] for row in rows] == [
        "Good,cheap; and fast",
        "Late, but good",
    ]
    assert read(mine, "sep=;\n") == []


def test_spaces_behind_a_comma_do_not_break_a_quoted_text(mine):
    (row,) = read(mine, 'stars, text\n4, "Good, really"\n')
    assert row["record"] == {"stars": "4", "text": "Good, really"}


def test_a_json_line_that_is_none_keeps_its_number_and_the_reason(tmp_path):
    lines = '{"text": "good"}\n\n{"text": "bro\n{"text": "line\u2028separator"}\n[1]\n{"text": "torn'
    rows = read(tmp_path / "a.jsonl", lines)
    assert [row["line"] for row in rows] == [1, 3, 4, 5, 6]
    assert [row["record"] for row in rows if "reason" not in row] == [
        {"text": "good"},
        {"text": "line\u2028separator"},
    ]
    assert rows[1]["reason"].startswith("not JSON") and rows[1]["record"] == '{"text": "bro'
    assert rows[3]["reason"] == "not a JSON object"


def test_json_lines_an_array_and_the_one_list_of_an_object_are_the_same(tmp_path):
    records = [{"id": "1", "text": "good"}, {"id": "2", "text": "bad"}]
    array = read(tmp_path / "a.json", json.dumps(records, indent=1))
    assert array == read(tmp_path / "b.json", json.dumps({"company": "A", "page": [], "reviews": records}))
    feed = {"feed": {"title": {"label": "A"}, "entry": records, "link": [{"rel": "self"}]}}
    assert array == read(tmp_path / "d.json", json.dumps(feed))
    assert array == read(tmp_path / "c.jsonl", "\n".join(json.dumps(row) for row in records))
    assert [row["line"] for row in array] == [1, 2]


def test_a_single_line_with_a_list_in_it_is_one_record(tmp_path):
    """A dialogue's `messages` are the one list in a line of JSON Lines, and no rows of their own."""
    line = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "model", "content": "b"}]})
    (row,) = read(tmp_path / "a.jsonl", line + "\n")
    assert row["record"] == json.loads(line)


def test_a_text_alone_is_no_record(tmp_path):
    assert read(tmp_path / "a.json", '"text"') == [
        {"line": 1, "record": "text", "reason": "not a JSON object"}
    ]


@pytest.mark.parametrize(
    "whole",
    [
        {"-Nx0": {"text": "good", "id": 1}, "-Nx1": {"text": "bad", "id": 2}},
        {"reviews": {"7": {"text": "good", "id": 1}, "9": {"text": "bad", "id": 2, "reply": "?", "at": "x"}}},
        {"text": {"5": "good", "7": "bad"}, "id": {"5": 1, "7": 2}},
    ],
)
def test_records_and_columns_by_key(tmp_path, whole):
    records = [row["record"] for row in read(tmp_path / "a.json", json.dumps(whole))]
    records = [record.get("reviews", record) for record in records]
    assert [(record["text"], record["id"]) for record in records] == [("good", 1), ("bad", 2)]


def test_objects_with_little_in_common_are_one_record(tmp_path):
    whole = {"user": {"name": "Ann", "id": 1}, "review": {"id": 2, "text": "good"}}
    assert [row["record"] for row in read(tmp_path / "a.json", json.dumps(whole))] == [whole]


def test_records_of_an_array_are_numbered(tmp_path):
    rows = read(tmp_path / "a.json", json.dumps({"total": [1], "reviews": [{"a": 1}, {"a": 2}, 3]}, indent=1))
    assert [row["line"] for row in rows] == [1, 2, 3]
    assert rows[2] == {"line": 3, "record": 3, "reason": "not a JSON object"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_of_exports(mine, capsys, encoding):
    rows = read(mine, "text,stars\nplain and long enough,1\nDéjà vu für 5 €,5\n".encode(encoding))
    assert rows[1]["record"] == {"text": "Déjà vu für 5 €", "stars": "5"}
    assert ("Windows-1252. Save it as UTF-8 if line 3" in capsys.readouterr().out) == (encoding == "cp1252")


@pytest.mark.parametrize("encoding, mark", [("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")])
def test_utf_16_with_its_mark_is_read_where_hardly_a_byte_is_zero(mine, encoding, mark):
    text = "良い自転車です。また買います"
    (row,) = read(mine, mark + f"本文,評価\n{text * 3},5\n".encode(encoding))
    assert row["record"] == {"本文": text * 3, "評価": "5"}


def test_a_stray_zero_byte_costs_no_row(mine):
    rows = read(mine, b"text,stars\nplain\x00and long enough,1\nmore of it,5\n")
    assert [row["record"]["stars"] for row in rows] == ["1", "5"]


@pytest.mark.parametrize(
    "encoding, line",
    [
        ("cp1251", "цена хорошая, доставка быстрая"),
        ("cp932", "良い自転車です。また買います"),
        ("cp1250", "Świetna obsługa, wysyłka błyskawiczna"),
        ("cp1250", "Balík přišel poškozený a peníze zpět trvaly měsíc."),
        ("cp1250", "A csomag sérült volt, a pénzt később kaptam."),
        ("cp1254", "Paket ıslak geldi, iade üç hafta sürdü, fiyatına göre iyi"),
        ("cp1253", "Πολύ καλή εξυπηρέτηση και γρήγορη παράδοση"),
        ("cp850", "Très bon café, livraison rapide et soignée."),
        ("mac_roman", "Schöne Tür, für den Preis völlig in Ordnung. Süßer Duft, hält aber nur kurz"),
    ],
)
def test_no_text_is_garbled_in_silence(mine, encoding, line):
    """Read as Windows-1252, Polish became "obs³uga"."""
    with pytest.raises(ValueError, match=r"mine.csv is not UTF-8, .* garbles line 2 .* as UTF-8$") as error:
        read(mine, f'text;stars\n"{line}";5\n'.encode(encoding))
    assert f" {encoding}" in str(error.value)


@pytest.mark.parametrize(
    "line",
    ["Schöne Tür, wie geht´s, und für den Preis völlig in Ordnung", "Le colis était abîmé, l’«idée» déçoit"]
    + ["¿Y el niño? ¡Qué ilusión!", "Não tenho razão de queixa, as ligações são ótimas", "Col·lecció d'àudio"]
    + ["Påsen var trasig, jättedåligt", "Måske dyrt, øl og brød på crème brûlée", "Tämä on hyvä, ääääh, yö"]
    + [
        "Mjög góð þjónusta og hröð afgreiðsla, ég þakka",
        "È arrivato, c'è qualità",
        "Één goede ervaring, geïnd",
    ],
)
def test_western_letters_are_not_taken_for_another_encoding(mine, line):
    (row,) = read(mine, f"text;stars\n{line};5\n".encode("cp1252"))
    assert row["record"]["text"] == line


def test_a_broken_byte_costs_its_row_and_not_the_file(mine):
    lines = "text\nA long line with one Café\n".encode() + b"Another with one Caf\xe9\n"
    good, broken = read(mine, lines)
    assert good["record"] == {"text": "A long line with one Café"}
    assert broken["reason"].startswith("not UTF-8") and broken["record"] == {
        "text": "Another with one Caf\ufffd"
    }


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.csv", "", "a.csv is empty"),
        ("a.json", " \n", "a.json is empty"),
        ("a.json", '[{"text": "a"},\n{"text": ]', r"a.json, line 2, column 10: .* damaged or was cut off"),
        (
            "a.csv",
            "Reviews of 31.01.2026\n\nDate;Text\n1.1.2026;Good\n",
            "Delete what stands above the header",
        ),
        (
            "a.csv",
            'Shop: A\nReviews\nText,Stars\n"Good, and, cheap",5\n',
            "Delete what stands above the header",
        ),
        ("a.csv", b"PK\x03\x04\x14\0", "is a workbook, .*save its table as CSV"),
        ("a.json", b"\x1f\x8b\x08\0", "an archive .*save its table as CSV"),
        ("a.csv", "text,stars\nplain,5\n".encode("utf-16-le"), "another binary; save its table as CSV"),
        ("a.xlsx", "PK", r"suffix '.xlsx', which is not read; save it as CSV \(UTF-8\)"),
        ("a", "text", "suffix '', which is not read"),
    ],
)
def test_a_file_that_holds_no_table_is_an_error_that_names_the_fix(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name, content)


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.csv' is no file"):
        tables.read_rows(tmp_path / "nowhere.csv")
    with pytest.raises(FileNotFoundError, match="is no file .*; give the path of one"):
        tables.read_rows(tmp_path)


def test_where_every_row_must_be_whole_the_first_that_is_not_is_named(tmp_path):
    assert read(tmp_path / "a.csv", "a,b\n1,2\n") and tables.read_records(tmp_path / "a.csv") == [
        {"a": "1", "b": "2"}
    ]
    read(tmp_path / "a.csv", "a,b\n1,2\n3,4,5\n1,2\n")
    with pytest.raises(
        ValueError, match=r"a.csv, row 3: wrong number of fields .* It reads: \"\['3', '4', '5'\]\""
    ):
        tables.read_records(tmp_path / "a.csv")
