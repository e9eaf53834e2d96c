use super::*;

#[derive(Deserialize)]
struct File {
    connectors: Vec<RawConnector>,
}

fn parse(text: &str) -> Result<ConnectorSettings, ConnectorError> {
    let file: File = toml::from_str(&format!("[[connectors]]\n{text}")).expect("the table itself is TOML");
    file.connectors.into_iter().next().expect("one connector").validate(1)
}

fn smtp(text: &str) -> SmtpSettings {
    match parse(&format!("name = \"relay\"\nkind = \"smtp\"\n{text}")) {
        Ok(ConnectorSettings::Smtp(settings)) => *settings,
        other => panic!("not an smtp connector: {other:?}"),
    }
}

fn refusal(text: &str) -> String {
    match parse(text) {
        Err(e) => e.to_string(),
        Ok(settings) => panic!("accepted: {settings:?}"),
    }
}

#[test]
fn the_shape_of_the_readme_is_taken() {
    let relay = smtp("host = \"127.0.0.1\"\nport = 2525\ntls = \"none\"\nconnections_max = 50\n");
    assert_eq!((relay.host.as_str(), relay.port, relay.connections_max), ("127.0.0.1", 2525, 50), "values as written");
    assert_eq!(relay.tls, TlsMode::None, "tls none is allowed on loopback");
    assert_eq!(relay.timeouts.answer, Duration::from_secs(600), "the final dot has ten minutes (RFC 5321 4.5.3.2.6)");
    assert_eq!(relay.timeouts.data, Duration::from_secs(120), "DATA has two minutes (RFC 5321 4.5.3.2.4)");
}

#[test]
fn defaults_are_safe_and_ports_follow_tls() {
    let relay = smtp("host = \"mx.example.test\"\n");
    assert_eq!((relay.tls, relay.port), (TlsMode::Starttls, 587), "TLS is required unless told otherwise");
    assert_eq!(smtp("host = \"a.test\"\ntls = \"implicit\"\n").port, 465, "implicit TLS");
    assert!(relay.rate.is_unlimited() && relay.pipelining && !relay.chunking, "defaults of limits and switches");
}

#[test]
fn plaintext_beyond_loopback_must_be_said() {
    let text = "name = \"r\"\nkind = \"smtp\"\nhost = \"10.0.0.1\"\ntls = \"none\"\n";
    let refused = refusal(text);
    assert!(refused.contains("\"r\"") && refused.contains("allow_plaintext"), "{refused}");
    assert!(parse(&format!("{text}allow_plaintext = true\n")).is_ok(), "said so: allowed");
    for host in ["localhost", "::1", "[::1]", "127.0.0.9"] {
        assert_eq!(smtp(&format!("host = \"{host}\"\ntls = \"none\"\n")).tls, TlsMode::None, "{host} is loopback");
    }
}

#[test]
fn refusals_name_connector_and_key() {
    let head = "name = \"r\"\nkind = \"smtp\"\nhost = \"a.test\"\n";
    for (line, key) in [
        ("connections_max = 0", "connections_max"),
        ("connections_max = 100000", "connections_max"),
        ("messages_per_second = 0", "messages_per_second"),
        ("retry_schedule_seconds = []", "retry_schedule_seconds"),
        ("credits_batches = 1", "credits_batches"),
        ("conections_max = 3", "conections_max"),
        ("tls = \"maybe\"", "maybe"),
        ("username = \"u\"", "username"),
        ("timeouts = { mail_seconds = 0 }", "timeouts.mail_seconds"),
        ("domains = [{ domain = \"a b\" }]", "domains.domain"),
        ("domains = [{ domain = \"x.test\" }, { domain = \"X.test\" }]", "twice"),
        ("helo_name = \"a b\"", "helo_name"),
        ("username = \"u\"\npassword_env = \"ESTAFETTE_TEST_UNSET_VARIABLE\"", "ESTAFETTE_TEST_UNSET_VARIABLE"),
    ] {
        let refused = refusal(&format!("{head}{line}\n"));
        assert!(refused.contains("\"r\"") && refused.contains(key), "{line}: {refused}");
    }
    assert!(refusal("kind = \"smtp\"\n").contains("number 1"), "a connector without a name is named by its place");
    assert!(refusal("name = \"r\"\n").contains("kind"), "no kind");
    assert!(refusal("name = \"r\"\nkind = \"pigeon\"\n").contains("pigeon"), "unknown kind");
}

