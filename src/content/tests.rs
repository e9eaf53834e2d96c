//! The property of the whole folder: for any content and contact, an independent parser finds in the spliced message what
//! it finds in lettre's straightforward build of the plainly rendered templates.

#[path = "tests_messages.rs"]
mod messages;
#[path = "tests_native.rs"]
mod native_blocks;
#[path = "tests_refusals.rs"]
mod refusals;

use std::collections::BTreeMap;
use std::sync::Arc;

use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use mail_parser::{Message, MessageParser};
use minijinja::{UndefinedBehavior, Value as Jinja};
use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::contacts::{AttributeType, Record, RecordBuilder, Schema, Value};
use crate::ids::{AttributeId, ContactRow, MessageId, RowSpace, RunId};

pub(super) fn schema() -> Schema {
    use AttributeType::{List, Number, Text};
    let own = [
        ("first_name", Text),
        ("last_name", Text),
        ("city", Text),
        ("country", Text),
        ("company", Text),
        ("plan", Text),
        ("points", Number),
        ("member_since", Text),
        ("interests", List),
    ];
    own.into_iter().fold(Schema::built_in(), |s, (name, kind)| s.with(name, kind, None).expect("a new attribute"))
}

fn context() -> CompileContext {
    CompileContext {
        public_url: "https://mail.example.test".into(),
        campaign_name: "Spring & more".into(),
        return_path_domain: Some("bounces.example.test".into()),
        unsubscribe_mailbox: Some("leave@example.test".into()),
        ..CompileContext::default()
    }
}

fn keys() -> TokenKeys {
    TokenKeys::new(&[3; 32])
}

fn who() -> Recipient {
    Recipient {
        space: RowSpace(0),
        run: RunId(5),
        message: MessageId(1),
        row: ContactRow(77),
        sent_at: Timestamp(1_780_000_000_000),
    }
}

#[derive(Clone, Debug, Default)]
struct Person {
    texts: BTreeMap<&'static str, String>,
    points: Option<f64>,
    interests: Option<Vec<String>>,
}

impl Person {
    fn record(&self, schema: &Schema) -> Vec<u8> {
        let id = |name: &str| schema.by_name(name).expect("an attribute").id;
        let mut builder = RecordBuilder::new();
        builder.set(AttributeId::EMAIL, Value::Text("ada@example.test"));
        for (name, text) in &self.texts {
            builder.set(id(name), Value::Text(text));
        }
        if let Some(points) = self.points {
            builder.set(id("points"), Value::Number(points));
        }
        if let Some(interests) = &self.interests {
            builder.set_list(id("interests"), interests.iter().map(String::as_str));
        }
        builder.to_bytes()
    }

    fn jinja(&self) -> Jinja {
        let mut contact: BTreeMap<String, Jinja> = BTreeMap::new();
        contact.insert("email".into(), Jinja::from("ada@example.test"));
        for (name, text) in &self.texts {
            contact.insert((*name).into(), Jinja::from(text.as_str()));
        }
        if let Some(points) = self.points {
            contact.insert(
                "points".into(),
                if points.fract() == 0.0 { Jinja::from(points as i64) } else { Jinja::from(points) },
            );
        }
        if let Some(interests) = &self.interests {
            contact.insert("interests".into(), interests.iter().map(|i| Jinja::from(i.as_str())).collect());
        }
        Jinja::from_pairs([
            ("contact", Jinja::from_pairs(contact)),
            ("campaign", Jinja::from_pairs([("name", Jinja::from("Spring & more"))])),
        ])
    }
}

fn render(message: &Arc<CompiledMessage>, record: &[u8]) -> Result<(Vec<u8>, String), RenderSkip> {
    let (mut body, mut return_path) = (Vec::new(), String::new());
    let record = Record::parse(record).expect("a record");
    let mut out = Rendered::new(&mut body, &mut return_path);
    Renderer::new(message.clone(), keys()).render(&record, &who(), &mut out)?;
    assert!(!out.needs_dot_stuffing && !out.needs_8bit, "an ASCII message without dots");
    let (mut own, mut same_path, mut shared, mut whole) =
        (Vec::new(), String::new(), SharedSpans::default(), Vec::new());
    let mut out = Rendered::new(&mut own, &mut same_path).sharing(&mut shared);
    Renderer::new(message.clone(), keys()).render(&record, &who(), &mut out)?;
    shared.write(&own, &mut whole);
    assert!(whole == body, "the same, with its text shared");
    Ok((body, return_path))
}

fn compiled(source: &MessageSource) -> Arc<CompiledMessage> {
    Arc::new(compile(source, &schema(), &context()).unwrap_or_else(|p| panic!("compiles: {p:#?}")))
}

