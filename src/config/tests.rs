//! Cases of configuration files, good and bad.

use std::path::Path;

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("estafette.toml"))
}

/// The error's words must hold all of `wanted`.
fn refused(text: &str, wanted: &[&str]) {
    let error = parse(text).expect_err("a bad file was taken").to_string();
    for word in wanted {
        assert!(error.contains(word), "{error:?} does not say {word:?}");
    }
}

#[test]
fn no_file_is_a_valid_file_with_an_inbox() {
    let config = parse("").unwrap();
    assert!(config.embedded_only, "nothing leaves the machine, and the server must say so");
    assert_eq!(config.connectors[0].name(), "inbox");
    assert_eq!(config.connectors[0].kind(), "inbox");
    assert_eq!(config.server.public_url, "http://127.0.0.1:8026");
    assert_eq!(config.server.metrics, MetricsAccess::AdminKey);
}

#[test]
fn the_published_shape_is_read() {
    let config = parse(
        "[server]\napi_listen = \"127.0.0.1:8025\"\npublic_listen = \"127.0.0.1:8026\"\npublic_url = \"http://127.0.0.1:8026/\"\n\
         [[connectors]]\nname = \"relay\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = 2525\ntls = \"none\"\nconnections_max = 50\n",
    )
    .unwrap();
    assert!(!config.embedded_only);
    assert_eq!(config.server.public_url, "http://127.0.0.1:8026", "no slash at the end");
    assert_eq!(config.connectors[0].connections_max(), 50);
}

#[test]
fn errors_name_file_line_key_and_what_is_allowed() {
    refused("[server]\nlisten = \"x\"\n", &["estafette.toml:2:1", "listen", "api_listen"]);
    refused("[server]\n\napi_listen = \"localhost\"\n", &["estafette.toml:3:", "server.api_listen", "127.0.0.1:8025"]);
    refused("[data]\ntracking_days = 5\n", &["estafette.toml:2:", "must be 60 to"]);
    refused("[retention]\nrun_details_days = 364\n", &["estafette.toml:2:", "must be 365 to 3650"]);
    refused(
        "[data]\ntracking_days = 60\n[retention]\nrun_details_days = 59\n",
        &["estafette.toml:4:", "must be 60 to"],
    );
    refused("[retention]\nevent_days = 364\n", &["estafette.toml:2:", "must be 1 to 363"]);
    refused("[lanes]\nlane_threads = 0\n", &["lanes.lane_threads = 0", "must be 1 to"]);
    refused("[server]\npublic_url = \"ftp://x\"\n", &["server.public_url", "https://"]);
    refused("[server]\ntrusted_proxies = [\"10.0.0.0/40\"]\n", &["server.trusted_proxies", "prefix"]);
    refused("[tracking]\nmachine_ranges = [\"10.0.0.0/40\"]\n", &["tracking.machine_ranges", "prefix"]);
    refused("[tracking]\nprefetch_ranges = [\"apple\"]\n", &["tracking.prefetch_ranges", "apple", "10.0.0.0/8"]);
    let many = vec!["\"192.0.2.1\""; 1_001].join(", ");
    refused(&format!("[tracking]\nmachine_ranges = [{many}]\n"), &["tracking.machine_ranges", "at most 1000"]);
    refused("[mail]\nreturn_path_domain = \"a b\"\n", &["mail.return_path_domain", "bounces.example.com"]);
    refused("[mail]\nunsubscribe_mailbox = \"leave\"\n", &["mail.unsubscribe_mailbox", "leave@example.com"]);
    refused("[server\n", &["estafette.toml:1:"]);
    let twice = "[[connectors]]\nname = \"a\"\nkind = \"null\"\n[[connectors]]\nname = \"a\"\nkind = \"null\"\n";
    refused(twice, &["estafette.toml:4:", "\"a\" is used twice"]);
    refused("[[connectors]]\nname = \"a\"\nkind = \"pigeon\"\n", &["estafette.toml:1:", "pigeon", "smtp"]);
}

#[test]
fn a_scrape_key_is_never_printed() {
    let secret = "scrape-key-of-the-test";
    let config = parse(&format!("[server]\nmetrics_key = \"{secret}\"\n")).unwrap();
    assert_eq!(config.server.metrics, MetricsAccess::ScrapeKey(secret.into()));
    assert!(!format!("{config:?}").contains(secret), "Debug shows the key");
    assert!(!config.show().contains(secret), "config show shows the key");
    refused("[server]\nmetrics_key = \"short\"\n", &["server.metrics_key", "(hidden)", "characters"]);
    refused(&format!("[server]\nmetrics_key = \"{secret}\"\nmetrics_open = true\n"), &["metrics_open"]);
}

#[test]
fn what_is_shown_reads_back() {
    let text = "[server]\nmetrics_open = true\ntrusted_proxies = [\"10.0.0.0/8\", \"fd00::1\"]\n[tracking]\n\
                aggregate_only = true\nmachine_ranges = [\"192.0.2.0/24\"]\nprefetch_ranges = [\"2001:db8::/32\"]\n";
    let config = parse(text).unwrap();
    let again = parse(&config.show()).unwrap();
    assert_eq!(again.show(), config.show());
    assert!(again.tracking.aggregate_only);
    assert_eq!((again.tracking, again.server.trusted_proxies), (config.tracking, config.server.trusted_proxies));
}

