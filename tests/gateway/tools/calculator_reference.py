"""Random expressions with the calculator's expected answers, from fractions and decimal.

usage: calculator_reference.py SEED COUNT; lines of request TAB check TAB expected.
"""

import decimal
import math
import random
import sys
from fractions import Fraction

DIGITS = 20
MAX_BITS = 3000


class Undefined(Exception):
    pass


class TooLarge(Exception):
    pass


def write(negative, digits, exponent, max_plain):
    """0.DIGITS * 10^exponent in the calculator's notation."""
    digits = digits.rstrip("0") or "0"
    if 0 < exponent <= max_plain:
        text = digits.ljust(exponent, "0")
        text = text[:exponent] + ("." + text[exponent:] if len(text) > exponent else "")
    elif -20 <= exponent <= 0:
        text = "0." + "0" * -exponent + digits
    else:
        text = digits[0] + ("." + digits[1:] if len(digits) > 1 else "") + "e%d" % (exponent - 1)
    return ("-" if negative else "") + text


def rounded(value, context):
    """A Decimal of many digits as the calculator rounds it."""
    value = context.plus(value)
    sign, digits, exponent = value.as_tuple()
    return "≈ " + write(sign, "".join(map(str, digits)), exponent + len(digits), DIGITS)


NEAREST = decimal.Context(prec=DIGITS, rounding=decimal.ROUND_HALF_UP)


