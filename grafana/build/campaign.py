"""One campaign: its ledger, rate and time left, what holds it, variants and winner, nodes, links."""

from .common import (
    BLUE, CAMPAIGN, GREEN, GREY, ORANGE, PREFIX, RED, Column, Query, bars, board, by, lines, number,
    numbered, row, rows, say, series, states, steps, variable, words,
)

HERE = 'campaign=~"$campaign"'
OVER = 'set=~"accepted|rejected|skipped|unknown"'


def of(name, *matchers):
    """A series of the chosen campaign."""
    return series(f"campaign_{name}", HERE, *matchers)


def share(part, whole):
    return f"{part} / clamp_min({whole}, 1)"


def build():
    made = board(CAMPAIGN, "One campaign: its ledger, rate and time left, what holds it, variants and winner, nodes, links.")
    made = made.with_variable(variable(
        "campaign", "Campaign", "Campaigns that run, wait, or ended in the last minutes of the chosen time. Choose one: "
        "the figures of several are added up.",
        f'label_values({PREFIX}campaign_contacts{{instance=~"$instance"}}, campaign)', everything=False))
    for title, panels in [
        ("Now", now()), ("Ledger", ledger()), ("Rate, time left, and what holds it", rate_and_reason()),
        ("Variants and winner", variants()), ("Flow", flow()), ("Links and answers", links()),
    ]:
        made = made.with_row(row(title))
        for panel in panels:
            made = made.with_panel(panel)
    return numbered(made)


def now():
    return [
        number("State", "none", say(
            "The state of the latest run.", "a paused run waits for `estafette campaign resume`; if nobody paused it, the "
            "guard did: its report says why."),
            Query(by("state", of("state"), "max"), "{{state}}"), label=True, width=4),
        number("Why slow", "none", say(
            "What holds the campaign below what it could do; nothing if it is free.",
            "the row Rate below explains each reason."),
            Query(by("reason", of("stalled"), "max"), "{{reason}}"), label=True, width=4, nothing="nothing holds it"),
        number("Done", "percentunit", say(
            "Share of the audience with a final outcome.", "if it stands still, see Why slow."),
            Query(share(by("", of("contacts", OVER)), by("", of("audience_contacts")))), width=4, decimals=1),
        number("Done in", "s", say(
            "Time until the last contact has its outcome, at the rate of now.",
            "if it ends after its `send_until`, raise the limit or split the audience: what is late is skipped. Runbook: "
            "EstafetteCampaignPastItsWindow."),
            Query(by("", of("eta_seconds"), "max")), width=4, nothing="cannot be said"),
        number("Audience", "short", say(
            "Contacts of the run.", "a surprising number: `estafette campaign audience NAME` says who is in it and why others are not."),
            Query(by("", of("audience_contacts"))), width=4, decimals=0),
        number("Ledger minus audience", "none", say(
            "The seven sets of the ledger less the audience: always 0.",
            "anything else is a defect of the engine: keep the data directory and report it. Runbook: "
            "EstafetteLedgerUnbalanced."),
            Query(by("", of("contacts")) + " - " + by("", of("audience_contacts"))), width=4, decimals=0,
            thresholds=steps((None, RED), (0, GREEN), (0.5, RED))),
    ]


def ledger():
    return [
        lines("Ledger", "short", say(
            "Every contact of the audience is in exactly one set at any time.",
            "deferred grows: the provider asks to come back later, see Channels. unknown grows: hand-overs without an answer. "
            "skipped and rejected are explained beside."),
            Query(by("set", of("contacts")), "{{set}}"), stacked=True),
        bars("Skipped, by reason", "short", say(
            "Contacts that got nothing, and why.",
            "missing_attribute and render_failed are faults of the message: `estafette campaign check`. Opt-outs and "
            "suppressions are as they must be."),
            Query(by("reason", of("skipped_contacts")), "{{reason}}"), width=6, nothing="nobody skipped"),
        bars("Rejected, by class", "short", say(
            "Contacts whose provider refused the message for good.",
            "hard_bounce above 5 %: stop, and clean the list. policy: the provider objects to the content or the sender, "
            "whatever the list is like. Runbook: EstafetteHardBounces."),
            Query(by("class", of("rejected_contacts")), "{{class}}"), width=6, nothing="nobody rejected"),
    ]


