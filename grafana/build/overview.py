"""Is everything all right, what is running, and how long still."""

from .common import (
    CAMPAIGN, GREEN, GREY, OVERVIEW, RED, YELLOW, Column, Query, board, by, increase, lines,
    number, numbered, other, rate, row, rows, say, series, steps, text_link, words,
)
from .shared import journal_state, opens_and_clicks, public_answer_time


def build():
    made = board(OVERVIEW, "Is everything all right, what is running, and how long still. Start here.")
    made = made.with_row(row("Is everything all right?"))
    for panel in all_right():
        made = made.with_panel(panel)
    made = made.with_row(row("What is running, and how long still"))
    for panel in running():
        made = made.with_panel(panel)
    made = made.with_row(row("What goes out"))
    for panel in going_out():
        made = made.with_panel(panel)
    made = made.with_row(row("What comes back"))
    for panel in coming_back():
        made = made.with_panel(panel)
    return numbered(made)


def all_right():
    return [
        number("Engine", "none", say(
            "Whether Prometheus reaches every chosen engine.",
            "look whether the process runs and says why it ended (`journalctl -u estafette`); a 401 at the scrape is a wrong "
            "key. See the runbook, EstafetteDown."),
            Query(by("", other("up", 'job="estafette"'), "min")), width=3,
            mappings=words(_0=("down", RED), _1=("up", GREEN)), nothing="not scraped"),
        journal_state(),
        number("Disk free", "percentunit", say(
            "Free share of the file system with the data directory.",
            "make space or move the data directory; below 16 MiB campaigns wait by themselves. Runbook: EstafetteDiskLow."),
            Query(by("", f"{series('disk_free_bytes')} / {series('disk_size_bytes')}", "min")), width=3, decimals=0,
            thresholds=steps((None, RED), (0.1, YELLOW), (0.2, GREEN))),
        number("Open circuits", "none", say(
            "Connectors that are not used because the provider is unreachable or refuses the sender.",
            "open Channels, see which one, then `estafette connector test NAME`. Runbook: EstafetteCircuitOpen."),
            Query(by("", series("circuit_open"))), width=3, thresholds=steps((None, GREEN), (1, RED))),
        number("Unknown outcomes", "none", say(
            "Messages of the chosen time whose fate nobody will learn: handed over, and no answer came. They are not sent "
            "again.", "some after a crash or a lost connection are normal (at most the credits in use then). A steady flow "
            "means a provider that drops connections after the body. Runbook: EstafetteUnknownOutcomes."),
            Query(by("", increase("messages_total", 'outcome="unknown"', window="$__range"))), width=3, decimals=0,
            thresholds=steps((None, GREEN), (0.5, YELLOW), (1000, RED))),
        number("Late launches", "s", say(
            "How long the launch that waits longest is past its time.",
            "a launch waits for a running import or for the engine's own start; look at the campaign's report. Runbook: "
            "EstafetteScheduleLate."),
            Query(by("", series("schedule_lateness_seconds"), "max")), width=3,
            thresholds=steps((None, GREEN), (10, YELLOW), (60, RED))),
        number("Hard bounces", "percentunit", say(
            "Hard bounces of the chosen time, at once or later, as a share of the messages that were accepted or rejected in it.",
            "above 5 % stop and clean the list: providers block senders who go on. A short time after a large run counts its "
            "bounces and not its messages: choose a longer one. Runbook: EstafetteHardBounces."),
            Query("(sum(" + increase("rejections_total", 'class="hard_bounce"', window="$__range") + ") + sum("
                  + increase("bounces_total", 'class="hard"', window="$__range") + ")) / clamp_min(sum("
                  + increase("messages_total", 'outcome=~"accepted|rejected"', window="$__range") + "), 1)"),
            width=3, decimals=2, thresholds=steps((None, GREEN), (0.05, YELLOW), (0.1, RED))),
        number("Alerts", "none", say(
            "Alerts of these rules that fire now. Needs `grafana/prometheus/rules` in Prometheus.",
            "open Prometheus' Alerts page; each alert links to its entry in the runbook."),
            Query('count(ALERTS{alertstate="firing",alertname=~"Estafette.*"}) or vector(0)'), width=3,
            thresholds=steps((None, GREEN), (1, RED))),
    ]


