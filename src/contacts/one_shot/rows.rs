//! A row of an upload → the bytes of a record, or why it is invalid.
//!
//! Owns the builder. A row is invalid if it cannot be read, if its address on the chosen channel is not valid, or if it has no
//! address at all. Any other value that is not what its column promises (a phone number beside the e-mail address, a
//! language) is left out of the row and counted.

use std::io::Read;

use crate::contacts::addresses::{self, ValueError};
use crate::contacts::csv_import::records::Records;
use crate::contacts::csv_import::{Encoding, Reasons, RejectedRow, RowError};
use crate::contacts::one_shot::columns::{ColumnPlan, Target};
use crate::contacts::record::{RecordBuilder, Value};
use crate::contacts::values;
use crate::ids::{AttributeId, Channel};

pub(super) struct RowMaker {
    plan: ColumnPlan,
    encoding: Encoding,
    builder: RecordBuilder,
    left_out: Reasons,
}

impl RowMaker {
    pub(super) fn new(plan: ColumnPlan, encoding: Encoding) -> RowMaker {
        RowMaker { plan, encoding, builder: RecordBuilder::new(), left_out: Reasons::default() }
    }

    pub(super) fn into_parts(self) -> (ColumnPlan, Reasons) {
        (self.plan, self.left_out)
    }

    /// Appends the record of the row at hand.
    pub(super) fn make<R: Read>(&mut self, records: &Records<R>, out: &mut Vec<u8>) -> Result<(), RowError> {
        let plan = &self.plan;
        if records.len() != plan.columns.len() {
            return Err(RowError::Ragged { found: records.len(), expected: plan.columns.len() });
        }
        if memchr::memchr(0, records.raw()).is_some() {
            return Err(RowError::Nul);
        }
        let builder = &mut self.builder;
        builder.clear();
        let line = records.record_line();
        builder.set(AttributeId::KEY, Value::Text(&line.to_string()));
        builder.set(AttributeId::ACTIVE, Value::Bool(true));
        let (mut addresses, mut first) = (0, None);
        for (column, target) in plan.targets.iter().enumerate() {
            let text = std::str::from_utf8(records.field(column)).map(str::trim).map_err(|_| {
                let reason = ValueError::Encoding { encoding: self.encoding.name() };
                RowError::Value { column, reason }
            })?;
            if let Target::Address(_) = target {
                first = first.or(Some(column));
            }
            let decides = plan.main.is_none_or(|main| main == column) && matches!(target, Target::Address(_));
            if text.is_empty() {
                continue;
            }
            match set(builder, target, text) {
                Ok(()) => addresses += usize::from(matches!(target, Target::Address(_))),
                Err(reason) if decides || matches!(target, Target::Variable(_)) => {
                    return Err(RowError::Value { column, reason });
                }
                Err(reason) => {
                    let name = plan.columns[column].name.clone();
                    self.left_out.count(&RejectedRow { line, column: Some(name), reason: reason.to_string() });
                }
            }
        }
        if addresses == 0 {
            let column = plan.main.or(first).unwrap_or(0);
            return Err(RowError::Value { column, reason: ValueError::Empty });
        }
        builder.write(out);
        Ok(())
    }
}

fn set(builder: &mut RecordBuilder, target: &Target, text: &str) -> Result<(), ValueError> {
    match target {
        Target::Address(channels) => channels.iter().try_for_each(|channel| address(builder, *channel, text)),
        Target::Language => {
            let tag = addresses::normalise_language(text)?;
            builder.set(AttributeId::LANGUAGE, Value::Text(&tag));
            Ok(())
        }
        Target::Zone => {
            let zone = addresses::normalise_zone(text)?;
            builder.set(AttributeId::ZONE, Value::Text(&zone));
            Ok(())
        }
        Target::Variable(id) => values::set_text(builder, *id, text),
        Target::Nothing => Ok(()),
    }
}

fn address(builder: &mut RecordBuilder, channel: Channel, text: &str) -> Result<(), ValueError> {
    let address = addresses::normalise_address(channel, text, None)?;
    let id = channel.address_attribute();
    match channel {
        Channel::Push | Channel::WebPush => return values::set_list(builder, id, std::iter::once(address.as_str())),
        Channel::Email => {
            builder.set(AttributeId::EMAIL_DOMAIN, Value::Text(addresses::email_domain(&address)));
        }
        _ => {}
    }
    builder.set(id, Value::Text(&address));
    Ok(())
}
