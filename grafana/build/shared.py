"""Panels that stand on more than one dashboard: one query, one description, wherever they are."""

from .common import GREEN, RED, Query, by, lines, number, percentiles, rate, say, series, words

PUBLIC = 'listener="public"'


def journal_state():
    return number("Journal", "none", say(
        "1 once a write or an fsync of the journal failed. The process ends then, so this is seen for one scrape at most.",
        "look at the disk and the kernel's log before the next start. Runbook: EstafetteJournalFailed."),
        Query(by("", series("journal_failed"), "max")), width=3,
        mappings=words(_0=("fine", GREEN), _1=("failed", RED)))


def up_for(*, width):
    return number("Up for", "s", say(
        "Time since the start of the process.", "small after you did nothing: it restarted; its log says why. Runbook: "
        "EstafetteRestarts."),
        Query(by("", series("uptime_seconds"), "min")), width=width)


def opens_and_clicks(*, width):
    return lines("Opens and clicks, by class", "cps", say(
        "Opens and clicks a second. Only human ones count for tests and conditions.",
        "much suspect or machine traffic is normal at corporate receivers. Human clicks stop while human opens go on: links "
        "are broken, or a scanner makes everything suspect; see Machine rules in Tracking."),
        Query(by("event, class", rate("tracking_events_total")), "{{event}} {{class}}"), stacked=True, width=width)


def public_answer_time(*, width):
    return lines("Answer time of the public listener", "s", say(
        "How long opens, clicks and opt-outs wait for their answer: half of them less than the first line, 99 of 100 less than "
        "the second.", "above 100 ms the journal's fsync is the usual reason: see Journal; else too few cores: see Process."),
        *percentiles("http_request_seconds", PUBLIC), width=width)
