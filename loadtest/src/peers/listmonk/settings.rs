//! listmonk's settings for a run: its mail goes to the sink, and nothing but the machine limits it.
//!
//! Owns no state. Invariants: 1. a user's own SMTP servers are switched off and never removed, so that their passwords, which
//! the API masks, stay where they are; 2. what is put back is what was there before.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// Workers and messages a second and worker. listmonk's queue holds workers × rate × 2 messages, and a worker sleeps out the second once
/// it has sent its rate, so the rate must be beyond reach.
const CONCURRENCY: u64 = 50;
const MESSAGE_RATE: u64 = 10_000;
const BATCH: u64 = 10_000;
/// Name of the server that is added.
const NAME: &str = "email-loadtest";

/// The user's settings with mail to the sink over this many connections, tuned.
pub(super) fn tuned(settings: &Value, sink: SocketAddr, connections: u64) -> Value {
    let mut tuned = restorable(settings);
    let servers = tuned["smtp"].as_array().cloned().unwrap_or_default();
    let mut servers: Vec<Value> = servers.into_iter().filter(|server| server["name"] != NAME).collect();
    for server in &mut servers {
        server["enabled"] = json!(false);
    }
    servers.push(json!({
        "name": NAME, "uuid": "", "enabled": true, "host": sink.ip().to_string(), "port": sink.port(),
        "hello_hostname": "load.test", "auth_protocol": "none", "username": "", "password": "", "email_headers": [],
        "max_conns": connections, "max_msg_retries": 2, "msg_retry_delay": "10ms", "idle_timeout": "15s",
        "wait_timeout": "5s", "tls_type": "none", "tls_skip_verify": true, "from_addresses": [],
    }));
    tuned["smtp"] = json!(servers);
    tuned["app.concurrency"] = json!(CONCURRENCY.max(connections));
    tuned["app.message_rate"] = json!(MESSAGE_RATE);
    tuned["app.batch_size"] = json!(BATCH);
    tuned["app.message_sliding_window"] = json!(false);
    tuned
}

/// Settings as they can be written back: a masked secret is left empty, which keeps the one that is stored.
pub(super) fn restorable(settings: &Value) -> Value {
    match settings {
        Value::String(text) if !text.is_empty() && text.chars().all(|c| c == '•') => json!(""),
        Value::Array(items) => items.iter().map(restorable).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), restorable(value))).collect(),
        other => other.clone(),
    }
}

/// Whether mail goes to the sink and nowhere else.
pub(super) fn goes_to(settings: &Value, sink: SocketAddr) -> bool {
    let servers = settings["smtp"].as_array().map_or(&[][..], Vec::as_slice);
    let mut enabled = servers.iter().filter(|server| server["enabled"] == true).peekable();
    let is_sink = |server: &Value| {
        let host = server["host"].as_str().unwrap_or_default();
        let is_here = host == sink.ip().to_string() || host == "localhost" && sink.ip().is_loopback();
        is_here && server["port"].as_u64() == Some(u64::from(sink.port()))
    };
    enabled.peek().is_some() && enabled.all(is_sink)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Value {
        json!({
            "app.concurrency": 10, "app.message_rate": 10, "app.batch_size": 1000, "app.message_sliding_window": true,
            "bounce.sendgrid_key": "••••",
            "smtp": [{"name": "", "uuid": "u1", "enabled": true, "host": "mail.example.test", "port": 587, "password": "•••"}],
        })
    }

    #[test]
    fn the_users_servers_are_switched_off_and_kept() {
        let sink: SocketAddr = "127.0.0.1:2525".parse().unwrap();
        let tuned = tuned(&user(), sink, 50);
        assert!(!goes_to(&user(), sink) && goes_to(&tuned, sink));
        let old = &tuned["smtp"][0];
        assert_eq!((&old["uuid"], &old["enabled"], &old["password"]), (&json!("u1"), &json!(false), &json!("")));
        assert_eq!(tuned["smtp"][1]["max_conns"], 50);
        assert_eq!(tuned["app.message_sliding_window"], false);
        let back = restorable(&user());
        assert_eq!((&back["smtp"][0]["enabled"], &back["app.concurrency"]), (&json!(true), &json!(10)));
        assert_eq!(back["bounce.sendgrid_key"], "", "masks are not written back");
    }
}
