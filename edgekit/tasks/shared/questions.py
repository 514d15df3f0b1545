"""A synthetic question answering set (no real one is freely available): paragraphs of invented facts, and their spans.

A paragraph states four facts about people, things and places, each in one of several wordings. Two facts are of the
same kind, so that answering needs the names in the question. It is reproducible: all choices come from Python's
Mersenne Twister.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from edgekit.tasks.shared.squad import Question, Questions

PARAGRAPHS, FACTS, QUESTIONS = 3600, 4, 2

FIRST = (
    "Ada Bruno Carla David Edith Felix Greta Hugo Ines Jonas Karin Leo Mona Nils Olga Paul Rosa Simon Tilda Ugo Vera "
    "Wim Xenia Yuri Zoe Anton Bella Cyrus Dora Emil"
).split()
LAST = (
    "Abel Brandt Castro Dahl Egger Fischer Gomez Hansen Ibsen Jansen Keller Lopez Moreau Novak Olsen Petrov Quist "
    "Rossi Silva Tanaka Ulrich Vidal Weber Yilmaz Zeman Adler Becker Conti Duval Ekman"
).split()
CITIES = (
    "Arles Bergen Cadiz Delft Evora Fulda Ghent Hobart Izmir Jena Kiel Lyon Malmo Nantes Oslo Porto Quito Riga Sofia "
    "Turin Umea Varna Wels York Zagreb"
).split()
TRADES = (
    "baker|carpenter|night nurse|piano teacher|bus driver|glass blower|dentist|road engineer|tailor|sailor|clock maker|"
    "botanist|court clerk|photographer"
).split("|")
THINGS = (
    "blue lamp|city map|copper kettle|box of seeds|silver watch|wooden chair|letter|glass bowl|tool chest|painted mask|"
    "wool coat|small radio"
).split("|")
MACHINES = (
    "water pump|elevator|printing press|bread oven|conveyor|tower crane|ice machine|wind turbine|milling machine|"
    "coffee roaster"
).split("|")
CAUSES = (
    "a worn belt|a leaking valve|a broken fuse|low oil pressure|a loose cable|too much dust|a cracked gear|"
    "a faulty sensor|frozen pipes"
).split("|")
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()

#: kind → wordings of the fact, and slot → wordings of the question it answers
KINDS: Mapping[str, tuple[tuple[str, ...], Mapping[str, tuple[str, ...]]]] = {
    "birth": (
        ("{person} was born in {city} in {year}.", "In {year}, {person} was born in {city}."),
        {
            "city": ("Where was {person} born?", "In which city was {person} born?"),
            "year": ("When was {person} born?", "In which year was {person} born?"),
        },
    ),
    "trade": (
        ("{person} works as a {trade} in {city}.", "The {trade} {person} has a workshop in {city}."),
        {
            "trade": ("What does {person} do for a living?", "What is the trade of {person}?"),
            "city": ("Where does {person} work?", "In which city does {person} work?"),
        },
    ),
    "gift": (
        ("On {date}, {person} gave a {thing} to {other}.", "{person} sent {other} a {thing} on {date}."),
        {
            "thing": ("What did {other} get from {person}?", "What did {person} give to {other}?"),
            "date": ("When did {other} get the {thing}?", "On which day did {person} give away the {thing}?"),
            "other": ("Who got the {thing} from {person}?", "To whom did {person} give the {thing}?"),
        },
    ),
    "machine": (
        (
            "The {machine} in {city} stopped on {day} because of {cause}.",
            "{cause} stopped the {machine} in {city} on {day}.",
        ),
        {
            "cause": ("Why did the {machine} stop?", "What stopped the {machine}?"),
            "day": ("On which day did the {machine} stop?", "When did the {machine} stop?"),
            "city": ("Where is the {machine}?", "In which city did the {machine} stop?"),
        },
    ),
}


def generated(seed: int = 0) -> Questions:
    """PARAGRAPHS × QUESTIONS questions, the same for the same seed."""
    rng = random.Random(seed)
    questions = []
    for number in range(PARAGRAPHS):
        kinds = rng.sample(sorted(KINDS), FACTS - 1)
        kinds.append(kinds[0])
        rng.shuffle(kinds)
        facts = [(kind, _values(rng)) for kind in kinds]
        sentences = [_sentence(rng.choice(KINDS[kind][0]), values) for kind, values in facts]
        context = " ".join(text for text, _ in sentences)
        candidates = [(at, slot) for at, (kind, _) in enumerate(facts) for slot in sorted(KINDS[kind][1])]
        for at, slot in rng.sample(candidates, QUESTIONS):
            kind, values = facts[at]
            question = rng.choice(KINDS[kind][1][slot]).format_map(values)
            start = sum(len(text) + 1 for text, _ in sentences[:at]) + sentences[at][1][slot]
            answer = context[start : start + len(values[slot])]
            questions.append(Question(question, context, ((answer, start),), f"paragraph {number}"))
    return Questions(questions, (), ("the questions are generated from templates, none is real",))


def _values(rng: random.Random) -> dict[str, str]:
    people = [f"{rng.choice(FIRST)} {name}" for name in rng.sample(LAST, 2)]
    return {
        "person": people[0],
        "other": people[1],
        "city": rng.choice(CITIES),
        "year": str(rng.randrange(1900, 2010)),
        "trade": rng.choice(TRADES),
        "thing": rng.choice(THINGS),
        "date": f"{rng.randrange(1, 29)} {rng.choice(MONTHS)}",
        "machine": rng.choice(MACHINES),
        "cause": rng.choice(CAUSES),
        "day": rng.choice(DAYS),
    }


def _sentence(wording: str, values: Mapping[str, str]) -> tuple[str, dict[str, int]]:
    """The capitalised sentence, and the character at which each value begins."""
    text, starts = "", {}
    for plain, slot in re.findall(r"([^{]*)(?:\{(\w+)\})?", wording):
        text += plain
        if slot:
            starts[slot] = len(text)
            text += values[slot]
    return text[0].upper() + text[1:], starts
