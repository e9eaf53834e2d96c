//! Properties of an event → what is kept of them: names and values for sets, and what a conversion was worth. Owns no state.

use serde_json::{Map, Value as Json};

use crate::api::errors::Code;
use crate::api::port::{PortError, PortResult};
use crate::ledger::events::noted::AMOUNT_PARTS;
use crate::limits::{CONVERSION_VALUE_MAX, EVENT_PROPERTIES_MAX, PROPERTY_BYTES_MAX};

/// What a conversion says of its worth; summed up and not kept as a set.
const WORTH: [&str; 2] = ["value", "currency"];

fn fits(text: &str) -> bool {
    !text.is_empty() && text.len() <= PROPERTY_BYTES_MAX && !text.chars().any(char::is_control)
}

/// Texts, whole numbers and booleans, as text; what is neither, or too long, is passed over.
pub(super) fn kept(properties: Option<&Map<String, Json>>, conversion: bool) -> Vec<(String, String)> {
    let named = properties.into_iter().flatten().filter(|(name, _)| !(conversion && WORTH.contains(&name.as_str())));
    let values = named.filter_map(|(name, value)| {
        let text = match value {
            Json::String(text) => text.clone(),
            Json::Bool(flag) => flag.to_string(),
            Json::Number(number) => number.as_i64()?.to_string(),
            Json::Null | Json::Array(_) | Json::Object(_) => return None,
        };
        (fits(name) && fits(&text)).then(|| (name.clone(), text))
    });
    values.take(EVENT_PROPERTIES_MAX).collect()
}

/// Currency and amount of a conversion, in ten-thousandths; `None` if it says no `value`.
pub(super) fn worth(properties: Option<&Map<String, Json>>) -> PortResult<Option<(String, i64)>> {
    let refuse = |message: String| PortError::new(Code::EventInvalid, message);
    let said = |name: &str| properties.and_then(|all| all.get(name)).filter(|value| !value.is_null());
    let Some(value) = said("value") else { return Ok(None) };
    let value = value.as_f64().filter(|value| value.abs() <= CONVERSION_VALUE_MAX);
    let value = value.ok_or_else(|| {
        refuse(format!("properties.value of a conversion must be a number, at most {CONVERSION_VALUE_MAX}"))
    })?;
    let currency = match said("currency") {
        None => String::new(),
        Some(Json::String(text)) if text.len() == 3 && text.bytes().all(|b| b.is_ascii_alphabetic()) => {
            text.to_ascii_uppercase()
        }
        Some(other) => {
            return Err(refuse(format!("properties.currency is {other}, and must be three letters, as in EUR")));
        }
    };
    Ok(Some((currency, (value * AMOUNT_PARTS as f64).round() as i64)))
}

/// An amount as a decimal number: `-12.5`.
pub(super) fn amount_text(amount: i64) -> String {
    let (whole, parts) = (amount.unsigned_abs() / AMOUNT_PARTS as u64, amount.unsigned_abs() % AMOUNT_PARTS as u64);
    let sign = if amount < 0 { "-" } else { "" };
    let decimals = format!("{parts:04}");
    match decimals.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        decimals => format!("{sign}{whole}.{decimals}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Json) -> Map<String, Json> {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn short_plain_values_are_kept_and_nothing_else() {
        let all = map(json!({"plan": "gold", "paid": true, "items": 3, "price": 1.5, "who": {"a": 1}, "tags": ["x"],
            "long": "x".repeat(65), "none": null, "bad": "a\u{1}", "value": 5}));
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut found = kept(Some(&all), true);
        found.sort();
        assert_eq!(found, [text("items", "3"), text("paid", "true"), text("plan", "gold")]);
        assert!(kept(Some(&all), false).contains(&text("value", "5")), "of another event it is a property as any");
        assert!(kept(None, true).is_empty());
        let many: Map<String, Json> = (0..100).map(|n| (format!("p{n}"), json!("x"))).collect();
        assert_eq!(kept(Some(&many), false).len(), EVENT_PROPERTIES_MAX, "bounded");
    }

    #[test]
    fn a_conversion_is_worth_a_number_in_a_currency() {
        let found = |value: Json| worth(Some(&map(value)));
        assert_eq!(found(json!({"value": 12.5, "currency": "eur"})), Ok(Some(("EUR".into(), 125_000))));
        assert_eq!(found(json!({"value": -3})), Ok(Some((String::new(), -30_000))));
        assert_eq!((found(json!({"currency": "EUR"})), worth(None)), (Ok(None), Ok(None)), "without a value");
        for bad in [json!({"value": "12"}), json!({"value": 1e12}), json!({"value": 1, "currency": "euros"})] {
            assert_eq!(found(bad.clone()).expect_err("refused").code, Code::EventInvalid, "{bad}");
        }
        let texts = [0, 125_000, -30_000, 1, -10_001].map(amount_text);
        assert_eq!(texts, ["0", "12.5", "-3", "0.0001", "-1.0001"]);
    }
}
