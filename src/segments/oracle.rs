//! The oracle: random expressions over random contacts, against a filter that asks each contact in turn; and the laws of
//! the algebra, and the round trip through text.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use roaring::RoaringBitmap;

use super::eval::{ScanKind, evaluate, evaluate_within};
use super::expression::{
    Anchor, Comparison, Expression, Kind, Literal, LiteralValue, Moment, Name, Operator, Step, Test, TextMatch, Unit,
    Zone,
};
use super::memory::MemoryWorld;
use super::moment::resolve;
use super::{EvaluateError, Problem, Span, parse};
use crate::clock::Timestamp;
use crate::contacts::{AttributeType, IndexKind, RecordBuilder, Schema, Value};
use crate::ids::{AttributeId, Channel};

const NOW: Timestamp = Timestamp(1_774_780_200_000); // 2026-03-29T10:30:00Z, the day the clocks change in Europe
const DAY: i64 = 86_400_000;
const TEXTS: [&str; 6] = ["", "FR", "DE", "FRANCE", "x\"y", "é"];
const ZONES: [&str; 5] = ["Europe/Paris", "America/New_York", "Asia/Tokyo", "Pacific/Kiritimati", "Nowhere/Atall"];

/// Each type twice: indexed (`a…`) and not (`b…`).
fn schema() -> Schema {
    use AttributeType::{Boolean, DateTime, List, Number, Text};
    let kinds = [("text", Text), ("number", Number), ("flag", Boolean), ("time", DateTime), ("list", List)];
    kinds.into_iter().fold(Schema::built_in(), |schema, (name, kind)| {
        let schema = schema.with(&format!("a_{name}"), kind, None).expect("valid");
        schema.with(&format!("b_{name}"), kind, Some(IndexKind::None)).expect("valid")
    })
}

#[derive(Clone, Debug, PartialEq)]
enum Field {
    Text(String),
    Number(f64),
    Flag(bool),
    Time(Timestamp),
    List(Vec<String>),
}

#[derive(Clone, Debug, Default)]
struct Person {
    fields: HashMap<String, Field>,
    list: bool,
    consent: Option<bool>,
    suppressed: bool,
    suppressed_on_email: bool,
}

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::sample::select(texts).prop_map(str::to_owned)
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-4i32..5).prop_map(f64::from),
        proptest::sample::select(&[0.5, -0.0, 1e300, -1e-300, 18.25][..]),
        any::<i16>().prop_map(|n| f64::from(n) / 16.0)
    ]
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        (-3i64..4, -2i64..3).prop_map(|(days, hours)| Timestamp(NOW.0 + days * DAY + hours * 3_600_000)),
        (-5_000i64..400, 0i64..DAY).prop_map(|(days, millis)| Timestamp(NOW.0 + days * DAY + millis)),
        (-3i64..3).prop_map(|offset| Timestamp(NOW.0 + offset)),
    ]
}

fn person() -> impl Strategy<Value = Person> {
    let fields = |prefix: &'static str| {
        (
            option::of(one_of(&TEXTS)),
            option::of(number()),
            option::of(any::<bool>()),
            option::of(time()),
            option::of(vec(one_of(&TEXTS), 1..3)),
        )
            .prop_map(move |(text, number, flag, time, list)| {
                let named = [
                    ("text", text.map(Field::Text)),
                    ("number", number.map(Field::Number)),
                    ("flag", flag.map(Field::Flag)),
                    ("time", time.map(Field::Time)),
                    ("list", list.map(Field::List)),
                ];
                named
                    .into_iter()
                    .filter_map(move |(name, field)| Some((format!("{prefix}_{name}"), field?)))
                    .collect::<Vec<_>>()
            })
    };
    let built_in =
        (option::of(one_of(&ZONES)), option::of(any::<bool>()), option::of(one_of(&["a@x.test", "b@y.test"])));
    let state = (any::<bool>(), option::of(any::<bool>()), any::<bool>(), any::<bool>());
    (fields("a"), fields("b"), built_in, state).prop_map(|(a, b, (zone, active, email), state)| {
        let mut person = Person {
            list: state.0,
            consent: state.1,
            suppressed: state.2,
            suppressed_on_email: state.3,
            ..Person::default()
        };
        person.fields.extend(a.into_iter().chain(b));
        person.fields.extend(zone.map(|zone| ("zone".to_owned(), Field::Text(zone))));
        person.fields.extend(active.map(|active| ("active".to_owned(), Field::Flag(active))));
        person.fields.extend(email.map(|email| ("email".to_owned(), Field::Text(email))));
        person
    })
}

