"""What a model reads with a question: the fact sheet or the chunk that it is about (07, 08 and the page).

A question of the pairs has its own context, unless that is the sheet of a part, which it seldom names. Others get first
what is about a company that they name, then a sheet whose name they hold, then the most words in common (cosine of
TF-IDF vectors, English stems: no synonym, no other language); where that is too little, the sheet of all reviews.
"""

from pathlib import Path

from helpers.clean import texts
from helpers.train import data, models

LEAST = 0.2  # cosine from which on a question is about a topic or a chunk, and not about everything
# What is asked of any topic says nothing about which one.
GENERAL = Path(__file__).with_name("general_words.txt").read_text(encoding="utf-8").split()


class Search:
    """An index of the chunks and fact sheets that question-answer pairs have as their contexts."""

    def __init__(self, pairs: list[dict]):
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

        general = {*map(texts.stem, (*GENERAL, *ENGLISH_STOP_WORDS))}
        self.stems = lambda text: [stem for stem in map(texts.stem, texts.words(text)) if stem not in general]
        self.own = {pair["question"]: pair["chunk_id"] for pair in pairs if "part-" not in pair["chunk_id"]}
        self.sources, self.names, documents = {}, {}, []
        of = {pair["context"].partition(": ")[0] for pair in pairs if pair["kind"] == "overview"}
        for name, pair in {pair["chunk_id"]: pair for pair in pairs}.items():
            first, context = pair["context"].partition("\n")[0], pair["context"]
            title = first.rpartition(": ")[2] if pair["kind"] == "overview" else ""
            sheet = first.replace("### F", "f") if len(of) > 1 else f"fact sheet: {title}"
            self.sources[name] = {"source": sheet if title else f"chunk {name}", "context": context}
            self.names[name] = {*self.stems(first.removesuffix(title))}, {*self.stems(title)}, title
            documents.append("" if name.startswith("whole-") or "part-" in name else context)
        self.vectorizer = TfidfVectorizer(analyzer=self.stems, sublinear_tf=True)
        self.documents = self.vectorizer.fit_transform(documents)

    def find(self, question: str, most: int = 1) -> list[dict]:
        """The `most` likely {"source", "context"}, the best first."""
        asked, vector = {s.rstrip("'’") for s in self.stems(question)}, self.vectorizer.transform([question])
        scores = dict(zip(self.sources, (self.documents @ vector.T).toarray()[:, 0]))

        def rank(name: str) -> tuple:
            company, words, title = self.names[name]
            named = len(words) * (words <= asked) or title.count(" ") * (title in question.lower())
            score = LEAST if name.startswith("whole-") else scores[name]
            return self.own.get(question) == name, len(company) * (company <= asked), named, score

        return [self.sources[name] for name in sorted(self.sources, key=rank, reverse=True)[:most]]


def of_adapter(adapter: Path) -> Search | None:
    """The index of what this adapter was trained and tested on; None where it answers without reading."""
    pairs = [pair for side in data.kept(adapter).values() for pair in side if pair["context"]]
    return Search(pairs) if pairs and data.open_book(adapter) else None


def prompts(adapter: Path, questions: list[str]) -> list[str]:
    """The user's turn for each question to this adapter: what is found for it, and the question."""
    index = of_adapter(adapter)
    return [models.prompt(asked, index.find(asked)[0]["context"] if index else "") for asked in questions]
