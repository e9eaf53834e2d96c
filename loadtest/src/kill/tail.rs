//! The sink's record as it grows: each look brings what was accepted since the last one.
//!
//! Owns how far the file was read. Invariant: a line is handed out once, and whole.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::sink::record::{self, Accepted};

#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    at: u64,
}

impl Tail {
    pub fn new(path: &Path) -> Tail {
        Tail { path: path.to_owned(), at: 0 }
    }

    /// Nothing, as long as there is no file.
    pub fn read(&mut self) -> io::Result<Vec<Accepted>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        bytes.truncate(record::whole(&bytes));
        self.at += bytes.len() as u64;
        record::parse(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn each_line_comes_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let mut tail = Tail::new(&path);
        assert_eq!(tail.read().unwrap(), [], "no file yet");
        let mut file = File::create(&path).unwrap();
        let mut look = |more: &str| {
            file.write_all(more.as_bytes()).unwrap();
            tail.read().unwrap().into_iter().map(|mail| mail.recipient).collect::<Vec<_>>()
        };
        assert_eq!(look("a@x\t<1@x>\tone\nb@x\t<2"), ["a@x"], "what is torn waits");
        assert_eq!(look("@x>\ttwo\n"), ["b@x"], "until it is whole");
        assert_eq!(look(""), [] as [String; 0], "nothing new");
    }
}
