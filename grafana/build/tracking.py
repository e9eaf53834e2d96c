"""The public listener: opens, clicks, opt-outs; and what comes back by other ways."""

from .common import (
    GREEN, RED, TRACKING, YELLOW, Query, board, by, heat, increase, lines, number, numbered, percentiles, quantile, rate, row,
    say, steps,
)
from .shared import PUBLIC, opens_and_clicks, public_answer_time


def build():
    made = board(TRACKING, "The public listener: opens, clicks, opt-outs; and what comes back by other ways.")
    for title, panels in [("Now", now()), ("Requests", requests()), ("What they were", classes()), ("Opt-outs", optouts()),
                          ("What comes back by other ways", others())]:
        made = made.with_row(row(title))
        for panel in panels:
            made = made.with_panel(panel)
    return numbered(made)


def now():
    return [
        number("Requests", "reqps", say(
            "Requests to the public listener, a second.", "0 while mail goes out: the public address does not lead here; "
            "open a link of a test mail."),
            Query(by("", rate("http_requests_total", PUBLIC))), width=4, graph=True),
        number("Answer time", "s", say(
            "99 of 100 requests of the chosen time were answered faster.", "above 100 ms see Journal: opt-outs wait for its fsync."),
            Query(quantile(0.99, "http_request_seconds", "", PUBLIC, window="$__range")), width=4, nothing="none lately",
            thresholds=steps((None, GREEN), (0.1, YELLOW), (1, RED))),
        number("Failed", "percentunit", say(
            "Share of requests that were answered with 5xx.",
            "the log has each with its route. Runbook: EstafetteHttpErrors."),
            Query(by("", rate("http_requests_total", PUBLIC, 'code="5xx"')) + " / clamp_min("
                  + by("", rate("http_requests_total", PUBLIC)) + ", 0.001) or vector(0)"), width=4, decimals=2,
            thresholds=steps((None, GREEN), (0.001, YELLOW), (0.01, RED))),
        number("Opt-out", "s", say(
            "99 of 100 opt-outs of the chosen time were in force, durably, and answered this fast.",
            "above 2 s receivers may give up the one-click request. Runbook: EstafetteUnsubscribeSlow."),
            Query(quantile(0.99, "unsubscribe_seconds", "", window="$__range")), width=4, nothing="none lately",
            thresholds=steps((None, GREEN), (0.5, YELLOW), (2, RED))),
        number("Events lost", "none", say(
            "Opens and clicks of the chosen time that were answered and could not be recorded because the engine was full.",
            "the reader got the page, only the count is short. Runbook: EstafetteTrackingDropped."),
            Query(by("", increase("tracking_dropped_total", window="$__range"))), width=4, decimals=0,
            thresholds=steps((None, GREEN), (1, RED))),
        number("Foreign tokens", "none", say(
            "Requests of the chosen time with a token that is damaged, foreign or expired.",
            "many: somebody guesses, or links of another installation lead here, or the root key was changed."),
            Query(by("", increase("tracking_refused_total", window="$__range"))), width=4, decimals=0,
            thresholds=steps((None, GREEN), (100, YELLOW))),
    ]


def requests():
    return [
        lines("Requests by route", "reqps", say(
            "Requests a second, by kind of link: /c click, /r click with its address, /o open, /u opt-out, /v view in the "
            "browser.", "much on none: somebody scans the server; a limit in front of it helps."),
            Query(by("route", rate("http_requests_total", PUBLIC)), "{{route}}"), stacked=True, width=8),
        lines("Requests by status", "reqps", say(
            "Requests a second, by class of status.",
            "5xx: the log; 4xx: damaged links, see Foreign tokens."),
            Query(by("code", rate("http_requests_total", PUBLIC)), "{{code}}"), stacked=True, width=8),
        lines("Requests by method", "reqps", say(
            "Requests a second, by method. POST is one-click opt-outs, HEAD is machines.",
            "POST without opt-outs: forms of strangers; they are answered and do nothing."),
            Query(by("method", rate("http_requests_total", PUBLIC)), "{{method}}"), stacked=True, width=8),
        heat("Answer time", say(
            "How long requests to the public listener take.",
            "a band above 100 ms: fsync (see Journal) or too few cores (see Process)."), "http_request_seconds", PUBLIC),
        public_answer_time(width=12),
    ]