def rate_and_reason():
    return [
        lines("Messages a second", "cps", say(
            "Messages with an outcome, a second, as the engine counts them over its last seconds.",
            "compare with the limits in Channels; a saw-tooth is a provider that throttles."),
            Query(by("campaign", of("messages_per_second")), "{{campaign}}")),
        lines("Time left, and until its window closes", "s", say(
            "Time until the run is done at this rate, and time until `send_until`, after which nothing is sent any more.",
            "the first above the second means that people will be skipped: raise the limit now."),
            Query(by("", of("eta_seconds"), "max"), "done in"),
            Query(by("", of("window_left_seconds"), "min"), "window closes in"), dashed="window.*"),
        states("What held it", say(
            "The reasons for which the campaign was slower than it could be.",
            "campaign_limit, domain_limit, connector_limit: your own limits. fair_share: other campaigns use the same "
            "connector. circuit_open, unreachable, no_lane, provider: see Channels, and there whether lanes wait for a permit: a "
            "used-up quota of the hour or the day may show as provider or no_lane. credits: the journal is slower than the lanes, see "
            "Journal. journal_full: the disk. retry_wait: only contacts that wait for another attempt are left. held: those that "
            "are left wait for a decision, an event or a later date. paused waits for you, or its guard paused it: see its "
            "report; stopping: what is on the wire is being answered. no_grant for minutes: the connector was not asked, which "
            "is a defect: report it with the log."),
            Query(by("reason", of("stalled"), "max"), "{{reason}}"),
            mappings=words(_1=("holds", ORANGE)), width=12, height=6, nothing="nothing held it"),
        states("State", say(
            "The states of the run over time.", "a run that went to paused by itself was paused by the guard against bounces "
            "and complaints."),
            Query(by("state", of("state"), "max"), "{{state}}"), mappings=words(_1=("in it", BLUE)), width=12, height=6),
    ]


def variants():
    unique = 'class="human"'
    accepted = by("variant", of("message_contacts", 'set="accepted"'))

    def people(event):
        return by("variant", of("message_unique_contacts", unique, f'event="{event}"'))

    return [
        number("Test", "none", say(
            "The state of each test of the campaign: it runs, waits for a person, or is decided.",
            "waits_for_person: look at the figures and decide with `estafette campaign choose-winner`."),
            Query(by("node, state", of("test_state"), "max"), "{{state}}"), label=True, width=4, nothing="no test"),
        number("Winner", "none", say(
            "The variant that the rest gets.",
            "no winner at the deadline: the sample was too small for the difference; the campaign did what its spec says."),
            Query(by("node, variant", of("test_winner"), "max"), "{{variant}}"), label=True, width=4,
            nothing="none yet"),
        number("p at the last look", "none", say(
            "How easily chance alone would make the leader look this good, adjusted for all pairs; below the level of the "
            "spec it is proven.", "a p that hovers: the sample is too small, or there is no difference. "
            "`estafette winner plan` says what is needed."),
            Query(by("node", of("test_p"), "min"), "node {{node}}"), width=4, decimals=4, nothing="no look yet",
            thresholds=steps((None, GREEN), (0.05, GREY))),
        number("Lead", "percentunit", say(
            "Rate of the leader minus that of the variant it is least clearly ahead of.",
            "a lead that shrinks from look to look is how chance looks."),
            Query(by("node", of("test_effect_ratio"), "max"), "node {{node}}"), width=4, decimals=2,
            nothing="no look yet"),
        number("Looks", "none", say(
            "Planned looks that were made.", "0 long after the start: nothing has matured yet, or no contact of the sample "
            "was accepted."),
            Query(by("node", of("test_look"), "max"), "node {{node}}"), width=4, nothing="no test"),
        number("Sample matured", "percentunit", say(
            "Share of the sample whose window has passed: only these count at a look.",
            "if it stands still, the sample is not being sent: see the row Rate."),
            Query(share(by("node", of("test_contacts", 'set="matured"')), by("node", of("test_contacts", 'set="accepted"'))),
                  "node {{node}}"), width=4, decimals=0, nothing="no test"),
        rows("Variants", say(
            "Each message of the campaign: who got it, and what people did with it. Machines are left out.",
            "a variant with many opt-outs or complaints is not a winner whatever its clicks say; stop it."),
            "variant",
            [
                Column("Assigned", by("variant", of("message_contacts", 'set="assigned"'))),
                Column("Accepted", accepted),
                Column("Opened", people("open")), Column("Clicked", people("click")),
                Column("Opened/accepted", share(people("open"), accepted), "percentunit", 2, bar=True),
                Column("Clicked/accepted", share(people("click"), accepted), "percentunit", 2, bar=True),
                Column("Opted out", people("unsubscribe")), Column("Converted", people("convert")),
                Column("Complained", people("complain")),
            ], height=8),
        lines("Clicks of people, by variant", "percentunit", say(
            "Contacts that clicked, of those who got the variant.",
            "lines that cross late: early clickers are not everybody; let the windows pass before you decide."),
            Query(share(people("click"), accepted), "{{variant}}"), most=None),
        bars("What decides the test", "short", say(
            "Contacts of the sample by variant: accepted, matured, with events within their window, and those set apart.",
            "much suspect or machine beside few events: receivers scan links; trust clicks more than opens."),
            Query(by("variant, set", of("test_contacts")), "{{variant}} {{set}}"), nothing="no test"),
    ]


