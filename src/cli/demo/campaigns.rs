//! The campaigns of the demo, as specs, and the taste of their readers.

use super::readers::Taste;

const HEAD: &str = r#"
name = "demo"

[audience]
segment = 'in segment "customers"'

[message]
channel = "email"
connector = "inbox"
topic = "news"
from = "Estafette demo <demo@example.test>"
subject = "Hello {{ contact.first_name | default('there') }}, news from {{ contact.city }}"
html = """
<h1>Hello {{ contact.first_name | default('there') }}</h1>
<p>You have <b>{{ contact.points }}</b> points.</p>
{% if contact.plan == "pro" %}<p>As a pro you see it first: <a href="https://shop.example.test/pro">the new collection</a>.</p>{% endif %}
<p><a href="https://shop.example.test/offer">Your offer</a> ·
<a href="https://shop.example.test/events?city={{ contact.city }}">events near you</a></p>
<p><a href="{{ unsubscribe_url }}">Unsubscribe</a> · <a href="{{ view_url }}">view in browser</a></p>
"""
text = """
Hello {{ contact.first_name | default('there') }},

you have {{ contact.points }} points. Your offer: https://shop.example.test/offer

Unsubscribe: {{ unsubscribe_url }}
"""
"#;

const AB_SPLIT: &str = r#"
[[variants]]
name = "A"
subject = "News from {{ contact.city }}"
[[variants]]
name = "B"
subject = "Your {{ contact.points }} points, {{ contact.first_name | default('friend') }}"

[test]
sample = "30%"
winner_by = "clicks"
decide_after = "24s"
window = "8s"
looks = 6
"#;

/// The truth that the test of the demo has to find: B is better.
pub(super) const TASTES: [Taste; 2] =
    [Taste { subject: "News from", opens: 0.30, clicks: 0.06 }, Taste { subject: "Your ", opens: 0.45, clicks: 0.14 }];

const MULTI_SEGMENT: &str = r#"
[[dimensions]]
name = "language"
others = true
[[dimensions.segments]]
name = "French"
segment = 'language = "fr"'
[[dimensions.segments]]
name = "German"
segment = 'language = "de"'

[[dimensions]]
name = "plan"
others = true
[[dimensions.segments]]
name = "pro"
segment = 'plan = "pro"'

[[cells]]
where = { language = "French", plan = "pro" }
message = { subject = "La nouvelle collection, avant tout le monde" }
[[cells]]
where = { language = "French" }
message = { subject = "Des nouvelles de {{ contact.city }}" }
[[cells]]
where = { language = "German", plan = "pro" }
message = { subject = "Die neue Kollektion, vor allen anderen" }
[[cells]]
where = { language = "German" }
message = { subject = "Neues aus {{ contact.city }}" }
[[cells]]
where = { plan = "pro" }
message = { subject = "The new collection, before anybody else" }
[[cells]]
message = { subject = "News from {{ contact.city }}" }
"#;

/// Seconds after which the steps of the sequence start.
const HELLO_AFTER: i64 = 4;
const SPLIT_AFTER: i64 = 20;

/// A greeting, a split by who clicked it, and a mail for each side. The dates are near, so that somebody can watch.
fn sequence(now: jiff::Timestamp) -> String {
    let at = |seconds: i64| {
        let at = now.saturating_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(now);
        at.to_zoned(jiff::tz::TimeZone::UTC).datetime().to_string()
    };
    let (hello, split, last) = (at(HELLO_AFTER), at(SPLIT_AFTER), at(SPLIT_AFTER + 2));
    format!(
        r#"
[[steps]]
id = "hello"
kind = "send"
at = "{hello}"
[[steps]]
id = "who"
kind = "split"
by = "engagement"
at = "{split}"
branches = [{{ name = "clicked", on = "clicked" }}]
[[steps]]
id = "thanks"
kind = "send"
after = "who.clicked"
at = "{last}"
message = {{ subject = "Thank you for having a look" }}
[[steps]]
id = "reminder"
kind = "send"
after = "who.remaining"
at = "{last}"
message = {{ subject = "Have you seen your offer?" }}
"#
    )
}

/// How the readers of the sequence take its first mail.
pub(super) const SEQUENCE_TASTES: [Taste; 1] = [Taste { subject: "Hello ", opens: 0.40, clicks: 0.15 }];

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DemoKind {
    /// Two subjects on a sample; readers open and click; the rest gets the winner.
    AbSplit,
    /// A grid of languages and plans, a message per cell.
    MultiSegment,
    /// One message to all.
    Single,
    /// Dated steps: a greeting, a split by who clicked, a mail for each side.
    Sequence,
}

impl DemoKind {
    pub(super) fn spec(self) -> String {
        match self {
            DemoKind::Single => HEAD.to_owned(),
            DemoKind::AbSplit => format!("kind = \"ab_split\"\n{HEAD}{AB_SPLIT}"),
            DemoKind::MultiSegment => format!("kind = \"multi_segment\"\n{HEAD}{MULTI_SEGMENT}"),
            DemoKind::Sequence => {
                format!("kind = \"sequence\"\nzone = \"UTC\"\n{HEAD}{}", sequence(jiff::Timestamp::now()))
            }
        }
    }

    pub(super) fn says(self) -> &'static str {
        match self {
            DemoKind::Single => "Send: personalised HTML and text with tracked links, by SMTP to the embedded inbox",
            DemoKind::AbSplit => "Test: two subjects on 30 % of the audience, by SMTP to the embedded inbox",
            DemoKind::Sequence => "Publish: four dated steps, by SMTP to the embedded inbox",
            DemoKind::MultiSegment => "Send: a message per cell of the grid, by SMTP to the embedded inbox",
        }
    }
}
