//! What HTTP providers answer: status, body and the place of the recipient, by provider.
//!
//! Owns no state. Invariants: 1. a body is of the provider's documented shape for that status, so that a client's own parser is
//! what is tested; 2. the recipient is found where that provider's requests have it. Sources: Firebase "FCM error codes" and
//! google.rpc.Status; Apple "Handling notification responses from APNs"; RFC 8030 and Mozilla's autopush error codes; Meta
//! "WhatsApp Cloud API error codes"; Twilio's error dictionary; Standard Webhooks 1.0.0.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Whose answers are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// A webhook endpoint: 200 without a body.
    #[default]
    Webhook,
    /// Firebase Cloud Messaging, HTTP v1.
    Fcm,
    Apns,
    /// A push service of RFC 8030, with Mozilla's error bodies.
    WebPush,
    /// WhatsApp Cloud API.
    Whatsapp,
    /// Twilio's Messages resource.
    Twilio,
}

/// An answer before it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

impl Profile {
    /// The recipient of a request; empty where it names none.
    pub(super) fn recipient(self, path: &str, webhook_id: Option<&str>, body: &[u8]) -> String {
        let json = |pointer: &str| {
            let body: Value = serde_json::from_slice(body).unwrap_or_default();
            body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        match self {
            Profile::Webhook => webhook_id.unwrap_or(path).to_owned(),
            Profile::Fcm => json("/message/token"),
            Profile::Apns | Profile::WebPush => path.to_owned(),
            Profile::Whatsapp => json("/to"),
            Profile::Twilio => String::from_utf8_lossy(body)
                .split('&')
                .find_map(|pair| pair.strip_prefix("To="))
                .unwrap_or_default()
                .to_owned(),
        }
    }

    /// The answer to an accepted request; `n` counts them.
    pub(super) fn accepted(self, recipient: &str, n: u64) -> Answer {
        let answer = |status, body: Value| Answer { status, headers: vec![json_type()], body: body.to_string() };
        match self {
            Profile::Webhook => Answer { status: 200, headers: Vec::new(), body: String::new() },
            Profile::Fcm => answer(200, json!({"name": format!("projects/load-test/messages/0:{n:016}%")})),
            Profile::Apns => {
                let id = format!("00000000-0000-4000-8000-{n:012}");
                Answer { status: 200, headers: vec![("apns-id", id)], body: String::new() }
            }
            Profile::WebPush => {
                let location = format!("https://push.example.test/m/{n:016}");
                Answer {
                    status: 201,
                    headers: vec![("location", location), ("ttl", "0".to_owned())],
                    body: String::new(),
                }
            }
            Profile::Whatsapp => answer(
                200,
                json!({
                    "messaging_product": "whatsapp",
                    "contacts": [{"input": recipient, "wa_id": recipient.trim_start_matches('+')}],
                    "messages": [{"id": format!("wamid.{n:024}"), "message_status": "accepted"}],
                }),
            ),
            Profile::Twilio => answer(
                201,
                json!({"sid": format!("SM{n:032x}"), "status": "queued", "to": recipient, "error_code": null}),
            ),
        }
    }

    /// The answer with this status, as this provider words it.
    pub(super) fn refused(self, status: u16) -> Answer {
        if matches!(status, 502 | 504) {
            // Gateways in front of a provider answer in HTML, whatever its API speaks.
            let body =
                format!("<!DOCTYPE html><title>Error {status}</title><p>The server encountered a temporary error.");
            return Answer { status, headers: vec![("content-type", "text/html; charset=UTF-8".to_owned())], body };
        }
        let body = match self {
            Profile::Webhook => return Answer { status, headers: Vec::new(), body: String::new() },
            Profile::Fcm => fcm(status),
            Profile::Apns => apns(status),
            Profile::WebPush => web_push(status),
            Profile::Whatsapp => whatsapp(status),
            Profile::Twilio => twilio(status),
        };
        Answer { status, headers: vec![json_type()], body: body.to_string() }
    }
}

fn json_type() -> (&'static str, String) {
    ("content-type", "application/json".to_owned())
}

fn fcm(status: u16) -> Value {
    let (name, code, message) = match status {
        400 => ("INVALID_ARGUMENT", "INVALID_ARGUMENT", "The registration token is not a valid FCM registration token"),
        401 => ("UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR", "Request is missing required authentication credential."),
        403 => ("PERMISSION_DENIED", "SENDER_ID_MISMATCH", "SenderId mismatch"),
        404 => ("NOT_FOUND", "UNREGISTERED", "Requested entity was not found."),
        429 => ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "Quota exceeded for quota metric 'Send requests'."),
        503 => ("UNAVAILABLE", "UNAVAILABLE", "The service is currently unavailable."),
        _ => ("INTERNAL", "INTERNAL", "Internal error encountered."),
    };
    let kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
    let details = json!([{"@type": kind, "errorCode": code}]);
    json!({"error": {"code": status, "message": message, "status": name, "details": details}})
}

