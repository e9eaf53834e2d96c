//! What campaigns did to contacts and what contacts did, as an expression can ask it: of one campaign, or of any within days; how
//! many messages; which events from outside, how often.
//!
//! Owns no state. Who knows the answers is the [`World`](super::World). Invariant: HI-1 a word never changes its meaning, saved
//! segments hold it.

/// Something that happened between a campaign and a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// A message was accepted by the contact's provider. What was never answered is not known to be received.
    Received,
    /// Opened by a person, as far as can be told.
    Opened,
    /// Clicked by a person, as far as can be told.
    Clicked,
    /// Accepted, and not bounced since.
    Delivered,
    /// Refused, at once or later, for reasons of the address.
    Bounced,
    /// Opted out by a link of the campaign.
    Unsubscribed,
    /// Complained to the provider.
    Complained,
    /// Did what the campaign was for, by an event that names its message.
    Converted,
}

impl Event {
    pub const ALL: [Event; 8] = [
        Event::Received,
        Event::Opened,
        Event::Clicked,
        Event::Delivered,
        Event::Bounced,
        Event::Unsubscribed,
        Event::Complained,
        Event::Converted,
    ];

    /// The word of the language.
    pub fn word(self) -> &'static str {
        match self {
            Event::Received => "received",
            Event::Opened => "opened",
            Event::Clicked => "clicked",
            Event::Delivered => "delivered",
            Event::Bounced => "bounced",
            Event::Unsubscribed => "unsubscribed",
            Event::Complained => "complained",
            Event::Converted => "converted",
        }
    }

    pub fn from_word(word: &str) -> Option<Event> {
        Event::ALL.into_iter().find(|event| event.word().eq_ignore_ascii_case(word))
    }

    /// Whether it is kept by day, so that "any campaign in last 7d" can be asked.
    pub fn has_days(self) -> bool {
        matches!(self, Event::Received | Event::Opened | Event::Clicked)
    }

    /// Whether only tracking of single contacts can tell.
    pub fn is_tracked(self) -> bool {
        matches!(self, Event::Opened | Event::Clicked)
    }
}

/// What is counted of a contact's messages, of all campaigns and channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engagement {
    Opened,
    Clicked,
    /// Opened or clicked.
    Engaged,
}

impl Engagement {
    pub const ALL: [Engagement; 3] = [Engagement::Opened, Engagement::Clicked, Engagement::Engaged];

    /// The words of the language.
    pub fn words(self) -> &'static str {
        match self {
            Engagement::Opened => "opened",
            Engagement::Clicked => "clicked",
            Engagement::Engaged => "engaged with",
        }
    }
}
