//! Addresses and other values as people write them → the one form that the store keeps, or a typed reason why not.
//!
//! Stateless. Invariants: AD-1 nothing that passes holds a control character other than tab and newline (templates and
//! header writers rely on it); AD-2 normalising twice gives the same; AD-3 an e-mail domain is ASCII, lower case.
//! Must not know the store, and no channel's provider.

use std::borrow::Cow;

use phonenumber::country::Id as Country;

use crate::contacts::phones;
use crate::ids::{AddressHash, Channel};
use crate::limits;

/// Why a value is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("is empty")]
    Empty,
    #[error("is longer than {max} bytes")]
    TooLong { max: usize },
    #[error("has more than {max} entries")]
    TooManyEntries { max: usize },
    #[error("holds a control character")]
    ControlCharacter,
    #[error("is not valid {encoding}")]
    Encoding { encoding: &'static str },
    #[error("is not an e-mail address: {why}")]
    Email { why: &'static str },
    #[error("is not a phone number with country code: {why}")]
    Phone { why: &'static str },
    #[error("is not a language tag such as \"fr\" or \"pt-BR\"")]
    Language,
    #[error("is not an IANA time zone such as \"Europe/Paris\"")]
    Zone,
    #[error("is not a {wanted}")]
    Type { wanted: &'static str },
    #[error("is not an attribute of the schema")]
    UnknownAttribute,
    #[error("is kept by the store and cannot be set")]
    ReadOnly,
}

/// Octets of an address in a path, RFC 5321 4.5.3.1.3 less the angle brackets.
const EMAIL_BYTES_MAX: usize = 254;
/// Octets of a local part, RFC 5321 4.5.3.1.1.
const LOCAL_BYTES_MAX: usize = 64;
/// Octets of one label of a domain, RFC 1035 2.3.4.
const LABEL_BYTES_MAX: usize = 63;

/// Whether text holds a control character that the store does not keep: all of C0, DEL and C1 but tab and newline.
pub(crate) fn has_control(text: &str) -> bool {
    // C1 is U+0080 ..= U+009F: the bytes C2 80 ..= C2 9F.
    let bytes = text.as_bytes();
    // One pass that the compiler makes wide; nearly all text ends here.
    if bytes.iter().all(|b| *b >= 0x20 && *b != 0x7F && *b != 0xC2) {
        return false;
    }
    bytes.iter().enumerate().any(|(i, b)| {
        (*b < 0x20 && *b != b'\t' && *b != b'\n')
            || *b == 0x7F
            || (*b == 0xC2 && bytes.get(i + 1).is_some_and(|n| *n < 0xA0))
    })
}

/// Text without control characters; tab and newline are kept, CR LF becomes a newline.
pub fn strip_control(text: &str) -> Cow<'_, str> {
    if has_control(text) {
        Cow::Owned(text.chars().filter(|c| !c.is_control() || *c == '\t' || *c == '\n').collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// A contact key: trimmed, 1 ..= `limits::KEY_BYTES_MAX` bytes, no control character at all.
pub fn normalise_key(key: &str) -> Result<&str, ValueError> {
    let key = key.trim();
    if key.is_empty() {
        return Err(ValueError::Empty);
    }
    if key.len() > limits::KEY_BYTES_MAX {
        return Err(ValueError::TooLong { max: limits::KEY_BYTES_MAX });
    }
    if has_control(key) || key.contains(['\t', '\n']) {
        return Err(ValueError::ControlCharacter);
    }
    Ok(key)
}

/// An e-mail address by the strict part of RFC 5321 and 6531: `local@domain`, the local part a dot-atom or a quoted
/// string (UTF-8 kept as written), the domain a host name, written in ASCII (UTS 46) and lower case.
pub fn normalise_email(text: &str) -> Result<Cow<'_, str>, ValueError> {
    let bad = |why| Err(ValueError::Email { why });
    let text = text.trim();
    let Some(at) = memchr::memrchr(b'@', text.as_bytes()) else {
        return bad("there is no @");
    };
    let (local, domain) = (&text[..at], &text[at + 1..]);
    if local.is_empty() || domain.is_empty() {
        return bad("a side of the @ is empty");
    }
    if local.len() > LOCAL_BYTES_MAX {
        return bad("the part before the @ is longer than 64 octets");
    }
    if !is_local_part(local) {
        return bad("the part before the @ has a character that is not allowed there");
    }
    let plain = domain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
    // An ACE label must be checked as what it stands for.
    let ascii = if plain && !domain.contains("xn--") {
        Cow::Borrowed(domain)
    } else {
        match idna::domain_to_ascii_strict(domain) {
            Ok(ascii) => Cow::Owned(ascii),
            Err(_) => return bad("the domain is not valid"),
        }
    };
    if !is_domain(&ascii) {
        return bad("the domain is not a host name with a dot");
    }
    if local.len() + 1 + ascii.len() > EMAIL_BYTES_MAX {
        return bad("it is longer than 254 octets");
    }
    Ok(match ascii {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(ascii) => Cow::Owned(format!("{local}@{ascii}")),
    })
}

/// The domain of a normalised address.
pub fn email_domain(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

fn is_local_part(local: &str) -> bool {
    if let Some(quoted) = local.strip_prefix('"').and_then(|l| l.strip_suffix('"')) {
        let mut escaped = false;
        for c in quoted.chars() {
            if c.is_control() || (c == '"' && !escaped) {
                return false;
            }
            escaped = c == '\\' && !escaped;
        }
        return !escaped && local.len() > 1;
    }
    if local.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-' || b == b'_') {
        return !local.starts_with('.') && !local.ends_with('.') && !local.contains("..");
    }
    // atext of RFC 5322 3.2.3 and the UTF-8 of RFC 6531 3.3; dots not at an end and not twice.
    let mut last = '.';
    for c in local.chars() {
        let ok = match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' => true,
            '.' => last != '.',
            _ if c.is_ascii() => "!#$%&'*+-/=?^_`{|}~".contains(c),
            _ => !c.is_control() && !c.is_whitespace(),
        };
        if !ok {
            return false;
        }
        last = c;
    }
    last != '.'
}

fn is_domain(domain: &str) -> bool {
    let mut labels = 0;
    let mut last = "";
    for label in domain.split('.') {
        let fits = !label.is_empty()
            && label.len() <= LABEL_BYTES_MAX
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !fits {
            return false;
        }
        labels += 1;
        last = label;
    }
    labels >= 2 && !last.bytes().all(|b| b.is_ascii_digit())
}

/// A phone number in E.164 (`+33612345678`). Without a leading `+` or `00`, `default_country` says where it is dialled; with
/// none such a number is refused.
pub fn normalise_phone(text: &str, default_country: Option<Country>) -> Result<String, ValueError> {
    let bad = |why| Err(ValueError::Phone { why });
    let text = text.trim();
    if text.len() > 64 {
        return bad("it is too long");
    }
    let international;
    let text = match text.strip_prefix("00") {
        Some(rest) => {
            international = format!("+{rest}");
            international.as_str()
        }
        None => text,
    };
    if default_country.is_none() && !text.starts_with('+') {
        return bad("it has no country code");
    }
    if let Some(plain) = phones::plain(text, default_country) {
        return Ok(plain);
    }
    phones::widen_library_cache();
    let Ok(number) = phonenumber::parse(default_country, text) else {
        return bad("it cannot be read");
    };
    if number.extension().is_some() {
        return bad("it has an extension");
    }
    let out = number.format().mode(phonenumber::Mode::E164).to_string();
    let digits = out.len().saturating_sub(1);
    if !phonenumber::is_valid(&number) || digits > phones::DIGITS_MAX {
        return bad("no number of that country looks like it");
    }
    Ok(out)
}

/// A country by its ISO 3166 code, for [`normalise_phone`].
pub fn country(code: &str) -> Option<Country> {
    code.to_ascii_uppercase().parse().ok()
}

/// A language tag (RFC 5646, `language[-Script][-REGION]`) in the usual case.
pub fn normalise_language(text: &str) -> Result<Cow<'_, str>, ValueError> {
    let text = text.trim();
    if text.len() == 2 && text.bytes().all(|b| b.is_ascii_lowercase()) {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    for (i, part) in text.split(['-', '_']).enumerate() {
        let alphabetic = part.bytes().all(|b| b.is_ascii_alphabetic());
        match (i, part.len()) {
            (0, 2 | 3) if alphabetic => out.push_str(&part.to_ascii_lowercase()),
            (1.., 4) if alphabetic => {
                out.push('-');
                out.push_str(&part[..1].to_ascii_uppercase());
                out.push_str(&part[1..].to_ascii_lowercase());
            }
            (1.., 2) if alphabetic => {
                out.push('-');
                out.push_str(&part.to_ascii_uppercase());
            }
            (1.., 3..=8) if part.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                out.push('-');
                out.push_str(&part.to_ascii_lowercase());
            }
            _ => return Err(ValueError::Language),
        }
    }
    if out.len() > 35 { Err(ValueError::Language) } else { Ok(Cow::Owned(out)) }
}

/// An IANA time zone, by its usual spelling.
pub fn normalise_zone(text: &str) -> Result<String, ValueError> {
    let text = text.trim();
    match jiff::tz::TimeZone::get(text) {
        Ok(zone) => zone.iana_name().map(str::to_owned).ok_or(ValueError::Zone),
        Err(_) => Err(ValueError::Zone),
    }
}

/// What duplicates and suppressions compare: the address of a channel, salted. E-mail addresses compare without regard to
/// case, as every large mailbox provider does (RFC 5321 2.4 would allow otherwise).
///
/// `address` is normalised. The salt is the store's.
pub fn address_hash(salt: &[u8; 32], channel: Channel, address: &str) -> AddressHash {
    let mut hasher = blake3::Hasher::new_keyed(salt);
    hasher.update(&[channel as u8]);
    if channel == Channel::Email && address.bytes().any(|b| b.is_ascii_uppercase() || !b.is_ascii()) {
        hasher.update(address.to_lowercase().as_bytes());
    } else {
        hasher.update(address.as_bytes());
    }
    let mut out = [0; 16];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    AddressHash(out)
}

/// The address of a channel as its hash wants it, for suppression lists and inbound mail.
pub fn normalise_address(channel: Channel, text: &str, default_country: Option<Country>) -> Result<String, ValueError> {
    match channel {
        Channel::Email => normalise_email(text).map(Cow::into_owned),
        Channel::Sms | Channel::Whatsapp => normalise_phone(text, default_country),
        Channel::Push | Channel::WebPush | Channel::InApp | Channel::Webhook => {
            let text = text.trim();
            if text.is_empty() {
                Err(ValueError::Empty)
            } else if text.len() > limits::TEXT_BYTES_MAX {
                Err(ValueError::TooLong { max: limits::TEXT_BYTES_MAX })
            } else if has_control(text) {
                Err(ValueError::ControlCharacter)
            } else {
                Ok(text.to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_taken_in_one_form() {
        for (given, want) in [
            ("a@b.de", "a@b.de"),
            (" Ann.B+tag@EXAMPLE.Test ", "Ann.B+tag@example.test"),
            ("jörg@bücher.example", "jörg@xn--bcher-kva.example"),
            ("\"a b\"@x.org", "\"a b\"@x.org"),
            ("o'neil@x.co", "o'neil@x.co"),
        ] {
            assert_eq!(normalise_email(given).as_deref(), Ok(want), "{given}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@x.org", "a".repeat(65));
        let longer = format!("a@{}org", "abcdefgh.".repeat(30));
        for given in [
            "",
            "a",
            "@x.org",
            "a@",
            "a@x",
            "a@b@x.org",
            ".a@x.org",
            "a.@x.org",
            "a..b@x.org",
            "a b@x.org",
            "a@x_y.org",
            "a@-x.org",
            "a@x..org",
            "a@[1.2.3.4]",
            "a@1.2.3.4",
            "a\u{0}@x.org",
            "a@x.org\r\nBcc: b@x.org",
            "a\"b@x.org",
            "a<b@x.org",
            "\"a\"b\"@x.org",
            "a,b@x.org",
            "Ann <a@x.org>",
            &long,
            &longer,
        ] {
            assert!(normalise_email(given).is_err(), "{given:?} is no address");
        }
    }

    #[test]
    fn phones_languages_and_zones() {
        assert_eq!(normalise_phone("+33 6 12 34 56 78", None).as_deref(), Ok("+33612345678"), "spaces");
        assert_eq!(normalise_phone("0033612345678", None).as_deref(), Ok("+33612345678"), "00");
        assert_eq!(normalise_phone("030 901820", country("de")).as_deref(), Ok("+4930901820"), "default country");
        for bad in ["0612345678", "+33", "+999123456789", "abc", "", "+33 6 12", "+33000000000"] {
            assert!(normalise_phone(bad, None).is_err(), "{bad:?} is no number");
        }
        assert_eq!(normalise_language("PT_br").as_deref(), Ok("pt-BR"), "case");
        assert_eq!(normalise_language("zh-hant-tw").as_deref(), Ok("zh-Hant-TW"), "script");
        assert!(normalise_language("french").is_err(), "a name is no tag");
        assert_eq!(normalise_zone("europe/paris").as_deref(), Ok("Europe/Paris"), "zone");
        assert!(normalise_zone("Mars/Base").is_err(), "no such zone");
    }

    #[test]
    fn the_hash_ignores_case_of_addresses_and_tells_channels_and_salts_apart() {
        let salt = [7; 32];
        let hash = address_hash(&salt, Channel::Email, "Ann@x.org");
        assert_eq!(hash, address_hash(&salt, Channel::Email, "ann@x.org"), "case");
        assert_ne!(hash, address_hash(&[8; 32], Channel::Email, "ann@x.org"), "salt");
        assert_ne!(
            address_hash(&salt, Channel::Sms, "+331"),
            address_hash(&salt, Channel::Whatsapp, "+331"),
            "channel"
        );
    }

    proptest! {
        #[test]
        fn nothing_that_passes_holds_controls_and_twice_is_once(text in "\\PC{0,20}|[a-z\u{0}-\u{9f}@.\"]{1,30}") {
            if let Ok(once) = normalise_email(&text) {
                prop_assert!(!has_control(&once), "no control characters");
                prop_assert_eq!(normalise_email(&once), Ok(once.clone()), "twice");
            }
            if let Ok(once) = normalise_language(&text) {
                prop_assert_eq!(normalise_language(&once), Ok(once.clone()), "twice");
            }
            let stripped = strip_control(&text);
            prop_assert!(!has_control(&stripped), "stripped");
        }
    }
}
