"""Random requests with what the clock's answers must say, from datetime and zoneinfo.

usage: clock_reference.py SEED COUNT; lines of request TAB check TAB expected.
The clock stands at Unix time 1,800,000,000 (2027-01-15 08:00:00 UTC), in UTC.
"""

import calendar
import datetime
import random
import sys
import zoneinfo

NOW = datetime.datetime(2027, 1, 15, 8, tzinfo=datetime.timezone.utc)
TODAY = NOW.date()
UTC = datetime.timezone.utc
ZONES = """Africa/Cairo Africa/Johannesburg America/Argentina/Buenos_Aires America/Chicago
America/Los_Angeles America/New_York America/St_Johns America/Sao_Paulo Asia/Kathmandu Asia/Kolkata
Asia/Tehran Asia/Tokyo Australia/Adelaide Australia/Lord_Howe Australia/Sydney Europe/Berlin
Europe/Dublin Europe/London Europe/Moscow Pacific/Apia Pacific/Auckland Pacific/Chatham
Pacific/Kiritimati""".split()
ZONE = {name: zoneinfo.ZoneInfo(name) for name in ZONES}
MONTHS = calendar.month_name


def a_day(rng, first=1, last=9998):
    low = datetime.date(first, 1, 2).toordinal()
    return datetime.date.fromordinal(rng.randint(low, datetime.date(last, 12, 30).toordinal()))


def written(rng, day):
    iso = day.isoformat()
    forms = [iso, iso, iso.replace("-", "/")]
    month = MONTHS[day.month]
    year = "%04d" % day.year
    forms += ["%d %s %s" % (day.day, month, year), "%s %d, %s" % (month[:3], day.day, year)]
    if day.day > 12:
        forms += ["%02d/%02d/%s" % (day.day, day.month, year), "%02d/%02d/%s" % (day.month, day.day, year)]
    return rng.choice(forms)


def named(day):
    return "%s, %s" % (calendar.day_name[day.weekday()], day.isoformat())


def days(count):
    return "%d day%s" % (count, "" if abs(count) == 1 else "s")


def add_months(day, months):
    index = day.year * 12 + day.month - 1 + months
    year, month = divmod(index, 12)
    if not 1 <= year <= 9999:
        return None
    return datetime.date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def difference(rng):
    a, b = a_day(rng), a_day(rng)
    request = "%s between %s and %s" % (rng.choice(["days", "how many days"]), written(rng, a), written(rng, b))
    return request, "prefix", days((b - a).days) + " ("


def until(rng):
    day = a_day(rng, 1900, 2100)
    return "days until %s" % written(rng, day), "prefix", days((day - TODAY).days) + " ("


def since(rng):
    day = a_day(rng, 1900, 2100)
    return "days since %s" % written(rng, day), "prefix", days((TODAY - day).days) + " ("


def weekday(rng):
    day = a_day(rng)
    form = rng.choice(["weekday of %s", "What day of the week was %s?", "what day is %s"])
    return form % written(rng, day), "equal", named(day)


def week(rng):
    day = a_day(rng)
    iso = day.isocalendar()
    return "week number of %s" % written(rng, day), "contains", " is in week %d of %d " % (iso[1], iso[0])


def day_of_year(rng):
    day = a_day(rng)
    return "day of the year of %s" % day, "contains", " is day %d of " % day.timetuple().tm_yday


def shift(rng):
    day = a_day(rng)
    amount = rng.randint(-5000, 5000)
    unit = rng.choice(["days", "weeks", "months", "years"])
    if unit in ("days", "weeks"):
        try:
            moved = day + datetime.timedelta(**{unit: amount})
        except OverflowError:
            return None
    else:
        moved = add_months(day, amount * (12 if unit == "years" else 1))
    sign = "-" if amount < 0 else "+"
    request = "%s %s %d %s" % (written(rng, day), sign, abs(amount), unit)
    if moved is None:
        return request, "code", "OUT_OF_RANGE"
    return request, "equal", named(moved)


def calendar_months(rng):
    a, b = sorted([a_day(rng, 1800, 2300), a_day(rng, 1800, 2300)])
    months = (b.year - a.year) * 12 + b.month - a.month
    while add_months(a, months) > b:
        months -= 1
    rest = (b - add_months(a, months)).days
    text = "%d month%s" % (months, "" if months == 1 else "s")
    if rest:
        text += " " + days(rest)
    return "months between %s and %s" % (a, b), "prefix", text + " (from "


def a_local_time(rng, zone):
    """Often beside a change of the clocks."""
    base = datetime.datetime(1971, 1, 2) + datetime.timedelta(seconds=rng.randrange(100 * 365 * 86400))
    if rng.random() < 0.5:
        return base.replace(second=rng.choice([0, base.second]))
    low, high = base, base + datetime.timedelta(days=200)
    offset = low.replace(tzinfo=zone).utcoffset()
    if high.replace(tzinfo=zone).utcoffset() == offset:
        return base
    while high - low > datetime.timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.replace(tzinfo=zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return (high + datetime.timedelta(minutes=rng.randint(-150, 150))).replace(microsecond=0)


def conversion(rng):
    source, target = rng.sample(ZONES, 2)
    local = a_local_time(rng, ZONE[source])
    aware = local.replace(tzinfo=ZONE[source])
    if rng.random() < 0.3:
        back = aware.astimezone(UTC).astimezone(ZONE[source]).replace(tzinfo=None)
        second = local.replace(tzinfo=ZONE[source], fold=1)
        if back != local:
            return "%s in %s to %s" % (local, source, target), "contains", " does not exist on "
        if second.utcoffset() != aware.utcoffset():
            return "%s in %s to %s" % (local, source, target), "contains", " occurs twice on "
    there = aware.astimezone(UTC).astimezone(ZONE[target])
    expected = " is %s %s " % (named(there.date()), there.strftime("%H:%M:%S"))
    joint = rng.choice(["%s in %s to %s", "%s %s in %s", "convert %s from %s to %s"])
    return joint % (local, source, target), "contains", expected


def unix(rng):
    source = rng.choice(ZONES)
    local = a_local_time(rng, ZONE[source])
    seconds = int(local.replace(tzinfo=ZONE[source]).timestamp())
    return "unix time of %s in %s" % (local, source), "prefix", "%d (" % seconds


def from_unix(rng):
    seconds = rng.randint(-(2**31), 2**32)
    name = rng.choice(ZONES)
    there = (datetime.datetime(1970, 1, 1, tzinfo=UTC) + datetime.timedelta(seconds=seconds)).astimezone(ZONE[name])
    return "timestamp %d in %s" % (seconds, name), "prefix", "%s %s " % (named(there.date()), there.strftime("%H:%M:%S"))


def elapsed(rng):
    source = rng.choice(ZONES)
    a, b = a_local_time(rng, ZONE[source]), a_local_time(rng, ZONE[source])
    seconds = int(b.replace(tzinfo=ZONE[source]).timestamp() - a.replace(tzinfo=ZONE[source]).timestamp())
    sign = "-" if seconds < 0 else ""
    return "seconds between %s in %s and %s in %s" % (a, source, b, source), "prefix", "%s%d s (" % (sign, abs(seconds))


def main():
    rng = random.Random(int(sys.argv[1]))
    count = int(sys.argv[2])
    makers = [difference, until, since, weekday, week, day_of_year, shift, shift, calendar_months,
              conversion, conversion, conversion, unix, from_unix, elapsed]
    while count > 0:
        case = rng.choice(makers)(rng)
        if case is None:
            continue
        print("\t".join(case))
        count -= 1


sys.stdout.reconfigure(encoding="utf-8")
main()
