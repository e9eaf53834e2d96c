//! The reference message spliced, beside what it is spliced from: plain minijinja for both bodies and lettre for the MIME
//! structure, which is what a sender without this folder does per contact.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench may stop at a fault, and prints its table"
)]

use std::hint::black_box;
use std::sync::Arc;

use std::time::{Duration, Instant};

use criterion::{Bencher, Criterion, criterion_group, criterion_main};
use estafette::clock::Timestamp;
use estafette::contacts::{AttributeType, Record, RecordBuilder, Schema, Value};
use estafette::content::{CompileContext, MessageSource, Recipient, Rendered, Renderer, TokenKeys, compile};
use estafette::ids::{AttributeId, ContactRow, MessageId, RowSpace, RunId};
use lettre::message::{MultiPart, SinglePart};

#[derive(serde::Deserialize)]
struct Example {
    message: MessageSource,
}

const TEXTS: [(&str, &str); 7] = [
    ("first_name", "Ada"),
    ("last_name", "Lovelace"),
    ("city", "Grenoble"),
    ("country", "France"),
    ("company", "Analytical & Sons"),
    ("plan", "gold"),
    ("member_since", "2019"),
];

fn schema() -> Schema {
    let own = TEXTS.map(|(name, _)| (name, AttributeType::Text));
    let more = [("points", AttributeType::Number), ("interests", AttributeType::List)];
    own.into_iter()
        .chain(more)
        .fold(Schema::built_in(), |schema, (name, kind)| schema.with(name, kind, None).unwrap_or(schema))
}

fn record(schema: &Schema) -> Vec<u8> {
    let id = |name: &str| schema.by_name(name).map_or(AttributeId(0), |a| a.id);
    let mut builder = RecordBuilder::new();
    builder.set(AttributeId::EMAIL, Value::Text("ada.lovelace@example.test"));
    builder.set(AttributeId::LANGUAGE, Value::Text("en"));
    for (name, text) in TEXTS {
        builder.set(id(name), Value::Text(text));
    }
    builder.set(id("points"), Value::Number(1250.0));
    builder.set_list(id("interests"), ["bread", "wine", "cheese"]);
    builder.to_bytes()
}

/// Time that this thread ran, so that other work on the machine does not count; wall time where the kernel does not say.
/// Yielding makes the kernel bring its count up to date.
fn cpu_time(started: Instant) -> Duration {
    std::thread::yield_now();
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = schedstat.and_then(|s| s.split_whitespace().next().and_then(|n| n.parse().ok()));
    nanos.map_or_else(|| started.elapsed(), Duration::from_nanos)
}

fn measure<R>(b: &mut Bencher<'_>, mut step: impl FnMut() -> R) {
    let started = Instant::now();
    b.iter_custom(|iterations| {
        let before = cpu_time(started);
        for _ in 0..iterations {
            black_box(step());
        }
        cpu_time(started) - before
    });
}

fn render(c: &mut Criterion) {
    let schema = schema();
    let example: Example =
        toml::from_str(include_str!("../examples/reference-message.toml")).expect("the reference message");
    let context = CompileContext {
        public_url: "https://mail.example.test".into(),
        campaign_name: "spring".into(),
        return_path_domain: Some("bounces.example.test".into()),
        unsubscribe_mailbox: None,
        ..CompileContext::default()
    };
    let message = Arc::new(compile(&example.message, &schema, &context).expect("compiles"));
    let bytes = record(&schema);
    let record = Record::parse(&bytes).expect("a record");
    let keys = TokenKeys::new(&[1; 32]);
    let who = |row| Recipient {
        space: RowSpace::BASE,
        run: RunId(1),
        message: MessageId(0),
        row: ContactRow(row),
        sent_at: Timestamp(1_780_000_000_000),
    };
    let mut group = c.benchmark_group("render");
    group.bench_function("spliced", |b| {
        let mut renderer = Renderer::new(message.clone(), keys.clone());
        let (mut body, mut return_path) = (Vec::new(), String::new());
        let mut row = 0;
        measure(b, || {
            row += 1;
            let mut out = Rendered::new(&mut body, &mut return_path);
            renderer.render(black_box(&record), &who(row), &mut out).expect("renders");
            black_box(out.body.len())
        });
    });
    group.bench_function("three_tokens", |b| {
        let mut row = 0;
        measure(b, || {
            row += 1;
            let id = estafette::content::TokenId {
                space: RowSpace::BASE,
                run: RunId(1),
                message: MessageId(0),
                row: ContactRow(row),
            };
            black_box((keys.make_link(id), keys.make_unsubscribe(id), keys.make_return_path(id)))
        });
    });
    group.bench_function("plain_minijinja_and_lettre", |b| {
        let mut env = minijinja::Environment::new();
        env.add_template_owned("m.html", example.message.html.clone().unwrap_or_default()).expect("parses");
        env.add_template_owned("m.txt", example.message.text.clone().unwrap_or_default()).expect("parses");
        measure(b, || {
            let contact = TEXTS.iter().map(|(name, text)| (*name, minijinja::Value::from(*text)));
            let more = [
                ("email", minijinja::Value::from("ada.lovelace@example.test")),
                ("points", minijinja::Value::from(1250)),
                ("interests", ["bread", "wine", "cheese"].into_iter().collect()),
            ];
            let contact = minijinja::Value::from_pairs(contact.chain(more));
            let root =
                minijinja::Value::from_pairs([("contact", contact), ("unsubscribe_url", minijinja::Value::from("u"))]);
            let render = |name| env.get_template(name).and_then(|t| t.render(root.clone())).expect("renders");
            let message = lettre::Message::builder()
                .from("Market House <news@example.test>".parse().expect("an address"))
                .to("ada.lovelace@example.test".parse().expect("an address"))
                .subject("Ada, spring has come to Grenoble")
                .multipart(
                    MultiPart::alternative()
                        .singlepart(SinglePart::plain(render("m.txt")))
                        .singlepart(SinglePart::html(render("m.html"))),
                );
            black_box(message.expect("builds").formatted().len())
        });
    });
    group.finish();
}

criterion_group!(benches, render);
criterion_main!(benches);