type People = std::collections::BTreeMap<u32, Person>;

fn people() -> impl Strategy<Value = People> {
    let row = prop_oneof![0u32..30, Just(65_535), Just(65_536), Just(1_000_000)];
    btree_map(row, person(), 0..25)
}

fn world(people: &People) -> MemoryWorld {
    let schema = schema();
    let mut world = MemoryWorld::new(schema.clone(), NOW);
    world.zone = TimeZone::get("Europe/London").expect("a zone");
    for (row, person) in people {
        let mut record = RecordBuilder::new();
        for (name, field) in &person.fields {
            let id = schema.by_name(name).expect("in the schema").id;
            match field {
                Field::Text(text) => record.set(id, Value::Text(text)),
                Field::Number(number) => record.set(id, Value::Number(*number)),
                Field::Flag(flag) => record.set(id, Value::Bool(*flag)),
                Field::Time(time) => record.set(id, Value::Time(*time)),
                Field::List(list) => record.set_list(id, list.iter().map(String::as_str)),
            }
        }
        world.insert(*row, &mut record);
    }
    let those = |which: &dyn Fn(&Person) -> bool| -> Arc<RoaringBitmap> {
        Arc::new(people.iter().filter(|(_, person)| which(person)).map(|(row, _)| *row).collect())
    };
    // A list may still name contacts that are erased.
    let mut list = (*those(&|person| person.list)).clone();
    list.extend([31, 2_000_000]);
    world.lists.insert("list".to_owned(), Arc::new(list));
    let key = (Channel::Email, "news".to_owned());
    world.subscribed.insert(key.clone(), those(&|person| person.consent == Some(true)));
    world.unsubscribed.insert(key, those(&|person| person.consent == Some(false)));
    world.suppressed = those(&|person| person.suppressed);
    world.suppressed_on.insert(Channel::Email, those(&|person| person.suppressed_on_email));
    world.segments.insert("young".to_owned(), Arc::new(parse("a_number < 3 and in list 'list'").expect("parses")));
    world
}

fn holds(expression: &Expression, person: &Person) -> bool {
    match &expression.kind {
        Kind::Every => true,
        Kind::Active => person.fields.get("active") != Some(&Field::Flag(false)),
        Kind::Not(inner) => !holds(inner, person),
        Kind::And(parts) => parts.iter().all(|part| holds(part, person)),
        Kind::Or(parts) => parts.iter().any(|part| holds(part, person)),
        Kind::InList(_) => person.list,
        Kind::InSegment(_) => {
            person.list && matches!(person.fields.get("a_number"), Some(Field::Number(n)) if *n < 3.0)
        }
        Kind::Subscribed { .. } => person.consent == Some(true),
        Kind::Unsubscribed { .. } => person.consent == Some(false),
        Kind::Reachable(_) => person.fields.contains_key("email"),
        Kind::Suppressed(channel) => person.suppressed || (channel.is_some() && person.suppressed_on_email),
        Kind::Test(test) => test_holds(test, person),
    }
}

