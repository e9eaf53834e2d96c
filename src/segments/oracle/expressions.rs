//! Random expressions that fit the schema of the random contacts.

use jiff::tz::TimeZone;
use proptest::collection::vec;
use proptest::prelude::*;

use super::people::{DAY, NOW, TEXTS, ZONES, number, one_of, time};
use crate::ids::Channel;
use crate::segments::error::Span;
use crate::segments::expression::{
    Anchor, Comparison, Days, Expression, Kind, Literal, LiteralValue, Moment, Name, Operator, Step, Test, TextMatch,
    Unit, Zone,
};
use crate::segments::history::{Engagement, Event};

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
    let days =
        prop_oneof![(0u32..40).prop_map(Days::At), (1u32..60).prop_map(Days::Next), (1u32..60).prop_map(Days::Last),];
    let dates = prop_oneof![5 => ordered(moment().boxed()), 1 => days.prop_map(Operator::Anniversary)];
    let times = (dates, zone).prop_map(|(operator, zone)| {
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

pub(super) fn expressions() -> impl Strategy<Value = Expression> {
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
        proptest::sample::select(&Event::ALL[..])
            .prop_map(|event| Kind::History { event, campaign: "spring".to_owned() }),
        (proptest::sample::select(&Event::ALL[..3]), proptest::option::of(proptest::bool::ANY), 1u32..15).prop_map(
            |(event, email, days)| {
                let channel = email.map(|email| if email { Channel::Email } else { Channel::Sms });
                Kind::Recent { event, channel, days }
            }
        ),
        (proptest::sample::select(&Engagement::ALL[..]), 1u32..3, 1u32..15)
            .prop_map(|(did, least, days)| Kind::Messages { did, least, days }),
        proptest::sample::select(&["gold", "3", "x\"y"][..]).prop_map(|value| Kind::DidWith {
            name: "cart".to_owned(),
            property: "plan".to_owned(),
            value: value.to_owned()
        }),
        (proptest::sample::select(&["cart", "login"][..]), 1u32..4, proptest::option::of(1u32..15))
            .prop_map(|(name, least, days)| Kind::Did { name: name.to_owned(), least, days }),
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
