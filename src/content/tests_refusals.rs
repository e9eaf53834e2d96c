//! What does not compile, and what its author is told.

use super::*;

fn codes(source: &MessageSource) -> Vec<(&'static str, String, u32, u32)> {
    match compile(source, &schema(), &context()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.into_iter().map(|p| (p.code, p.field, p.line, p.column)).collect(),
    }
}

#[test]
fn bad_input_is_told_all_at_once_with_its_place() {
    let mut source = bare("", "a\n {{ contact.frist_name }} {{ contact.x | nofilter }} {{ city }}", "{% if %}");
    source.from = "not an address".into();
    source.headers.insert("Subject".into(), "x".into());
    source.list_id = Some("nodots".into());
    let found = codes(&source);
    for expected in [
        ("empty_subject", "subject", 0, 0),
        ("bad_sender", "from", 0, 0),
        ("own_header", "headers.Subject", 0, 0),
        ("bad_list_id", "list_id", 0, 0),
        ("unknown_attribute", "html", 2, 13),
        ("unknown_filter", "html", 2, 42),
        ("unknown_name", "html", 2, 57),
        ("syntax", "text", 1, 7),
    ] {
        let wanted = (expected.0, expected.1.to_owned(), expected.2, expected.3);
        assert!(found.contains(&wanted), "{wanted:?} among {found:#?}");
    }
    assert_eq!(codes(&bare("s", "{{ contact.frist_name }}", "t")), [("unknown_attribute", "html".into(), 1, 12)]);
}

#[test]
fn messages_that_cannot_end_or_fit_are_refused() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
    assert_eq!(codes(&bare("s", endless, "t"))[0].0, "endless", "fuel");
    let large = format!("{{% for a in range(9999) %}}{}{{% endfor %}}", "x".repeat(10_000));
    assert_eq!(codes(&bare("s", &large, "t"))[0].0, "output_too_large", "static text in a loop");
    assert_eq!(codes(&bare("s", "{{ 'x' * 50000000 }}", "t"))[0].0, "output_too_large", "one value");
    let captured = format!("{{% set a %}}{}{{% endset %}}{}", "x".repeat(9999), "{{ a }}".repeat(500));
    assert_eq!(codes(&bare("s", &captured, "t"))[0].0, "output_too_large", "captured text");
    let doubling = format!("{{% set a = contact.city %}}{}{{{{ a }}}}", "{% set a = a ~ a %}".repeat(40));
    assert_eq!(codes(&bare("s", &doubling, "t"))[0].0, "expression_too_large", "doubling");
    let blocks =
        format!("{{% set a = contact.city %}}{}{{{{ a }}}}", "{% set a %}{{ a }}{{ a }}{% endset %}".repeat(40));
    assert_eq!(codes(&bare("s", &blocks, "t"))[0].0, "output_too_large", "doubling by blocks");
    assert_eq!(codes(&bare("s", "{% include 'x' %}", "t"))[0].0, "template_inheritance", "include");
    assert_eq!(codes(&bare("s", "a\u{1}b", "t"))[0].0, "control_character", "control characters");
    assert_eq!(
        codes(&bare("s", "<a href=\"https://{{ contact.city }}.test/\">x</a>", "t"))[0].0,
        "dynamic_host",
        "host"
    );
    let long = format!("<a href=\"https://a.test/{}\">x</a>", "x".repeat(2000));
    assert_eq!(codes(&bare("s", &long, "t"))[0].0, "url_too_long", "URL");
    let none = MessageSource { from: "a@b.test".into(), subject: "s".into(), ..MessageSource::default() };
    assert_eq!(codes(&none)[0].0, "no_body", "no body");
}
