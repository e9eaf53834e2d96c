//! A recurrence as a person writes it, in words or as a cron line, and the pattern that it means.
//!
//! Owns no state. Invariants: what is printed and stored is what was written; a [`Recurrence`] that exists fires.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::pattern::Pattern;
use super::{ScheduleError, cron, words};
use crate::limits;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Recurrence {
    text: String,
    pattern: Pattern,
}

impl Recurrence {
    /// As written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }
}

impl FromStr for Recurrence {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Recurrence, ScheduleError> {
        if text.len() > limits::RECURRENCE_BYTES_MAX {
            return Err(ScheduleError::TooLong { given: text.len() });
        }
        let text = text.trim();
        let pattern = match text.chars().next() {
            _ if words::begins(text) => words::parse(text)?,
            // No cron line begins with a letter.
            Some(c) if c.is_alphabetic() => words::parse(&format!("every {text}"))?,
            _ => words::parse(&format!("every {text}")).or_else(|_| cron::parse(text))?,
        };
        Ok(Recurrence { text: text.to_owned(), pattern })
    }
}

impl fmt::Display for Recurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Recurrence {
    type Error = ScheduleError;

    fn try_from(text: String) -> Result<Recurrence, ScheduleError> {
        text.parse()
    }
}

impl From<Recurrence> for String {
    fn from(recurrence: Recurrence) -> String {
        recurrence.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_kept_and_read_again() {
        for text in ["every friday 17:00", "0 17 * * fri", "@daily"] {
            let read: Recurrence = format!("  {text} ").parse().expect(text);
            assert_eq!((read.text(), read.to_string().as_str()), (text, text), "as written");
            let json = serde_json::to_string(&read).expect("writes");
            assert_eq!(serde_json::from_str::<Recurrence>(&json).expect("reads"), read, "{json}");
        }
        for (short, long) in
            [("friday 17:00", "every friday 17:00"), ("1st 08:00", "every 1st 08:00"), ("2 hours", "0 */2 * * *")]
        {
            let (short, long): (Recurrence, Recurrence) = (short.parse().expect(short), long.parse().expect(long));
            assert_eq!(short.pattern(), long.pattern(), "the key says `every` already: {short}");
        }
        let refused = serde_json::from_str::<Recurrence>("\"0 0 30 2 *\"").expect_err("never fires");
        assert!(refused.to_string().contains("\"0 0 30 2 *\" never fires"), "{refused}");
        let long = format!("every {}day 09:00", " ".repeat(limits::RECURRENCE_BYTES_MAX));
        assert_eq!(long.parse::<Recurrence>(), Err(ScheduleError::TooLong { given: long.len() }), "bounded");
    }
}