def flow():
    return [
        lines("Contacts at nodes", "short", say(
            "Contacts at each node of the flow. A campaign without steps has few nodes.",
            "a node that only grows: what follows it is slower than what comes in. Delays are meant to hold contacts."),
            Query(by("node", of("node_contacts")), "node {{node}}"), stacked=True),
        lines("Contacts that leave nodes", "cps", say(
            "Contacts that left each node, a second.",
            "a condition that lets nobody pass: check its expression with `estafette campaign dry-run`."),
            Query(by("node", f"clamp_min(deriv({of('node_moved_contacts')}[$__rate_interval]), 0)"), "node {{node}}")),
        rows("Nodes", say(
            "Where contacts are now, and how many ever left.",
            "compare with `estafette campaign dry-run`, which says what was expected."),
            "node",
            [Column("Here now", by("node", of("node_contacts"))), Column("Left", by("node", of("node_moved_contacts")))],
            width=12, height=8),
        lines("Contacts that wait in the flow", "short", say(
            "Contacts that wait for a time, an event or a winner.",
            "a flat line long after the delay has passed: look at the engine's log."),
            Query(by("campaign", of("waiting_contacts")), "{{campaign}}")),
    ]


def links():
    return [
        bars("Clicks by link", "short", say(
            "People who clicked each link, by message and by the place of the link in it (from 0). At most 20 links a "
            "message are shown; `estafette report` lists all with their addresses.",
            "a link that nobody clicks may be broken or hidden: open the message in `estafette campaign preview`."),
            Query(by("variant, place", of("link_contacts")), "{{variant}} link {{place}}"), nothing="no click yet"),
        lines("Opens and clicks", "short", say(
            "Opens and clicks of the run, by class, repeated ones included.",
            "a jump of machine clicks at the start is a receiver's scanner; it decides nothing."),
            Query(by("event, class", of("events")), "{{event}} {{class}}"), stacked=True),
        lines("People", "short", say(
            "Contacts that opened, clicked, opted out; people only.",
            "opt-outs above 0.5 % of the audience: the audience did not expect this message."),
            Query(by("event", of("unique_contacts")), "{{event}}")),
        lines("Opens and clicks by variant", "short", say(
            "Events of each message of the campaign, repeated ones included.",
            "one variant with far more machine events than the others: its links are scanned more; compare people only."),
            Query(by("variant, event, class", of("message_events")), "{{variant}} {{event}} {{class}}")),
    ]


