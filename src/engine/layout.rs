//! `version`: which layout a data directory has, and the rule of upgrades.
//!
//! Owns the file. The layout is what lies where, and what it means; journal, snapshot and store have format numbers
//! of their own beside it and refuse what they don't read. Invariants: LY-1 a directory of a newer layout is refused,
//! untouched; LY-2 so is one of an older layout, with the way out (there is none yet: the next layout brings the step from
//! this one); LY-3 nothing is guessed: a file that can't be read, or is missing beside a journal, is refused; LY-4 the file
//! is written under the directory's lock, before anything else is.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::journal::{self, JournalError};

/// The layout that this program reads and writes.
pub const LAYOUT: u32 = 1;
pub const FILE: &str = "version";
const TITLE: &str = "estafette data directory";
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error(
        "{path} has layout {found}, written by estafette {by}, and this is {PROGRAM}, which reads up to {LAYOUT}: start it with \
         {by} or a newer one, or restore a backup that {PROGRAM} has made; nothing was changed", path = .path.display()
    )]
    Newer { path: PathBuf, found: u32, by: String },
    #[error(
        "{path} has layout {found}, written by estafette {by}, which {PROGRAM} can't upgrade: start it once with a version \
         between them that can, or restore a newer backup; nothing was changed", path = .path.display()
    )]
    TooOld { path: PathBuf, found: u32, by: String },
    #[error(
        "{path} does not say which layout the directory has: put the file back from a backup (its lines are \"{TITLE}\", \
         \"layout N\" and \"written by V\"); nothing was changed", path = .path.display()
    )]
    Unreadable { path: PathBuf },
    #[error("the layout of the data directory, {path}", path = .path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// What a directory says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub layout: u32,
    /// The program's version that wrote it last.
    pub by: String,
}

/// Reads the file; `None` for a directory that is new. Changes nothing.
pub fn look(directory: &Path) -> Result<Option<Found>, LayoutError> {
    let path = directory.join(FILE);
    let found = match fs::read_to_string(&path) {
        Ok(text) => parse(&text).ok_or_else(|| LayoutError::Unreadable { path: path.clone() })?,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(LayoutError::Unreadable { path }),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(LayoutError::File { path, source: error }),
        Err(_) if !directory.join(journal::FOLDER).is_dir() => return Ok(None),
        // Whichever layout it was that lost its file: to take it for one would stamp it as that.
        Err(_) => return Err(LayoutError::Unreadable { path }),
    };
    let (layout, by) = (found.layout, found.by.clone());
    if layout > LAYOUT {
        return Err(LayoutError::Newer { path: directory.to_owned(), found: layout, by });
    }
    if layout < LAYOUT {
        return Err(LayoutError::TooOld { path: directory.to_owned(), found: layout, by });
    }
    Ok(Some(found))
}

fn parse(text: &str) -> Option<Found> {
    let mut lines = text.lines();
    let title = lines.next()? == TITLE;
    let layout = lines.next()?.strip_prefix("layout ")?.parse().ok()?;
    let by = lines.next()?.strip_prefix("written by ")?.to_owned();
    (title && !by.is_empty() && lines.next().is_none()).then_some(Found { layout, by })
}

/// Makes the directory, which exists, one of this layout, or refuses it. Before anything else in it is opened.
pub fn prepare(directory: &Path) -> Result<(), LayoutError> {
    let this = Found { layout: LAYOUT, by: PROGRAM.to_owned() };
    if look(directory)?.as_ref() == Some(&this) {
        return Ok(());
    }
    let _lock = journal::lock_stopped(directory)?;
    // What was seen without the lock may have changed.
    look(directory)?;
    write(directory, &this)
}

fn write(directory: &Path, found: &Found) -> Result<(), LayoutError> {
    let path = directory.join(FILE);
    let failed = |source| LayoutError::File { path: path.clone(), source };
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    write!(file, "{TITLE}\nlayout {}\nwritten by {}\n", found.layout, found.by).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    File::open(directory).and_then(|folder| folder.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir(root.path().join(journal::FOLDER)).expect("a journal's folder");
        fs::write(root.path().join(FILE), text).expect("a file");
        root
    }

    #[test]
    fn a_new_directory_gets_the_file_and_one_that_lost_it_is_refused() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(look(root.path()).expect("new"), None);
        assert_eq!(fs::read_dir(root.path()).expect("listed").count(), 0, "looking changes nothing");
        prepare(root.path()).expect("made");
        let this = Found { layout: LAYOUT, by: PROGRAM.to_owned() };
        assert_eq!(look(root.path()).expect("readable"), Some(this));
        fs::remove_file(root.path().join(FILE)).expect("removed");
        fs::create_dir(root.path().join(journal::FOLDER)).expect("a journal's folder");
        let error = prepare(root.path()).expect_err("it is not guessed").to_string();
        assert!(error.contains("put the file back"), "{error}");
        assert!(!root.path().join(FILE).exists(), "nor written");
    }

    #[test]
    fn an_older_program_s_file_says_who_wrote_last() {
        let root = written(&format!("{TITLE}\nlayout {LAYOUT}\nwritten by 0.0.9\n"));
        prepare(root.path()).expect("the same layout");
        assert_eq!(look(root.path()).expect("readable").map(|found| found.by), Some(PROGRAM.to_owned()));
    }

    #[test]
    fn newer_and_unreadable_ones_are_refused_with_the_way_out_and_untouched() {
        let newer = format!("{TITLE}\nlayout {}\nwritten by 9.1.0\n", LAYOUT + 1);
        let cases = [
            (newer.as_str(), "9.1.0 or a newer one"),
            ("estafette data directory\nlayout 0\nwritten by 0.0.1\n", "can't upgrade: start it once"),
            ("", "put the file back"),
            ("estafette data directory\nlayout one\nwritten by 1\n", "put the file back"),
            ("estafette data directory\nlayout 1\nwritten by 1\nmore\n", "put the file back"),
            ("another program\nlayout 1\nwritten by 1\n", "put the file back"),
        ];
        for (text, way_out) in cases {
            let root = written(text);
            let error = prepare(root.path()).expect_err("refused").to_string();
            assert!(error.contains(way_out) && error.contains("nothing was changed"), "{text:?}: {error}");
            assert_eq!(fs::read_to_string(root.path().join(FILE)).expect("there"), text);
        }
    }
}
