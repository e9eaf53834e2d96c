"""Each connector: rate against limit, latency, replies, deferrals, circuits, lanes."""

from .common import (
    CHANNELS, GREEN, PREFIX, RED, YELLOW, Query, bars, board, by, heat, lines, numbered, quantile, rate, row, say, series,
    states, steps, variable, words,
)

HERE = 'connector=~"$connector"'
ACCEPTED = 'outcome="accepted"'
# Providers' words on a message: neither taken back by us nor lost.
ANSWERED = 'outcome=~"accepted|rejected|deferred"'


def build():
    made = board(CHANNELS, "Each connector: rate against limit, latency, replies, deferrals, circuits, lanes.")
    made = made.with_variable(variable(
        "connector", "Connector", "Accounts at providers.",
        f'label_values({PREFIX}connections{{instance=~"$instance"}}, connector)'))
    for title, panels in [
        ("Rate and limit", rates()), ("Latency", latency()), ("What providers answer", replies()),
        ("Circuits and lanes", circuits_and_lanes()), ("Claims and batches", batches()),
    ]:
        made = made.with_row(row(title))
        for panel in panels:
            made = made.with_panel(panel)
    return numbered(made)


def rates():
    accepted = by("connector", rate("messages_total", HERE, ACCEPTED))
    limit = by("connector", series("limit_messages_per_second", HERE))
    return [
        lines("Rate and limit", "cps", say(
            "Messages accepted a second, and the limit in force (dashed): that of the second or the minute, whichever is less. "
            "Without one only the rate is there; limits of the hour and the day are not drawn.",
            "the limit below what is configured: the provider asked to slow down, and it comes back by itself. The rate "
            "below the limit with contacts waiting: see Circuits and lanes."),
            Query(accepted, "{{connector}}"), Query(limit, "limit {{connector}}"), dashed="limit .*"),
        bars("Limit in use", "percentunit", say(
            "The rate as a share of the limit of the second or the minute, of connectors that have one.",
            "near 100 %: your own limit is the bottleneck. Far below with contacts waiting: it is the provider or the lanes, or a "
            "quota of the hour or the day, for which lanes wait in Lanes that wait for a permit."),
            Query(f"{accepted} / {limit}", "{{connector}}"), most=1.0, width=6,
            thresholds=steps((None, GREEN), (0.9, YELLOW)), nothing="no connector has a limit"),
        bars("Contacts that wait", "short", say(
            "Rows that could be claimed now and wait for the connector.",
            "much waiting at a low rate is a backlog: Runbook: EstafetteBacklogGrows."),
            Query(by("connector", series("waiting_contacts", HERE)), "{{connector}}"), width=6),
    ]


def latency():
    return [
        heat("Round trips", say(
            "Time from the mark of a message (all but its last byte is on the wire) to the provider's answer.",
            "a band that climbs: the provider slows down, or the network; a second band: one of its servers. More "
            "connections hide latency up to the provider's own limit."), "round_trip_seconds", HERE),
        lines("Round trips, percentiles", "s", say(
            "Half of the answers are faster than the first line, 99 of 100 than the second.",
            "above some seconds the provider delays on purpose (tarpit): lower the rate before it refuses."),
            Query(quantile(0.5, "round_trip_seconds", "connector", HERE), "half {{connector}}"),
            Query(quantile(0.99, "round_trip_seconds", "connector", HERE), "99 of 100 {{connector}}")),
    ]


def replies():
    def answers(kind):
        return by("connector", rate("messages_total", HERE, kind))

    return [
        lines("Outcomes", "cps", say(
            "What became of messages, a second.",
            "deferred: the provider asks to come back; unknown: handed over and never answered; returned: taken back before "
            "a hand-over, costs nothing."),
            Query(by("outcome", rate("messages_total", HERE)), "{{outcome}}"), stacked=True),
        lines("Deferred", "percentunit", say(
            "Share of the provider's answers that ask to come back.",
            "above 20 % for long: too fast for this provider, or a reputation that suffers. Lower `messages_per_second` of "
            "the connector. Runbook: EstafetteDeferrals."),
            Query(answers('outcome="deferred"') + " / clamp_min(" + answers(ANSWERED) + ", 0.001)", "{{connector}}"),
            most=1.0, thresholds=steps((None, "transparent"), (0.2, RED)), width=6),
        lines("Hard bounces", "percentunit", say(
            "Share of the provider's final answers that say at once: no such address. Behind a smarthost they come back later: see "
            "Late bounces in Tracking.",
            "above 5 % stop the campaign and clean the list; above 10 % providers block the sender. Runbook: "
            "EstafetteHardBounces."),
            Query(by("connector", rate("rejections_total", HERE, 'class="hard_bounce"')) + " / clamp_min("
                  + answers('outcome=~"accepted|rejected"') + ", 0.001)", "{{connector}}"),
            most=1.0, thresholds=steps((None, "transparent"), (0.05, RED)), width=6),
        lines("Rejected, by class", "cps", say(
            "Final refusals a second, by class.",
            "policy: content or reputation, not the address; protocol: a server that breaks the rules; too_large: the "
            "message; retry_deadline: deferred for too long."),
            Query(by("class", rate("rejections_total", HERE)), "{{class}}"), stacked=True),
        lines("Refusals, by reply", "cps", say(
            "Replies other than success, by their first digit and by what their enhanced status code (RFC 3463) speaks of.",
            "4xx system or network: the provider is in trouble; 4xx policy: greylisting or throttling; 5xx policy: blocked, "
            "read the reply in `estafette report`."),
            Query(by("reply, about", rate("refusals_total", HERE)), "{{reply}} {{about}}"), stacked=True),
    ]


