//! Offline verification of a data directory: frames, sequence, the ledger of each run, the store against the journal.
//!
//! Reads only; says what is wrong, where, and what to do.

use std::path::Path;

use crate::contacts::Store;
use crate::engine::backup::manifest::{self, Manifest};
use crate::engine::layout;
use crate::engine::recover::fold;
use crate::ids::RowSpace;
use crate::journal;
use crate::ledger::State;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub place: String,
    pub problem: String,
    pub fix: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub looked_at: Vec<String>,
    pub findings: Vec<Finding>,
}

impl Checked {
    fn found(&mut self, place: impl Into<String>, problem: impl Into<String>, fix: &str) {
        self.findings.push(Finding { place: place.into(), problem: problem.into(), fix: fix.to_owned() });
    }
}

pub fn check(directory: &Path) -> Checked {
    let mut checked = Checked::default();
    backup(directory, &mut checked);
    layout_of(directory, &mut checked);
    if let Some(state) = folded(directory, &mut checked) {
        store(directory, &state, &mut checked);
        uploads(directory, &state, &mut checked);
    }
    checked
}

/// Of [`check`], what does not need the contact store.
pub fn check_journal(directory: &Path) -> Checked {
    let mut checked = Checked::default();
    folded(directory, &mut checked);
    checked
}

/// Whether a backup's files read as they were written.
fn backup(directory: &Path, checked: &mut Checked) {
    const FIX: &str = "this backup is damaged: take another one";
    let manifest = match Manifest::read(directory) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return,
        Err(error) => return checked.found(directory.display().to_string(), chain(&error), FIX),
    };
    let wrong = manifest::differences(directory, &manifest);
    checked.looked_at.push(format!(
        "a backup of {}, {} files, {} bytes, up to frame {}",
        manifest.made_at,
        manifest.files.len(),
        manifest.bytes(),
        manifest.last_seq
    ));
    for (file, problem) in wrong {
        checked.found(directory.join(file).display().to_string(), problem, FIX);
    }
}

fn layout_of(directory: &Path, checked: &mut Checked) {
    match layout::look(directory) {
        Ok(Some(found)) => {
            checked.looked_at.push(format!("layout {}, written by estafette {}", found.layout, found.by))
        }
        Ok(None) => {}
        Err(error) => checked.found(directory.display().to_string(), chain(&error), "as the message says"),
    }
}

/// The state as far as the journal gives it; `None` if there is no journal.
fn folded(directory: &Path, checked: &mut Checked) -> Option<State> {
    if !directory.join("journal").is_dir() {
        checked.found(
            directory.display().to_string(),
            "holds no journal",
            "name the folder that `serve --data` was given",
        );
        return None;
    }
    let mut state = State::default();
    let mut refused = None;
    let report = journal::check_with(directory, &mut |replayed| {
        let applied = fold(&mut state, replayed);
        if let Err(error) = &applied {
            refused = Some(error.to_string());
        }
        applied
    });
    checked.looked_at.push(format!("{} frames, last number {}", report.frames, report.last_seq));
    let is_backup = directory.join(manifest::FILE).is_file();
    // A backup has no identity on purpose.
    let expected = |finding: &&journal::Finding| !(is_backup && finding.is_copy);
    for finding in report.findings.iter().filter(expected) {
        let at = finding.offset.map_or(String::new(), |offset| format!(" at byte {offset}"));
        if finding.fatal {
            checked.found(format!("{}{at}", finding.path.display()), finding.what.clone(), finding.advice);
        } else {
            checked.looked_at.push(format!("{}{at}: {} ({})", finding.path.display(), finding.what, finding.advice));
        }
    }
    if let Some(torn) = &report.torn_tail {
        checked.looked_at.push(format!(
            "{}: a torn tail of {} bytes, cut at the next start",
            torn.path.display(),
            torn.bytes
        ));
    }
    if let Some(error) = refused {
        checked.found("journal", format!("a frame does not fit those before it: {error}"), "restore the last backup");
    } else {
        ledgers(&state, checked);
    }
    Some(state)
}

