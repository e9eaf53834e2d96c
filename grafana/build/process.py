"""The process: CPU, memory, files, the API, schedules, the scrape itself."""

from .common import (
    GREEN, PROCESS, RED, YELLOW, Query, board, by, heat, increase, lines, number, numbered, other, percentiles, rate, row,
    say, series, steps,
)
from .shared import up_for

API = 'listener="api"'


def build():
    made = board(PROCESS, "The process: CPU, memory, files, the API, schedules, the scrape itself.")
    for title, panels in [("Now", now()), ("Resources", resources()), ("API", api()), ("Schedules", schedules()),
                          ("Scrape", scrape())]:
        made = made.with_row(row(title))
        for panel in panels:
            made = made.with_panel(panel)
    return numbered(made)


def now():
    return [
        number("Version", "none", say(
            "The version that runs.", "several after an update: an instance was not restarted."),
            Query(by("version", series("build"), "max"), "{{version}}"), label=True, width=4),
        up_for(width=4),
        number("CPU", "percentunit", say(
            "Cores in use: 100 % is one core.",
            "near the machine's cores: sending is CPU-bound; Channels shows whether fewer connections do."),
            Query(by("", rate("cpu_seconds_total"))), width=4, decimals=0, graph=True),
        number("Memory", "bytes", say(
            "Anonymous memory; pages of the contact base are not counted, the system takes them back when it needs them.",
            "it grows with live runs and segments in memory, not with the base. Runbook: EstafetteMemoryGrows."),
            Query(by("", series("resident_memory_bytes", 'kind="anonymous"'), "max")), width=4, graph=True),
        number("Files", "percentunit", say(
            "Open files and sockets, as a share of what the system allows.",
            "above 80 %: raise LimitNOFILE, or lower the connections. Runbook: EstafetteFilesRunOut."),
            Query(by("", f"{series('open_files')} / {series('open_files_limit')}", "max")), width=4, decimals=1,
            thresholds=steps((None, GREEN), (0.6, YELLOW), (0.8, RED))),
        number("Restarts", "none", say(
            "Restarts in the chosen time.", "each has a reason in the log. Runbook: EstafetteRestarts."),
            Query(by("", f"resets({series('uptime_seconds')}[$__range])")), width=4,
            thresholds=steps((None, GREEN), (1, YELLOW), (3, RED))),
    ]


def resources():
    return [
        lines("CPU", "percentunit", say(
            "Cores in use by each instance: 100 % is one core.",
            "at the machine's number of cores: everything gets slower, opt-outs too. Set limits for the connectors, or give it "
            "more cores. High while nothing is sent or imported: look at API requests below for who asks without pause."),
            Query(by("instance", rate("cpu_seconds_total")), "{{instance}}")),
        lines("Memory", "bytes", say(
            "Resident memory: anonymous is the process' own, file is pages of the contact base, which the system may drop.",
            "anonymous that never falls after campaigns end: Runbook: EstafetteMemoryGrows."),
            Query(by("kind", series("resident_memory_bytes")), "{{kind}}"), stacked=True),
        lines("Open files", "short", say(
            "Open files and sockets, and the system's limit (dashed).",
            "they are connections of lanes, requests, and a few files. Runbook: EstafetteFilesRunOut."),
            Query(by("instance", series("open_files")), "{{instance}}"),
            Query(by("instance", series("open_files_limit")), "limit {{instance}}"), dashed="limit .*", log=True),
        lines("Threads", "short", say(
            "Threads of the process: fixed ones and those that block on behalf of requests.",
            "hundreds: requests wait for the disk; see Journal."),
            Query(by("instance", series("threads")), "{{instance}}")),
    ]


def api():
    return [
        lines("API requests, by route", "reqps", say(
            "Requests to the API, a second.", "a script that polls without pause: reports are cheap, exports are not."),
            Query(by("route", rate("http_requests_total", API)), "{{route}}"), stacked=True, width=8),
        lines("API requests, by status", "reqps", say(
            "Requests to the API, by class of status.", "5xx: the log has each. 4xx: a client with a wrong key or spec. "
            "Runbook: EstafetteHttpErrors."),
            Query(by("code", rate("http_requests_total", API)), "{{code}}"), stacked=True, width=8),
        heat("API answer time", say(
            "How long API requests take. Imports and exports are long by nature.",
            "short requests above 100 ms: the disk or the CPU."), "http_request_seconds", API, width=8),
        lines("API answer time, percentiles", "s", say(
            "Half of the requests are faster than the first line, 99 of 100 than the second.",
            "only the second high: exports, imports and reports of large campaigns, which is normal. Both: requests wait for the "
            "disk (fsync in Journal) or for a core (CPU above)."),
            *percentiles("http_request_seconds", API), width=24, height=6),
    ]


def schedules():
    return [
        lines("Launches ahead", "short", say(
            "Campaigns with a launch ahead.", "`estafette calendar` lists them."),
            Query(by("", series("scheduled_campaigns")), "campaigns"), steps_drawn=True, width=8),
        lines("Lateness", "s", say(
            "How long the launch that waits longest is past its time.",
            "above a minute: Runbook: EstafetteScheduleLate."),
            Query(by("", series("schedule_lateness_seconds"), "max"), "late by"),
            thresholds=steps((None, "transparent"), (60, RED)), width=8),
        lines("Launches", "short", say(
            "Launches in the time of each point: made, too late, overtaken by the next.",
            "too_late: the engine was down at the time; the campaign's rule says what is done then."),
            Query(by("outcome", increase("launches_total")), "{{outcome}}"), width=8),
    ]


def scrape():
    return [
        lines("Scrape", "s", say(
            "Time that Prometheus takes to scrape the engine.",
            "above a second: many live campaigns; scrape less often."),
            Query(by("instance", other("scrape_duration_seconds", 'job="estafette"'), "max"), "{{instance}}")),
        lines("Samples", "short", say(
            "Samples of a scrape. Campaigns are bounded: they can add some 4 500 and no more.",
            "far above 5 000: very many connectors."),
            Query(by("instance", other("scrape_samples_scraped", 'job="estafette"'), "max"), "{{instance}}")),
    ]
