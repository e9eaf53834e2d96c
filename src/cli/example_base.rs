//! The example base of the demo: invented people in several languages and time zones, as CSV, from a seed.
//!
//! Owns no state. Invariants: EB-1 the same seed gives the same bytes; EB-2 every address is under the reserved domain
//! `example.test`; EB-3 about one row in two hundred is not valid, each in one of a few ways that real files show.

use std::io::{self, Write};

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExampleBase {
    /// Rows, invalid ones included.
    pub contacts: u32,
    pub seed: u64,
}

/// One row in this many is not valid.
const INVALID_EVERY: u64 = 200;
/// One contact in this many shares the address of the one before.
const SHARED_EVERY: u64 = 250;

struct Place {
    country: &'static str,
    language: &'static str,
    zone: &'static str,
    /// Country code and digits of a mobile number up to its last six, which are drawn.
    /// Prefix of the national numbers, and how many digits follow.
    phone: (&'static str, usize),
    cities: &'static [&'static str],
    first: &'static [&'static str],
    last: &'static [&'static str],
}

const PLACES: &[Place] = &[
    Place {
        country: "FR",
        language: "fr",
        zone: "Europe/Paris",
        phone: ("+33612", 6),
        cities: &["Paris", "Lyon", "Nîmes", "Orléans"],
        first: &["Chloé", "Théo", "Inès", "Loïc", "Camille", "Jean-Pierre", "Zoé"],
        last: &["Lefèvre", "Moreau", "d’Arcy", "Garçon", "Petit", "Noël"],
    },
    Place {
        country: "DE",
        language: "de",
        zone: "Europe/Berlin",
        phone: ("+4915112", 6),
        cities: &["Berlin", "Köln", "München", "Görlitz"],
        first: &["Jürgen", "Anke", "Björn", "Käthe", "Lena", "Max"],
        last: &["Müller", "Groß", "Schäfer", "Vogt", "Weiß"],
    },
    Place {
        country: "ES",
        language: "es",
        zone: "Europe/Madrid",
        phone: ("+34612", 6),
        cities: &["Madrid", "A Coruña", "Cádiz"],
        first: &["José", "Begoña", "Íñigo", "Lucía", "Ana"],
        last: &["Núñez", "García", "Peña", "Muñoz"],
    },
    Place {
        country: "GB",
        language: "en",
        zone: "Europe/London",
        phone: ("+447400", 6),
        cities: &["London", "Leeds", "Stoke-on-Trent"],
        first: &["Oliver", "Siân", "Amelia", "Harry", "Maeve"],
        last: &["Smith", "O’Neill", "Baker", "Fox"],
    },
    Place {
        country: "US",
        language: "en",
        zone: "America/New_York",
        phone: ("+1212555", 4),
        cities: &["New York", "Boston", "Winston-Salem"],
        first: &["Emma", "Liam", "Mia", "Noah"],
        last: &["Johnson", "Lee", "Diaz", "Kowalski"],
    },
    Place {
        country: "US",
        language: "en",
        zone: "America/Los_Angeles",
        phone: ("+1213555", 4),
        cities: &["Los Angeles", "Portland"],
        first: &["Ava", "Ethan", "Sofía"],
        last: &["Nguyen", "Clark", "Reyes"],
    },
    Place {
        country: "IT",
        language: "it",
        zone: "Europe/Rome",
        phone: ("+39312", 7),
        cities: &["Roma", "Forlì", "Napoli"],
        first: &["Niccolò", "Giulia", "Matteo", "Chiara"],
        last: &["Rossi", "D’Amico", "Bianchi"],
    },
    Place {
        country: "NL",
        language: "nl",
        zone: "Europe/Amsterdam",
        phone: ("+31612", 6),
        cities: &["Amsterdam", "'s-Hertogenbosch"],
        first: &["Daan", "Zoë", "Sanne"],
        last: &["de Vries", "van ’t Hoff", "Bakker"],
    },
    Place {
        country: "BR",
        language: "pt",
        zone: "America/Sao_Paulo",
        phone: ("+551199", 7),
        cities: &["São Paulo", "Belém"],
        first: &["João", "Conceição", "Luísa"],
        last: &["Souza", "Araújo", "Gonçalves"],
    },
    Place {
        country: "JP",
        language: "ja",
        zone: "Asia/Tokyo",
        phone: ("+8190", 8),
        cities: &["東京", "大阪"],
        first: &["陽菜", "蓮", "結衣"],
        last: &["佐藤", "鈴木", "高橋"],
    },
];

const PLANS: &[&str] = &["free", "free", "free", "basic", "basic", "pro"];
const TAGS: &[&str] = &["vip", "early", "shop", "blog", "events"];

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }
}

const HEADER: &str = "id,email,phone,first_name,last_name,language,zone,country,city,age,plan,tags,last_login,points";

