//! The rendering half of a bench: a chunk's rows together, and a row's message into a lane's.
//!
//! Owns nothing of its own: renderers and spare messages are the bench's.

use std::sync::Arc;

use super::{Bench, RENDERERS_MAX, Stocked};
use crate::channels::OutMessage;
use crate::clock::Clock;
use crate::contacts::Record;
use crate::content::{self, Recipient as MailRecipient, Rendered, Renderer};
use crate::limits::{LANE_CHUNK_ROWS, RENDER_AHEAD_BYTES};
use crate::segments::skip::SkipReason;

impl Bench {
    /// Renders what was stocked from there on, one after the other while code and template are in the processor's caches:
    /// between two messages of a lane lies the kernel's way of a packet, which leaves little of them.
    pub(super) fn render_ahead(&mut self, from: usize) {
        let mut bytes = 0;
        for mut row in self.stock.split_off(from) {
            if bytes < RENDER_AHEAD_BYTES {
                let mut message = self.spare_messages.pop().unwrap_or_default();
                if !self.render(&row, &mut message) {
                    self.keep_message(message);
                    self.retire_row(row);
                    continue;
                }
                bytes += message.bytes();
                row.message = Some(message);
            }
            self.stock.push_back(row);
        }
    }

    /// Puts the row's message into the lane's; `false` if the contact is skipped instead.
    pub fn fill(&mut self, row: &mut Stocked, into: &mut OutMessage) -> bool {
        let shared = self.line.connector.takes_shared();
        match row.message.take() {
            Some(rendered) if shared => {
                self.keep_message(std::mem::replace(into, rendered));
                true
            }
            Some(rendered) => {
                into.clear();
                rendered.append_to(&mut into.body);
                into.return_path.push_str(&rendered.return_path);
                into.recipient.push_str(&rendered.recipient);
                into.needs_dot_stuffing = rendered.needs_dot_stuffing;
                into.needs_smtputf8 = rendered.needs_smtputf8;
                into.needs_8bit = rendered.needs_8bit;
                self.keep_message(rendered);
                true
            }
            None => {
                let rendered = self.render(row, into);
                if rendered && !shared {
                    into.put_together();
                }
                rendered
            }
        }
    }

    pub(super) fn keep_message(&mut self, message: OutMessage) {
        if self.spare_messages.len() < LANE_CHUNK_ROWS * 2 && message.body.capacity() < RENDER_AHEAD_BYTES {
            self.spare_messages.push(message);
        }
    }

    /// Renders a row into the lane's message; `false` if the contact is skipped instead.
    fn render(&mut self, row: &Stocked, into: &mut OutMessage) -> bool {
        let context = &row.batch.context;
        let key = Arc::as_ptr(&context.compiled) as usize;
        if self.renderers.len() > RENDERERS_MAX {
            self.renderers.clear();
        }
        let (compiled, line) = (&context.compiled, &self.line);
        let new = || (Arc::clone(compiled), Renderer::new(Arc::clone(compiled), line.tokens.clone()));
        let (_, renderer) = self.renderers.entry(key).or_insert_with(new);
        let Ok(record) = Record::parse(&row.record) else {
            self.skip(&row.batch, row.index, SkipReason::RenderFailed, "the record is damaged".to_owned());
            return false;
        };
        let who = MailRecipient {
            space: context.space,
            run: context.delivery.run,
            message: context.message,
            row: crate::ids::ContactRow(row.batch.rows[row.index]),
            sent_at: self.line.clock.now(),
        };
        into.clear();
        let mut rendered = Rendered::new(&mut into.body, &mut into.return_path).sharing(&mut into.shared);
        match renderer.render(&record, &who, &mut rendered) {
            Ok(()) => {
                let flags = (rendered.needs_8bit, rendered.needs_smtputf8, rendered.needs_dot_stuffing);
                (into.needs_8bit, into.needs_smtputf8, into.needs_dot_stuffing) = flags;
                into.recipient.push_str(record.address(context.channel).unwrap_or_default());
                true
            }
            Err(skip) => {
                let reason = match skip.reason {
                    content::SkipReason::MissingAttribute => SkipReason::MissingAttribute,
                    _ => SkipReason::RenderFailed,
                };
                self.skip(&row.batch, row.index, reason, skip.sample);
                false
            }
        }
    }
}
