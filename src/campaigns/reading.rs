//! A spec from its text, with everything that is wrong in it at once.
//!
//! A text that cannot be read as TOML or JSON has its errors of syntax and nothing else. In any other, what cannot be read is
//! told ([`faults`]), and the rest is a spec that is checked as far as it goes: [`Reading::with`] takes what the checks
//! found, leaves out what only follows from a fault that was told, and says of each problem where it stands.
//!
//! Owns no state. Invariants: RD-1 a text in which nothing is told here is one that [`super::parse()`] reads, to the same
//! spec; RD-2 problems are in the order of the text.

use serde_json::Value;

use super::faults::{self, LeftOut};
use super::parse::{self, Format, SpecError};
use super::places::{Lines, Places};
use super::spec::{CampaignSpec, Table, plain};
use super::validate::Problem;
use crate::limits;

/// What a text says.
#[derive(Debug)]
pub struct Reading {
    /// As far as it can be read; nothing, if the text is neither TOML nor JSON, or no table.
    pub spec: Option<CampaignSpec>,
    /// What cannot be read, in the order of the text.
    pub faults: Vec<Problem>,
    left_out: LeftOut,
    places: Places,
}

/// Reads a text. It may be incomplete; what is there must have the right keys and types.
pub fn read(text: &str, format: Format) -> Reading {
    let nothing = |faults| Reading { spec: None, faults, left_out: LeftOut::default(), places: Places::default() };
    let strict = match parse::parse(text, format) {
        Err(error) if text.len() > limits::SPEC_BYTES_MAX => return nothing(vec![syntax(error)]),
        strict => strict,
    };
    let (value, places) = match parts(text, format) {
        Ok(parts) => parts,
        Err(errors) => return nothing(errors),
    };
    let error = match strict {
        Ok(spec) => {
            return Reading { spec: Some(spec), faults: Vec::new(), left_out: LeftOut::default(), places };
        }
        Err(error) => error,
    };
    let read = faults::read::<Table<CampaignSpec>>(plain(value), parse::elsewhere);
    let told = read.faults.into_iter().map(|fault| Problem::error(fault.code, fault.path, fault.message, fault.fix));
    let twice = places.twice.iter().map(|(path, (line, column))| {
        let problem = Problem::error("unreadable", path, "the key stands twice in its table", "keep one of them");
        problem.at_text(*line, *column)
    });
    let mut reading = Reading {
        spec: read.value.map(|Table(spec)| spec),
        faults: twice.chain(told).collect(),
        left_out: read.left_out,
        places: Places::default(),
    };
    // What only the strict reading refuses.
    if reading.faults.is_empty() {
        reading.faults.push(syntax(error));
    }
    reading.places = places;
    let faults = std::mem::take(&mut reading.faults);
    reading.faults = reading.placed(faults);
    reading
}

/// The table of a text and where its keys stand, or all errors of its syntax.
fn parts(text: &str, format: Format) -> Result<(Value, Places), Vec<Problem>> {
    match format {
        Format::Toml => {
            let (table, errors) = toml::de::DeTable::parse_recoverable(text);
            if !errors.is_empty() {
                let lines = Lines::of(text);
                let each = errors.iter().take(limits::SPEC_FAULTS_MAX).map(|error| {
                    let (line, column) = lines.place(error.span().map_or(0, |span| span.start));
                    let fix = "mend the syntax of the line; what else is wrong is told then";
                    Problem::error("syntax", "", error.message(), fix).at_text(line, column)
                });
                return Err(each.collect());
            }
            let places = Places::of_toml(text, table.get_ref());
            let value = toml::from_str(text).map_err(|error| vec![syntax(parse::from_toml(text, &error))])?;
            Ok((value, places))
        }
        Format::Json => {
            let text = parse::without_mark(text);
            let value = serde_json::from_str(text).map_err(|error| vec![syntax(parse::from_json(&error))])?;
            Ok((value, Places::of_json(text)))
        }
    }
}

fn syntax(error: SpecError) -> Problem {
    let fix = "mend the syntax; what else is wrong is told then";
    let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Problem::error("syntax", "", error.message, fix).at_text(number(error.line), number(error.column))
}

impl Reading {
    /// All problems in the order of the text: what cannot be read, and what checks found in the rest.
    pub fn with(&self, checked: Vec<Problem>) -> Vec<Problem> {
        let told = checked.into_iter().map(|problem| {
            let path = self.left_out.written(&problem.path);
            Problem { path, ..problem }
        });
        let news: Vec<Problem> = told.filter(|problem| !self.follows(problem)).collect();
        let mut all = self.faults.clone();
        all.extend(self.placed(news));
        all.sort_by_key(|problem| (problem.spec_line, problem.spec_column));
        all
    }

    /// Whether a problem only follows from what could not be read.
    fn follows(&self, problem: &Problem) -> bool {
        let path = problem.path.as_str();
        let of_kind = || problem.code == "wrong_kind" && self.left_out.covers("kind");
        self.left_out.covers(path) || (says_a_lack(problem.code) && self.left_out.lacks(path)) || of_kind()
    }

    fn placed(&self, problems: Vec<Problem>) -> Vec<Problem> {
        let place = |problem: Problem| match self.places.find(&problem.path).filter(|_| problem.spec_line.is_none()) {
            Some((line, column)) => problem.at_text(line, column),
            None => problem,
        };
        let mut placed: Vec<Problem> = problems.into_iter().map(place).collect();
        placed.sort_by_key(|problem| (problem.spec_line, problem.spec_column));
        placed
    }
}

/// Codes of problems of a table that say that one of its keys is missing.
fn says_a_lack(code: &str) -> bool {
    code.starts_with("no_") || ["split_by", "delay_for", "bad_branch", "bad_resend", "bad_cell"].contains(&code)
}
