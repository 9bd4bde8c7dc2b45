"""What a model reads with a question: the fact sheet or the chunk that it is about (07, 08 and the page).

    index = search.of_adapter(adapter)           # of the pairs that it was trained and tested on; None: a closed book
    index.find("How is the support perceived?")  # [{"source": "fact sheet: customer support", "context": …}]

The context of a known question is its own, but for a part's, which few of its questions name. Else a sheet whose name
stands in the question comes first, then what has the most words in common with it, by the cosine of TF-IDF vectors
(scikit-learn); with too few in common it is the sheet of the whole. Words are compared by their English stems.
"""

from __future__ import annotations

from pathlib import Path

from helpers.clean import texts
from helpers.train import data, models

LEAST = 0.2  # cosine from which on a question is about a topic or a chunk, and not about everything
# What is asked of any topic says nothing about which one.
GENERAL = """common issue problem complaint complain criticise dislike worst like love best most praise overall general
customer people think say review mention main big theme recurring rating star trend change time improve first company
perceive perception describe regarding product service recommend experience say tell summarise summary percentage
percent share number negative positive neutral sentiment 1 2 3 4 5"""


class Search:
    """An index of the chunks and fact sheets that question-answer pairs have as their contexts."""

    def __init__(self, pairs: list[dict]):
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

        general = {*map(texts.stem, (*GENERAL.split(), *ENGLISH_STOP_WORDS))}
        self.stems = lambda text: [stem for stem in map(texts.stem, texts.words(text)) if stem not in general]
        by_id = {pair["chunk_id"]: pair for pair in pairs}
        self.own = {pair["question"]: pair["chunk_id"] for pair in pairs if "part-" not in pair["chunk_id"]}
        self.sources, self.names, documents = {}, {}, []
        for name, pair in by_id.items():
            first, context = pair["context"].partition("\n")[0], pair["context"]
            title = first.rpartition(": ")[2] if pair["kind"] == "overview" else ""
            source = f"fact sheet: {title}" if title else f"chunk {name}"
            self.sources[name] = {"source": source, "context": context}
            self.names[name] = {*self.stems(title)}
            documents.append("" if name.startswith("whole-") or "part-" in name else context)
        self.vectorizer = TfidfVectorizer(analyzer=self.stems, sublinear_tf=True)
        self.documents = self.vectorizer.fit_transform(documents)

    def find(self, question: str, most: int = 1) -> list[dict]:
        """The `most` likely {"source", "context"}, the best first."""
        asked, vector = {*self.stems(question)}, self.vectorizer.transform([question])
        scores = dict(zip(self.sources, (self.documents @ vector.T).toarray()[:, 0]))

        def rank(name: str) -> tuple:
            named = len(self.names[name]) if self.names[name] <= asked else 0
            return self.own.get(question) == name, named, LEAST if name.startswith("whole-") else scores[name]

        return [self.sources[name] for name in sorted(self.sources, key=rank, reverse=True)[:most]]


def of_adapter(adapter: Path) -> Search | None:
    """The index of what this adapter was trained and tested on; None where it answers without reading."""
    pairs = [pair for side in data.kept(adapter).values() for pair in side if pair["context"]]
    return Search(pairs) if pairs and data.open_book(adapter) else None


def prompts(adapter: Path, questions: list[str]) -> list[str]:
    """The user's turn for each question to this adapter: what is found for it, and the question."""
    index = of_adapter(adapter)
    contexts = [index.find(question)[0]["context"] if index else "" for question in questions]
    return list(map(models.prompt, questions, contexts))