#[test]
fn secrets_are_never_printed() {
    let relay = smtp("host = \"a.test\"\nusername = \"u\"\npassword = \"hunter2\"\n");
    assert!(!format!("{relay:?}").contains("hunter2"), "the password is hidden");
    assert_eq!(relay.password.as_ref().map(Secret::reveal), Some("hunter2"), "and kept");
}

#[test]
fn domains_are_classes_in_ascii_form() {
    let relay = smtp(
        "host = \"a.test\"\ndomains = [{ domain = \"Bücher.example\", messages_per_second = 5, connections_max = 2 }]\n",
    );
    assert_eq!(relay.domains[0].domain, "xn--bcher-kva.example", "ASCII form, lower case");
    assert_eq!(relay.domains[0].rate.per_second, Some(5), "its own limit");
}

#[test]
fn the_other_kinds_have_working_defaults() {
    for kind in ["null", "simulated", "inbox"] {
        let settings = parse(&format!("name = \"n\"\nkind = \"{kind}\"\n")).expect("defaults work");
        assert_eq!((settings.kind(), settings.name()), (kind, "n"), "kind and name");
    }
    let shares = "name = \"n\"\nkind = \"simulated\"\ndefer_share = 0.7\npolicy_share = 0.7\n";
    assert!(refusal(shares).contains("at most 1"), "shares over one");
}

/// Keys are taken out of the table group by group: none of a group may be missed, and none may stand where it means nothing.
#[test]
fn every_kind_knows_its_keys_and_no_others() {
    let rates = "messages_per_second = 1\nmessages_per_minute = 2\nmessages_per_hour = 3\nmessages_per_day = 4\n";
    let domain = format!("[[connectors.domains]]\ndomain = \"a.test\"\nconnections_max = 2\n{rates}");
    let waiting = "retry_schedule_seconds = [5]\nretry_deadline_seconds = 60\ncredits_batches = 6\n";
    let limits = RateLimits { per_second: Some(1), per_minute: Some(2), per_hour: Some(3), per_day: Some(4) };
    for (kind, more) in [("smtp", "host = \"a.test\"\n"), ("null", ""), ("simulated", ""), ("inbox", "")] {
        let own = if kind == "inbox" { "" } else { waiting };
        let head = format!("name = \"r\"\nkind = \"{kind}\"\nconnections_max = 3\n{more}{rates}");
        let settings = parse(&format!("{head}{own}{domain}")).unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert_eq!((settings.rate(), settings.connections_max()), (limits, 3), "{kind}: limits of the connector");
        let [of_domain] = settings.domains() else { panic!("{kind}: one domain") };
        assert_eq!((of_domain.rate, of_domain.connections_max), (limits, Some(2)), "{kind}: limits of the domain");
        if !own.is_empty() {
            assert_eq!(settings.retry().deadline, Duration::from_secs(60), "{kind}: retries");
            assert_eq!(settings.credits_batches(), 6, "{kind}: credits");
        }
        let refused = refusal(&format!("{head}pigeons = 1\n"));
        assert!(refused.contains("pigeons") && refused.contains("\"r\""), "{kind}: {refused}");
        let misplaced = refusal(&format!("{head}{domain}retry_deadline_seconds = 5\n"));
        assert!(misplaced.contains("retry_deadline_seconds"), "{kind}: a connector's key in a domain: {misplaced}");
    }
    let refused = refusal(&format!("name = \"i\"\nkind = \"inbox\"\n{waiting}"));
    assert!(
        refused.contains("credits_batches") || refused.contains("retry_"),
        "the sink keeps nothing waiting: {refused}"
    );
}
