"""What a plain method gets on the same split: the bar that a small network should clear."""

from __future__ import annotations

import numpy as np

from edgekit import tasks


def biases() -> tuple[str, float]:
    """A mean, a bias per user and one per item, by alternating regularized least squares."""
    task = tasks.load("recommendation")
    train, test = task.load("train"), task.load("test")
    u, i = (train.inputs[name][:, 0] for name in ("user", "item"))
    y = train.labels[:, 0].astype(float)  # type: ignore[index]
    mean, users, items = y.mean(), np.zeros(943), np.zeros(1682)
    for _ in range(20):
        items = np.bincount(i, y - mean - users[u], 1682) / (np.bincount(i, minlength=1682) + 3)
        users = np.bincount(u, y - mean - items[i], 943) / (np.bincount(u, minlength=943) + 5)
    guess = mean + users[test.inputs["user"]] + items[test.inputs["item"]]
    return "user and item biases", task.score({"o": guess}, test.labels).value  # type: ignore[arg-type]


def popularity() -> tuple[str, float]:
    """The items that most people took."""
    task = tasks.load("recommendation?goal=ranking")
    train, test = task.load("train"), task.load("test")
    counts = np.bincount(train.inputs["item"][:, 0], minlength=1682).astype(float)
    return "popularity", task.score({"o": counts[test.inputs["item"]]}, test.labels).value  # type: ignore[arg-type]


def isolation_forest() -> tuple[str, float]:
    from sklearn.ensemble import IsolationForest

    from edgekit.tasks.anomaly_detection import auc

    task = tasks.load("anomaly-detection")
    train, test = task.load("train"), task.load("test")
    forest = IsolationForest(random_state=0).fit(train.inputs["input"])
    flags = test.labels[:, 0]  # type: ignore[index]
    return "isolation forest", auc(np.stack([-forest.score_samples(test.inputs["input"]), flags], 1))


def background() -> tuple[str, float]:
    """All of it background."""
    task = tasks.load("segmentation")
    test = task.load("test")
    logits = np.zeros((len(test), 4, 64, 64), np.float32)
    logits[:, 0] = 1
    return "all background", task.score({"o": logits}, test.labels).value  # type: ignore[arg-type]


def logistic() -> tuple[str, float]:
    from sklearn.linear_model import LogisticRegression

    task = tasks.load("sensor-series")
    train, test = task.load("train"), task.load("test")
    model = LogisticRegression(max_iter=2000).fit(train.inputs["input"].reshape(len(train), -1), train.labels)
    return "logistic regression", float(model.score(test.inputs["input"].reshape(len(test), -1), test.labels))


def least_squares() -> tuple[str, float]:
    from sklearn.linear_model import LinearRegression

    task = tasks.load("regression")
    train, test = task.load("train"), task.load("test")
    model = LinearRegression().fit(train.inputs["input"], train.labels)
    return "least squares", task.score({"o": model.predict(test.inputs["input"])}, test.labels).value  # type: ignore[arg-type]


def tf_idf(word: str = "text-classification") -> tuple[str, float]:
    """A linear SVM over TF-IDF, fitted to the training texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    parts = tasks.load(word)._rows  # type: ignore[attr-defined]
    texts, labels = zip(*((row.text, row.label) for row in parts["train"]), strict=True)
    model = make_pipeline(TfidfVectorizer(sublinear_tf=True), LinearSVC(random_state=0)).fit(texts, labels)
    texts, labels = zip(*((row.text, row.label) for row in parts["test"]), strict=True)
    return "TF-IDF and a linear SVM", float(model.score(texts, labels))


def copied() -> tuple[str, float]:
    """The source as it is."""
    task = tasks.load("translation")
    test = task.load("test")
    return "a copy of the source", task.score({"tokens": test.inputs["source"]}, test.labels).value  # type: ignore[arg-type]


def shared_words() -> tuple[str, float]:
    """The sentence that shares most words with the question: from there, what the question does not hold."""
    import re

    from edgekit.sets.options import SPLITS
    from edgekit.tasks.question_answering import answer_scores

    task = tasks.load("question-answering")
    test = task.load("test")
    said, wanted = [], []
    for split, row in test.labels[:, 2:]:  # type: ignore[index]
        one = task.questions[SPLITS[split]][row]  # type: ignore[attr-defined]
        asked = set(re.findall(r"\w+", one.question.lower()))
        sentences = re.split(r"(?<=\.) ", one.context)
        best = max(sentences, key=lambda text: len(asked & set(re.findall(r"\w+", text.lower()))))
        said.append(" ".join(word for word in re.findall(r"\w+", best) if word.lower() not in asked))
        wanted.append([text for text, _ in one.answers])
    return "the sentence with most of the question's words, without them", answer_scores("f1", said, wanted).value


def forest() -> tuple[str, float]:
    """A random forest over the raw pixels of 20,000 of the training images."""
    from sklearn.ensemble import RandomForestClassifier

    task = tasks.load("fashion-mnist")
    train, test = task.load("train"), task.load("test")
    model = RandomForestClassifier(200, random_state=0)
    model.fit(train.inputs["input"][:20000].reshape(20000, -1), train.labels[:20000])  # type: ignore[index]
    found = float(model.score(test.inputs["input"].reshape(len(test), -1), test.labels))
    return "random forest over pixels, 20,000 images", found
