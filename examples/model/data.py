"""The conversations Abacus learns from, written by this script and nothing else.

An exchange is a question, its answer and the *fact* behind it. Facts whose hash falls into a small
slice are held out: training never asks them, in any wording, and evaluation asks nothing else. For
sums, differences and dates the fact is the operands, so a held-out answer has to be computed. For
tables too small to be computed from the rest (times tables, weekdays, refusals ...) the fact is the
wording of the question. Everything follows from a seed: the same seed, the same conversations.
"""

import dataclasses
import random
import zlib

import small_talk

HELD_OUT_ONE_IN = 40

ONES = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen""".split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = """January February March April May June July August September October November
December""".split()
MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
ORDINALS = """first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth
thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth""".split()

MAX_TERM = 999
MAX_FACTOR = 20
MAX_DIVIDEND = 400
MAX_DAYS = 60

LIMIT_TERMS = "I add and subtract whole numbers from 0 to 999 only."
LIMIT_FACTORS = "I multiply whole numbers from 0 to 20 only."
LIMIT_DIVISION = "I divide whole numbers from 0 to 400 by whole numbers up to 20 only."
LIMIT_DAYS = "I count up to 60 days only."
LIMIT_KIND = "I only add, subtract, multiply and divide two whole numbers at a time."
DIVIDE_BY_ZERO = "Nothing can be divided by zero."
NO_NUMBER = "I have no number to start from."


@dataclasses.dataclass
class Exchange:
    """One question and its answer; `result` is what a follow-up question starts from."""

    question: str
    answer: str
    fact: tuple
    kind: str
    result: tuple | None = None  # ("number", n), ("date", day of year) or ("weekday", index)


def held_out(fact: tuple) -> bool:
    return zlib.crc32(repr(fact).encode()) % HELD_OUT_ONE_IN == 0


def words(n: int, british: bool = False) -> str:
    """17 -> "seventeen", 123 -> "one hundred twenty-three"; `british` says "one hundred and"."""
    if n < 0:
        return "minus " + words(-n, british)
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + ("-" + ONES[n % 10] if n % 10 else "")
    unit, name = (100, "hundred") if n < 1000 else (1000, "thousand")
    text, rest = f"{words(n // unit, british)} {name}", n % unit
    if not rest:
        return text
    return text + (" and " if british and rest < 100 else " ") + words(rest, british)


def spell(n: int, digits: bool) -> str:
    if digits:
        return str(n) if n >= 0 else f"-{-n}"
    return words(n)


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def ordinal(day: int) -> str:
    suffix = "th" if 10 <= day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{suffix}"


def ordinal_words(day: int) -> str:
    if day <= 20:
        return ORDINALS[day - 1]
    return "thirtieth" if day == 30 else TENS[day // 10] + "-" + ORDINALS[day % 10 - 1]


def month_and_day(day_of_year: int) -> tuple[int, int]:
    day = day_of_year % 365
    for month, length in enumerate(MONTH_DAYS):
        if day < length:
            return month, day + 1
        day -= length
    raise AssertionError("a year has 365 days")


def date_name(day_of_year: int) -> str:
    month, day = month_and_day(day_of_year)
    return f"{MONTHS[month]} {ordinal(day)}"


class Asker:
    """Writes exchanges of one side of the split from one stream of random numbers."""

    def __init__(self, seed: int, want_held_out: bool = False):
        self.rng = random.Random(seed)
        self.want_held_out = want_held_out

    # -- how people write -------------------------------------------------------------------------

    def operand(self, n: int, digits: bool) -> str:
        """A number as it is asked: digits, words, words with "and", words without hyphens."""
        if digits:
            return str(n)
        text = words(n, british=self.rng.random() < 0.15)
        return text.replace("-", " ") if self.rng.random() < 0.1 else text

    def asked_date(self, day_of_year: int) -> str:
        month, day = month_and_day(day_of_year)
        name = MONTHS[month]
        return self.rng.choice([
            f"{name} {ordinal(day)}", f"{name} {ordinal(day)}", f"{name} {day}", f"{day} {name}",
            f"{name} {ordinal_words(day)}", f"the {ordinal(day)} of {name}",
            f"the {ordinal_words(day)} of {name}"])

    def dress(self, core: str) -> str:
        """Wraps the core of a question ("3 plus 4") in one of the ways to ask for it."""
        text = self.rng.choice([
            "What is {}?", "What is {}?", "What is {}?", "What's {}?", "How much is {}?",
            "Calculate {}.", "Compute {}.", "Can you tell me what {} is?", "Please work out {}.",
            "Tell me {}.", "{}", "{}?", "{} =", "I need to know {}.", "what is {}", "{} please",
            "Could you calculate {} for me?", "Hello, what is {}?", "Do you know what {} is?",
        ]).format(core)
        return self.manner(text)

    def manner(self, text: str) -> str:
        """Capitals and full stops as careful and careless people set them."""
        roll = self.rng.random()
        if roll < 0.12:
            return text.lower().rstrip("?.")
        if roll < 0.2:
            return text.rstrip("?.")
        return sentence(text) if roll < 0.95 else text.lower()

    def number(self, limit: int) -> int:
        """Small numbers more often than their share: people ask for them more often."""
        return self.rng.randint(0, min(limit, self.rng.choice([20, 100, limit, limit, limit])))

    # -- arithmetic -------------------------------------------------------------------------------

    def arithmetic(self, name: str, a: int, b: int, digits: bool) -> Exchange:
        """The answer to a (op) b, whoever asks: a question of its own or a follow-up."""
        x, y = spell(a, digits), spell(b, digits)
        if name == "add":
            text, result = f"{x} plus {y} is {spell(a + b, digits)}.", a + b
        elif name == "subtract":
            text, result = f"{x} minus {y} is {spell(a - b, digits)}.", a - b
        elif name == "multiply":
            text, result = f"{x} times {y} is {spell(a * b, digits)}.", a * b
        elif b == 0:
            return Exchange("", DIVIDE_BY_ZERO, (name, a, b), name)
        else:
            rest = f" remainder {spell(a % b, digits)}" if a % b else ""
            text, result = f"{x} divided by {y} is {spell(a // b, digits)}{rest}.", a // b
            if rest:
                return Exchange("", sentence(text), (name, a, b), name)
        return Exchange("", sentence(text), (name, a, b), name, ("number", result))

    def ask_arithmetic(self, name: str) -> Exchange:
        rng = self.rng
        if name in ("add", "subtract"):
            a, b = self.number(MAX_TERM), self.number(MAX_TERM)
            if name == "subtract" and a < b and rng.random() < 0.8:
                a, b = b, a
        elif name == "multiply":
            a, b = rng.randint(0, MAX_FACTOR), rng.randint(0, MAX_FACTOR)
        else:
            b = rng.randint(0 if rng.random() < 0.1 else 1, MAX_FACTOR)
            exact = b > 0 and rng.random() < 0.5
            a = b * rng.randint(0, MAX_FACTOR) if exact else rng.randint(0, MAX_DIVIDEND)
        roll = rng.random()
        exchange = self.arithmetic(name, a, b, digits=roll < 0.5)
        # One in twenty mixes "3 plus four"; the answer is then in digits.
        x, y = self.operand(a, roll < 0.5), self.operand(b, roll < 0.45)
        exchange.question = self.phrase(name, x, y)
        if name in ("multiply", "divide"):
            exchange.fact = (name, exchange.question.lower())
        return exchange

    def phrase(self, name: str, x: str, y: str) -> str:
        rng = self.rng
        if rng.random() < 0.2:
            whole = {
                "add": ["Add {x} and {y}.", "Add {y} to {x}.", "What do {x} and {y} make?"],
                "subtract": ["Subtract {y} from {x}.", "Take {y} away from {x}.",
                             "What is left of {x} without {y}?"],
                "multiply": ["Multiply {x} by {y}.", "Multiply {x} and {y}."],
                "divide": ["Divide {x} by {y}.", "How often does {y} go into {x}?"],
            }[name]
            return self.manner(rng.choice(whole).format(x=x, y=y))
        signs = {
            "add": [" plus "] * 3 + [" + ", "+", " and "],
            "subtract": [" minus "] * 3 + [" - ", "-", " take away ", " less "],
            "multiply": [" times "] * 3 + [" * ", "*", " x ", " × ", " multiplied by "],
            "divide": [" divided by "] * 3 + [" / ", "/", " ÷ ", " over "],
        }[name]
        sign = rng.choice(signs)
        core = x + sign + y
        if sign == " and ":
            core = "the sum of " + core
        return self.dress(core)

    def parity(self) -> Exchange:
        n, digits = self.number(MAX_TERM), self.rng.random() < 0.5
        question = self.manner(self.rng.choice(
            ["Is {} even or odd?", "Is {} odd or even?", "Is the number {} even?", "Is {} odd?"]
        ).format(self.operand(n, digits)))
        answer = sentence(f"{spell(n, digits)} is {'odd' if n % 2 else 'even'}.")
        return Exchange(question, answer, ("parity", n), "parity")

    def compare(self) -> Exchange:
        rng, digits = self.rng, self.rng.random() < 0.5
        a = self.number(MAX_TERM)
        b = self.number(MAX_TERM) if rng.random() < 0.7 else min(MAX_TERM, a + rng.randint(0, 12))
        if rng.random() < 0.5:
            a, b = b, a
        larger = rng.random() < 0.5
        word = rng.choice(["larger", "bigger", "greater"] if larger else ["smaller", "less"])
        x, y = self.operand(a, digits), self.operand(b, digits)
        question = self.manner(rng.choice(
            ["Which is {}, {} or {}?", "What is {}, {} or {}?", "Which number is {}: {} or {}?"]
        ).format(word, x, y))
        if a == b:
            return Exchange(question, "They are equal.", ("compare", a, b, larger), "compare")
        n = max(a, b) if larger else min(a, b)
        answer = sentence(f"{spell(n, digits)} is {'larger' if larger else 'smaller'}.")
        return Exchange(question, answer, ("compare", a, b, larger), "compare", ("number", n))

    def limit(self) -> Exchange:
        """Questions of the right kind about numbers out of reach."""
        rng, digits = self.rng, self.rng.random() < 0.6
        big = rng.choice([1000, rng.randint(1000, 9999), rng.randint(10**4, 10**7)])
        big_text = str(big) if digits or big > 9999 else words(big)
        if digits and rng.random() < 0.3:
            big_text = f"{big:,}"
        small = self.operand(self.number(MAX_TERM), digits)
        choice = rng.randrange(6)
        if choice <= 1:
            pair = (big_text, small) if rng.random() < 0.6 else (small, big_text)
            question = self.phrase(rng.choice(["add", "subtract"]), *pair)
            answer = LIMIT_TERMS
        elif choice == 2:
            a, b = rng.randint(0, MAX_TERM), rng.randint(MAX_FACTOR + 1, MAX_TERM)
            if rng.random() < 0.5:
                a, b = b, a
            question = self.phrase("multiply", self.operand(a, digits), self.operand(b, digits))
            answer = LIMIT_FACTORS
        elif choice == 3:
            a, b = rng.randint(MAX_DIVIDEND + 1, 9999), rng.randint(1, 99)
            if rng.random() < 0.3:
                a, b = rng.randint(0, MAX_DIVIDEND), rng.randint(MAX_FACTOR + 1, MAX_TERM)
            question = self.phrase("divide", self.operand(a, digits), self.operand(b, digits))
            answer = LIMIT_DIVISION
        elif choice == 4:
            a, b = rng.randint(0, 999) / rng.choice([10, 100]), rng.randint(0, 99)
            if rng.random() < 0.5:
                core = rng.choice(["the square root of {}", "{} squared", "{} percent of {}",
                                   "the logarithm of {}", "{} to the power of {}",
                                   "the cosine of {}", "{} factorial"])
                other = rng.randint(2, 99)
                core = core.format(self.operand(b, digits), self.operand(other, digits))
            elif rng.random() < 0.5:
                core = f"{a}{rng.choice([' plus ', ' times ', ' minus ', ' + ', '*'])}{b}"
            else:
                sign = rng.choice([" plus ", " + ", " minus ", " times "])
                core = sign.join(self.operand(rng.randint(0, 99), digits) for _ in range(3))
            question, answer = self.dress(core), LIMIT_KIND
        else:
            n = self.operand(rng.randint(MAX_DAYS + 1, 2000), digits)
            day = self.asked_date(rng.randrange(365))
            way = rng.choice(["after", "before"])
            question, answer = self.dress_date(f"{n} days {way} {day}", way), LIMIT_DAYS
        return Exchange(question, answer, ("limit", question.lower()), "limit")

    # -- days, months and dates -------------------------------------------------------------------

    def dress_date(self, core: str, way: str) -> str:
        text = self.rng.choice([
            "What is the date {}?", "What is the date {}?", "What date is {}?", "Which date is {}?",
            "What day of the year is {}?", "Tell me the date {}.", "{}?", "What is {}?",
            "Which date comes {}?" if way == "after" else "Which date was {}?",
        ]).format(core)
        return self.manner(text)

    def weekday(self) -> Exchange:
        rng, day = self.rng, self.rng.randrange(7)
        kind, name = rng.randrange(4), WEEKDAYS[day]
        if kind == 0:
            step = rng.choice([-1, 1])
            question = {1: ["Which day comes after {}?", "What day follows {}?",
                            "If today is {}, what day is tomorrow?", "What is the day after {}?",
                            "Today is {}. What day is tomorrow?"],
                        -1: ["Which day comes before {}?", "What day precedes {}?",
                             "If today is {}, what day was yesterday?",
                             "What is the day before {}?",
                             "Today is {}. What day was yesterday?"]}[step]
            question = self.manner(rng.choice(question).format(name))
            result = (day + step) % 7
            answer = f"The day {'after' if step > 0 else 'before'} {name} is {WEEKDAYS[result]}."
            return Exchange(question, answer, ("weekday", question), "weekday",
                            ("weekday", result))
        return self.weekday_steps(day, rng.randint(1, 30), rng.random() < 0.5)

    def weekday_steps(self, day: int, n: int, digits: bool, ask: str | None = None) -> Exchange:
        rng, name = self.rng, WEEKDAYS[day]
        after = rng.random() < 0.65
        way, count = ("after" if after else "before"), self.operand(n, digits)
        noun = "day" if n == 1 else "days"
        if ask is None:
            ask = rng.choice(["What day comes {} {} {} {}?", "Which day is {} {} {} {}?",
                              "What day is {} {} {} {}?", "What day of the week is {} {} {} {}?",
                              "{} {} {} {}?"])
        question = self.manner(ask.format(count, noun, way, name))
        result = (day + (n if after else -n)) % 7
        answer = sentence(f"{spell(n, digits)} {noun} {way} {name} is {WEEKDAYS[result]}.")
        return Exchange(question, answer, ("weekday", question), "weekday", ("weekday", result))

    def month(self) -> Exchange:
        rng, month = self.rng, self.rng.randrange(12)
        name, roll = MONTHS[month], self.rng.random()
        if roll < 0.3:
            question = self.manner(rng.choice(
                ["How many days are there in {}?", "How many days does {} have?",
                 "How long is {}?", "How many days are in {}?", "How many days has {}?"]
            ).format(name))
            leap = ", or twenty-nine in a leap year" if month == 1 else ""
            answer = f"{name} has {words(MONTH_DAYS[month])} days{leap}."
            return Exchange(question, answer, ("month", question), "month",
                            ("number", MONTH_DAYS[month]))
        if roll < 0.4:
            table = small_talk.CALENDAR
            question, answer = rng.choice(table)
            question = self.manner(question)
            return Exchange(question, answer, ("month", question), "month")
        n, digits = (1 if roll < 0.65 else rng.randint(1, 12)), rng.random() < 0.5
        after = rng.random() < 0.6
        way = "after" if after else "before"
        result = MONTHS[(month + (n if after else -n)) % 12]
        if n == 1 and rng.random() < 0.8:
            question = self.manner(rng.choice(
                ["Which month comes {} {}?", "What month is {} {}?", "What is the month {} {}?"]
            ).format(way, name))
            return Exchange(question, f"The month {way} {name} is {result}.",
                            ("month", question), "month")
        noun = "month" if n == 1 else "months"
        question = self.manner(rng.choice(
            ["What month is {} {} {} {}?", "Which month comes {} {} {} {}?"]
        ).format(self.operand(n, digits), noun, way, name))
        answer = sentence(f"{spell(n, digits)} {noun} {way} {name} is {result}.")
        return Exchange(question, answer, ("month", question), "month")

    def date(self) -> Exchange:
        rng, start = self.rng, self.rng.randrange(365)
        digits = rng.random() < 0.5
        if rng.random() < 0.15:
            n, noun = rng.randint(1, 8), "week"
        else:
            n, noun = rng.randint(1, MAX_DAYS), "day"
        after = rng.random() < 0.65
        exchange = self.date_steps(start, n, noun, after, digits)
        way = "after" if after else "before"
        core = f"{self.operand(n, digits)} {noun}{'s' * (n > 1)} {way} {self.asked_date(start)}"
        exchange.question = self.dress_date(core, way)
        return exchange

    def date_steps(self, start: int, n: int, noun: str, after: bool, digits: bool) -> Exchange:
        step = n * (7 if noun == "week" else 1) * (1 if after else -1)
        result, way = (start + step) % 365, "after" if after else "before"
        answer = sentence(f"{spell(n, digits)} {noun}{'s' * (n > 1)} {way} {date_name(start)} is "
                          f"{date_name(result)}.")
        return Exchange("", answer, ("date", start, step), "date", ("date", result))

    # -- follow-ups and everything else -----------------------------------------------------------

    def follow_up(self, last: tuple | None) -> Exchange:
        """A question that makes sense only after the answer before it."""
        rng, digits = self.rng, self.rng.random() < 0.5
        if last is None:
            ask = rng.choice(["Add {}.", "Now add {}.", "And minus {}?", "Subtract {}.",
                              "And plus {}?", "Multiply that by {}.", "Divide that by {}."])
            question = self.manner(ask.format(self.operand(self.number(MAX_TERM), digits)))
            return Exchange(question, NO_NUMBER, ("no number", question), "follow-up")
        kind, value = last
        if kind == "number":
            exchange = self.follow_number(value, digits)
        elif kind == "date":
            n, noun = rng.randint(1, MAX_DAYS), rng.choice(["day", "day", "day", "week"])
            n, after = (n if noun == "day" else rng.randint(1, 8)), rng.random() < 0.6
            exchange = self.date_steps(value, n, noun, after, digits)
            ask = ["And {} after that?", "And {} later?", "What about {} later?", "{} later?"]
            if not after:
                ask = ["And {} before that?", "And {} earlier?", "What about {} earlier?"]
            count = f"{self.operand(n, digits)} {noun}{'s' * (n > 1)}"
            exchange.question = self.manner(rng.choice(ask).format(count))
        else:
            exchange = self.weekday_steps(value, rng.randint(1, 30), digits, "And {} {} {} that?")
        exchange.kind = "follow-up"
        return exchange

    def follow_number(self, value: int, digits: bool) -> Exchange:
        rng = self.rng
        name = rng.choice(["add", "add", "subtract", "subtract", "multiply", "divide"])
        n = self.number(MAX_TERM)
        limit = LIMIT_TERMS if not 0 <= value <= MAX_TERM else None
        if name == "multiply":
            n = rng.randint(0, MAX_FACTOR)
            limit = None if 0 <= value <= MAX_FACTOR else LIMIT_FACTORS
        elif name == "divide":
            n = rng.randint(1, MAX_FACTOR)
            limit = None if 0 <= value <= MAX_DIVIDEND else LIMIT_DIVISION
        ask = rng.choice({
            "add": ["Add {}.", "Now add {}.", "And plus {}?", "And {} more?", "Plus {}?",
                    "Add {} to that."],
            "subtract": ["Subtract {}.", "Now take away {}.", "And minus {}?", "Minus {}?",
                         "Subtract {} from that."],
            "multiply": ["Multiply that by {}.", "And times {}?", "Times {}?"],
            "divide": ["Divide that by {}.", "And divided by {}?"],
        }[name])
        exchange = self.arithmetic(name, value, n, digits)
        exchange.question = self.manner(ask.format(self.operand(n, digits)))
        if name in ("multiply", "divide"):
            exchange.fact = (name, exchange.fact, exchange.question)
        if limit:
            exchange.answer, exchange.result = limit, None
        return exchange

    def talk(self) -> Exchange:
        question, answer = self.rng.choice(small_talk.PLEASANTRIES)
        question = self.manner(question)
        return Exchange(question, answer, ("talk", question), "talk")

    def refuse(self) -> Exchange:
        question = small_talk.other_question(self.rng)
        if self.rng.random() < 0.5:
            question = self.manner(question)
        return Exchange(question, small_talk.REFUSAL, ("refuse", question), "refuse")

    KINDS = {"add": 20, "subtract": 17, "multiply": 10, "divide": 9, "date": 15, "weekday": 8,
             "month": 5, "parity": 3, "compare": 5, "limit": 6, "talk": 2, "refuse": 16}

    def draw(self, kind: str, last: tuple | None = None) -> Exchange:
        if kind == "follow-up":
            return self.follow_up(last)
        if kind in ("add", "subtract", "multiply", "divide"):
            return self.ask_arithmetic(kind)
        return getattr(self, kind)()

    def exchange(self, kind: str | None = None, last: tuple | None = None) -> Exchange:
        """An exchange of this asker's side of the split; `last` allows a follow-up to it."""
        if kind is None:
            follow = 0.35 if last else 0.01
            if self.rng.random() < follow:
                kind = "follow-up"
            else:
                kind = self.rng.choices(list(self.KINDS), list(self.KINDS.values()))[0]
        for _ in range(100 * HELD_OUT_ONE_IN):
            exchange = self.draw(kind, last)
            if held_out(exchange.fact) == self.want_held_out:
                return exchange
        if kind == "follow-up" and last:  # a few dates have no step on the held-out side
            return self.exchange()
        raise RuntimeError(f"no {kind} exchange on this side of the split")

    def conversation(self, turns: int) -> list[Exchange]:
        exchanges, last = [], None
        for _ in range(turns):
            exchanges.append(self.exchange(last=last))
            last = exchanges[-1].result
        return exchanges

    def system_prompt(self) -> str | None:
        return self.rng.choice(small_talk.SYSTEM_PROMPTS) if self.rng.random() < 0.3 else None


if __name__ == "__main__":
    asker = Asker(seed=1)
    for exchange in asker.conversation(60):
        print(f"{exchange.kind:10} {exchange.question}  ->  {exchange.answer}")