fn test_holds(test: &Test, person: &Person) -> bool {
    let active = Field::Flag(true);
    let field = person.fields.get(&test.attribute.text).or((test.attribute.text == "active").then_some(&active));
    let Some(field) = field else { return test.operator == Operator::Empty };
    let zone = match (&test.zone, person.fields.get("zone")) {
        (Zone::Named(name), _) => TimeZone::get(name).expect("a zone"),
        (Zone::Contact, Some(Field::Text(name))) if TimeZone::get(name).is_ok() => TimeZone::get(name).expect("a zone"),
        _ => TimeZone::get("Europe/London").expect("a zone"),
    };
    let compare = |comparison, literal: &Literal| match (field, &literal.value) {
        (Field::Time(time), LiteralValue::Moment(moment)) => {
            let day = resolve(moment, NOW, &zone);
            match comparison {
                Comparison::Equal => *time >= day.start && *time < day.end,
                Comparison::NotEqual => *time < day.start || *time >= day.end,
                Comparison::Less => *time < day.start,
                Comparison::LessOrEqual => *time < day.end,
                Comparison::Greater => *time >= day.end,
                Comparison::GreaterOrEqual => *time >= day.start,
            }
        }
        (Field::Number(number), LiteralValue::Number(wanted)) => match comparison {
            Comparison::Equal => number == wanted,
            Comparison::NotEqual => number != wanted,
            Comparison::Less => number < wanted,
            Comparison::LessOrEqual => number <= wanted,
            Comparison::Greater => number > wanted,
            Comparison::GreaterOrEqual => number >= wanted,
        },
        (Field::Text(text), LiteralValue::Text(wanted)) => (text == wanted) == (comparison == Comparison::Equal),
        (Field::Flag(flag), LiteralValue::Bool(wanted)) => (flag == wanted) == (comparison == Comparison::Equal),
        other => panic!("not generated: {other:?}"),
    };
    match &test.operator {
        Operator::Compare(comparison, literal) => compare(*comparison, literal),
        Operator::In(literals) => literals.iter().any(|literal| compare(Comparison::Equal, literal)),
        Operator::Between(low, high) => {
            compare(Comparison::GreaterOrEqual, low) && compare(Comparison::LessOrEqual, high)
        }
        Operator::Match(how, wanted) => match (field, how) {
            (Field::Text(text), TextMatch::Contains) => text.contains(wanted),
            (Field::Text(text), TextMatch::StartsWith) => text.starts_with(wanted),
            (Field::Text(text), TextMatch::EndsWith) => text.ends_with(wanted),
            other => panic!("not generated: {other:?}"),
        },
        Operator::Empty => false,
        Operator::Has { all, entries } => {
            let Field::List(list) = field else { panic!("not generated") };
            if *all { entries.iter().all(|e| list.contains(e)) } else { entries.iter().any(|e| list.contains(e)) }
        }
    }
}

fn literal(value: LiteralValue) -> Literal {
    Literal { value, span: Span::default() }
}

fn moment() -> impl Strategy<Value = Literal> {
    let anchor = prop_oneof![
        Just(Anchor::Now),
        Just(Anchor::Today),
        (-40i64..40).prop_map(|days| {
            let day = jiff::Timestamp::from_millisecond(NOW.0 + days * DAY).expect("in range").to_zoned(TimeZone::UTC);
            Anchor::Day(day.date())
        }),
        time().prop_map(|time| Anchor::Instant(jiff::Timestamp::from_millisecond(time.0).expect("in range"))),
        time().prop_map(|time| {
            let time = jiff::Timestamp::from_millisecond(time.0).expect("in range").to_zoned(TimeZone::UTC);
            Anchor::Local(time.datetime())
        }),
    ];
    let step = (-400i64..400, proptest::sample::select(&Unit::ALL[..])).prop_map(|(count, unit)| Step { count, unit });
    let steps = prop_oneof![3 => Just(Vec::new()), 2 => vec(step, 1..3)];
    (anchor, steps).prop_map(|(anchor, steps)| literal(LiteralValue::Moment(Moment { anchor, steps })))
}

fn comparison() -> impl Strategy<Value = Comparison> {
    proptest::sample::select(&Comparison::ALL[..])
}

fn ordered(value: impl Strategy<Value = Literal> + Clone + 'static) -> impl Strategy<Value = Operator> {
    prop_oneof![
        4 => (comparison(), value.clone()).prop_map(|(how, value)| Operator::Compare(how, value)),
        1 => vec(value.clone(), 1..4).prop_map(Operator::In),
        2 => (value.clone(), value).prop_map(|(low, high)| match (&low.value, &high.value) {
            (LiteralValue::Number(a), LiteralValue::Number(b)) if a > b => Operator::Between(high, low),
            _ => Operator::Between(low, high),
        }),
        1 => Just(Operator::Empty),
    ]
}

