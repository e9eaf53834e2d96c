//! How many contacts may have become unknown from one look to the next. Owns what the last look saw.

use super::books::Books;
use crate::sink::process::SinkProcess;

/// Holds the growth of unknown against its bound at every restart.
#[derive(Debug)]
pub struct UnknownWatch {
    per_kill: u64,
    kills: u64,
    unknown: u64,
    withheld: u64,
}

impl UnknownWatch {
    pub fn new(per_kill: u64) -> UnknownWatch {
        UnknownWatch { per_kill, kills: 0, unknown: 0, withheld: 0 }
    }

    /// After a start and its check, with so many kills in all. The sink is asked last: what it withheld before counts.
    pub fn look(
        &mut self,
        books: &Books,
        kills: u64,
        sink: &mut SinkProcess,
        problems: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let unknown = books.unknown();
        let counts = sink.report()?.counts;
        problems.extend(self.seen(unknown, kills, counts.dropped_after_dot + counts.dropped_in_body));
        Ok(())
    }

    fn seen(&mut self, unknown: u64, kills: u64, withheld: u64) -> Option<String> {
        let grown = unknown.saturating_sub(self.unknown);
        let bound = (kills - self.kills) * self.per_kill + (withheld - self.withheld);
        let now = UnknownWatch { per_kill: self.per_kill, kills, unknown, withheld };
        let before = std::mem::replace(self, now);
        (grown > bound).then(|| {
            let since = kills - before.kills;
            format!("unknown grew by {grown} over {since} kills, and by at most {bound} it may")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_watched_from_kill_to_kill() {
        let mut watch = UnknownWatch::new(5);
        assert_eq!(watch.seen(0, 0, 0), None, "nothing yet");
        assert_eq!(watch.seen(7, 1, 2), None, "five a kill and two withheld");
        assert_eq!(watch.seen(17, 3, 2), None, "two kills at once");
        let told = watch.seen(23, 4, 2).unwrap_or_default();
        assert!(told.contains("grew by 6") && told.contains("at most 5"), "{told}");
    }
}
