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

/// Rewords serde's refusal of a key or a value out of a closed set, and adds the nearest right one. Any other message is
/// answered as it is. `elsewhere` knows where else a key belongs.
pub(super) fn reword(message: &str, elsewhere: impl Fn(&str) -> Option<String>) -> String {
    let (what, rest) = if let Some(rest) = message.strip_prefix("unknown field `") {
        ("key", rest)
    } else if let Some(rest) = message.strip_prefix("unknown variant `") {
        ("value", rest)
    } else {
        return message.to_owned();
    };
    let Some((name, rest)) = rest.split_once("`, expected ") else {
        return message.to_owned();
    };
    let allowed: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let hint = match (what, elsewhere(name)) {
        ("key", Some(place)) => format!("; {place}"),
        _ => did_you_mean(name, allowed.iter().copied()),
    };
    format!("unknown {what} {name:?}{hint} (allowed: {})", allowed.join(", "))
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
        let moved = reword("unknown field `mode`, expected `weight`", |_| Some("it stands above".to_owned()));
        assert_eq!(moved, r#"unknown key "mode"; it stands above (allowed: weight)"#);
    }
}
