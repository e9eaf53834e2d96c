//! Random contacts, the world made of them, and the naive filter that asks one contact.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use roaring::RoaringBitmap;

use crate::clock::Timestamp;
use crate::contacts::{AttributeType, IndexKind, RecordBuilder, Schema, Value};
use crate::ids::Channel;
use crate::segments::anniversary;
use crate::segments::expression::{
    Comparison, Expression, Kind, Literal, LiteralValue, Operator, Test, TextMatch, Zone,
};
use crate::segments::history::{Engagement, Event};
use crate::segments::memory::MemoryWorld;
use crate::segments::moment::resolve;
use crate::segments::parse;

pub(super) const NOW: Timestamp = Timestamp(1_774_780_200_000); // 2026-03-29T10:30:00Z, the day the clocks change in Europe
pub(super) const DAY: i64 = 86_400_000;
pub(super) const TEXTS: [&str; 6] = ["", "FR", "DE", "FRANCE", "x\"y", "é"];
pub(super) const ZONES: [&str; 5] =
    ["Europe/Paris", "America/New_York", "Asia/Tokyo", "Pacific/Kiritimati", "Nowhere/Atall"];

/// Each type twice: indexed (`a…`) and not (`b…`).
pub(super) fn schema() -> Schema {
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
pub(super) struct Person {
    fields: HashMap<String, Field>,
    list: bool,
    consent: Option<bool>,
    suppressed: bool,
    suppressed_on_email: bool,
    /// What the campaign "spring" did.
    spring: [bool; 8],
    /// Days ago on which something of any campaign happened, by kind; on SMS instead of e-mail if it is even.
    days: Vec<(usize, u32)>,
    /// Messages opened (or clicked), by days ago.
    messages: Vec<(bool, u32)>,
    /// Events from outside (of the type "cart", or else "login"), by days ago.
    events: Vec<(bool, u32)>,
}

pub(super) fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::sample::select(texts).prop_map(str::to_owned)
}

pub(super) fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-4i32..5).prop_map(f64::from),
        proptest::sample::select(&[0.5, -0.0, 1e300, -1e-300, 18.25][..]),
        any::<i16>().prop_map(|n| f64::from(n) / 16.0)
    ]
}

pub(super) fn time() -> impl Strategy<Value = Timestamp> {
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
    let done = || vec((any::<bool>(), 0u32..12), 0..5);
    let history = (any::<[bool; 8]>(), vec((0usize..3, 0u32..12), 0..4), done(), done());
    let state = (any::<bool>(), option::of(any::<bool>()), any::<bool>(), any::<bool>(), history);
    (fields("a"), fields("b"), built_in, state).prop_map(|(a, b, (zone, active, email), state)| {
        let mut person = Person {
            list: state.0,
            consent: state.1,
            suppressed: state.2,
            suppressed_on_email: state.3,
            spring: state.4.0,
            days: state.4.1,
            messages: state.4.2,
            events: state.4.3,
            ..Person::default()
        };
        person.fields.extend(a.into_iter().chain(b));
        person.fields.extend(zone.map(|zone| ("zone".to_owned(), Field::Text(zone))));
        person.fields.extend(active.map(|active| ("active".to_owned(), Field::Flag(active))));
        person.fields.extend(email.map(|email| ("email".to_owned(), Field::Text(email))));
        person
    })
}

pub(super) type People = std::collections::BTreeMap<u32, Person>;

pub(super) fn people() -> impl Strategy<Value = People> {
    let row = prop_oneof![0u32..30, Just(65_535), Just(65_536), Just(1_000_000)];
    btree_map(row, person(), 0..25)
}

pub(super) fn world(people: &People) -> MemoryWorld {
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
    let spring = Event::ALL.into_iter().enumerate();
    let spring = spring.map(|(at, event)| (event, those(&|person| person.spring[at]))).collect();
    world.history.insert("spring".to_owned(), spring);
    for (at, event) in Event::ALL.into_iter().enumerate() {
        for day in 0..12u32 {
            let rows = those(&|person| person.days.contains(&(at, day)));
            world.days.insert((event, on_day(day), day), rows);
        }
    }
    for (at, day, which) in (0..5).flat_map(|at| (0..12u32).flat_map(move |day| [(at, day, false), (at, day, true)])) {
        let messages = those(&|person| person.messages.get(at) == Some(&(which, day)));
        world.messages.push((which, day, messages));
        let events = those(&|person| person.events.get(at) == Some(&(which, day)));
        world.events.push((if which { "cart" } else { "login" }.to_owned(), day, events));
    }
    let gold = ("cart".to_owned(), "plan".to_owned(), "gold".to_owned());
    world.properties.insert(gold, those(&|person| person.list));
    world.segments.insert("young".to_owned(), Arc::new(parse("a_number < 3 and in list 'list'").expect("parses")));
    world
}

/// The channel on which everything of a day happened.
fn on_day(day: u32) -> Channel {
    if day.is_multiple_of(2) { Channel::Sms } else { Channel::Email }
}

fn place(event: Event) -> usize {
    Event::ALL.iter().position(|other| *other == event).expect("one of all")
}

pub(super) fn holds(expression: &Expression, person: &Person) -> bool {
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
        Kind::History { event, .. } => person.spring[place(*event)],
        Kind::Recent { event, channel, days } => person
            .days
            .iter()
            .any(|(at, day)| *at == place(*event) && day < days && channel.is_none_or(|c| c == on_day(*day))),
        Kind::Messages { did, least, days } => {
            let asked = |(clicked, day): &&(bool, u32)| {
                *day < *days && (*did == Engagement::Engaged || *clicked == (*did == Engagement::Clicked))
            };
            person.messages.iter().filter(asked).count() >= *least as usize
        }
        // The list stands for any set by name.
        Kind::DidWith { value, .. } => value == "gold" && person.list,
        Kind::Did { name, least, days } => {
            let asked = |(cart, day): &&(bool, u32)| *cart == (name == "cart") && days.is_none_or(|days| *day < days);
            person.events.iter().filter(asked).count() >= *least as usize
        }
        Kind::Test(test) => test_holds(test, person),
    }
}

fn test_holds(test: &Test, person: &Person) -> bool {
    let active = Field::Flag(true);
    let field = person.fields.get(&test.attribute.text).or((test.attribute.text == "active").then_some(&active));
    let Some(field) = field else {
        return test.operator == Operator::Empty;
    };
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
    if let Operator::Anniversary(days) = test.operator {
        let Field::Time(time) = field else { panic!("not generated") };
        let date = |at: Timestamp, zone: &TimeZone| {
            jiff::Timestamp::from_millisecond(at.0).expect("in range").to_zoned(zone.clone()).date()
        };
        let (born, today) = (date(*time, &TimeZone::get("Europe/London").expect("a zone")), date(NOW, &zone));
        let (first, last) = days.bounds();
        return (first..=last).any(|ahead| {
            let day = today.checked_add(jiff::Span::new().days(ahead)).expect("in range");
            day.year() > born.year() && anniversary::is_on(born, day)
        });
    }
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
        Operator::Anniversary(_) => panic!("answered above"),
    }
}
