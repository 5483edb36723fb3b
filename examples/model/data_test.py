"""Checks of what Abacus is taught: python3 examples/model/data_test.py (standard library only)."""

import datetime
import re
import unittest

import data


def exchanges(seed: int, count: int, want_held_out: bool = False) -> list[data.Exchange]:
    asker = data.Asker(seed, want_held_out)
    return [asker.exchange() for _ in range(count)]


class Names(unittest.TestCase):
    def test_numbers(self):
        for n, text in ((0, "zero"), (13, "thirteen"), (40, "forty"), (42, "forty-two"),
                        (100, "one hundred"), (117, "one hundred seventeen"), (-8, "minus eight"),
                        (1998, "one thousand nine hundred ninety-eight")):
            self.assertEqual(data.words(n), text)
        self.assertEqual(data.words(305, british=True), "three hundred and five")
        self.assertEqual(len({data.words(n) for n in range(-999, 2000)}), 2999)

    def test_dates(self):
        first = datetime.date(2023, 1, 1)
        for day in range(365):
            date = first + datetime.timedelta(days=day)
            self.assertEqual(data.month_and_day(day), (date.month - 1, date.day))
        self.assertEqual([data.ordinal(d) for d in (1, 2, 3, 11, 12, 13, 21, 22, 30)],
                         "1st 2nd 3rd 11th 12th 13th 21st 22nd 30th".split())
        self.assertEqual([data.ordinal_words(d) for d in (3, 20, 21, 30, 31)],
                         "third twentieth twenty-first thirtieth thirty-first".split())


class Answers(unittest.TestCase):
    def test_sums_in_digits_are_right(self):
        """Reads the answers back, so that a wrong table could not teach itself."""
        signs = {"plus": int.__add__, "minus": int.__sub__, "times": int.__mul__,
                 "divided by": int.__floordiv__}
        checked = 0
        for exchange in exchanges(seed=1, count=20000):
            found = re.fullmatch(r"(-?\d+) (plus|minus|times|divided by) (-?\d+) is (-?\d+)"
                                 r"(?: remainder (\d+))?\.", exchange.answer)
            if found:
                a, sign, b, result, rest = found.groups()
                self.assertEqual(signs[sign](int(a), int(b)), int(result), exchange)
                if sign == "divided by":
                    self.assertEqual(int(a) % int(b), int(rest or 0), exchange)
                checked += 1
        self.assertGreater(checked, 3000)

    def test_dates_are_right(self):
        first, checked = datetime.date(2023, 1, 1), 0
        asker = data.Asker(2)
        for _ in range(2000):
            exchange = asker.exchange("date")
            _, start, step = exchange.fact
            begin = first + datetime.timedelta(days=start)
            end = begin + datetime.timedelta(days=step)
            name = f"{data.MONTHS[end.month - 1]} {data.ordinal(end.day)}."
            if 2023 == end.year:  # the years beside it may be leap years, ours never are
                self.assertTrue(exchange.answer.endswith(" is " + name), exchange)
                checked += 1
        self.assertGreater(checked, 1500)

    def test_one_question_has_one_answer(self):
        known: dict[str, str] = {}
        for exchange in exchanges(seed=3, count=60000):
            if exchange.kind != "follow-up":
                answer = known.setdefault(exchange.question, exchange.answer)
                self.assertEqual(answer, exchange.answer, exchange.question)


class Split(unittest.TestCase):
    def test_sides_share_no_fact(self):
        taught = {repr(e.fact) for e in exchanges(seed=4, count=40000)}
        asked = {repr(e.fact) for e in exchanges(seed=4, count=2000, want_held_out=True)}
        self.assertFalse(taught & asked)

    def test_same_seed_same_conversations(self):
        self.assertEqual(exchanges(seed=5, count=200), exchanges(seed=5, count=200))
        self.assertNotEqual(exchanges(seed=5, count=200), exchanges(seed=6, count=200))


if __name__ == "__main__":
    unittest.main()
