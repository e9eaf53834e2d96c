//! Bodies at the end: when the listeners stop, a body that is still on its way is cut off and its request refused.
//!
//! Owns the flag of one set of listeners. Invariants: CO-1 a request whose body was read is answered as ever; CO-2 one
//! whose body is cut is answered with `not_ready`, whatever its handler made of the cut, so that its sender sends it again.

use std::cell::Cell;
use std::rc::Rc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, ResponseError};
use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::api::errors::Code;
use crate::api::reply::ApiError;

/// Whether the listeners stop. Application data of each; clones are the same flag.
#[derive(Clone, Debug, Default)]
pub struct Closing(CancellationToken);

impl Closing {
    /// Cuts every body that is on its way, and every one that comes.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// `payload` until the listeners stop, then one error. `cut` tells whether it came to that.
    pub(super) fn guard(&self, payload: Payload, cut: Rc<Cell<bool>>) -> Payload {
        if matches!(payload, Payload::None) {
            return payload;
        }
        let state = Some((payload, self.0.clone()));
        let body = stream::unfold(state, move |state| {
            let cut = Rc::clone(&cut);
            async move {
                let (mut payload, closing) = state?;
                tokio::select! {
                    biased;
                    () = closing.cancelled() => {
                        cut.set(true);
                        let why = std::io::Error::other("the server is shutting down");
                        Some((Err(PayloadError::Incomplete(Some(why))), None))
                    }
                    chunk = payload.next() => chunk.map(|chunk| (chunk, Some((payload, closing)))),
                }
            }
        });
        Payload::Stream { payload: Box::pin(body) }
    }
}

/// Middleware: has the listeners' stop end the request's body.
pub async fn cut_off(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let cut = Rc::new(Cell::new(false));
    if let Some(closing) = request.app_data::<Closing>().cloned() {
        let guarded = closing.guard(request.take_payload(), Rc::clone(&cut));
        request.set_payload(guarded);
    }
    let answered = next.call(request).await;
    if !cut.get() {
        return answered.map(ServiceResponse::map_into_boxed_body);
    }
    match answered {
        Ok(answered) => Ok(ServiceResponse::new(answered.into_parts().0, refusal().error_response())),
        Err(_) => Err(refusal().into()),
    }
}

/// The answer to a request whose body was cut off.
pub(super) fn refusal() -> ApiError {
    ApiError::new(Code::NotReady, "the server is shutting down: send the request again when it is back")
}
