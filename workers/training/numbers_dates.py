"""Random numbers, dates, times of day and time zones, as people write them and as the calculator and clock read them."""

from __future__ import annotations

import random

from value import Value

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
MONTHS = (
    "January February March April May June July August September October November December"
).split()
ZONES = {
    "Africa": "Cairo Lagos Nairobi Johannesburg Casablanca Accra Algiers Tunis",
    "America": "New_York Chicago Denver Los_Angeles Toronto Vancouver Mexico_City Sao_Paulo Bogota Lima Phoenix "
    "Anchorage Halifax Caracas Havana Panama Montevideo",
    "Asia": "Tokyo Seoul Shanghai Singapore Hong_Kong Bangkok Jakarta Manila Dubai Karachi Kolkata Dhaka Tehran "
    "Jerusalem Riyadh Baghdad Taipei Kathmandu Tashkent Colombo",
    "Australia": "Sydney Melbourne Brisbane Perth Adelaide Darwin",
    "Europe": "London Paris Berlin Madrid Rome Vienna Zurich Amsterdam Brussels Lisbon Dublin Stockholm Oslo Helsinki "
    "Copenhagen Warsaw Prague Budapest Athens Istanbul Moscow Kyiv Bucharest Sofia",
    "Pacific": "Auckland Honolulu Fiji",
}
ALIASES = {
    "San Francisco": "America/Los_Angeles", "Seattle": "America/Los_Angeles", "Boston": "America/New_York",
    "Washington": "America/New_York", "Miami": "America/New_York", "Houston": "America/Chicago",
    "Dallas": "America/Chicago", "Beijing": "Asia/Shanghai", "Mumbai": "Asia/Kolkata", "Delhi": "Asia/Kolkata",
    "New Delhi": "Asia/Kolkata", "Bangalore": "Asia/Kolkata", "Munich": "Europe/Berlin", "Hamburg": "Europe/Berlin",
    "Barcelona": "Europe/Madrid", "Milan": "Europe/Rome", "Geneva": "Europe/Zurich", "Osaka": "Asia/Tokyo",
    "Rio de Janeiro": "America/Sao_Paulo", "Buenos Aires": "America/Argentina/Buenos_Aires",
    "Santiago": "America/Santiago", "Cape Town": "Africa/Johannesburg", "Tel Aviv": "Asia/Jerusalem",
    "Hawaii": "Pacific/Honolulu", "California": "America/Los_Angeles", "Germany": "Europe/Berlin",
    "France": "Europe/Paris", "Japan": "Asia/Tokyo", "India": "Asia/Kolkata", "UTC": "UTC", "Montreal": "America/Toronto",
    "Edinburgh": "Europe/London", "Las Vegas": "America/Los_Angeles", "Philadelphia": "America/New_York",
}
CITIES = {
    city.replace("_", " "): f"{area}/{city}" for area, cities in ZONES.items() for city in cities.split()
} | ALIASES


def in_words(n: int) -> str:
    """An English number below one million."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + (("-" + ONES[n % 10]) if n % 10 else "")
    if n < 1000:
        return ONES[n // 100] + " hundred" + ((" and " + in_words(n % 100)) if n % 100 else "")
    return in_words(n // 1000) + " thousand" + ((" " + in_words(n % 1000)) if n % 1000 else "")


def integer(r: random.Random) -> Value:
    n = r.choice([r.randint(2, 20), r.randint(2, 100), r.randint(2, 100), r.randint(2, 1000)])
    return Value(in_words(n) if r.random() < 0.12 else str(n), str(n))


def number(r: random.Random) -> Value:
    kind = r.random()
    if kind < 0.40:
        return integer(r)
    if kind < 0.62:
        text = f"{r.choice([r.randint(0, 20), r.randint(0, 1000)])}.{r.choice([r.randint(0, 9), r.randint(10, 99)])}"
        return Value(("$" if r.random() < 0.15 else "") + text, text)
    if kind < 0.72:
        text = f"{r.randint(1, 999)}.{r.randint(0, 99):02d}"
        sign = r.random()
        return Value(f"${text}" if sign < 0.25 else f"{text} dollars" if sign < 0.3 else text, text)
    n = r.choice([r.randint(100, 999), r.randint(1000, 9999), r.randint(1000, 99999), r.randint(10**5, 10**7)])
    if n >= 1000 and r.random() < 0.25:
        return Value(f"{n:,}", str(n))
    if r.random() < 0.1:
        n = r.randint(1, 99) * r.choice([100, 1000])
        return Value(in_words(n), str(n))
    if r.random() < 0.04:
        n = r.randint(1, 20)
        return Value(f"{n} million", f"{n}000000")
    return Value(str(n), str(n))


def percentage(r: random.Random) -> Value:
    if r.random() < 0.15:
        return _same(f"{r.randint(0, 20)}.{r.randint(1, 9)}")
    n = r.choice([5, 10, 15, 20, 25, 50, r.randint(1, 99), r.randint(1, 150)])
    return Value(in_words(n) if r.random() < 0.15 else str(n), str(n))


def _same(text: str) -> Value:
    return Value(text, text)


def digits(r: random.Random) -> Value:
    n = r.randint(1, 20)
    return Value(in_words(n) if r.random() < 0.2 else str(n), str(n))


def zone(r: random.Random) -> Value:
    """A city and its IANA zone, or a zone as it stands. Cities are a closed list: held-out cities would be unknowable."""
    city = r.choice(sorted(CITIES))
    if r.random() < 0.12:
        return _same(CITIES[city])
    return Value(city.lower() if r.random() < 0.3 else city, CITIES[city])


def iso_date(r: random.Random) -> str:
    return f"{r.choice([r.randint(2020, 2035), r.randint(1900, 2100)])}-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}"


def date(r: random.Random) -> Value:
    kind = r.random()
    if kind < 0.1:
        return r.choice([Value("Christmas", "12-25"), Value("christmas", "12-25"), Value("New Year", "01-01"),
                         Value("new year", "01-01"), Value("New Year's Day", "01-01"), Value("Halloween", "10-31"),
                         Value("Christmas Eve", "12-24"), Value("Valentine's Day", "02-14"), Value("new year's eve", "12-31")])
    iso = iso_date(r)
    if kind < 0.4:
        return _same(iso)
    year, month, day = iso.split("-")
    name = MONTHS[int(month) - 1]
    if r.random() < 0.25 and name != "May":
        name = name[:3]
    if r.random() < 0.35:
        name = name.lower()
    number_ = int(day)
    ordinal = f"{number_}{'th' if 10 < number_ < 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(number_ % 10, 'th')}"
    shown = ordinal if r.random() < 0.45 else str(number_)
    text = r.choice([f"{name} {shown}", f"{shown} {name}", f"{shown} of {name}" if shown == ordinal else f"{name} {shown}"])
    if kind < 0.6:
        return Value(text, f"{month}-{day}")
    comma = ", " if text.endswith(shown) and r.random() < 0.6 else " "
    return Value(text + comma + year, iso)


def time_of_day(r: random.Random) -> Value:
    hour, minute = r.randint(0, 23), r.choice([0, 0, 15, 30, 45, r.randint(0, 59)])
    arg = f"{hour:02d}:{minute:02d}"
    if r.random() < 0.35:
        half = "am" if hour < 12 else "pm"
        shown = str(hour % 12 or 12) + (f":{minute:02d}" if minute or r.random() < 0.3 else "")
        return Value(shown + r.choice([" ", ""]) + half, arg)
    return _same(arg)


def iso_value(r: random.Random) -> Value:
    return _same(iso_date(r))