fn equality() -> impl Strategy<Value = Comparison> {
    prop_oneof![Just(Comparison::Equal), Just(Comparison::NotEqual)]
}

fn operators() -> impl Strategy<Value = (&'static str, Operator, Zone)> {
    let text = || one_of(&TEXTS).prop_map(|text| literal(LiteralValue::Text(text)));
    let how = proptest::sample::select(&[TextMatch::Contains, TextMatch::StartsWith, TextMatch::EndsWith][..]);
    let texts = prop_oneof![
        (equality(), text()).prop_map(|(how, value)| Operator::Compare(how, value)),
        vec(text(), 1..4).prop_map(Operator::In),
        (how, one_of(&["", "F", "R", "FR", "y"])).prop_map(|(how, wanted)| Operator::Match(how, wanted)),
        Just(Operator::Empty),
    ];
    let flags = prop_oneof![
        (equality(), any::<bool>()).prop_map(|(how, value)| Operator::Compare(how, literal(LiteralValue::Bool(value)))),
        Just(Operator::Empty),
    ];
    let lists = prop_oneof![
        (any::<bool>(), vec(one_of(&TEXTS), 1..4))
            .prop_map(|(all, entries)| Operator::Has { all: all && entries.len() > 1, entries }),
        Just(Operator::Empty),
    ];
    let zone = prop_oneof![
        2 => Just(Zone::Default),
        1 => Just(Zone::Contact),
        1 => one_of(&ZONES[..4]).prop_map(Zone::Named),
    ];
    let number = number().prop_map(|number| literal(LiteralValue::Number(number)));
    let times = (ordered(moment().boxed()), zone).prop_map(|(operator, zone)| {
        let zone = if operator == Operator::Empty { Zone::Default } else { zone };
        ("time", operator, zone)
    });
    prop_oneof![
        1 => texts.prop_map(|operator| ("text", operator, Zone::Default)),
        3 => ordered(number.boxed()).prop_map(|operator| ("number", operator, Zone::Default)),
        1 => flags.prop_map(|operator| ("flag", operator, Zone::Default)),
        3 => times,
        1 => lists.prop_map(|operator| ("list", operator, Zone::Default)),
    ]
}

fn expressions() -> impl Strategy<Value = Expression> {
    let new = |kind| Expression::new(kind, Span::default());
    let test = move |name: String, operator, zone| {
        let attribute = Name { text: name, span: Span::default() };
        new(Kind::Test(Test { attribute, operator, zone, zone_span: Span::default() }))
    };
    let named = prop_oneof![
        Just(Kind::Every),
        Just(Kind::Active),
        Just(Kind::InList("list".to_owned())),
        Just(Kind::InSegment("young".to_owned())),
        Just(Kind::Subscribed { channel: Channel::Email, topic: "news".to_owned() }),
        Just(Kind::Unsubscribed { channel: Channel::Email, topic: "news".to_owned() }),
        Just(Kind::Reachable(Channel::Email)),
        Just(Kind::Suppressed(None)),
        Just(Kind::Suppressed(Some(Channel::Email))),
    ];
    let active = (equality(), any::<bool>()).prop_map(move |(how, value)| {
        test("active".to_owned(), Operator::Compare(how, literal(LiteralValue::Bool(value))), Zone::Default)
    });
    let leaf = prop_oneof![
        8 => (any::<bool>(), operators()).prop_map(move |(indexed, (kind, operator, zone))| {
            test(format!("{}_{kind}", if indexed { "a" } else { "b" }), operator, zone)
        }),
        3 => named.prop_map(new),
        1 => active,
    ];
    leaf.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 2..5).prop_map(Expression::and),
            vec(inner.clone(), 2..5).prop_map(Expression::or),
            inner.prop_map(|inner| Expression::negate(inner, Span::default())),
        ]
    })
}

