//! SchedulerActor: the tick of everything that waits for time. Owns nothing but its timer: what is to be done follows from
//! the state, and is done by the function that it was given.
//!
//! Has an arbiter of its own, because a look may evaluate expressions over the whole base.

use actix::{Actor, AsyncContext, Context};

use crate::actors::AbortOnPanic;
use crate::limits::FLOW_TICK;

/// Looks once; `false` when there is nothing to look after any more.
pub type Look = Box<dyn FnMut() -> bool>;

pub struct SchedulerActor {
    look: Look,
    _guard: AbortOnPanic,
}

impl SchedulerActor {
    pub fn new(look: Look) -> SchedulerActor {
        SchedulerActor { look, _guard: AbortOnPanic }
    }
}

impl Actor for SchedulerActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.run_interval(FLOW_TICK, |actor, context| {
            if !(actor.look)() {
                actix::ActorContext::stop(context);
            }
        });
    }
}