fn apns(status: u16) -> Value {
    match status {
        400 => json!({"reason": "BadDeviceToken"}),
        403 => json!({"reason": "ExpiredProviderToken"}),
        404 => json!({"reason": "BadPath"}),
        410 => json!({"reason": "Unregistered", "timestamp": 1_700_000_000_000u64}),
        413 => json!({"reason": "PayloadTooLarge"}),
        429 => json!({"reason": "TooManyRequests"}),
        503 => json!({"reason": "ServiceUnavailable"}),
        _ => json!({"reason": "InternalServerError"}),
    }
}

fn web_push(status: u16) -> Value {
    let (errno, error) = match status {
        400 => (110, "Bad Request"),
        401 | 403 => (109, "Unauthorized"),
        404 => (102, "Not Found"),
        410 => (106, "Gone"),
        413 => (104, "Payload Too Large"),
        429 => (117, "Too Many Requests"),
        503 => (201, "Service Unavailable"),
        _ => (999, "Internal Server Error"),
    };
    json!({"code": status, "errno": errno, "error": error, "message": error})
}

fn whatsapp(status: u16) -> Value {
    let (code, title) = match status {
        400 => (131_026, "Message undeliverable"),
        401 => (190, "Access token has expired"),
        403 => (131_031, "Account has been locked"),
        404 => (133_010, "Phone number not registered"),
        429 => (130_429, "Rate limit hit"),
        503 => (131_016, "Service unavailable"),
        _ => (131_000, "Something went wrong"),
    };
    json!({"error": {
        "message": format!("(#{code}) {title}"),
        "type": "OAuthException",
        "code": code,
        "error_data": {"messaging_product": "whatsapp", "details": title},
        "fbtrace_id": "AAAAAAAAAAAAAAAAAAAAAAA",
    }})
}

fn twilio(status: u16) -> Value {
    let (code, message) = match status {
        400 => (21_211, "Invalid 'To' Phone Number"),
        401 => (20_003, "Authenticate"),
        403 => (21_610, "Attempt to send to unsubscribed recipient"),
        404 => (20_404, "The requested resource was not found"),
        429 => (20_429, "Too Many Requests"),
        503 => (20_503, "Service unavailable"),
        _ => (20_500, "Internal Server Error"),
    };
    let more = format!("https://www.twilio.com/docs/errors/{code}");
    json!({"code": code, "message": message, "more_info": more, "status": status})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_stand_where_each_provider_has_them() {
        let found = |profile: Profile, path: &str, body: &str| profile.recipient(path, Some("msg_1"), body.as_bytes());
        assert_eq!(found(Profile::Fcm, "/v1/x", r#"{"message": {"token": "t1"}}"#), "t1");
        assert_eq!(found(Profile::Apns, "/3/device/abc", "{}"), "/3/device/abc");
        assert_eq!(found(Profile::Whatsapp, "/v21.0/1/messages", r#"{"to": "+491"}"#), "+491");
        assert_eq!(found(Profile::Twilio, "/x", "From=1&To=%2B49&Body=x"), "%2B49");
        assert_eq!(found(Profile::Webhook, "/hook", ""), "msg_1");
        assert_eq!(found(Profile::Fcm, "/", "no json"), "", "none is named");
    }

    #[test]
    fn every_refusal_is_in_the_providers_shape() {
        let body = |profile: Profile, status| -> Value { serde_json::from_str(&profile.refused(status).body).unwrap() };
        assert_eq!(body(Profile::Fcm, 404)["error"]["details"][0]["errorCode"], "UNREGISTERED");
        assert_eq!(body(Profile::Apns, 410)["reason"], "Unregistered");
        assert_eq!(body(Profile::WebPush, 410)["errno"], 106);
        assert_eq!(body(Profile::Whatsapp, 429)["error"]["code"], 130_429);
        assert_eq!(body(Profile::Twilio, 429)["code"], 20_429);
        assert!(Profile::Fcm.refused(502).body.starts_with("<!DOCTYPE"), "a gateway speaks HTML");
        for profile in Profile::value_variants() {
            for status in [400, 401, 403, 404, 410, 413, 429, 500, 503] {
                assert_eq!(profile.refused(status).status, status);
            }
            assert!((200..300).contains(&profile.accepted("r", 7).status), "{profile:?}");
        }
    }
}