fn rows(expression: &Expression, world: &MemoryWorld) -> RoaringBitmap {
    match evaluate(expression, world) {
        Ok(found) => (*found.rows).clone(),
        Err(error) => panic!("{expression}: {error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn an_evaluation_finds_what_asking_each_contact_finds(people in people(), expression in expressions(), within in vec(0u32..40, 0..30)) {
        let world = world(&people);
        let expected: RoaringBitmap =
            people.iter().filter(|(_, person)| holds(&expression, person)).map(|(row, _)| *row).collect();
        prop_assert_eq!(rows(&expression, &world), expected.clone(), "{}", expression);
        let within: RoaringBitmap = within.into_iter().collect();
        let found = evaluate_within(&expression, &world, &within).expect("evaluates");
        prop_assert_eq!(&*found.rows, &(&expected & &within), "within: {}", expression);
        for note in found.notes.iter().filter(|note| note.kind == ScanKind::Records) {
            prop_assert!(note.visited <= within.len(), "{} records of {} rows read", note.visited, within.len());
        }
    }

    #[test]
    fn the_laws_of_sets_hold(people in people(), a in expressions(), b in expressions(), c in expressions()) {
        let world = world(&people);
        let find = |expression: &Expression| rows(expression, &world);
        let not = |e: &Expression| Expression::negate(e.clone(), Span::default());
        let and = |x: &Expression, y: &Expression| Expression::and(vec![x.clone(), y.clone()]);
        let or = |x: &Expression, y: &Expression| Expression::or(vec![x.clone(), y.clone()]);
        let universe: RoaringBitmap = people.keys().copied().collect();
        prop_assert_eq!(find(&not(&a)), &universe - &find(&a), "not");
        prop_assert_eq!(find(&and(&a, &b)), find(&a) & find(&b), "and");
        prop_assert_eq!(find(&or(&a, &b)), find(&a) | find(&b), "or");
        prop_assert_eq!(find(&and(&a, &not(&b))), find(&a) - find(&b), "minus");
        prop_assert_eq!(find(&not(&and(&a, &b))), find(&or(&not(&a), &not(&b))), "de Morgan");
        prop_assert_eq!(find(&and(&a, &or(&b, &c))), find(&or(&and(&a, &b), &and(&a, &c))), "distribution");
        prop_assert_eq!(find(&or(&a, &not(&a))), universe, "excluded middle");
        prop_assert!(find(&and(&a, &not(&a))).is_empty(), "contradiction");
    }

    #[test]
    fn canonical_text_parses_back_to_an_equal_tree(expression in expressions()) {
        let text = expression.to_string();
        let again = parse(&text).map_err(|error| TestCaseError::fail(error.render(&text)))?;
        prop_assert_eq!(&again, &expression, "{}", text);
        prop_assert_eq!(again.to_string(), text, "canonical text is stable");
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}", pieces in vec(proptest::sample::select(&PIECES[..]), 0..25)) {
        super::fuzz_parse(&text);
        super::fuzz_parse(&pieces.concat());
        super::fuzz_parse(&pieces.join(" "));
    }
}

const PIECES: [&str; 48] = [
    "and",
    "or",
    "not",
    "in",
    "list",
    "segment",
    "(",
    ")",
    ",",
    "=",
    "!=",
    "<",
    ">=",
    "-",
    "+",
    "\"",
    "'",
    "\\",
    "`",
    "\"a\"",
    "'b'",
    "age",
    "created",
    "now",
    "today",
    "30d",
    "1mo",
    "3",
    "2.5",
    "1e9",
    "2026-01-31",
    "2026-01-31T10:00",
    "T",
    "Z",
    "+01:00",
    "zone",
    "contact",
    "between",
    "contains",
    "starts",
    "with",
    "is",
    "empty",
    "has",
    "any",
    "all",
    "é",
    "\u{0}",
];

