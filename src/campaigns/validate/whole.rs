//! What only shows when the parts of a spec are looked at together: times that leave nobody anything, and a flow that is too
//! large or too long, though each table is right for itself.
//!
//! Owns no state. Invariant: WH-1 what `problems` finds nothing wrong with compiles.
//!
//! | code | what |
//! |---|---|
//! | `send_until_before_start` | what is dated goes out when nothing is sent any more |
//! | `send_until_before_launch` | a warning: launches after it send nothing |
//! | `follow_up_too_late` | the follow-up comes when nothing of it is sent any more |
//! | `does_not_compile` and those of graphs | the flow that the spec means, as a whole |

use super::{Names, Problem};
use crate::campaigns::compile::{CompileError, compile};
use crate::campaigns::kinds::planned::part_dates;
use crate::campaigns::kinds::{follow_up, multi_segment};
use crate::campaigns::schedule::{Schedule, Start};
use crate::campaigns::spec::{CampaignSpec, Kind};
use crate::clock::Timestamp;

pub(super) fn problems(spec: &CampaignSpec, names: &dyn Names, found: &mut Vec<Problem>) {
    let schedule = spec.schedule.resolve_from(names.ahead()).ok();
    let start =
        schedule.as_ref().and_then(|schedule| schedule.first(names.now())).map_or(names.now(), |first| first.at);
    if let Some(until) = spec.send_until.filter(|until| *until > names.now()) {
        starts_in_time(schedule.as_ref(), names.now(), until, found);
        for part in part_dates(spec, start).into_iter().filter(|part| part.launch.at >= until) {
            let message = format!("it is dated {}, and nothing is sent from send_until, {until}, on", part.launch.at);
            let fix = "set an earlier date, or a later send_until";
            found.push(Problem::error("send_until_before_start", part.path, message, fix));
        }
    }
    follows_in_time(spec, start, found);
    if matches!(spec.kind(), Kind::Single | Kind::AbSplit | Kind::MultiSegment) && !found.iter().any(Problem::blocks) {
        compiles(spec, found);
    }
}

/// Launches when nothing is sent any more.
fn starts_in_time(schedule: Option<&Schedule>, now: Timestamp, until: Timestamp, found: &mut Vec<Problem>) {
    let Some(first) = schedule.and_then(|schedule| schedule.first(now)) else { return };
    let fix = "set a later send_until, or an earlier start";
    if first.at >= until {
        let message =
            format!("it starts at {} at the earliest, and nothing is sent from send_until, {until}, on", first.at);
        found.push(Problem::error("send_until_before_start", "send_until", message, fix));
        return;
    }
    let last = Timestamp(until.0.saturating_sub(1));
    let later = schedule.filter(|schedule| !matches!(schedule.start, Start::Now)).and_then(|s| s.next_after(last));
    if let Some(later) = later {
        let message = format!("the launch of {} and those after it send nothing: send_until is {until}", later.at);
        let fix = "end the schedule before it, or remove send_until";
        found.push(Problem::warning("send_until_before_launch", "send_until", message, fix));
    }
}

/// Nobody is due for the follow-up before its time has passed since the start.
fn follows_in_time(spec: &CampaignSpec, start: Timestamp, found: &mut Vec<Problem>) {
    if !follow_up::wanted(spec) || matches!(spec.kind(), Kind::Flow | Kind::Sequence) {
        return;
    }
    let until = spec.follow_up.send_until.or(spec.send_until).filter(|until| *until > start);
    let (Some(after), Some(until)) = (follow_up::after(spec), until) else { return };
    if start.0.saturating_add(i64::from(after) * 1_000) >= until.0 {
        let own = spec.follow_up.send_until.is_some();
        let path = if own { "follow_up.send_until" } else { "follow_up.after" };
        let message = format!("nobody is due for the follow-up before {until}, from when on nothing of it is sent");
        let fix = "set follow_up.send_until to a later instant, or a shorter follow_up.after";
        found.push(Problem::error("follow_up_too_late", path, message, fix));
    }
}

