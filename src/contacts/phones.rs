//! Phone numbers as nearly all files have them → E.164, by `libphonenumber`'s metadata and without its parser.
//!
//! The library keeps at most 100 compiled patterns and one country needs a dozen, so a file of several countries made it
//! compile for nearly every row (measured: 0.8 ms a number). Here every pattern is compiled once, when it is first needed.
//!
//! Owns the compiled patterns, for the process. Invariants: PH-1 what [`plain`] answers is a number that the library's
//! metadata call valid: a known country code, a length that the country has, and digits that match one of its patterns; PH-2 a `None`
//! refuses nothing: the library decides. Must not know where numbers come from.

use std::sync::{LazyLock, Once, OnceLock};

use phonenumber::Metadata;
use phonenumber::country::Id as Country;
use phonenumber::metadata::{DATABASE, Descriptor};
use regex::{Regex, RegexBuilder};

use crate::limits::PHONE_PATTERNS_MAX;

/// Digits of a number in E.164, the country code among them (ITU-T E.164 6.2.1).
pub(crate) const DIGITS_MAX: usize = 15;
/// Country codes have one to three digits.
const CODES: u16 = 1000;

/// One country, or one of those that share a code.
struct Region {
    metadata: &'static Metadata,
    leading: OnceLock<Option<Regex>>,
    general: OnceLock<Option<Regex>>,
    /// By the digits of the national number: what one of the kinds of numbers of that length begins with.
    kinds: [OnceLock<Option<Regex>>; DIGITS_MAX],
}

static BY_CODE: LazyLock<Vec<Vec<Region>>> = LazyLock::new(|| {
    let region = |metadata| Region {
        metadata,
        leading: OnceLock::new(),
        general: OnceLock::new(),
        kinds: [const { OnceLock::new() }; DIGITS_MAX],
    };
    let regions = |code: u16| DATABASE.by_code(&code).unwrap_or_default().into_iter().map(region).collect();
    (0..CODES).map(regions).collect()
});

impl Region {
    /// Whether the library would name a kind of number for it.
    fn has(&self, national: &str) -> bool {
        let descriptors = self.metadata.descriptors();
        let Some(kinds) = self.kinds.get(national.len()) else { return false };
        let general = self.general.get_or_init(|| beginning(&[descriptors.general().national_number().as_str()]));
        let kinds = kinds.get_or_init(|| {
            let fits = |d: &Descriptor| {
                let lengths = d.possible_length();
                lengths.is_empty() || lengths.iter().any(|length| usize::from(*length) == national.len())
            };
            let patterns: Vec<&str> =
                kinds_of(self.metadata).into_iter().filter(|d| fits(d)).map(|d| d.national_number().as_str()).collect();
            beginning(&patterns)
        });
        [kinds, general].iter().all(|pattern| pattern.as_ref().is_some_and(|p| p.is_match(national)))
    }

    /// Whether the number begins with the digits that mark this one of the regions that share a code.
    fn leads(&self, national: &str) -> Option<bool> {
        let pattern = self.metadata.leading_digits()?.as_str();
        let pattern = self.leading.get_or_init(|| beginning(&[pattern]));
        Some(pattern.as_ref().is_some_and(|p| p.is_match(national)))
    }
}

/// The kinds that the library asks for, see its `validator::number_type`.
fn kinds_of(metadata: &Metadata) -> Vec<&Descriptor> {
    let d = metadata.descriptors();
    let kinds = [
        d.premium_rate(),
        d.toll_free(),
        d.shared_cost(),
        d.voip(),
        d.personal_number(),
        d.pager(),
        d.uan(),
        d.voicemail(),
        d.fixed_line(),
        d.mobile(),
    ];
    kinds.into_iter().flatten().collect()
}

/// Matches text that begins with one of `patterns`, as the library matches; `None` for none.
fn beginning(patterns: &[&str]) -> Option<Regex> {
    if patterns.is_empty() {
        return None;
    }
    // Only ASCII digits are matched, and `\d` of all scripts would make the programs large.
    let pattern = format!("^(?:{})", patterns.join("|"));
    RegexBuilder::new(&pattern).ignore_whitespace(true).unicode(false).build().ok()
}

/// Whether the national number is one of the code's regions: `validator::source_for` and `is_valid` of the library.
fn is_valid(regions: &[Region], national: &str) -> bool {
    if let [only] = regions {
        return only.has(national);
    }
    for region in regions {
        match region.leads(national) {
            Some(false) => {}
            Some(true) => return region.has(national),
            None if region.has(national) => return true,
            None => {}
        }
    }
    false
}

/// The number in E.164 if it is written in digits and the usual signs between them, with `+` or as it is dialled in
/// `default_country`; `None` if the library has to look at it.
pub(crate) fn plain(text: &str, default_country: Option<Country>) -> Option<String> {
    let (international, rest) = match text.strip_prefix('+') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut digits = [0_u8; DIGITS_MAX];
    let mut count = 0;
    for byte in rest.bytes() {
        match byte {
            b'0'..=b'9' => {
                *digits.get_mut(count)? = byte;
                count += 1;
            }
            b' ' | b'-' | b'.' | b'/' | b'(' | b')' => {}
            _ => return None,
        }
    }
    let digits = std::str::from_utf8(&digits[..count]).ok()?;
    if international { with_code(digits) } else { dialled_in(digits, default_country?) }
}

