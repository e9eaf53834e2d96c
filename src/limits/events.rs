//! Bounds of events that come back from outside, and of what is remembered of them.

use std::time::Duration;

/// Ids of events that are known at least, so that none counts twice; twice as many at most, some 10 bytes each.
pub const EVENT_IDS_KEPT: usize = 1_000_000;
/// Events that one fact holds: the book is held for some milliseconds at a time.
pub const EVENTS_PER_FACT: usize = 5_000;
/// Bytes of an event's id.
pub const EVENT_ID_BYTES_MAX: usize = 255;
/// Bytes of the name of a sender's own type of event.
pub const EVENT_TYPE_BYTES_MAX: usize = 64;
/// Bytes of one event with its properties.
pub const EVENT_BYTES_MAX: usize = 16 * 1024;
/// Types of events that are remembered per contact; each is some sets over the base.
pub const EVENT_TYPES_MAX: usize = 200;
/// Days by which a type's contacts are kept apart: a year, and a leap day.
pub const BEHAVIOUR_DAYS_MAX: usize = 366;
/// Days after which it can be asked that they are forgotten, at most: beside them there are tomorrow's, by clocks that are ahead, today's
/// and one of late reports, and no two days may be one before they go.
pub const EVENT_DAYS_MAX: usize = BEHAVIOUR_DAYS_MAX - 3;
/// Sets of contacts by property of an event and its value that are kept, over all types: some megabytes where most contacts have each.
pub const PROPERTY_SETS_MAX: usize = 2_000;
/// Properties of one event that are looked at.
pub const EVENT_PROPERTIES_MAX: usize = 20;
/// Bytes of a property's name, and of a value that is kept.
pub const PROPERTY_BYTES_MAX: usize = 64;
/// Currencies in which the conversions of one send are summed up.
pub const CURRENCIES_MAX: usize = 16;
/// Types of the sender's own events that are counted on one send.
pub const SEND_EVENT_TYPES_MAX: usize = 50;
/// The largest value of a conversion, either way; 9 000 of them fit the sum.
pub const CONVERSION_VALUE_MAX: f64 = 1e11;
/// Events of one type that an expression may ask for, and that are counted of a contact a day.
pub const BEHAVIOUR_TIMES_MAX: u32 = 100;
/// Bits of the count of a contact's events of one type: it stops at 65 535.
pub const BEHAVIOUR_COUNT_BITS: usize = 16;
/// Days for which soft bounces are remembered, and the longest window of a rule on them.
pub const SOFT_BOUNCE_DAYS_MAX: i32 = 90;
/// Soft bounces of one contact on one day that count.
pub const SOFT_BOUNCES_PER_DAY_MAX: usize = 8;
/// Most bounces, or days with one, that a rule can ask for.
pub const SOFT_BOUNCES_MAX: usize = 32;
/// How far in the future an event may say that it happened: clocks differ, by no more than a day.
pub const EVENT_AHEAD_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How long before a message was known to be accepted an event of it may say that it happened: a relay may take ten minutes to
/// answer the final dot (RFC 5321, 4.5.3.2.6), and clocks differ.
pub const EVENT_BEFORE_SEND_MAX: Duration = Duration::from_secs(15 * 60);
/// Bytes of a mail that is read for a report; more of it is the returned mail's own.
pub const INBOUND_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Parts of such a mail: a report has three, and what it returns some more.
pub const INBOUND_PARTS_MAX: usize = 500;
/// Groups of fields of a report that are read: one of the message, one of each recipient.
pub const INBOUND_GROUPS_MAX: usize = 100;
/// Fields of one group.
pub const INBOUND_FIELDS_MAX: usize = 100;
/// How old an event may be: a year, and some.
pub const EVENT_AGE_MAX: Duration = Duration::from_secs(400 * 24 * 3_600);