pub(super) fn reference() -> MessageSource {
    #[derive(serde::Deserialize)]
    struct File {
        message: MessageSource,
    }
    toml::from_str::<File>(include_str!("../../examples/reference-message.toml"))
        .expect("the reference message")
        .message
}

/// The straightforward way: render each template, build with lettre.
fn plainly(source: &MessageSource, person: &Person) -> Vec<u8> {
    let mut env = super::env::environment(source.missing);
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    let render = |name: &str, template: &str| {
        super::env::begin(super::locale::Language::En, "");
        env.render_named_str(name, template, person.jinja()).expect("renders plainly")
    };
    let from: Mailbox = source.from.parse().expect("a sender");
    let part = |kind: ContentType, body: String| {
        let body = body.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n");
        SinglePart::builder().header(kind).header(ContentTransferEncoding::QuotedPrintable).body(body)
    };
    let text = part(ContentType::TEXT_PLAIN, render("text", source.text.as_deref().expect("text")));
    let html = part(ContentType::TEXT_HTML, render("html.html", source.html.as_deref().expect("html")));
    lettre::Message::builder()
        .from(from)
        .to("ada@example.test".parse().expect("an address"))
        .subject(super::headers::collapse(&render("subject", &source.subject)))
        .multipart(MultiPart::alternative().singlepart(text).singlepart(html))
        .expect("builds")
        .formatted()
}

fn body(message: &Message<'_>, html: bool) -> String {
    let found = if html { message.body_html(0) } else { message.body_text(0) };
    found.expect("a body").replace("\r\n", "\n")
}

/// Undoes tracking: every redirect is replaced by where it leads, checked against the token and the table.
fn untracked(text: &str, message: &CompiledMessage, html: bool) -> String {
    use base64::Engine as _;
    let id = TokenId { space: RowSpace(0), run: RunId(5), message: MessageId(1), row: ContactRow(77) };
    let escape = |url: &str| {
        if html { super::program::escape_html(url) } else { url.to_owned() }
    };
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("https://mail.example.test/") {
        out.push_str(&rest[..at]);
        let tail = &rest[at + "https://mail.example.test".len()..];
        let end = tail.find(|c: char| !c.is_ascii_alphanumeric() && !"/_-.".contains(c)).unwrap_or(tail.len());
        let path: Vec<&str> = tail[1..end].split('/').collect();
        rest = &tail[end..];
        match path.as_slice() {
            ["c", token, index] => {
                assert_eq!(keys().verify_link(token), Ok(id), "a link's token");
                let index: usize = index.trim_end_matches('.').parse().expect("an index");
                out.push_str(&escape(&message.links()[index].url));
            }
            ["r", token, index, url] => {
                let url = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(url).expect("base64url");
                let url = String::from_utf8(url).expect("UTF-8");
                let index: u16 = index.parse().expect("an index");
                assert_eq!(keys().verify_link_url(token, index, &url), Ok(id), "a link's token with URL");
                assert!(message.links()[usize::from(index)].allows(&url), "the table allows {url}");
                out.push_str(&escape(&url));
            }
            ["u", token] => {
                assert_eq!(keys().verify_unsubscribe(token), Ok(id), "an unsubscribe token");
                out.push_str("UNSUBSCRIBE");
            }
            other => panic!("an address of ours that is not known: {other:?}"),
        }
    }
    out.push_str(rest);
    out
}

fn assert_same(source: &MessageSource, person: &Person) {
    let message = compiled(source);
    let (spliced, return_path) = render(&message, &person.record(&schema())).expect("renders");
    let text = String::from_utf8(spliced.clone()).expect("ASCII");
    for line in text.split("\r\n") {
        assert!(line.len() <= 200, "length of {line:?}");
        assert!(!line.starts_with('.'), "a dot: {line:?}");
        assert!(!line.contains(['\r', '\n', '\0']), "line ends: {line:?}");
    }
    let in_body = text.split_once("\r\n\r\n").expect("headers end").1;
    assert!(in_body.split("\r\n").all(|l| l.len() <= 78), "lines of the body");
    let plain = plainly(source, person);
    let parser = MessageParser::default();
    let (ours, theirs) = (parser.parse(&spliced).expect("parses"), parser.parse(&plain).expect("parses"));
    assert_eq!(ours.subject(), theirs.subject(), "subject");
    assert_eq!(ours.from(), theirs.from(), "from");
    assert_eq!(ours.to(), theirs.to(), "to");
    assert_eq!(ours.parts.len(), theirs.parts.len(), "parts");
    for html in [false, true] {
        let expected = body(&theirs, html).replace("{{ unsubscribe_url }}", "UNSUBSCRIBE");
        assert_eq!(untracked(&body(&ours, html), &message, html).trim_end(), expected.trim_end(), "html: {html}");
    }
    let token = return_path
        .strip_prefix("bounce+")
        .and_then(|r| r.strip_suffix("@bounces.example.test"))
        .expect("a return path");
    assert_eq!(keys().verify_return_path(token).map(|id| id.row), Ok(ContactRow(77)), "return path");
    let twice = render(&message, &person.record(&schema())).expect("renders again");
    assert_eq!(twice.0, spliced, "a retry is the same message");
}