def circuits_and_lanes():
    return [
        states("Circuits", say(
            "Times at which a connector was not used because the provider was unreachable or refused the sender.",
            "`estafette connector test NAME` says what the provider answers, and closes the circuit if it works again. "
            "Runbook: EstafetteCircuitOpen."),
            Query(by("connector", series("circuit_open", HERE), "max"), "{{connector}}"),
            mappings=words(_0=("in use", GREEN), _1=("open", RED)), width=12, height=7),
        lines("Throttled, and failed connections", "cps", say(
            "Times a second that the provider asked to slow down, and connections that failed before they were ready.",
            "failures: DNS, network, TLS or the login; throttling that stays: lower the limit yourself, it is smoother than "
            "being throttled. Runbook: EstafetteConnectionsFail."),
            Query(by("connector", rate("throttled_total", HERE)), "throttled {{connector}}"),
            Query(by("connector", rate("connection_failures_total", HERE)), "failed {{connector}}"), height=7),
        lines("Lanes", "short", say(
            "Open connections, those that are wanted now, and the most that the configuration allows (dashed).",
            "wanted below the most: the provider asked for fewer, or there is little to send. Open below wanted: "
            "connections fail."),
            Query(by("connector", series("connections", HERE)), "open {{connector}}"),
            Query(by("connector", series("connections_limit", HERE)), "wanted {{connector}}"),
            Query(by("connector", series("connections_max", HERE)), "most {{connector}}"), dashed="most .*"),
        lines("Lanes that wait for a permit", "short", say(
            "How many lanes, on average, stood still with a message because a limit had no permit: of the second, the minute, the "
            "hour or the day, of the connector, a domain or a campaign, or because the provider asked to wait.",
            "about all lanes: the limit is the bottleneck, and fewer connections would do as well. With a rate of 0 a quota of the "
            "hour or the day is used up: it goes on by itself."),
            Query(by("connector", rate("limit_wait_seconds_total", HERE)), "{{connector}}")),
        lines("Bytes", "Bps", say(
            "Bytes of messages handed over, a second.", "if the network is the limit, make the messages smaller."),
            Query(by("connector", rate("message_bytes_total", HERE)), "{{connector}}")),
        lines("Claimed and not ended", "short", say(
            "Rows that a power loss at this moment could leave unknown, and the most that may be (dashed).",
            "at the limit all the time: answers come slowly, or the journal is slower than the lanes; more credits mean "
            "more unknown outcomes after a power loss."),
            Query(by("connector", series("credits_used", HERE)), "used {{connector}}"),
            Query(by("connector", series("credits_limit", HERE)), "limit {{connector}}"), dashed="limit .*"),
    ]


def batches():
    return [
        lines("Claim of a batch", "s", say(
            "Time from the grant of a batch to its durable claim, for 99 of 100 batches.",
            "this is the journal: see its fsync."),
            Query(quantile(0.99, "batch_claim_seconds", "connector", HERE), "{{connector}}"), width=8),
        lines("Sending of a batch", "s", say(
            "Time from the claim of a batch to its last outcome, for 99 of 100 batches.",
            "long at a low rate is normal: a batch waits for its permits. Otherwise see the round trips."),
            Query(quantile(0.99, "batch_send_seconds", "connector", HERE), "{{connector}}"), width=8),
        lines("Rows of a batch", "short", say(
            "Rows of the middle batch.", "small batches at a high rate cost CPU: many campaigns share the connector."),
            Query(quantile(0.5, "batch_contacts", "connector", HERE), "{{connector}}"), width=8),
        lines("Taken back before the hand-over", "cps", say(
            "Claimed rows that went back to pending, by reason. They cost nothing and nobody is written to twice.",
            "timeout all the time: lanes hold rows without getting to them, fewer connections or a higher limit help."),
            Query(by("reason", rate("claims_returned_total")), "{{reason}}"), stacked=True),
        lines("Skipped at the last moment", "cps", say(
            "Rows skipped when the message was made, by reason: what changed since the audience was taken.",
            "render_failed or missing_attribute: the message needs data that contacts lack; `estafette campaign check`."),
            Query(by("reason", rate("render_skips_total")), "{{reason}}"), stacked=True),
    ]
