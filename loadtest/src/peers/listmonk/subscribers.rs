//! The same list for listmonk: our base's CSV as its importer wants it (`email,name,attributes`).
//!
//! Owns no state. Invariants: 1. one row in, one row out; 2. attributes have the types that our base declares, because listmonk's
//! templates compare numbers and walk over lists.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};

use crate::base::ATTRIBUTES;

/// Writes the CSV; returns its rows.
pub fn write(base: &Path, out: &Path) -> anyhow::Result<u64> {
    let mut reader = csv::Reader::from_path(base).with_context(|| format!("opening {}", base.display()))?;
    let headers = reader.headers().context("header of the base")?.clone();
    let at = |name: &str| headers.iter().position(|header| header == name);
    let email = at("email").context("the base has no column email")?;
    let (first, last) = (at("first_name"), at("last_name"));
    let file = File::create(out).with_context(|| format!("writing {}", out.display()))?;
    let mut writer = csv::Writer::from_writer(BufWriter::with_capacity(1 << 20, file));
    writer.write_record(["email", "name", "attributes"])?;
    let (mut row, mut rows) = (csv::StringRecord::new(), 0);
    while reader.read_record(&mut row).context("reading the base")? {
        let field = |at: Option<usize>| at.and_then(|at| row.get(at)).unwrap_or_default();
        let name = format!("{} {}", field(first), field(last));
        let mut attributes = Map::new();
        for (header, text) in headers.iter().zip(&row) {
            if let Some((_, kind, _)) = ATTRIBUTES.iter().find(|(name, ..)| *name == header) {
                attributes.insert(header.to_owned(), typed(kind, text)?);
            }
        }
        let attributes = Value::Object(attributes).to_string();
        writer.write_record([field(Some(email)), name.trim(), attributes.as_str()])?;
        rows += 1;
    }
    writer.flush().context("writing the subscribers")?;
    ensure!(rows > 0, "the base {} is empty", base.display());
    Ok(rows)
}

fn typed(kind: &str, text: &str) -> anyhow::Result<Value> {
    Ok(match kind {
        "number" => json!(text.parse::<f64>().with_context(|| format!("{text:?} is no number"))?),
        "list" => text.split('|').collect(),
        _ => json!(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Base, Columns, write_file};

    #[test]
    fn attributes_keep_their_types() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (dir.path().join("ours.csv"), dir.path().join("theirs.csv"));
        let base = Base { contacts: 50, seed: 1, prefix: "c", batch: "base", columns: Columns::Full };
        write_file(&base, &ours, |_| {}).unwrap();
        assert_eq!(write(&ours, &theirs).unwrap(), 50);
        let mut rows = csv::Reader::from_path(&theirs).unwrap();
        let rows: Vec<csv::StringRecord> = rows.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 50);
        assert_eq!(&rows[3][0], crate::base::email("c", 3));
        let attributes: Value = serde_json::from_str(&rows[3][2]).unwrap();
        assert!(attributes["age"].is_number() && attributes["interests"].is_array(), "{attributes}");
        assert!(attributes["first_name"].is_string(), "{attributes}");
    }
}