def classes():
    return [
        opens_and_clicks(width=12),
        lines("Machine rules", "cps", say(
            "Events that a rule set apart as a machine's or as suspect, by rule.",
            "one rule that catches everything: a gateway or proxy in front of all readers; put its ranges into "
            "`[tracking] prefetch_ranges` or set `trusted_proxies`."),
            Query(by("rule", rate("tracking_machine_total")), "{{rule}}"), stacked=True),
        lines("Refused tokens", "cps", say(
            "Requests with a token that is damaged, foreign or expired, by endpoint.",
            "a steady few are old links and scanners that change letters. A jump: readers of an old campaign whose links have "
            "expired, or somebody who guesses: limit it in a proxy in front. Every link refused: the root key is not the one that made "
            "them; restore it."),
            Query(by("endpoint", rate("tracking_refused_total")), "{{endpoint}}")),
        lines("Events that were lost", "cps", say(
            "Opens and clicks that were answered and could not be recorded.",
            "more than the engine can write: look at CPU in Process and fsync in Journal, and limit floods in front. Runbook: "
            "EstafetteTrackingDropped."),
            Query(by("event", rate("tracking_dropped_total")), "{{event}}")),
    ]


def optouts():
    return [
        heat("Opt-out latency", say(
            "Time from an unsubscribe request to its answer, which is after it is durable and in force.",
            "it is one fsync: see Journal. Runbook: EstafetteUnsubscribeSlow."), "unsubscribe_seconds", width=8),
        lines("Opt-out latency, percentiles", "s", say(
            "Half of the opt-outs are faster than the first line, 99 of 100 than the second.",
            "above 2 s mailbox providers give up: see fsync and the queue in Journal, then CPU in Process. Runbook: "
            "EstafetteUnsubscribeSlow."),
            *percentiles("unsubscribe_seconds"), width=8, thresholds=steps((None, "transparent"), (2, RED))),
        lines("Opt-outs", "cps", say(
            "Unsubscribe requests a second: one_click by the mail program, page by a person.",
            "a jump after a start: the audience did not expect the message."),
            Query(by("via", rate("unsubscribes_total")), "{{via}}"), stacked=True, width=8),
    ]


def others():
    return [
        lines("Events received", "cps", say(
            "Events by type and result, from `POST /v1/events`, files and the inbound mailbox.",
            "refused: the answer of the request names the line and the reason; duplicate is a sender that repeats, which is "
            "harmless."),
            Query(by("type, result", rate("events_total")), "{{type}} {{result}}"), stacked=True, width=8),
        lines("Late bounces", "cps", say(
            "Bounces that came back after the hand-over, by class.",
            "hard ones above 5 % of what was accepted: pause the campaign and clean the list. policy: a receiver objects to the "
            "content or the sender, read its words in `estafette report`. Runbook: EstafetteHardBounces."),
            Query(by("class", rate("bounces_total")), "{{class}}"), stacked=True, width=8),
        lines("Complaints", "percentunit", say(
            "Complaints as a share of what was accepted in the same hours (six).",
            "0.1 % is what large providers tolerate, 0.3 % is where they block. Runbook: EstafetteComplaints."),
            Query(by("", increase("complaints_total", window="6h")) + " / clamp_min("
                  + by("", increase("messages_total", 'outcome="accepted"', window="6h")) + ", 1)", "complaints"),
            thresholds=steps((None, "transparent"), (0.001, YELLOW), (0.003, RED)), width=8),
        lines("Suppressed by what came back", "cps", say(
            "Contacts that were suppressed by rule, by reason.",
            "many at once: a provider that refuses everybody; read its words in `estafette report` before more contacts go."),
            Query(by("reason", rate("event_suppressions_total")), "{{reason}}")),
        lines("Runs that paused by themselves", "short", say(
            "Runs paused by the guard, by cause, in the time of each point.",
            "look at the run's report, mend the list or the message, then resume. Runbook: EstafetteAutoPaused."),
            Query(by("cause", increase("auto_pauses_total")), "{{cause}}"), steps_drawn=True),
    ]