fn ledgers(state: &State, checked: &mut Checked) {
    for run in state.runs.values() {
        for delivery in &run.deliveries {
            let place = delivery.id.to_string();
            match delivery.check() {
                Ok(()) => {
                    let counts = delivery.counts();
                    checked.looked_at.push(format!("{place}: {} contacts, balanced", counts.audience));
                }
                Err(violation) => {
                    checked.found(place, violation.to_string(), "restore the last backup and report this")
                }
            }
        }
        if let Err(error) = run.positions.verify(&run.graph) {
            checked.found(run.id.to_string(), format!("the flow: {error}"), "restore the last backup and report this");
        }
    }
}

/// Nothing mends a record or an index entry in place: an import leaves alone what it finds unchanged.
pub const STORE_FIX: &str =
    "restore the last backup of the whole data directory, or import the contacts into a new one; then run check again";

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// The tables of the store against each other.
fn tables(store: &Store, path: &Path, checked: &mut Checked) {
    let seen = match store.verify() {
        Ok(seen) => seen,
        Err(error) => {
            checked.found(path.display().to_string(), chain(&error), STORE_FIX);
            return;
        }
    };
    checked.looked_at.push(format!(
        "{} contacts, {} addresses, {} index sets of up to 65536 contacts",
        seen.records, seen.addresses, seen.index_containers
    ));
    for wrong in seen.wrong {
        let table = format!("{}, table {}", path.display(), wrong.table);
        let place = if wrong.place.is_empty() { table } else { format!("{table}, {}", wrong.place) };
        checked.found(place, wrong.problem, STORE_FIX);
    }
    if seen.more > 0 {
        checked.found(path.display().to_string(), format!("{} more findings of this kind", seen.more), STORE_FIX);
    }
}

/// The contact store's folder in a data directory.
pub const STORE_FOLDER: &str = "contacts";

fn store(directory: &Path, state: &State, checked: &mut Checked) {
    let path = directory.join(STORE_FOLDER);
    if !path.is_dir() {
        let names_rows = state.runs.values().flat_map(|run| &run.deliveries).any(|d| !d.audience.is_empty());
        if names_rows {
            checked.found(path.display().to_string(), "is missing, and campaigns name contacts of it", STORE_FIX);
        }
        return;
    }
    let opened = Store::open(&path).and_then(|store| Ok((store.reader()?.next_row()?, store)));
    let (next_row, store) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            checked.found(path.display().to_string(), chain(&error), STORE_FIX);
            return;
        }
    };
    tables(&store, &path, checked);
    for run in state.runs.values() {
        for delivery in run.deliveries.iter().filter(|delivery| delivery.space == RowSpace::BASE) {
            if delivery.audience.max().is_some_and(|row| u64::from(row) >= next_row) {
                let problem = format!("names row {:?}, the store has given out {next_row}", delivery.audience.max());
                checked.found(
                    delivery.id.to_string(),
                    problem,
                    "the contact store is older than the journal: restore both",
                );
            }
        }
    }
}

/// The rows of every upload that was not removed, against what the journal says of it.
fn uploads(directory: &Path, state: &State, checked: &mut Checked) {
    const FIX: &str =
        "restore the last backup of the whole data directory, or delete the audience and upload the file again";
    for (space, upload) in state.uploads.iter().filter(|(_, upload)| upload.removed_at.is_none()) {
        let path = directory.join("audiences").join(space.0.to_string());
        if !path.join("data.mdb").is_file() {
            checked.found(path.display().to_string(), "holds no rows of the uploaded audience", FIX);
            continue;
        }
        let opened = Store::open_space(&path, *space, None).and_then(|store| Ok((store.reader()?.contacts()?, store)));
        match opened.and_then(|(rows, store)| Ok((rows, store.verify()?))) {
            Err(error) => checked.found(path.display().to_string(), chain(&error), FIX),
            Ok((rows, seen)) => {
                if rows != upload.summary.valid {
                    let problem = format!("holds {rows} rows, and the upload had {}", upload.summary.valid);
                    checked.found(path.display().to_string(), problem, FIX);
                }
                for wrong in seen.wrong {
                    checked.found(format!("{}, table {}", path.display(), wrong.table), wrong.problem, FIX);
                }
                checked.looked_at.push(format!("{space}: {rows} rows of uploaded audience {:?}", upload.name));
            }
        }
    }
}
