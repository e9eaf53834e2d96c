//! Fields of a report's machine-readable part: header lines in groups, with empty lines between them (RFC 3464 section 2.1).

use crate::limits::{INBOUND_FIELDS_MAX, INBOUND_GROUPS_MAX};

/// One group: names in lower case, values unfolded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group(Vec<(String, String)>);

impl Group {
    /// The first value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// A value `type; text` without its type.
    pub(super) fn typed(&self, name: &str) -> Option<(&str, &str)> {
        let value = self.get(name)?;
        value.split_once(';').map(|(kind, text)| (kind.trim(), text.trim())).or(Some(("", value)))
    }
}

/// The groups of a text; more of them, or of their fields, than the bounds are left out.
pub(super) fn groups(text: &str) -> Vec<Group> {
    let mut groups = vec![Group::default()];
    for line in text.lines() {
        if line.trim().is_empty() {
            if groups.len() >= INBOUND_GROUPS_MAX {
                break;
            }
            if groups.last().is_some_and(|group| !group.0.is_empty()) {
                groups.push(Group::default());
            }
            continue;
        }
        let Some(group) = groups.last_mut() else { break };
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = group.0.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':')
            && group.0.len() < INBOUND_FIELDS_MAX
        {
            group.0.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    groups.retain(|group| !group.0.is_empty());
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_unfolded_and_bounded() {
        let text = "A: 1\r\nB: two\r\n  lines\r\n\r\n\r\nC: smtp; 550 no\nno colon\n c\n";
        let found = groups(text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].get("b"), Some("two lines"), "unfolded");
        assert_eq!(found[1].typed("c"), Some(("smtp", "550 no c")), "typed");
        assert_eq!(groups(&"A: 1\n\n".repeat(10_000)).len(), INBOUND_GROUPS_MAX, "groups");
        assert_eq!(groups(&"A: 1\n".repeat(10_000))[0].0.len(), INBOUND_FIELDS_MAX, "fields");
        assert!(groups(" folded from nothing\n\n").is_empty(), "nothing");
    }
}
