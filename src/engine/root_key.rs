//! `tokens.key`: the secret that all tokens of a data directory derive from; made at the first start.
//!
//! Owns the file. Invariants: RK-1 a file of that name is whole: it gets its name when its bytes are durable, so that a kill
//! at any moment leaves none or all; RK-2 a file of another length is never replaced, because a new secret would break the
//! links of every mail that was sent. Needs the journal's lock on the directory: two starts at a time would make two secrets.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub const FILE: &str = "tokens.key";
const DRAFT: &str = "tokens.key.tmp";
/// 256 bits, as the key derivation takes.
const BYTES: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    #[error("the secret of the links, {path}", path = .path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the secret of the links, {path}, has {found} bytes and not {BYTES}: put it back from a backup; or, if no mail was \
         sent from this directory yet, delete it and start again (a new one is made, and links in mails already sent no \
         longer work, opt-outs among them)", path = .path.display()
    )]
    Length { path: PathBuf, found: u64 },
    #[error("the system's random source failed")]
    Random,
}

/// The directory's secret; a new one if there is none.
pub fn root_key(directory: &Path) -> Result<[u8; BYTES], RootKeyError> {
    let path = directory.join(FILE);
    let failed = |source| RootKeyError::File { path: path.clone(), source };
    match fs::read(&path) {
        Ok(bytes) => <[u8; BYTES]>::try_from(bytes.as_slice())
            .map_err(|_| RootKeyError::Length { path: path.clone(), found: bytes.len() as u64 }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = [0_u8; BYTES];
            aws_lc_rs::rand::fill(&mut key).map_err(|_| RootKeyError::Random)?;
            write(directory, &path, &key).map_err(failed)?;
            Ok(key)
        }
        Err(source) => Err(failed(source)),
    }
}

fn write(directory: &Path, path: &Path, key: &[u8; BYTES]) -> io::Result<()> {
    let draft = directory.join(DRAFT);
    // What a killed start left may be readable by others: the mode counts for a new file only.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(key)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_for_its_owner_only() {
        let root = tempfile::tempdir().expect("a folder");
        let key = root_key(root.path()).expect("made");
        assert_eq!(root_key(root.path()).expect("read"), key, "the next start has the same");
        let mode = fs::metadata(root.path().join(FILE)).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "nobody else reads it");
        assert!(!root.path().join(DRAFT).exists(), "no draft is left");
    }

    #[test]
    fn a_start_that_was_killed_in_the_making_is_made_up_for() {
        let root = tempfile::tempdir().expect("a folder");
        fs::write(root.path().join(DRAFT), b"half").expect("a draft");
        let key = root_key(root.path()).expect("the draft is in nobody's way");
        assert_eq!(fs::read(root.path().join(FILE)).expect("a file"), key);
    }

    #[test]
    fn a_cut_secret_is_kept_and_the_way_out_is_told() {
        for cut in [&b""[..], &[7; 31], &[7; 33]] {
            let root = tempfile::tempdir().expect("a folder");
            fs::write(root.path().join(FILE), cut).expect("a file");
            let error = root_key(root.path()).expect_err("no secret").to_string();
            let wanted = [FILE, &format!("has {} bytes", cut.len()), "backup", "delete it"];
            assert!(wanted.iter().all(|part| error.contains(part)), "{error}");
            assert_eq!(fs::read(root.path().join(FILE)).expect("a file"), cut, "it is not replaced");
        }
    }
}
