//! Conditions on what campaigns did, and on days counted from today.
//!
//! Owns no state; see the parent module for the invariants.

use super::{Parsed, Parser};
use crate::ids::Channel;
use crate::limits::{
    ANNIVERSARY_DAYS_MAX, BEHAVIOUR_DAYS_MAX, BEHAVIOUR_TIMES_MAX, ENGAGED_DAYS_MAX, ENGAGED_MESSAGES_MAX,
    HISTORY_DAYS_MAX,
};
use crate::segments::error::{Hint, Problem, SegmentError};
use crate::segments::expression::{
    Anchor, Comparison, Days, Kind, Literal, LiteralValue, Moment, Name, Operator, Step, Test, Unit,
};
use crate::segments::history::{Engagement, Event};
use crate::segments::lexer::Token;

impl Parser {
    /// `received("…")`, `opened any campaign in last 7d`, `did "cart"`, …; `None` if the word ahead means something else.
    pub(super) fn history(&mut self) -> Parsed<Option<Kind>> {
        if let Some(kind) = self.did()? {
            return Ok(Some(kind));
        }
        if let Some(kind) = self.messages()? {
            return Ok(Some(kind));
        }
        let Token::Word(word) = self.peek() else { return Ok(None) };
        let Some(event) = Event::from_word(word) else { return Ok(None) };
        if self.is_symbol_at(1, "(") {
            self.at += 2;
            let campaign = self.text("the name of a campaign in quotes")?;
            self.need_symbol(")")?;
            return Ok(Some(Kind::History { event, campaign }));
        }
        if !self.is_word_at(1, "any") {
            return Ok(None);
        }
        let start = self.span();
        self.at += 2;
        self.need_word("campaign")?;
        let channel: Option<Channel> = if self.take_word("on") { Some(self.channel()?) } else { None };
        self.need_word("in")?;
        self.need_word("last")?;
        let days = self.days(HISTORY_DAYS_MAX)?;
        if event.has_days() {
            return Ok(Some(Kind::Recent { event, channel, days }));
        }
        let problem = Problem::NotByDay { event: event.word() };
        Err(SegmentError::new(start.to(self.last_span()), problem))
    }

    /// `did "cart"`, `did "cart" at least 2 times in last 30d`; `None` if the word means something else.
    fn did(&mut self) -> Parsed<Option<Kind>> {
        if !self.is_word_at(0, "did") || !matches!(self.peek_at(1), Token::Text(_)) {
            return Ok(None);
        }
        self.at += 1;
        let name = self.text("the type of an event in quotes")?;
        if self.take_word("with") {
            return self.did_with(name).map(Some);
        }
        let counted = self.is_word_at(0, "at") && self.is_word_at(1, "least");
        let mut least = 1;
        if counted {
            self.at += 2;
            least = self.count(BEHAVIOUR_TIMES_MAX)?;
            self.need_either("time", "times")?;
        }
        let dated = self.is_word_at(0, "in") && self.is_word_at(1, "last");
        if dated {
            self.at += 2;
        }
        // How often is kept by day for fewer days than when last.
        let max = if least > 1 { HISTORY_DAYS_MAX } else { BEHAVIOUR_DAYS_MAX as u32 };
        let days = if dated { Some(self.days(max)?) } else { None };
        Ok(Some(Kind::Did { name, least, days }))
    }

    /// `with plan = "gold"`, behind the type.
    fn did_with(&mut self, name: String) -> Parsed<Kind> {
        self.part()?;
        let property = match self.next() {
            (Token::Word(text) | Token::Quoted(text) | Token::Text(text), _) => text,
            _ => {
                self.at -= 1;
                return Err(self.expected("the name of a property"));
            }
        };
        self.need_symbol("=")?;
        let value = match self.next() {
            (Token::Text(text), _) => text,
            // As they are kept.
            (Token::Number(number), _) if number.fract() == 0.0 && number.abs() < 1e15 => (number as i64).to_string(),
            (Token::Word(word), _) if matches!(word.as_str(), "true" | "false") => word,
            _ => {
                self.at -= 1;
                return Err(self.expected("a text, a whole number, `true` or `false`"));
            }
        };
        Ok(Kind::DidWith { name, property, value })
    }

