//! "Did you mean": the nearest of the names that would have been right.

/// The nearest candidate, if it is near enough to be meant: a third of the letters may differ, and at most three.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (name.chars().count() / 3).clamp(1, 3);
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean "…"?`, or nothing.
pub(super) fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, candidates).map_or(String::new(), |near| format!("; did you mean {near:?}?"))
}

/// With what the refusal of a key begins, where it is no field of serde's.
pub(super) const UNKNOWN_KEY: &str = "unknown key";

/// The name that [`did_you_mean`] has put into a text.
pub(super) fn meant(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("did you mean \"")?;
    rest.split_once('"').map(|(name, _)| name)
}

/// What serde refused of a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Key,
    Value,
}

/// Serde's refusal of a key or a value out of a closed set: which, its name, and what is allowed.
pub(super) fn refused(message: &str) -> Option<(Refused, &str, Vec<&str>)> {
    let (what, rest) = match (message.strip_prefix("unknown field `"), message.strip_prefix("unknown variant `")) {
        (Some(rest), _) => (Refused::Key, rest),
        (_, Some(rest)) => (Refused::Value, rest),
        _ => return None,
    };
    if let Some(name) = rest.strip_suffix("`, there are no fields") {
        return Some((what, name, Vec::new()));
    }
    let (name, rest) = rest.split_once("`, expected ")?;
    Some((what, name, rest.split('`').skip(1).step_by(2).collect()))
}

/// Rewords serde's refusal of a key or a value out of a closed set, and adds the nearest right one. Any other message is
/// answered as it is. `elsewhere` knows where else a key belongs.
pub(super) fn reword(message: &str, elsewhere: impl Fn(&str) -> Option<String>) -> String {
    let Some((what, name, allowed)) = refused(message) else { return message.to_owned() };
    let hint = match (what, elsewhere(name)) {
        (Refused::Key, Some(place)) => format!("; {place}"),
        _ => did_you_mean(name, allowed.iter().copied()),
    };
    let what = if what == Refused::Key { "key" } else { "value" };
    match allowed.is_empty() {
        true => format!("unknown {what} {name:?}: none is allowed here"),
        false => format!("unknown {what} {name:?}{hint} (allowed: {})", allowed.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not_offered() {
        let names = ["subject", "segment", "html"];
        assert_eq!(nearest("subjct", names), Some("subject"));
        assert_eq!(nearest("HTML", names), Some("html"));
        assert_eq!(nearest("htlm", names), Some("html"), "two letters swapped");
        assert_eq!(nearest("recipients", names), None);
        assert_eq!(nearest("", names), None);
    }

    #[test]
    fn messages_of_serde_are_reworded() {
        let none = |_: &str| None;
        let one = reword("unknown field `wieght`, expected `messages_per_second` or `weight`", none);
        assert_eq!(one, r#"unknown key "wieght"; did you mean "weight"? (allowed: messages_per_second, weight)"#);
        let two = reword("unknown variant `x`, expected one of `strict`, `at_least_once`", none);
        assert_eq!(two, r#"unknown value "x" (allowed: strict, at_least_once)"#);
        assert_eq!(reword("missing field `a`", none), "missing field `a`");
        assert_eq!(reword("unknown field `a`, there are no fields", none), "unknown key \"a\": none is allowed here");
        let moved = reword("unknown field `mode`, expected `weight`", |_| Some("it stands above".to_owned()));
        assert_eq!(moved, r#"unknown key "mode"; it stands above (allowed: weight)"#);
    }
}