#[test]
fn details_of_runs_and_events_are_kept_for_ever_unless_it_is_said_how_long() {
    let config = parse("").unwrap();
    assert_eq!((config.retention.run_details_kept, config.retention.events_kept), (None, None));
    assert!(config.show().contains("[retention]\n# run_details_days: none"), "{}", config.show());
    let config = parse("[data]\ntracking_days = 90\n[retention]\nrun_details_days = 90\nevent_days = 30\n").unwrap();
    assert_eq!(config.retention.run_details_kept, Some(Duration::from_secs(90 * 86_400)));
    assert_eq!(config.retention.events_kept, Some(Duration::from_secs(30 * 86_400)));
    let again = parse(&config.show()).unwrap();
    assert_eq!(again.retention, config.retention, "what is shown reads back");
}

#[test]
fn every_key_is_documented() {
    for (key, default, text) in KEYS.iter().filter(|(key, ..)| !key.starts_with("connectors.")) {
        assert!(!text.is_empty() && !default.is_empty(), "{key} has no text");
        let (table, name) = key.split_once('.').unwrap();
        let head = if table == "caps" { "[[caps]]".to_owned() } else { format!("[{table}]") };
        let error = parse(&format!("{head}\nno_such_key = 1\n")).unwrap_err().to_string();
        assert!(error.contains(&format!("`{name}`")), "{key} is documented and not read: {error}");
        let listed = error.matches('`').count() / 2 - 1;
        let documented = KEYS.iter().filter(|(k, ..)| k.starts_with(&format!("{table}."))).count();
        assert_eq!(listed, documented, "a key of [{table}] is not documented: {error}");
    }
    let error = parse("[no_such_table]\n").unwrap_err().to_string();
    let (_, listed) = error.split_once("expected").expect("says what it takes");
    for table in listed.split('`').skip(1).step_by(2) {
        let documented = KEYS.iter().any(|(key, ..)| key.starts_with(&format!("{table}.")));
        assert!(documented, "no key of [{table}] is documented: {error}");
    }
}

/// What a connector of a kind says of a key that nobody has, put into a table of it.
fn connector_error(kind: &str, rest: &str) -> String {
    let host = if kind == "smtp" { "host = \"127.0.0.1\"\n" } else { "" };
    parse(&format!("[[connectors]]\nname = \"a\"\nkind = \"{kind}\"\n{host}{rest}")).unwrap_err().to_string()
}

#[test]
fn every_key_of_a_connector_is_documented_and_read() {
    let kinds = ["smtp", "null", "simulated", "inbox"];
    let is_documented = |key: &str| KEYS.iter().any(|(known, ..)| *known == key);
    let tables = ["", "domains.", "dkim.", "timeouts."];
    for (kind, table) in kinds.iter().flat_map(|kind| tables.map(|table| (kind, table))) {
        let head = match table {
            "" => "no_such_key = 1\n",
            "timeouts." if *kind == "smtp" => "[connectors.timeouts]\nno_such_key = 1\n",
            "dkim." if *kind == "smtp" => "[[connectors.dkim]]\nno_such_key = 1\n",
            "domains." => "[[connectors.domains]]\ndomain = \"x.test\"\nno_such_key = 1\n",
            _ => continue,
        };
        let error = connector_error(kind, head);
        let (_, listed) = error.split_once("expected").expect("says what it takes");
        // The last line says where it stands.
        for name in listed.lines().next().unwrap_or_default().split('`').skip(1).step_by(2) {
            assert!(is_documented(&format!("connectors.{table}{name}")), "{table}{name} of {kind}: {error}");
        }
    }
    for (key, ..) in KEYS.iter().filter_map(|(key, d, t)| Some((key.strip_prefix("connectors.")?, d, t))) {
        let given = match key.split_once('.') {
            Some(("timeouts", name)) => format!("[connectors.timeouts]\n{name} = {{}}\n"),
            Some((list, name)) => format!("[[connectors.{list}]]\n{name} = {{}}\n"),
            None if ["name", "kind", "host"].contains(&key) => continue,
            None => format!("{key} = [[]]\n"),
        };
        let name = key.rsplit('.').next().unwrap_or(key);
        let unknown = format!("unknown field `{name}`");
        let read = kinds.iter().any(|kind| !connector_error(kind, &given).contains(&unknown));
        assert!(read, "connectors.{key} is documented and not read");
    }
}

#[test]
fn caps_are_read_and_a_wrong_one_is_told_with_its_place() {
    let config = parse("[[caps]]\nchannel = \"email\"\nmax = 3\nper = \"1w\"\n").unwrap();
    assert_eq!(config.caps, [caps::Cap { channel: Channel::Email, max: 3, days: 7 }], "as written");
    assert!(config.show().contains("max = 3"), "shown: {}", config.show());
    for (text, part) in [
        ("channel = \"fax\"\nmax = 3\nper = \"7d\"", ":2: caps.channel = fax"),
        ("channel = \"sms\"\nmax = 0\nper = \"7d\"", ":3: caps.max = 0"),
        ("channel = \"sms\"\nmax = 1\nper = \"24h\"", ":4: caps.per = 24h"),
    ] {
        let error = parse(&format!("[[caps]]\n{text}\n")).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}
