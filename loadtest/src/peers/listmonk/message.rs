//! The same message for listmonk: our template language put into Go's, as far as the reference message uses it.
//!
//! Owns no state. Invariant: a construct that is not known is an error, never left out: a peer that renders less would not be the same
//! work. listmonk's side: `models/campaigns.go`, `models/common.go` (its shorthand for tracked links).

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// A campaign's content in listmonk's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub from: String,
    pub subject: String,
    pub html: String,
    pub text: String,
    /// Links that are tracked.
    pub links: usize,
}

/// Translates the message of a campaign of ours.
pub fn translate(campaign: &Value) -> anyhow::Result<Content> {
    let field = |name: &str| campaign["message"][name].as_str().with_context(|| format!("the message has no {name}"));
    let (html, links) = track(&template(field("html")?)?);
    // Opens are counted by a pixel that the template asks for.
    let end = html.rfind("</body>").unwrap_or(html.len());
    let html = format!("{}{{{{ TrackView }}}}{}", &html[..end], &html[end..]);
    Ok(Content {
        from: field("from")?.to_owned(),
        subject: template(field("subject")?)?,
        html,
        text: template(field("text")?)?,
        links,
    })
}

/// Marks http(s) links in double quotes as tracked; how many there were.
fn track(html: &str) -> (String, usize) {
    let mut parts = html.split("href=\"");
    let mut out = parts.next().unwrap_or_default().to_owned();
    let mut links = 0;
    for part in parts {
        out.push_str("href=\"");
        match part.find('"').filter(|_| part.starts_with("http")) {
            Some(end) => {
                links += 1;
                out.push_str(&part[..end]);
                out.push_str("@TrackLink");
                out.push_str(&part[end..]);
            }
            None => out.push_str(part),
        }
    }
    (out, links)
}

/// Every `{{ … }}` and `{% … %}`, put into Go's words.
fn template(text: &str) -> anyhow::Result<String> {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut variables: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        out.push_str(&rest[..at]);
        let close = if rest[at..].starts_with("{{") { "}}" } else { "%}" };
        let end = rest[at..].find(close).with_context(|| format!("no {close} after {:?}", cut(&rest[at..])))? + at;
        let inner = rest[at + 2..end].trim();
        let translated = if close == "}}" { value(inner, &variables)? } else { statement(inner, &mut variables)? };
        out.push_str(&format!("{{{{ {translated} }}}}"));
        rest = &rest[end + 2..];
    }
    out.push_str(rest);
    ensure!(variables.is_empty(), "a for or if is not closed: {variables:?}");
    Ok(out)
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

fn value(inner: &str, variables: &[String]) -> anyhow::Result<String> {
    if let Some(name) = attribute(inner) {
        return Ok(format!("$.Subscriber.Attribs.{name}"));
    }
    if inner == "unsubscribe_url" {
        return Ok("UnsubscribeURL $".to_owned());
    }
    if !inner.is_empty() && variables.last().is_some_and(|variable| variable == inner) {
        return Ok(".".to_owned());
    }
    bail!("{inner:?} has no counterpart in listmonk's templates that the load test knows")
}

/// `variables` holds the open blocks: the variable of a `for`, nothing for an `if`.
fn statement(inner: &str, variables: &mut Vec<String>) -> anyhow::Result<String> {
    let words: Vec<&str> = inner.split_whitespace().collect();
    match words[..] {
        ["else"] => Ok("else".to_owned()),
        ["endif" | "endfor"] => {
            variables.pop().with_context(|| format!("{inner:?} closes nothing"))?;
            Ok("end".to_owned())
        }
        ["for", variable, "in", list] => {
            let name = attribute(list).with_context(|| format!("{inner:?}: a for over an attribute is known"))?;
            variables.push(variable.to_owned());
            Ok(format!("range $.Subscriber.Attribs.{name}"))
        }
        ["if", left, operator, right] => {
            let name = attribute(left).with_context(|| format!("{inner:?}: an if on an attribute is known"))?;
            let compare = match operator {
                ">=" => "ge",
                ">" => "gt",
                "<=" => "le",
                "<" => "lt",
                "==" => "eq",
                _ => bail!("{inner:?}: the operator is not known"),
            };
            // Numbers of JSON are floats in Go, and its templates compare only what is of one kind.
            let right = right.parse::<f64>().map(|n| format!("{n:?}")).unwrap_or_else(|_| right.to_owned());
            variables.push(String::new());
            Ok(format!("if {compare} $.Subscriber.Attribs.{name} {right}"))
        }
        _ => bail!("{inner:?} has no counterpart in listmonk's templates that the load test knows"),
    }
}

fn attribute(text: &str) -> Option<&str> {
    let name = text.strip_prefix("contact.")?;
    (!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_reference_message_is_translated_whole() {
        let ours = crate::message::reference_campaign("x", "relay", &json!({"all": true})).unwrap();
        let theirs = translate(&ours).unwrap();
        assert_eq!(theirs.links, 8, "the same eight links are tracked");
        assert_eq!(theirs.html.matches("@TrackLink\"").count(), 8);
        assert!(theirs.html.contains("{{ TrackView }}</body>"), "and opens");
        assert!(theirs.html.contains("{{ if ge $.Subscriber.Attribs.age 60.0 }}"), "the if");
        assert!(theirs.html.contains("{{ range $.Subscriber.Attribs.interests }}"), "the for");
        assert!(theirs.html.contains("News about {{ . }}</li>{{ end }}"), "its variable");
        assert!(theirs.html.contains("href=\"{{ UnsubscribeURL $ }}\""), "the way out is not a tracked link");
        assert_eq!(theirs.subject, "{{ $.Subscriber.Attribs.first_name }}, your spring letter");
        for text in [&theirs.html, &theirs.text, &theirs.subject] {
            assert!(!text.contains("{%") && !text.contains("contact."), "nothing of ours is left: {text}");
        }
        assert_eq!(theirs.html.matches("{{").count(), theirs.html.matches("}}").count());
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        for text in [
            "{{ contact.a | upper }}",
            "{% set x = 1 %}",
            "{% if contact.a %}x{% endif %}",
            "{{ contact.a",
            "{% endif %}",
        ] {
            assert!(template(text).is_err(), "{text}");
        }
        assert!(template("{% if contact.a > 1 %}x").is_err(), "an open block");
    }
}