def running():
    waiting = by("", series("campaign_contacts", 'set=~"pending|claimed|deferred"'))
    return [
        number("Runs that send", "none", say(
            "Runs that are running now.", "if a campaign that should run is not here, look at its state in the table."),
            Query(by("", series("runs", 'state="running"'))), width=4),
        number("Runs that wait", "none", say(
            "Runs that wait for their hour, are paused, or are stopping.",
            "a paused run waits for a person, or was paused by the guard against bounces and complaints: its report says "
            "which."),
            Query(by("", series("runs", 'state=~"scheduled|paused|stopping"'))), width=4,
            thresholds=steps((None, GREY), (1, YELLOW))),
        number("Contacts left", "short", say(
            "Contacts of the shown campaigns that have no final outcome yet.",
            "if it does not shrink while something runs, look at the column Why slow below."),
            Query(waiting), width=4, graph=True),
        number("Messages now", "cps", say(
            "Messages that providers accepted, a second.",
            "if it is far below the limit of the connectors, Channels shows what holds the lanes."),
            Query(by("", rate("messages_total", 'outcome="accepted"'))), width=4, graph=True),
        number("Last one done in", "s", say(
            "The longest time left of the running campaigns, at the rate of now; empty if nothing runs or it cannot be said.",
            "see the table for the campaign and why it is slow; a higher limit or another connector helps only if the limit "
            "is the reason."),
            Query(by("", series("campaign_eta_seconds"), "max")), width=4, nothing="nothing runs"),
        number("Launches ahead", "none", say(
            "Campaigns with a launch ahead.",
            "if a campaign that you have planned is missing, `estafette campaign show NAME` says its state."),
            Query(by("", series("scheduled_campaigns"))), width=4),
        rows("Campaigns", say(
            "Campaigns that run, wait, or ended in the last minutes. Done counts every final outcome; Why slow names what "
            "holds the campaign. Click a name for its dashboard.",
            "connector_limit and campaign_limit are your own limits at work; circuit_open, unreachable and provider are the "
            "provider's doing (see Channels); journal_full is a full disk; credits is a journal that is slower than the "
            "lanes (see Journal)."),
            "campaign",
            [
                Column("Audience", by("campaign", series("campaign_audience_contacts"))),
                Column("Done", "1 - " + by("campaign", series("campaign_contacts", 'set=~"pending|claimed|deferred"'))
                       + " / clamp_min(" + by("campaign", series("campaign_audience_contacts")) + ", 1)",
                       "percentunit", 1, bar=True),
                Column("Accepted", by("campaign", series("campaign_contacts", 'set="accepted"'))),
                Column("Messages/s", by("campaign", series("campaign_messages_per_second")), "short", 0),
                Column("Done in", by("campaign", series("campaign_eta_seconds"), "max"), "s", 0),
            ],
            extra=[
                ("state", by("campaign, state", series("campaign_state"), "max"), "State"),
                ("reason", by("campaign, reason", series("campaign_stalled"), "max"), "Why slow"),
            ],
            height=9, link=text_link("Open the campaign", CAMPAIGN, "campaign"), nothing="nothing runs"),
    ]


def going_out():
    return [
        lines("Messages by outcome", "cps", say(
            "What became of messages, a second.",
            "deferred: the provider asks to come back, which the engine does; rejected: see the classes in Channels; "
            "returned: claims taken back before a hand-over, which costs nothing."),
            Query(by("outcome", rate("messages_total")), "{{outcome}}"), stacked=True),
        lines("Accepted by connector", "cps", say(
            "Messages that each connector handed over, a second.",
            "a connector at 0 with contacts waiting has an open circuit, no lanes, or a limit that is used up: see Channels."),
            Query(by("connector", rate("messages_total", 'outcome="accepted"')), "{{connector}}")),
        lines("Contacts that wait", "short", say(
            "Rows that could be claimed now and wait for the connector.",
            "growing while the rate is below the limit: the provider or the lanes are the reason, see Channels."),
            Query(by("connector", series("waiting_contacts")), "{{connector}}")),
        lines("Time to drain", "s", say(
            "Waiting contacts divided by the accepted rate.",
            "if it is longer than you have, raise the limit of the connector, or add a connector."),
            Query(by("connector", series("waiting_contacts")) + " / clamp_min("
                  + by("connector", rate("messages_total", 'outcome="accepted"')) + ", 0.001)", "{{connector}}")),
    ]


def coming_back():
    return [
        opens_and_clicks(width=8),
        lines("Opt-outs and complaints", "cps", say(
            "Unsubscribe requests, complaints and bounces that came back, a second.",
            "complaints above 0.1 % of what was accepted: stop the campaign and look at the audience's consent. Runbook: "
            "EstafetteComplaints."),
            Query(by("", rate("unsubscribes_total")), "opt-outs"), Query(by("", rate("complaints_total")), "complaints"),
            Query(by("", rate("bounces_total")), "late bounces"), width=8),
        public_answer_time(width=8),
    ]