def expected(value):
    if value.denominator == 1:
        return str(value.numerator)
    rest, places = value.denominator, 0
    for prime in (2, 5):
        count = 0
        while rest % prime == 0:
            rest //= prime
            count += 1
        places = max(places, count)
    if rest == 1:
        scaled = str(abs(value.numerator) * 10**places // value.denominator)
        return write(value < 0, scaled, len(scaled) - places, 65536)
    quotient = NEAREST.divide(decimal.Decimal(value.numerator), decimal.Decimal(value.denominator))
    fraction = "%d/%d" % (value.numerator, value.denominator)
    if len(str(abs(value.numerator))) + len(str(value.denominator)) + 2 > 198:
        raise TooLarge()  # Close to where the fraction is left off.
    return fraction + " " + rounded(quotient, NEAREST)


def checked(value):
    if max(abs(value.numerator).bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise TooLarge()
    return value


def number(rng):
    kind = rng.randrange(6)
    if kind == 0:
        value = rng.randrange(10**9)
        return "{:,}".format(value) if rng.random() < 0.3 else str(value), Fraction(value)
    if kind == 1:
        text = "%d.%s" % (rng.randrange(1000), "".join(rng.choices("0123456789", k=rng.randint(1, 6))))
        return text, Fraction(text)
    if kind == 2:
        text = "%d.%de%d" % (rng.randrange(10), rng.randrange(100), rng.randint(-12, 12))
        return text, Fraction(text)
    value = rng.randrange(100)
    return str(value), Fraction(value)


def round_half_away(value, places):
    scaled = abs(value) * Fraction(10) ** places
    whole = math.floor(scaled + Fraction(1, 2))
    return Fraction(whole) / Fraction(10) ** places * (-1 if value < 0 else 1)


def whole(rng, depth):
    text, value = expression(rng, depth)
    return "floor(%s)" % text, Fraction(math.floor(value))


def function(rng, depth):
    kind = rng.randrange(8)
    a, x = expression(rng, depth - 1)
    if kind == 0:
        name, f = rng.choice([("floor", math.floor), ("ceil", math.ceil), ("trunc", math.trunc), ("abs", abs)])
        return "%s(%s)" % (name, a), Fraction(f(x))
    if kind == 1:
        places = rng.randint(-3, 6)
        return "round((%s), %d)" % (a, places), round_half_away(x, places)
    b, y = expression(rng, depth - 1)
    if kind == 2:
        name, f = rng.choice([("min", min), ("max", max)])
        return "%s((%s), (%s))" % (name, a, b), f(x, y)
    if kind == 3:
        if y == 0:
            raise Undefined()
        return "mod((%s), (%s))" % (a, b), x - y * math.floor(x / y)
    if kind == 4:
        a, x = whole(rng, 0)
        b, y = whole(rng, 0)
        name, f = rng.choice([("gcd", math.gcd), ("lcm", math.lcm)])
        return "%s(%s, %s)" % (name, a, b), Fraction(f(int(x), int(y)))
    if kind == 5:
        return "avg((%s), (%s))" % (a, b), (x + y) / 2
    if kind == 6:
        n = rng.randrange(60)
        return "%d!" % n, Fraction(math.factorial(n))
    return "sum((%s), (%s))" % (a, b), x + y


def expression(rng, depth):
    """Text whose tightest operator is a bracket, a function or a number."""
    if depth <= 0 or rng.random() < 0.15:
        return number(rng)
    if rng.random() < 0.25:
        text, value = function(rng, depth)
        return text, checked(value)
    text, value = chain(rng, depth)
    return "(%s)" % text, checked(value)


def factor(rng, depth):
    text, value = expression(rng, depth)
    if rng.random() < 0.15:
        exponent = rng.randint(-6, 8)
        if value == 0 and exponent < 0:
            raise Undefined()
        text, value = "%s%s%d" % (text, rng.choice(["^", " ** "]), exponent), checked(value**exponent)
    if rng.random() < 0.2:
        text, value = "-" + text, -value
    return text, value


def term(rng, depth):
    text, value = factor(rng, depth)
    for _ in range(rng.choice([0, 0, 1, 2])):
        right, other = factor(rng, depth)
        operator = rng.choice(["*", "×", "·", " times ", "/", "÷", " divided by "])
        if operator in ("/", "÷", " divided by "):
            if other == 0:
                raise Undefined()
            value = checked(value / other)
        else:
            value = checked(value * other)
        text += operator + right
    return text, value


def chain(rng, depth):
    text, value = term(rng, depth - 1)
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        right, other = term(rng, depth - 1)
        if rng.random() < 0.5:
            text, value = text + rng.choice(["+", " + ", " plus "]) + right, value + other
        else:
            text, value = text + rng.choice(["-", " - ", " − ", " minus "]) + right, value - other
    return text, checked(value)


def rational_case(rng):
    try:
        text, value = chain(rng, rng.randint(1, 4))
        prefix = rng.choice(["", "", "what is ", "Calculate ", "how much is "])
        if len(text) > 3000:
            return None
        return prefix + text + rng.choice(["", "", "?", " ="]), "equal", expected(value)
    except TooLarge:
        return None
    except Undefined:
        return None


def zero_division_case(rng):
    text, _ = number(rng)
    return "%s / (%d - %d)" % ((text,) + (rng.randrange(99),) * 2), "code", "INVALID_ARGUMENT"


def real_case(rng):
    """Functions that decimal has, in many more digits than are printed."""
    many = decimal.Context(prec=120)
    x = decimal.Decimal("%d.%d7" % (rng.randrange(40), rng.randrange(10**rng.randint(1, 8))))
    y = decimal.Decimal("%d.%d3" % (rng.randrange(40), rng.randrange(10**rng.randint(1, 8))))
    # An odd last digit of 3 or 7 keeps the roots, logarithms and powers irrational.
    forms = [
        ("sqrt(%s) + ln(%s)", many.add(many.sqrt(x), many.ln(y))),
        ("exp(%s) / sqrt(%s)", many.divide(many.exp(x), many.sqrt(y))),
        ("log(%s) * ln(%s)", many.multiply(many.log10(x), many.ln(y))),
        ("ln(%s + exp(%s))", many.ln(many.add(x, many.exp(y)))),
        ("sqrt(%s) - sqrt(%s)", many.subtract(many.sqrt(x), many.sqrt(y))),
        ("exp(-%s) * exp(%s)", many.exp(many.subtract(y, x))),
        ("e^(%s - %s)", many.exp(many.subtract(x, y))),
    ]
    form, value = rng.choice(forms)
    if x == y:
        return None
    return form % (x, y), "equal", rounded(value, NEAREST)


def main():
    rng = random.Random(int(sys.argv[1]))
    count = int(sys.argv[2])
    decimal.setcontext(decimal.Context(prec=2000))
    while count > 0:
        kind = rng.random()
        make = rational_case if kind < 0.75 else real_case if kind < 0.98 else zero_division_case
        case = make(rng)
        if case is None or len(case[0]) > 3000:
            continue
        print("\t".join(case))
        count -= 1


sys.stdout.reconfigure(encoding="utf-8")
main()
