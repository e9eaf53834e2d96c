//! A contact base as CSV: seeded, with skewed values as real bases have them.
//!
//! Owns no state. Invariants: 1. the same seed and size give the same bytes; 2. the key and the address of contact `i`
//! depend on `i` and the prefix alone, so that a checker can name whom it expects; 3. addresses are under reserved domains
//! (RFC 2606).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::rng::Rng;

/// Which columns a base has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// All that the reference message uses, and `batch`.
    Full,
    /// Ten, for the bar of the import: of them four are worth an index.
    Ten,
}

/// A base to generate.
#[derive(Clone, Debug)]
pub struct Base<'a> {
    pub contacts: u64,
    pub seed: u64,
    /// Begins every key and address.
    pub prefix: &'a str,
    /// Value of the column `batch`.
    pub batch: &'a str,
    pub columns: Columns,
}

/// Attributes of [`Columns::Full`]: name, type, index.
pub const ATTRIBUTES: [(&str, &str, &str); 13] = [
    ("first_name", "text", "none"),
    ("last_name", "text", "none"),
    ("country", "text", "values"),
    ("city", "text", "none"),
    ("age", "number", "bit_sliced"),
    ("points", "number", "none"),
    ("plan", "text", "values"),
    ("interests", "list", "none"),
    ("last_login", "date_time", "bit_sliced"),
    ("referral_code", "text", "none"),
    ("company", "text", "none"),
    ("member_since", "text", "none"),
    ("batch", "text", "values"),
];

/// The four indexed attributes of [`Columns::Ten`].
pub const INDEXED_OF_TEN: [(&str, &str, &str); 4] = [
    ("country", "text", "values"),
    ("age", "number", "bit_sliced"),
    ("plan", "text", "values"),
    ("last_login", "date_time", "bit_sliced"),
];

const FIRST: [&str; 16] = [
    "Ada",
    "Björn",
    "Chloé",
    "Daniel",
    "Elif",
    "François",
    "Grace",
    "Hugo",
    "Inés",
    "Jürgen",
    "Karin",
    "Łukasz",
    "Mei",
    "Noah",
    "Olga",
    "Zoë",
];
const LAST: [&str; 16] = [
    "Lovelace", "Müller", "Dupont", "García", "Rossi", "de Vries", "Silva", "Novák", "O'Neil", "Sato", "Kowalski",
    "Haddad", "Nguyen", "Berg", "Fischer", "Moreau",
];
const PLACES: [(&str, &str, &str); 8] = [
    ("FR", "Paris", "fr"),
    ("DE", "Berlin", "de"),
    ("GB", "London", "en"),
    ("ES", "Madrid", "es"),
    ("IT", "Torino", "it"),
    ("NL", "Utrecht", "nl"),
    ("PT", "Porto", "pt"),
    ("US", "Boston", "en"),
];
const PLANS: [&str; 4] = ["free", "basic", "pro", "enterprise"];
const INTERESTS: [&str; 8] = ["books", "cycling", "music", "travel", "cooking", "photography", "gardening", "chess"];

/// Key of contact `i`.
pub fn key(prefix: &str, i: u64) -> String {
    format!("{prefix}{i:08}")
}

/// Address of contact `i`.
pub fn email(prefix: &str, i: u64) -> String {
    format!("{prefix}{i:08}@mail{}.example.net", i % 16)
}

/// Writes the base to a file; returns its bytes.
pub fn write_file(base: &Base<'_>, path: &Path, progress: impl FnMut(u64)) -> io::Result<u64> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    write(base, &mut out, progress)?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.metadata().map(|m| m.len())
}

/// Writes the base; `progress` hears the row number every thousand rows.
pub fn write(base: &Base<'_>, out: &mut impl Write, mut progress: impl FnMut(u64)) -> io::Result<()> {
    let head: &[u8] = match base.columns {
        Columns::Full => b"key,email,language,first_name,last_name,country,city,age,points,plan,interests,last_login,referral_code,company,member_since,batch\n",
        Columns::Ten => b"key,email,first_name,last_name,country,city,age,points,plan,last_login\n",
    };
    out.write_all(head)?;
    let mut rng = Rng::salted(base.seed, 0xba5e);
    for i in 0..base.contacts {
        row(base, i, &mut rng, out)?;
        if i % 1_000 == 999 {
            progress(i + 1);
        }
    }
    out.flush()
}

fn row(base: &Base<'_>, i: u64, rng: &mut Rng, out: &mut impl Write) -> io::Result<()> {
    let (key, email) = (key(base.prefix, i), email(base.prefix, i));
    // The square of a uniform draw prefers the first entries, as countries and plans do.
    let skewed = |rng: &mut Rng, n: usize| ((rng.unit() * rng.unit()) * n as f64) as usize % n.max(1);
    let (first, last) = (FIRST[skewed(rng, FIRST.len())], LAST[skewed(rng, LAST.len())]);
    let (country, city, language) = PLACES[skewed(rng, PLACES.len())];
    let (age, points, plan) = (18 + rng.below(70), rng.below(100_000), PLANS[skewed(rng, PLANS.len())]);
    let (month, day, hour) = (1 + rng.below(12), 1 + rng.below(28), rng.below(24));
    let login = format!("2026-{month:02}-{day:02}T{hour:02}:30:00Z");
    if base.columns == Columns::Ten {
        return writeln!(out, "{key},{email},{first},{last},{country},{city},{age},{points},{plan},{login}");
    }
    let from = skewed(rng, INTERESTS.len());
    let to = (from + 1 + skewed(rng, 3)).min(INTERESTS.len());
    let (interests, code) = (INTERESTS[from..to].join("|"), rng.below(0x10_0000));
    let since = 2009 + rng.below(17);
    writeln!(
        out,
        "{key},{email},{language},{first},{last},{country},{city},{age},{points},{plan},{interests},{login},REF-{code:05X},{last} & {city} Ltd,{since},{}",
        base.batch
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(contacts: u64, seed: u64, columns: Columns) -> String {
        let mut out = Vec::new();
        write(&Base { contacts, seed, prefix: "c", batch: "base", columns }, &mut out, |_| {}).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_are_csv_with_the_columns_of_their_head() {
        for (columns, width) in [(Columns::Full, 16), (Columns::Ten, 10)] {
            let text = text(500, 1, columns);
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            assert_eq!(reader.headers().unwrap().len(), width, "{columns:?}");
            let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
            assert_eq!(rows.len(), 500, "one row a contact, none ragged ({columns:?})");
            assert_eq!((&rows[7][0], &rows[7][1]), ("c00000007", "c00000007@mail7.example.net"), "key and address");
        }
    }

    #[test]
    fn the_seed_decides_everything_else() {
        assert_eq!(text(100, 5, Columns::Full), text(100, 5, Columns::Full), "same seed, same bytes");
        assert_ne!(text(100, 5, Columns::Full), text(100, 6, Columns::Full), "another seed, another base");
    }
}
