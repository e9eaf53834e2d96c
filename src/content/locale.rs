//! Dates, numbers and the unsubscribe line in the languages that messages know: en fr de es it nl pt.
//!
//! Owns no state. Names and separators follow CLDR 45 for the language without a territory, except that a French
//! thousands separator is the narrow no-break space as CLDR has it, and Spanish groups from five digits on. A language
//! that is not known is English.

use jiff::civil;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Language {
    #[default]
    En,
    Fr,
    De,
    Es,
    It,
    Nl,
    Pt,
}

struct Words {
    months: [&'static str; 12],
    days: [&'static str; 7],
    decimal: char,
    group: char,
    /// Digits before the decimal separator from which on groups are separated.
    group_from: usize,
    unsubscribe: &'static str,
}

pub(super) const LANGUAGES: [(&str, Language); 7] = [
    ("en", Language::En),
    ("fr", Language::Fr),
    ("de", Language::De),
    ("es", Language::Es),
    ("it", Language::It),
    ("nl", Language::Nl),
    ("pt", Language::Pt),
];

const EN: Words = Words {
    months: [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    days: ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
    decimal: '.',
    group: ',',
    group_from: 4,
    unsubscribe: "Unsubscribe",
};
const FR: Words = Words {
    months: [
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ],
    days: ["lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"],
    decimal: ',',
    group: '\u{202f}',
    group_from: 4,
    unsubscribe: "Se désabonner",
};
const DE: Words = Words {
    months: [
        "Januar",
        "Februar",
        "März",
        "April",
        "Mai",
        "Juni",
        "Juli",
        "August",
        "September",
        "Oktober",
        "November",
        "Dezember",
    ],
    days: ["Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"],
    decimal: ',',
    group: '.',
    group_from: 4,
    unsubscribe: "Abmelden",
};
const ES: Words = Words {
    months: [
        "enero",
        "febrero",
        "marzo",
        "abril",
        "mayo",
        "junio",
        "julio",
        "agosto",
        "septiembre",
        "octubre",
        "noviembre",
        "diciembre",
    ],
    days: ["lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"],
    decimal: ',',
    group: '.',
    group_from: 5,
    unsubscribe: "Darse de baja",
};
const IT: Words = Words {
    months: [
        "gennaio",
        "febbraio",
        "marzo",
        "aprile",
        "maggio",
        "giugno",
        "luglio",
        "agosto",
        "settembre",
        "ottobre",
        "novembre",
        "dicembre",
    ],
    days: ["lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato", "domenica"],
    decimal: ',',
    group: '.',
    group_from: 4,
    unsubscribe: "Annulla l’iscrizione",
};
const NL: Words = Words {
    months: [
        "januari",
        "februari",
        "maart",
        "april",
        "mei",
        "juni",
        "juli",
        "augustus",
        "september",
        "oktober",
        "november",
        "december",
    ],
    days: ["maandag", "dinsdag", "woensdag", "donderdag", "vrijdag", "zaterdag", "zondag"],
    decimal: ',',
    group: '.',
    group_from: 4,
    unsubscribe: "Uitschrijven",
};
const PT: Words = Words {
    months: [
        "janeiro",
        "fevereiro",
        "março",
        "abril",
        "maio",
        "junho",
        "julho",
        "agosto",
        "setembro",
        "outubro",
        "novembro",
        "dezembro",
    ],
    days: ["segunda-feira", "terça-feira", "quarta-feira", "quinta-feira", "sexta-feira", "sábado", "domingo"],
    decimal: ',',
    group: '.',
    group_from: 4,
    unsubscribe: "Cancelar a inscrição",
};

impl Language {
    /// The language of a tag such as `fr`, `pt-BR` or `de_AT`.
    pub fn from_tag(tag: &str) -> Option<Language> {
        let primary = tag.split(['-', '_']).next().unwrap_or("");
        LANGUAGES.iter().find(|(name, _)| name.eq_ignore_ascii_case(primary)).map(|(_, language)| *language)
    }

    fn words(self) -> &'static Words {
        match self {
            Language::En => &EN,
            Language::Fr => &FR,
            Language::De => &DE,
            Language::Es => &ES,
            Language::It => &IT,
            Language::Nl => &NL,
            Language::Pt => &PT,
        }
    }

    pub fn unsubscribe(self) -> &'static str {
        self.words().unsubscribe
    }

    /// `22 November 2026` in the order of the language.
    pub fn long_date(self, date: civil::Date) -> String {
        let month = self.month(date);
        let (day, year) = (date.day(), date.year());
        match self {
            Language::En => format!("{month} {day}, {year}"),
            Language::De => format!("{day}. {month} {year}"),
            Language::Es | Language::Pt => format!("{day} de {month} de {year}"),
            Language::Fr if day == 1 => format!("1er {month} {year}"),
            Language::Fr | Language::It | Language::Nl => format!("{day} {month} {year}"),
        }
    }

    /// `22/11/2026` as the language writes it.
    pub fn short_date(self, date: civil::Date) -> String {
        let (day, month, year) = (date.day(), date.month(), date.year());
        match self {
            Language::En => format!("{month}/{day}/{year}"),
            Language::De => format!("{day:02}.{month:02}.{year}"),
            Language::Nl => format!("{day:02}-{month:02}-{year}"),
            Language::Fr | Language::Es | Language::It | Language::Pt => format!("{day:02}/{month:02}/{year}"),
        }
    }

    pub fn month(self, date: civil::Date) -> &'static str {
        self.words().months[usize::from(date.month().unsigned_abs() - 1) % 12]
    }