    /// `opened at least 3 messages in last 30d`, `engaged with at least …`; `None` if the words mean something else.
    fn messages(&mut self) -> Parsed<Option<Kind>> {
        let asked = Engagement::ALL.into_iter().find_map(|did| {
            let words: Vec<&str> = did.words().split(' ').collect();
            let said = words.iter().enumerate().all(|(ahead, word)| self.is_word_at(ahead, word));
            let counted = self.is_word_at(words.len(), "at") && self.is_word_at(words.len() + 1, "least");
            (said && counted).then_some((did, words.len() + 2))
        });
        let Some((did, words)) = asked else { return Ok(None) };
        self.at += words;
        let least = self.count(ENGAGED_MESSAGES_MAX)?;
        self.need_either("message", "messages")?;
        self.need_word("in")?;
        self.need_word("last")?;
        let days = self.days(ENGAGED_DAYS_MAX)?;
        Ok(Some(Kind::Messages { did, least, days }))
    }

    fn need_either(&mut self, one: &'static str, many: &'static str) -> Parsed<()> {
        if self.take_word(one) { Ok(()) } else { self.need_word(many) }
    }

    /// A whole number from 1 to `max`.
    fn count(&mut self, max: u32) -> Parsed<u32> {
        self.part()?;
        let (token, span) = self.next();
        let Token::Number(number) = token else {
            self.at -= 1;
            return Err(self.expected("a whole number"));
        };
        let whole = number.fract() == 0.0 && (1.0..=f64::from(max)).contains(&number);
        whole.then_some(number as u32).ok_or_else(|| SegmentError::new(span, Problem::BadCount { max }))
    }

    /// `anniversary(birthday) is today`, `… in 7d`, `… in next 7d`, `… in last 7d`; `None` if the word means something else.
    pub(super) fn anniversary(&mut self) -> Parsed<Option<Kind>> {
        if !self.is_word_at(0, "anniversary") || !self.is_symbol_at(1, "(") {
            return Ok(None);
        }
        self.at += 2;
        self.part()?;
        let attribute = match self.next() {
            (Token::Word(text) | Token::Quoted(text), span) => Name { text, span },
            _ => {
                self.at -= 1;
                return Err(self.expected("the name of a date attribute"));
            }
        };
        self.need_symbol(")")?;
        let days = if self.take_word("is") {
            self.need_word("today")?;
            Days::At(0)
        } else {
            let Some(days) = self.days_ahead(ANNIVERSARY_DAYS_MAX)? else {
                return Err(self.expected("`is today`, `in 7d`, `in next 7d` or `in last 7d`"));
            };
            days
        };
        let operator = Operator::Anniversary(days);
        let zone_start = self.span();
        let zone = self.zone()?;
        let zone_span = zone_start.to(self.last_span());
        Ok(Some(Kind::Test(Test { attribute, operator, zone, zone_span })))
    }

    /// `in 7d`, `in next 7d` or `in last 7d` behind an attribute, written out as a comparison with days.
    pub(super) fn relative(&mut self) -> Parsed<Option<Operator>> {
        let start = self.span();
        let Some(days) = self.days_ahead(u32::MAX)? else { return Ok(None) };
        let span = start.to(self.last_span());
        let today = |count: i64| {
            let steps = if count == 0 { Vec::new() } else { vec![Step { count, unit: Unit::Days }] };
            Literal { value: LiteralValue::Moment(Moment { anchor: Anchor::Today, steps }), span }
        };
        Ok(Some(match days {
            Days::At(days) => Operator::Compare(Comparison::Equal, today(i64::from(days))),
            Days::Next(days) => Operator::Between(today(0), today(i64::from(days) - 1)),
            Days::Last(days) => Operator::Between(today(1 - i64::from(days)), today(0)),
        }))
    }

    fn days_ahead(&mut self, max: u32) -> Parsed<Option<Days>> {
        if !self.is_word_at(0, "in") {
            return Ok(None);
        }
        let (next, last) = (self.is_word_at(1, "next"), self.is_word_at(1, "last"));
        if !next && !last && !matches!(self.peek_at(1), Token::Duration(..)) {
            return Ok(None);
        }
        self.at += 1 + usize::from(next || last);
        let days = self.days(max)?;
        Ok(Some(match (next, last) {
            (true, _) => Days::Next(days),
            (_, true) => Days::Last(days),
            _ => Days::At(days),
        }))
    }

    /// A number of whole days or weeks, from 1 to `max` days.
    fn days(&mut self, max: u32) -> Parsed<u32> {
        self.part()?;
        let each = match self.peek() {
            Token::Duration(_, Unit::Days) => 1,
            Token::Duration(_, Unit::Weeks) => 7,
            _ => return Err(self.expected_with("a number of days or weeks, as in 7d or 2w", Hint::none())),
        };
        let (token, span) = self.next();
        let Token::Duration(count, _) = token else { return Err(self.expected("a number of days")) };
        let days = count.checked_mul(each).and_then(|days| u32::try_from(days).ok());
        days.filter(|days| (1..=max).contains(days)).ok_or_else(|| SegmentError::new(span, Problem::BadDays { max }))
    }
}