fn with_code(digits: &str) -> Option<String> {
    // Codes are prefix-free: the first that is one is the one.
    let (code, national, regions) = (1..=3).find_map(|length| {
        let (code, national) = digits.split_at_checked(length)?;
        let regions = BY_CODE.get(code.parse::<usize>().ok()?).filter(|r| !r.is_empty() && !code.starts_with('0'))?;
        Some((code, national, regions))
    })?;
    if is_valid(regions, national) {
        return Some(format!("+{code}{national}"));
    }
    // "+44 (0)20 …": a prefix that is not dialled from abroad.
    let national = national.strip_prefix(regions.first()?.metadata.national_prefix().filter(|p| *p == "0")?)?;
    is_valid(regions, national).then(|| format!("+{code}{national}"))
}

fn dialled_in(digits: &str, country: Country) -> Option<String> {
    let metadata = DATABASE.by_id(country.as_ref())?;
    let code = metadata.country_code();
    let regions = BY_CODE.get(usize::from(code))?;
    let prefixed = metadata.national_prefix().and_then(|prefix| digits.strip_prefix(prefix));
    let national = match prefixed {
        Some(national) => national,
        // The country code without its plus, perhaps.
        None if digits.starts_with(&code.to_string()) => return None,
        None => digits,
    };
    let out = format!("+{code}{national}");
    (out.len() <= DIGITS_MAX + 1 && is_valid(regions, national)).then_some(out)
}

/// Lets the library keep the patterns of several countries, for what [`plain`] leaves to it: a column of other things
/// than numbers would take a quarter of an hour a million rows otherwise.
pub(crate) fn widen_library_cache() {
    static WIDENED: Once = Once::new();
    WIDENED.call_once(|| {
        if let Ok(mut cache) = DATABASE.cache().lock() {
            cache.set_capacity(PHONE_PATTERNS_MAX);
        }
    });
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;

    fn by_library(text: &str, country: Option<Country>) -> Option<String> {
        widen_library_cache();
        let number = phonenumber::parse(country, text).ok()?;
        phonenumber::is_valid(&number).then(|| number.format().mode(phonenumber::Mode::E164).to_string())
    }

    /// Every example of every country that the library knows: what it calls valid, with code and as dialled.
    #[test]
    fn every_countrys_own_examples_are_told_as_the_library_tells_them() {
        let (mut seen, mut left) = (0, 0);
        for region in BY_CODE.iter().flatten() {
            let (code, id) = (region.metadata.country_code(), region.metadata.id());
            for example in kinds_of(region.metadata).into_iter().filter_map(Descriptor::example) {
                let text = format!("+{code}{example}");
                let number = phonenumber::PhoneNumber::from_str(&text);
                if let Ok(number) = number
                    && number.national().to_string() == example
                    && phonenumber::is_valid(&number)
                    && text.len() <= DIGITS_MAX + 1
                {
                    seen += 1;
                    assert_eq!(plain(&text, None).as_deref(), Some(text.as_str()), "{id}: an example");
                }
                let Ok(country) = id.parse::<Country>() else { continue };
                let dialled = format!("{}{example}", region.metadata.national_prefix().unwrap_or(""));
                match plain(&dialled, Some(country)) {
                    None => left += 1,
                    // The library takes some prefixes away twice and refuses the rest.
                    Some(number) => {
                        let library = by_library(&dialled, Some(country)).unwrap_or_else(|| number.clone());
                        assert_eq!(number, library, "{id}: {dialled} as dialled");
                    }
                }
            }
        }
        assert!(seen > 1_000, "only {seen} examples were looked at");
        assert!(left * 10 < seen, "{left} of {seen} dialled examples are left to the library");
    }

    /// Nine countries and every beginning: an answer is always one that the library calls valid.
    #[test]
    fn what_is_answered_is_valid_and_nothing_else_is_answered() {
        for code in ["1", "7", "33", "39", "44", "49", "55", "81", "351"] {
            for lead in 0..100 {
                for length in 7..=11 {
                    let text = format!("+{code}{lead:02}{:0<width$}", "3172456", width = length - 2);
                    let library = phonenumber::parse(None, &text).is_ok_and(|n| phonenumber::is_valid(&n));
                    let told = plain(&text, None);
                    // The library takes the leading 8 of a Russian number for the prefix, though a code stands before it.
                    let library = library || text.starts_with("+78");
                    assert!(told.is_none() || library, "{text} became {told:?} and the library refuses it");
                }
            }
        }
        for text in
            ["+33000000000", "+999123456789", "+33 6 12", "+0033612345678", "+", "+1", "0612345678", "+33x612345678"]
        {
            assert_eq!(plain(text, None), None, "{text:?} is no plain number");
        }
    }

    #[test]
    fn signs_between_the_digits_and_national_prefixes_go() {
        let country = |code: &str| code.parse::<Country>().ok();
        for (text, default, want) in [
            ("+33 6 12-34.56 78", "US", "+33612345678"),
            ("+44 (0)20 7183 8750", "US", "+442071838750"),
            ("06 12 34 56 78", "FR", "+33612345678"),
            ("612345678", "FR", "+33612345678"),
            ("(650) 253-0000", "US", "+16502530000"),
            ("1 650 253 0000", "US", "+16502530000"),
            ("8 (912) 345-67-89", "RU", "+79123456789"),
            ("02 3661 8300", "IT", "+390236618300"),
            ("030/901820", "DE", "+4930901820"),
        ] {
            assert_eq!(plain(text, country(default)).as_deref(), Some(want), "{text} dialled in {default}");
        }
    }
}