    pub fn day(self, date: civil::Date) -> &'static str {
        self.words().days[usize::from(date.weekday().to_monday_zero_offset().unsigned_abs()) % 7]
    }

    /// A number with the separators of the language; `decimals` of `None` prints as many as there are, at most six.
    pub fn number(self, number: f64, decimals: Option<usize>) -> String {
        let words = self.words();
        let plain = match decimals {
            Some(decimals) => format!("{:.*}", decimals.min(12), number),
            None => format!("{number:.6}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        };
        let (sign, digits) = plain.strip_prefix('-').map_or(("", plain.as_str()), |d| ("-", d));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let mut out = String::from(sign);
        let grouped = whole.len() >= words.group_from && whole.bytes().all(|b| b.is_ascii_digit());
        for (i, digit) in whole.chars().enumerate() {
            if grouped && i > 0 && (whole.len() - i).is_multiple_of(3) {
                out.push(words.group);
            }
            out.push(digit);
        }
        if !fraction.is_empty() {
            out.push(words.decimal);
            out.push_str(fraction);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_dates_follow_the_language() {
        let n = |tag: &str, decimals| Language::from_tag(tag).expect("known").number(1234567.5, decimals);
        assert_eq!(n("en", Some(2)), "1,234,567.50");
        assert_eq!(n("de-AT", None), "1.234.567,5");
        assert_eq!(n("fr", None), "1\u{202f}234\u{202f}567,5");
        assert_eq!(Language::Es.number(1234.0, None), "1234", "four digits are not grouped in Spanish");
        assert_eq!(Language::Nl.number(-1234.0, None), "-1.234");
        assert_eq!(Language::from_tag("xx"), None, "unknown");
        let date = civil::date(2026, 3, 1);
        let all: Vec<String> = LANGUAGES.iter().map(|(_, l)| l.long_date(date)).collect();
        assert_eq!(
            all,
            [
                "March 1, 2026",
                "1er mars 2026",
                "1. März 2026",
                "1 de marzo de 2026",
                "1 marzo 2026",
                "1 maart 2026",
                "1 de março de 2026"
            ]
        );
        assert_eq!(Language::De.day(date), "Sonntag", "a Sunday");
        assert_eq!(Language::Nl.short_date(date), "01-03-2026");
    }
}
