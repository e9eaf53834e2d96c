//! A dry run of a campaign over the contact base as it is now: nothing is sent, nothing is written.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use roaring::RoaringBitmap;

use crate::actors::launching;
use crate::campaigns::CompileError;
use crate::campaigns::Compiled;
use crate::campaigns::schedule::ScheduleFields;
use crate::clock::Timestamp;
use crate::engine::audience::Audience;
use crate::engine::sequences::publish::dated;
use crate::engine::{Engine, EngineError, hold_out, same_address};
use crate::flow::delay::ZoneSet;
use crate::flow::dry_run::{Assumed, DryRun, LocalLaunch, Today, dry_run};
use crate::flow::nodes::condition::{Engaged, Unique};
use crate::flow::nodes::delay::zone_named;
use crate::flow::split::SplitError;
use crate::ids::{AttributeId, RowSpace, RunId};
use crate::ledger::engagement;
use crate::segments::skip::SkipReason;

/// Why there is no dry run.
#[derive(Debug, thiserror::Error)]
pub enum DryRunError {
    #[error(transparent)]
    Engine(Box<EngineError>),
    #[error("the contacts can't be shared out")]
    Split(#[from] SplitError),
}

impl From<EngineError> for DryRunError {
    fn from(error: EngineError) -> DryRunError {
        DryRunError::Engine(Box::new(error))
    }
}

struct Base<'e> {
    engine: &'e Engine,
    compiled: &'e Compiled,
    audience: Audience<'e>,
    /// By delivery: attributes that its messages use, and those that they all need.
    attributes: BTreeMap<u16, (Vec<AttributeId>, Vec<AttributeId>)>,
    at: Timestamp,
    space: RowSpace,
}

impl Base<'_> {
    fn skipped(&self, delivery: u16, rows: &RoaringBitmap) -> Result<Vec<(SkipReason, RoaringBitmap)>, EngineError> {
        match (self.compiled.delivery(delivery), self.attributes.get(&delivery)) {
            (Some(plan), Some((used, required))) => Ok(self.audience.assess(plan, rows, used, required)?.1.skipped),
            _ => Ok(Vec::new()),
        }
    }
}

impl Today for Base<'_> {
    type Error = DryRunError;

    fn matching(&self, expression: &str) -> Result<RoaringBitmap, DryRunError> {
        Ok((*self.engine.matching_in(self.space, expression)?).clone())
    }

    fn sendable(&self, delivery: u16, rows: &RoaringBitmap) -> Result<RoaringBitmap, DryRunError> {
        let skipped = self.skipped(delivery, rows)?;
        Ok(skipped.iter().fold(rows.clone(), |left, (_, out)| left - out))
    }

    fn engaged(&self, asked: &Engaged) -> Result<RoaringBitmap, DryRunError> {
        if self.space != RowSpace::BASE {
            return Ok(RoaringBitmap::new());
        }
        Ok(engagement::engaged(&self.engine.book.read(), asked, self.at))
    }

    fn zones(&self, rows: &RoaringBitmap) -> Result<Vec<ZoneSet>, DryRunError> {
        Ok(self.engine.zones_of(self.space, rows)?)
    }

    fn unique(
        &self,
        unique: &Unique,
        rows: &RoaringBitmap,
        kept: &RoaringBitmap,
    ) -> Result<RoaringBitmap, DryRunError> {
        Ok(same_address::unique(&self.engine.store_of(self.space)?, unique, rows, kept)?)
    }
}

/// The first launch by each contact's own clocks that a schedule has ahead at `at`; none if it has none, or starts at one
/// instant for all.
pub fn local_launch(fields: &ScheduleFields, at: Timestamp) -> Option<LocalLaunch> {
    let schedule = launching::whole(fields).ok()?;
    let local = schedule.first(at)?.local?;
    let default_zone = fields.default_zone.as_deref().map_or(TimeZone::UTC, zone_named);
    let too_late_ms = schedule.too_late_after.and_then(|limit| u64::try_from(limit.as_millis()).ok());
    Some(LocalLaunch { local, default_zone, too_late_ms })
}

impl Engine {
    /// Who would walk: who may be sent to, or everybody, without a control group as large as the run's would be. Who is in it
    /// is drawn anew at the start.
    fn walkers(&self, base: &Base<'_>, matched: RoaringBitmap) -> Result<RoaringBitmap, DryRunError> {
        let Some(plan) = base.compiled.deliveries.first() else { return Ok(matched) };
        let Some((used, required)) = base.attributes.get(&plan.index) else { return Ok(matched) };
        if base.compiled.hold_out.is_none() && base.compiled.all_walk {
            return Ok(matched);
        }
        let (mut summary, mut eligibility) = base.audience.assess(plan, &matched, used, required)?;
        let mut group = hold_out::Group::new(RunId(0), base.compiled.hold_out);
        group.leave_out(&mut summary, &mut eligibility)?;
        match (base.compiled.all_walk, hold_out::group_of(&eligibility)) {
            (true, Some(held)) => Ok(matched - held),
            (true, None) => Ok(matched),
            (false, _) => Ok(eligibility.eligible),
        }
    }

    /// Where the contacts of a campaign would be, and when, were it started at `at`. Answers how many would enter.
    pub fn dry_run(&self, compiled: &Compiled, assumed: &Assumed, at: Timestamp) -> Result<(u64, DryRun), DryRunError> {
        let attributes = compiled.deliveries.iter().map(|plan| (plan.index, self.used_attributes(compiled, plan)));
        let attributes = attributes.collect();
        let audience = self.look(compiled, None)?;
        let mut entering = audience.matched()?;
        let space = audience.space();
        let base = Base { engine: self, compiled, audience, attributes, at, space };
        entering = self.walkers(&base, entering)?;
        let entered = entering.len();
        // As a publication at that moment would date the steps.
        let graph = dated(&compiled.graph, None, at, self.safety())
            .map_err(|error| EngineError::from(CompileError::from(error)))?;
        let found = dry_run(&graph, entering, at.0, &base, assumed)?;
        Ok((entered, found))
    }
}