/// A message without what the plain build lacks: footer and pixel.
fn bare(subject: &str, html: &str, text: &str) -> MessageSource {
    MessageSource {
        from: "\"Mär, Ket\" <news@example.test>".into(),
        subject: subject.into(),
        html: Some(html.into()),
        text: Some(text.into()),
        footer: Footer::None,
        ..MessageSource::default()
    }
}

/// The pixel has no place in the plain build.
fn without_pixel(source: &MessageSource) -> MessageSource {
    MessageSource { track: Track::Off, ..source.clone() }
}

fn person() -> Person {
    let texts =
        [("first_name", "Ada & <Co>"), ("last_name", "Łoś"), ("city", "Köln"), ("plan", "gold"), ("company", ".dots")];
    Person {
        texts: texts.into_iter().map(|(n, t)| (n, t.to_owned())).collect(),
        points: Some(1200.0),
        interests: Some(vec!["bread".into(), "wine & <cheese>".into()]),
    }
}

#[test]
fn the_reference_message_is_whole_and_tracked() {
    let source = reference();
    let message = compiled(&source);
    assert_eq!(message.links().len(), 8, "tracked links: {:#?}", message.links());
    assert_eq!(message.used_attributes().len(), 10, "attributes");
    assert!(message.slow_regions().is_empty() && message.untracked().is_empty(), "nothing slow, nothing untracked");
    let (bytes, _) = render(&message, &person().record(&schema())).expect("renders");
    assert!((10_000..20_000).contains(&bytes.len()), "size {}", bytes.len());
    let parsed = MessageParser::default().parse(&bytes).expect("parses");
    assert_eq!(parsed.subject(), Some("Ada & <Co>, spring has come to Köln"), "subject");
    let html = body(&parsed, true);
    assert!(html.contains("Hello Ada &amp; &lt;Co&gt; Łoś!"), "escaped values: {html}");
    assert!(html.contains("<em>wine &amp; &lt;cheese&gt;</em>"), "a loop");
    assert!(html.contains("enough points"), "an if");
    assert_eq!(html.matches("https://mail.example.test/c/").count(), 8, "links");
    assert_eq!(html.matches("https://mail.example.test/o/").count(), 1, "pixel");
    assert_eq!(html.matches("https://mail.example.test/u/").count(), 1, "unsubscribe");
    for name in
        ["Message-ID", "Date", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Id", "Feedback-ID", "MIME-Version"]
    {
        assert_eq!(parsed.headers().iter().filter(|h| h.name().eq_ignore_ascii_case(name)).count(), 1, "{name}");
    }
}

#[test]
fn what_is_spliced_equals_what_is_built() {
    let html = r##"<p>{{ contact.first_name }}{{contact.last_name}} {{- contact.city -}} {{ contact.company }}
        {% if contact.points > 3 %}<a href="https://a.test/?n={{ contact.first_name|upper }}&amp;p={{ contact.points }}#x">{{ contact.points }}</a>
        {% else %}none {{ contact.country|default("nowhere") }}{% endif %}{# comment #}{% raw %}{{ raw }}{% endraw %}
        {% set greeting %}<b>{{ contact.first_name }}</b> & you{% endset %}{{ greeting }}{% for i in contact.interests %}
        <a href='https://a.test/{{ loop.index }}'>{{ i }}</a>{% if not loop.last %}, {% endif %}{% endfor %}
        {% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(contact.city) }}{% filter upper %}q{{ contact.plan }}{% endfilter %}
        <a href="https://b.test/static?a=1&amp;b=2">x</a> {{ campaign.name }} {% if true %}{{ campaign.name }}{% endif %} {{ contact.interests }} {{ contact.points / 7 }}</p>
"##;
    // Values in links are percent-encoded, which the plain build does not do; without tracking the rest must be equal.
    let source = bare(
        "Hi {{ contact.first_name }}: {% if contact.points %}{{ contact.points }}{% endif %}",
        &html.replace("https://a.test", "ftp://a.test"),
        "{{ contact.last_name }}.\n.{{ contact.company }}\n{% for i in contact.interests %}- {{ i }}\n{% endfor %}",
    );
    assert_same(&without_pixel(&source), &person());
    assert_same(&without_pixel(&source), &Person { points: Some(1.5), ..Person::default() });
}

#[test]
fn links_with_expressions_carry_their_url() {
    let html = "{% for i in contact.interests %}<a href=\"https://a.test/{{ i }}?q={{ i|upper }}&amp;p={{ contact.first_name }}\">x</a>{% endfor %}<a href=\"https://b.test/{% if contact.points %}yes{% endif %}\">y</a>";
    let message = compiled(&bare("s", html, "see https://c.test/?c={{ contact.city }} now"));
    let (bytes, _) = render(&message, &person().record(&schema())).expect("renders");
    let parsed = MessageParser::default().parse(&bytes).expect("parses");
    let html = body(&parsed, true);
    let end = html.find("<img").expect("a pixel");
    assert_eq!(
        untracked(&html[..end], &message, false),
        "<a href=\"https://a.test/bread?q=BREAD&p=Ada%20%26%20%3CCo%3E\">x</a>\
         <a href=\"https://a.test/wine%20%26%20%3Ccheese%3E?q=WINE%20%26%20%3CCHEESE%3E&p=Ada%20%26%20%3CCo%3E\">x</a>\
         <a href=\"https://b.test/yes\">y</a>"
    );
    assert_eq!(untracked(&body(&parsed, false), &message, false).trim_end(), "see https://c.test/?c=K%C3%B6ln now");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_content_and_contact_parse_to_the_same(
        parts in prop::collection::vec(prop_oneof![
            "[ -z|~]{0,60}".prop_map(|s| s.replace(['<', '{', '&'], "")),
            "(?s:[a-zà-ÿ .=\r\n\t]){0,100}",
            Just("{{ contact.first_name }}".to_owned()),
            Just("{{- contact.city -}}".to_owned()),
            Just(" {{ contact.points }} ".to_owned()),
            Just("{{ contact.last_name|default('you')|title }}".to_owned()),
            Just("{% if contact.points %}.yes {{ contact.plan }}\n{% else %}no{% endif %}".to_owned()),
            Just("{% for i in contact.interests -%} * {{ i }} = {{ loop.index }}\r\n{% endfor %}".to_owned()),
            prop::sample::select(native_blocks::BLOCKS).prop_map(str::to_owned),
            prop::sample::select(native_blocks::BLOCKS).prop_map(str::to_owned),
            Just("<a href=\"https://t.test/x?a=1&amp;b=2\">l</a>".to_owned()),
            Just("{% set v %}é{{ contact.city }}{% endset %}{{ v }}".to_owned()),
        ], 0..12),
        values in prop::collection::vec("(?s:.){0,60}|[ -~]{0,90}|[. =\r\n\t]{0,6}", 5),
        points in prop::option::of(-5i32..2000),
        interests in prop::option::of(prop::collection::vec("[ -~é]{0,20}", 0..4)),
    ) {
        let clean = |s: &String| s.chars().filter(|c| !c.is_control() || matches!(c, '\t' | '\n')).collect::<String>();
        let names = ["first_name", "last_name", "city", "plan", "company"];
        let person = Person {
            texts: names.into_iter().zip(values.iter().map(clean)).collect(),
            points: points.map(f64::from),
            interests,
        };
        let html = parts.concat().replace("\r\n", "\n").replace('\r', "\n");
        let text = html.replace("<a href=\"", "").replace("&amp;", "&").replace("\">l</a>", " ");
        let source = bare(&format!("s {{{{ contact.city }}}} {}", parts.first().map_or("", |p| p.as_str())), &html, &text);
        assert_same(&without_pixel(&source), &person);
        // With tracking, only the pixel is more.
        let message = compiled(&source);
        let (bytes, _) = render(&message, &person.record(&schema())).expect("renders");
        let plain = plainly(&source, &person);
        let parser = MessageParser::default();
        let (ours, theirs) = (parser.parse(&bytes).expect("parses"), parser.parse(&plain).expect("parses"));
        let html = body(&ours, true);
        let end = html.rfind("<img").expect("a pixel");
        let (tracked, plain) = (untracked(&html[..end], &message, true), body(&theirs, true));
        prop_assert_eq!(tracked.trim_end(), plain.trim_end());
        let (tracked, plain) = (untracked(&body(&ours, false), &message, false), body(&theirs, false));
        prop_assert_eq!(tracked.trim_end(), plain.trim_end());
    }
}