/// Writes the base as CSV, UTF-8, with a header.
pub fn generate(wanted: ExampleBase, out: &mut impl Write) -> io::Result<()> {
    let mut random = Random(wanted.seed);
    writeln!(out, "{HEADER}")?;
    let mut before = String::new();
    for number in 1..=wanted.contacts {
        let place = &PLACES[random.below(PLACES.len() as u64) as usize];
        let (first, last) = (random.of(place.first), random.of(place.last));
        let shares = random.below(SHARED_EVERY) == 0 && !before.is_empty();
        let email =
            if shares { before.clone() } else { format!("{}.{number}@{}.example.test", ascii(first), place.language) };
        let row = Row { number, place, first, last, email: &email };
        if random.below(INVALID_EVERY) == 0 {
            invalid(&row, &mut random, out)?;
        } else {
            valid(&row, &mut random, out)?;
            before = email;
        }
    }
    Ok(())
}

struct Row<'a> {
    number: u32,
    place: &'static Place,
    first: &'static str,
    last: &'static str,
    email: &'a str,
}

fn valid(row: &Row<'_>, random: &mut Random, out: &mut impl Write) -> io::Result<()> {
    let place = row.place;
    // some have no address on one channel, or no name
    let email = if random.below(60) == 0 { "" } else { row.email };
    let phone = if random.below(3) == 0 {
        String::new()
    } else {
        format!(
            "{}{:0width$}",
            place.phone.0,
            random.below(10u64.pow(u32::try_from(place.phone.1).unwrap_or(0))),
            width = place.phone.1
        )
    };
    let first = if random.below(25) == 0 { "" } else { row.first };
    let tags: Vec<&str> = TAGS.iter().copied().filter(|_| random.below(4) == 0).collect();
    let (year, month, day) = (2025 + random.below(2), 1 + random.below(10), 1 + random.below(28));
    writeln!(
        out,
        "c{:06},{email},{phone},{first},{},{},{},{},{},{},{},{},{year}-{month:02}-{day:02}T{:02}:{:02}:00Z,{}",
        row.number,
        row.last,
        place.language,
        place.zone,
        place.country,
        random.of(place.cities),
        16 + random.below(70),
        random.of(PLANS),
        tags.join("|"),
        random.below(24),
        random.below(60),
        random.below(5_000),
    )
}

/// One of the ways in which rows of real files are wrong.
fn invalid(row: &Row<'_>, random: &mut Random, out: &mut impl Write) -> io::Result<()> {
    let (number, first, last) = (row.number, row.first, row.last);
    let rest = |email: &str, key: &str| format!("{key},{email},,{first},{last},en,Europe/London,GB,London,30,free,,,0");
    match random.below(4) {
        0 => writeln!(out, "{}", rest(&format!("{} at example.test", ascii(first)), &format!("c{number:06}"))),
        1 => writeln!(out, "{}", rest("two@@example.test", &format!("c{number:06}"))),
        // no key
        2 => writeln!(out, "{}", rest(row.email, "")),
        // too few columns
        _ => writeln!(out, "c{number:06},{},{first}", row.email),
    }
}

/// The ASCII letters of a name, lower case; `x` if it has none.
fn ascii(name: &str) -> String {
    let letters: String = name.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect();
    if letters.is_empty() { "x".to_owned() } else { letters }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn base(contacts: u32, seed: u64) -> String {
        let mut bytes = Vec::new();
        generate(ExampleBase { contacts, seed }, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_seed_gives_the_same_base_again() {
        assert_eq!(base(500, 7), base(500, 7));
        assert_ne!(base(500, 7), base(500, 8));
    }

    #[test]
    fn the_base_has_many_languages_and_few_invalid_rows() {
        let text = base(20_000, 1);
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
        let columns = reader.headers().unwrap().len();
        let (mut rows, mut bad, mut languages, mut zones) = (0, 0, BTreeSet::new(), BTreeSet::new());
        let (mut emails, mut shared) = (BTreeSet::new(), 0);
        for record in reader.records() {
            let record = record.unwrap();
            rows += 1;
            let email = record.get(1).unwrap();
            if record.len() != columns || record[0].is_empty() || email.matches('@').count() > 1 || email.contains(' ')
            {
                bad += 1;
                continue;
            }
            assert!(email.is_empty() || email.ends_with(".example.test"), "{email} is not under the reserved domain");
            shared += usize::from(!email.is_empty() && !emails.insert(email.to_owned()));
            languages.insert(record[5].to_owned());
            zones.insert(record[6].to_owned());
        }
        assert_eq!(rows, 20_000);
        assert!((50..200).contains(&bad), "{bad} rows are not valid");
        assert!((20..200).contains(&shared), "{shared} contacts share an address");
        assert!(languages.len() >= 7 && zones.len() >= 9, "{languages:?} {zones:?}");
    }
}