fn error(text: &str, world: &MemoryWorld) -> Problem {
    match evaluate(&parse(text).expect("parses"), world) {
        Err(EvaluateError::Segment(error)) => error.problem,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn cycles_unknown_names_and_explosions_are_refused() {
    let mut world = world(&People::new());
    let mut define = |name: &str, text: &str| {
        world.segments.insert(name.to_owned(), Arc::new(parse(text).expect("parses")));
    };
    define("a", "every and in segment 'b'");
    define("b", "in segment 'c' or not in segment 'd'");
    define("c", "in segment 'b'");
    define("d", "every");
    define("wrong", "agee = 3");
    define("deep 0", "every");
    for level in 1..200 {
        define(&format!("deep {level}"), &format!("in segment 'deep {}'", level - 1));
    }
    define("wide 0", "every");
    for level in 1..40 {
        let inner = format!("in segment 'wide {}'", level - 1);
        define(&format!("wide {level}"), &format!("{inner} or not {inner}"));
    }
    let path = |names: &[&str]| Problem::Cycle { path: names.iter().map(|n| (*n).to_owned()).collect() };
    assert_eq!(error("in segment 'a'", &world), path(&["b", "c", "b"]), "the cycle, without the way to it");
    assert_eq!(error("in segment 'nope'", &world), Problem::UnknownSegment { name: "nope".to_owned() });
    assert_eq!(error("in list 'nope'", &world), Problem::UnknownList { name: "nope".to_owned() });
    assert!(
        matches!(error("in segment 'wrong'", &world), Problem::InSegment { name, .. } if name == "wrong"),
        "names the segment"
    );
    assert!(matches!(error("in segment 'deep 199'", &world), Problem::TooDeep { .. }), "too deep");
    assert!(matches!(error("in segment 'wide 39'", &world), Problem::TooLarge { .. }), "too large");
    assert!(evaluate(&parse("in segment 'deep 60'").expect("parses"), &world).is_ok(), "deep enough");
}

#[test]
fn a_scan_reads_only_what_is_left_and_says_so() {
    let mut world = MemoryWorld::new(schema(), NOW);
    let number = |name: &str| schema().by_name(name).expect("there").id;
    for row in 0..1_000u32 {
        let mut record = RecordBuilder::new();
        record.set(number("a_number"), Value::Number(f64::from(row % 10)));
        if row % 2 == 0 {
            record.set(number("b_number"), Value::Number(f64::from(row)));
        }
        record.set(AttributeId::KEY, Value::Text("k"));
        world.insert(row, &mut record);
    }
    let notes = |text: &str| evaluate(&parse(text).expect("parses"), &world).expect("evaluates");
    let found = notes("b_number >= 500 and a_number = 4 and b_number != 504");
    assert_eq!(found.rows.len(), 49, "rows");
    let visited: Vec<(&str, u64)> = found.notes.iter().map(|note| (note.part.as_str(), note.visited)).collect();
    assert_eq!(
        visited,
        [("b_number != 504", 100), ("b_number >= 500", 99)],
        "only rows that the index left: {:?}",
        found.notes
    );
    let found = notes("a_number = 3 and b_number > 1");
    assert_eq!(found.notes[0].visited, 0, "odd rows have no value to read");
    assert!(notes("a_number = 11 and b_number > 1").notes.is_empty(), "nothing left, nothing read");
    assert!(notes("a_number = 4 or b_number is empty").notes.is_empty(), "presence is indexed");
    let found = notes("(b_number > 10 or key = 'k') and a_number = 4");
    assert_eq!(found.notes.len(), 1, "one pass for both: {:?}", found.notes);
}

#[test]
fn missing_values_fail_comparisons_and_pass_their_negation() {
    let people: People = [(1, Person::default())].into_iter().collect();
    let world = world(&people);
    for text in [
        "a_text = 'FR'",
        "a_text != 'FR'",
        "a_number < 3",
        "b_number != 3",
        "a_list has 'x'",
        "a_time > 2020-01-01",
        "b_text contains ''",
    ] {
        let expression = parse(text).expect("parses");
        assert!(rows(&expression, &world).is_empty(), "{text} is false");
        assert_eq!(rows(&Expression::negate(expression, Span::default()), &world).len(), 1, "not {text} is true");
    }
    for text in ["a_text not in ('FR')", "a_text is empty", "not a_text is not empty", "a_number not between 1 and 2"] {
        assert_eq!(rows(&parse(text).expect("parses"), &world).len(), 1, "{text} is true");
    }
}
