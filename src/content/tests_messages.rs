//! Missing values, hostile values, and what the compiler adds to a message.

use super::*;

#[test]
fn missing_attributes_are_empty_or_skip_the_contact() {
    let mut source = bare("s", "[{{ contact.city }}{{ contact.plan|upper }}{{ contact.country|default('-') }}]", "t");
    source.track = Track::Off;
    let nobody = Person { texts: BTreeMap::from([("country", " ".to_owned())]), ..Person::default() };
    let (bytes, _) = render(&compiled(&source), &nobody.record(&schema())).expect("renders");
    assert_eq!(body(&MessageParser::default().parse(&bytes).expect("parses"), true).trim(), "[-]", "empty");
    source.missing = Missing::Skip;
    let skipped = render(&compiled(&source), &nobody.record(&schema())).expect_err("skips");
    assert_eq!(skipped.reason, SkipReason::MissingAttribute, "{skipped:?}");
    let required = |source: &MessageSource| {
        let message = compiled(source);
        let names =
            message.required_attributes().into_iter().filter_map(|id| schema().by_id(id).map(|a| a.name.clone()));
        names.collect::<Vec<_>>()
    };
    assert_eq!(required(&source), ["city"], "printed bare; a filter may do without a value");
    source.html = Some("{% if true %}{{ contact.city }}{% endif %}".into());
    assert!(required(&source).is_empty(), "a block need not be rendered");
    let skipped = render(&compiled(&source), &nobody.record(&schema())).expect_err("skips in blocks too");
    assert_eq!(skipped.reason, SkipReason::MissingAttribute, "{skipped:?}");
}

#[test]
fn no_value_makes_a_header() {
    let mut source = bare("{{ contact.city }}", "x", "y");
    source.from = "{{ contact.first_name }} <news@example.test>".into();
    source.headers.insert("X-Plan".into(), "{{ contact.plan|upper }}".into());
    let evil = "a\r\nBcc: victim@example.test\r\n\r\n<script>\0\u{85}\u{2028}";
    let texts = ["first_name", "city", "plan"].into_iter().map(|n| (n, evil.to_owned())).collect();
    let (bytes, _) =
        render(&compiled(&source), &Person { texts, ..Person::default() }.record(&schema())).expect("renders");
    let parsed = MessageParser::default().parse(&bytes).expect("parses");
    assert!(parsed.bcc().is_none(), "no header was made");
    assert_eq!(
        parsed.from().and_then(|f| f.first()).and_then(|a| a.address()),
        Some("news@example.test"),
        "the sender stays"
    );
    let head = String::from_utf8(bytes).expect("ASCII");
    assert!(head.split("\r\n").all(|l| !l.starts_with("Bcc")), "no line begins one");
}

#[test]
fn footers_preheaders_attachments_mjml_and_aggregate_tracking() {
    use base64::Engine as _;
    let mjml = "<mjml><mj-body><mj-section><mj-column><mj-text>Hi {{ contact.first_name }} {% if contact.points > 3 %}rich{% endif %}</mj-text>\
                <mj-button href=\"https://a.test/{{ contact.city }}\">go</mj-button></mj-column></mj-section></mj-body></mjml>";
    let source = MessageSource {
        from: "a@b.test".into(),
        subject: "s".into(),
        mjml: Some(mjml.into()),
        preheader: Some("5 > 4 for {{ contact.city }}".into()),
        language: Some("fr".into()),
        track: Track::Aggregate,
        attachments: vec![AttachmentSource {
            name: "a.txt".into(),
            media_type: "text/plain".into(),
            base64: base64::engine::general_purpose::STANDARD.encode("attached"),
        }],
        ..MessageSource::default()
    };
    let message = compiled(&source);
    assert_eq!(message.links().len(), 1, "one link: {:?}", message.links());
    let (bytes, _) = render(&message, &person().record(&schema())).expect("renders");
    let parsed = MessageParser::default().parse(&bytes).expect("parses");
    let html = body(&parsed, true);
    assert!(html.contains("Hi Ada &amp; &lt;Co&gt; rich"), "MJML kept its tags: {html}");
    assert!(html.contains("5 &gt; 4 for Köln"), "preheader");
    assert!(html.contains(">Se désabonner</a>"), "footer");
    let text = body(&parsed, false);
    assert!(text.contains("Hi Ada & <Co> rich"), "derived text: {text}");
    assert!(text.contains("Se désabonner <https://mail.example.test/u/"), "footer of the text: {text}");
    assert_eq!(parsed.attachments().next().map(|a| a.contents().to_vec()), Some(b"attached".to_vec()), "attachment");
    let token = html.split("/o/").nth(1).and_then(|t| t.get(..tokens::TOKEN_CHARS)).expect("a pixel");
    assert_eq!(keys().verify_link(token).map(|id| id.row), Ok(NOBODY), "the pixel names nobody");
}

#[test]
fn previews_show_what_is_sent() {
    let mut renderer = Renderer::new(compiled(&reference()), keys());
    let bytes = person().record(&schema());
    let preview = preview(&mut renderer, &Record::parse(&bytes).expect("a record"), &who()).expect("renders");
    assert_eq!(preview.subject, "Ada & <Co>, spring has come to Köln", "subject");
    assert!(preview.html.is_some_and(|h| h.contains("Köln")), "html");
    assert!(preview.text.starts_with("Hello Ada & <Co> Łoś!"), "text: {}", preview.text);
    assert!(
        preview.headers.iter().any(|(n, v)| n == "List-Unsubscribe-Post" && v == "List-Unsubscribe=One-Click"),
        "headers"
    );
}
