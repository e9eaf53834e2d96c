//! `estafette contact`, `attribute`, `list`, `segment`, `suppression`. Owns no state.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::Exit;
use super::args::{Attribute, Contact, List, Segment, Suppression};
use super::client::{Client, part};
use super::output;

pub(super) fn contact(client: &Client, command: Contact, as_json: bool) -> anyhow::Result<Exit> {
    let path = |key: &str| format!("/v1/contacts/{}", part(key));
    match command {
        Contact::Show { key } => output::record(&client.get(&path(&key), &[])?, as_json)?,
        Contact::Put { key, body } => {
            output::record(&client.send_json(Method::PUT, &path(&key), &parsed(&body)?)?, as_json)?;
        }
        Contact::Patch { key, body } => {
            output::record(&client.send_json(Method::PATCH, &path(&key), &parsed(&body)?)?, as_json)?;
        }
        Contact::Erase { key } => {
            client.delete(&path(&key))?;
            done(&format!("contact {key} is erased"), as_json)?;
        }
        Contact::Export { key } => output::json(&client.get(&format!("{}/export", path(&key)), &[])?)?,
    }
    Ok(Exit::Done)
}

fn parsed(text: &str) -> anyhow::Result<Json> {
    serde_json::from_str(text).context("the contact is not JSON, as '{\"email\": \"a@example.test\"}'")
}

/// What was done, where there is nothing else to show.
pub(super) fn done(text: &str, as_json: bool) -> anyhow::Result<()> {
    if as_json { output::json(&json!({"done": true})) } else { output::line(text) }
}

pub(super) fn attribute(client: &Client, command: Attribute, as_json: bool) -> anyhow::Result<Exit> {
    match command {
        Attribute::List => {
            output::items(&client.get("/v1/attributes", &[])?, &["name", "type", "index", "built_in"], as_json)?;
        }
        Attribute::Add { name, kind, index } => {
            let body = json!({"name": name, "type": kind, "index": index});
            output::record(&client.post("/v1/attributes", &body)?, as_json)?;
        }
    }
    Ok(Exit::Done)
}

pub(super) fn list(client: &Client, command: List, as_json: bool) -> anyhow::Result<Exit> {
    let path = |name: &str| format!("/v1/lists/{}", part(name));
    let change = |name: &str, body: &Json| client.post(&format!("{}/contacts", path(name)), body);
    match command {
        List::All => {
            let page = client.get_all("/v1/lists", &[])?;
            output::items(&page, &["name", "contacts", "source", "created_at"], as_json)?;
        }
        List::Show { name } => output::record(&client.get(&path(&name), &[])?, as_json)?,
        List::Create { name, segment } => {
            output::record(&client.post("/v1/lists", &json!({"name": name, "segment": segment}))?, as_json)?;
        }
        List::Delete { name } => {
            client.delete(&path(&name))?;
            done(&format!("list {name} is deleted"), as_json)?;
        }
        List::Add { name, keys } => output::record(&change(&name, &json!({"add": keys}))?, as_json)?,
        List::Remove { name, keys } => output::record(&change(&name, &json!({"remove": keys}))?, as_json)?,
        List::Contacts { name } => {
            let page = client.get_all(&format!("{}/contacts", path(&name)), &[])?;
            if as_json {
                output::json(&page)?;
            } else {
                for key in page["items"].as_array().into_iter().flatten() {
                    output::line(&output::text(key))?;
                }
            }
        }
    }
    Ok(Exit::Done)
}

pub(super) fn segment(client: &Client, command: Segment, as_json: bool) -> anyhow::Result<Exit> {
    let path = |name: &str| format!("/v1/segments/{}", part(name));
    match command {
        Segment::List => {
            let page = client.get_all("/v1/segments", &[])?;
            output::items(&page, &["name", "expression", "updated_at"], as_json)?;
        }
        Segment::Show { name } => output::record(&client.get(&path(&name), &[])?, as_json)?,
        Segment::Create { name, expression } => {
            let body = json!({"name": name, "expression": expression});
            output::record(&client.post("/v1/segments", &body)?, as_json)?;
        }
        Segment::Update { name, expression } => {
            let body = json!({"expression": expression});
            output::record(&client.send_json(Method::PUT, &path(&name), &body)?, as_json)?;
        }
        Segment::Delete { name } => {
            client.delete(&path(&name))?;
            done(&format!("segment {name} is deleted"), as_json)?;
        }
        Segment::Preview { expression, sample } => {
            let found = client.post("/v1/segments/preview", &json!({"expression": expression, "sample": sample}))?;
            print_preview(&found, as_json)?;
        }
    }
    Ok(Exit::Done)
}

fn print_preview(found: &Json, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return output::json(found);
    }
    let count = output::grouped(found["count"].as_u64().unwrap_or(0));
    let took = found["took_ms"].as_f64().unwrap_or(0.0);
    output::line(&format!("{count} contacts match {} ({took:.2} ms)", output::text(&found["canonical"])))?;
    for scan in found["scans"].as_array().into_iter().flatten() {
        let records = output::grouped(scan["records"].as_u64().unwrap_or(0));
        output::line(&format!("  no index for {}: {records} records were read", output::text(&scan["part"])))?;
    }
    output::items(&json!({"items": found["sample"]}), &["key", "email", "language", "zone"], false)
}

pub(super) fn suppression(client: &Client, command: Suppression, as_json: bool) -> anyhow::Result<Exit> {
    match command {
        Suppression::List => {
            let page = client.get_all("/v1/suppressions", &[])?;
            output::items(&page, &["id", "channel", "reason", "contact", "address_hash", "at"], as_json)?;
        }
        Suppression::Add { contact, address, channel, reason } => {
            let body = json!({"contact": contact, "address": address, "channel": channel, "reason": reason});
            output::record(&client.post("/v1/suppressions", &body)?, as_json)?;
        }
        Suppression::Remove { id } => {
            client.delete(&format!("/v1/suppressions/{id}"))?;
            done(&format!("suppression {id} is removed"), as_json)?;
        }
        Suppression::Import { file } => {
            let text = std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
            let added = client.send_text(Method::POST, "/v1/suppressions", "text/csv", text)?;
            output::record(&added, as_json)?;
        }
        Suppression::Export if as_json => output::json(&client.get_all("/v1/suppressions", &[])?)?,
        Suppression::Export => {
            client.download("/v1/suppressions", &[("format", "csv")], &mut output::file())?;
        }
    }
    Ok(Exit::Done)
}