/// The rules of graphs, for flows that people do not write node by node.
fn compiles(spec: &CampaignSpec, found: &mut Vec<Problem>) {
    let path = match spec.kind() {
        Kind::MultiSegment => multi_segment::PATH,
        Kind::AbSplit => "variants",
        Kind::Single | Kind::Flow | Kind::Sequence => "message",
    };
    match compile(spec) {
        Ok(_) => {}
        Err(CompileError::Graph(wrong)) => {
            found.extend(wrong.0.into_iter().map(|p| Problem::error(p.code, path, p.message, p.fix)));
        }
        Err(error) => {
            let fix = "see the message";
            found.push(Problem::error("does_not_compile", path, error.to_string(), fix));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaigns::schedule::fields::Ahead;
    use crate::campaigns::{Format, parse, problems};
    use crate::ids::Channel;

    struct Known;

    impl Names for Known {
        fn now(&self) -> Timestamp {
            at("2026-11-22T12:00:00Z")
        }
        fn ahead(&self) -> Ahead {
            Ahead::now(self.now())
        }
        fn connectors(&self) -> Vec<(String, Channel)> {
            vec![("relay".into(), Channel::Email)]
        }
        fn lists(&self) -> Vec<String> {
            Vec::new()
        }
        fn campaign_name_taken(&self, _: &str) -> bool {
            false
        }
        fn expression_problems(&self, _: &str, _: &str) -> Vec<Problem> {
            Vec::new()
        }
    }

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().expect(text).as_millisecond())
    }

    fn codes(head: &str, tail: &str) -> Vec<(&'static str, String, bool)> {
        let message = "[message]\nchannel = \"email\"\nconnector = \"relay\"\ntopic = \"news\"\n\
                       from = \"a@b.test\"\nsubject = \"S\"\ntext = \"T\"\n";
        let text = format!("name = \"a\"\n{head}\n[audience]\nall = true\n{message}{tail}");
        let spec = parse(&text, Format::Toml).expect(&text);
        problems(&spec, &Known).into_iter().map(|p| (p.code, p.path.clone(), p.blocks())).collect()
    }

    fn found(code: &'static str, path: &str, blocks: bool) -> Vec<(&'static str, String, bool)> {
        vec![(code, path.to_owned(), blocks)]
    }

    #[test]
    fn a_start_after_send_until_is_refused_and_a_later_launch_told() {
        let until = "send_until = 2026-12-01T00:00:00Z";
        let dated = |date: &str| format!("[schedule]\nat = \"{date}\"\n");
        assert_eq!(codes(until, &dated("2026-11-30T23:59:59Z")), [], "in time");
        let error = found("send_until_before_start", "send_until", true);
        assert_eq!(codes(until, &dated("2026-12-01T00:00:00Z")), error, "at that very moment nothing goes out");
        let dates = "[schedule]\ndates = [\"2026-11-30T09:00:00Z\", \"2026-12-02T09:00:00Z\"]\n";
        let warning = found("send_until_before_launch", "send_until", false);
        assert_eq!(codes(until, dates), warning, "the second of two");
        let daily = "[schedule]\nevery = \"day 09:00\"\nzone = \"UTC\"\n";
        assert_eq!(codes(until, daily), warning, "it recurs for ever");
        assert_eq!(codes(until, &format!("{daily}until = \"2026-11-30T12:00\"\n")), [], "it ends before");
        let local = "[schedule]\nat = \"2026-12-01T09:00\"\nzone = \"contact\"\n";
        assert_eq!(codes(until, local), [], "it is nine earlier elsewhere");
    }

    #[test]
    fn a_follow_up_that_could_never_go_out_is_refused() {
        let until = "send_until = 2026-11-25T00:00:00Z";
        let follow =
            |more: &str| format!("[follow_up]\nafter = \"5d\"\n{more}\n[follow_up.message]\nsubject = \"Again\"\n");
        assert_eq!(codes("", &follow("")), [], "without an end");
        let error = found("follow_up_too_late", "follow_up.after", true);
        assert_eq!(codes(until, &follow("")), error, "the campaign's end is the follow-up's");
        assert_eq!(codes(until, &follow("send_until = 2026-12-25T00:00:00Z")), [], "it has an end of its own");
        let own = found("follow_up_too_late", "follow_up.send_until", true);
        assert_eq!(codes("", &follow("send_until = 2026-11-26T00:00:00Z")), own, "which may be too early, too");
        let late =
            format!("{}[schedule]\nat = \"2026-12-21T00:00:00Z\"\n", follow("send_until = 2026-12-25T00:00:00Z"));
        assert_eq!(codes("", &late), own, "from its start on, five days are longer");
        let past = found("send_until_past", "follow_up.send_until", true);
        assert_eq!(codes("", &follow("send_until = 2026-11-20T00:00:00Z")), past, "over already");
    }

    #[test]
    fn split_on_open_sorts_by_who_opens_or_is_the_time_of_the_follow_up() {
        let split = "split_on_open = \"5d\"";
        assert_eq!(codes(split, ""), [], "alone");
        let follow = "[follow_up]\n[follow_up.message]\nsubject = \"Again\"\n";
        assert_eq!(codes(split, follow), [], "instead of follow_up.after");
        let twice = codes(split, &follow.replace("[follow_up]\n", "[follow_up]\nafter = \"5d\"\n"));
        assert_eq!(twice, found("split_twice", "split_on_open", true));
        let clicks = codes(split, &follow.replace("[follow_up]\n", "[follow_up]\non = \"not_clicked\"\n"));
        assert_eq!(clicks, found("split_twice", "split_on_open", true));
        for wrong in ["29m", "31d", "soon"] {
            let told = codes(&format!("split_on_open = \"{wrong}\""), "");
            assert_eq!(told, found("bad_split_on_open", "split_on_open", true), "{wrong}");
        }
        let text = format!(
            "name = \"a\"\n{split}\n[audience]\nall = true\n[message]\nchannel = \"email\"\nconnector = \"relay\"\n\
             topic = \"news\"\nsubject = \"S\"\n"
        );
        let compiled = compile(&parse(&text, Format::Toml).expect("parses")).expect("compiles");
        let ends = compiled.graph.nodes().filter(|node| node.kind.name() == "end").map(|node| node.name.as_str());
        assert_eq!(ends.collect::<Vec<_>>(), ["end", "opened", "not opened"], "in order of their ids");
        assert_eq!(compiled.deliveries.len(), 1, "nothing more is sent");
    }

    #[test]
    fn parts_that_are_right_one_by_one_and_not_together_are_told_before_the_start() {
        let cell = "kind = \"multi_segment\"\nsend_until = 2026-12-01T00:00:00Z";
        let grid = |segments: usize, cells: &str| {
            let each =
                (0..segments).map(|n| format!("[[dimensions.segments]]\nname = \"s{n}\"\nsegment = 'key = \"{n}\"'\n"));
            format!("[[dimensions]]\nname = \"d\"\nothers = true\n{}{cells}", each.collect::<String>())
        };
        let dated = grid(2, "[[cells]]\nmessage = { subject = \"X\" }\nschedule = { at = \"2026-12-02T00:00:00Z\" }\n");
        assert_eq!(codes(cell, &dated), found("send_until_before_start", "cells.0.schedule.at", true));
        let all = "[[cells]]\nmessage = { subject = \"X\" }\n";
        assert_eq!(codes("kind = \"multi_segment\"", &grid(62, all)), [], "as many as a split has ways out");
        let many = codes("kind = \"multi_segment\"", &grid(80, all));
        assert_eq!(many, found("too_many_branches", "dimensions", true), "refused by the check, and not by the start");
        let long = "[follow_up]\nafter = \"800d\"\n";
        assert_eq!(codes("", long), found("bad_length", "follow_up.after", true), "longer than any wait");
    }
}
