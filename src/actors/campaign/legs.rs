//! How the actor of a run takes in the sends of a later version.

use std::sync::Arc;

use actix::{AsyncContext, Context};

use super::{CampaignActor, Leg};
use crate::actors::Join;
use crate::actors::lanes::SendContext;
use crate::actors::legs::{LegInbox, NewLeg};

impl CampaignActor {
    /// Where sends of later versions come in.
    pub fn listen_to(&mut self, inbox: Arc<LegInbox>) {
        self.inbox = inbox;
    }

    /// Takes in the sends of a later version. One with open batches stays: its message is executed, and says in every later
    /// version what it says.
    pub(super) fn take_in(&mut self, context: &mut Context<Self>) {
        let new = std::mem::take(&mut *self.inbox.lock());
        for leg in new {
            let at = self.legs.iter().position(|l| l.context.delivery == leg.delivery && l.context.send == leg.send);
            if let Some(at) = at {
                if leg.version < self.legs[at].version {
                    continue;
                }
                if self.open.values().any(|open| open.leg == at) {
                    self.legs[at].version = leg.version;
                    continue;
                }
            }
            let leg = self.leg(leg, context);
            self.join(&leg, context);
            match at {
                Some(at) => {
                    self.withdraw_demand(at);
                    self.legs[at] = leg;
                }
                None => self.legs.push(leg),
            }
        }
    }

    fn leg(&self, new: NewLeg, context: &Context<Self>) -> Leg {
        let sends = Arc::new(SendContext {
            delivery: new.delivery,
            send: new.send,
            campaign: new.campaign,
            space: new.space,
            store: new.store,
            message: new.message,
            channel: crate::ids::Channel::Email,
            topic: new.topic,
            compiled: new.compiled,
            settler: context.address().recipient(),
        });
        let NewLeg { version, line, channel, leave, classes, caps, weight, send_until, .. } = new;
        Leg { version, context: sends, line, channel, leave, classes, weight, send_until, caps }
    }

    pub(super) fn join(&self, leg: &Leg, context: &Context<Self>) {
        let join = Join { run: self.run, grants: context.address().recipient() };
        if leg.channel.try_send(join).is_err() {
            tracing::error!(run = %self.run, connector = %leg.line.name, "the connector's actor did not take the run");
        }
    }

    fn withdraw_demand(&self, at: usize) {
        let leg = &self.legs[at];
        let mut fair = leg.line.fair.lock();
        for class in leg.classes.ids() {
            fair.set_demand(leg.key(class), 0, leg.weight);
        }
    }
}
